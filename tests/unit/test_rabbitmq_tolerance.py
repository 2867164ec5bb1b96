"""What a stranger may put into a frame is read, whatever it is; what the driver reads is read as before."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode

from adapters.rabbitmq_tolerance import read_anything

read_anything()
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=50) | st.floats(allow_nan=False, width=32),
    lambda deeper: st.lists(deeper, max_size=4) | st.dictionaries(st.text(max_size=20), deeper, max_size=4),
)


@given(st.dictionaries(st.text(max_size=60), _VALUES, max_size=5))
def test_a_table_is_read_as_the_driver_reads_it(table: dict[str, Any]) -> None:
    raw = encode.field_table(table)
    assert decode.METHODS["table"](raw) == decode.field_table(raw)


@given(st.binary(max_size=255))
def test_a_short_text_is_read_whatever_its_bytes(value: bytes) -> None:
    used, text = decode.METHODS["shortstr"](bytes([len(value)]) + value + b"rest")
    assert (used, text) == (len(value) + 1, value.decode(errors="backslashreplace"))


def test_a_name_that_is_no_text_is_read() -> None:
    raw = b"\x02\xff\xfe" + b"S\x00\x00\x00\x01x"
    assert decode.METHODS["table"](len(raw).to_bytes(4) + raw) == (4 + len(raw), {"\\xff\\xfe": "x"})


def test_a_time_that_no_calendar_has_is_its_number_in_a_header_and_nothing_as_the_messages_own() -> None:
    assert decode.TABLE_MAPPING[b"T"]((2**63).to_bytes(8)) == (8, 2**63)
    assert decode.METHODS["timestamp"]((2**63).to_bytes(8)) == (8, None)
    for decoders in (decode.TABLE_MAPPING[b"T"], decode.METHODS["timestamp"]):
        assert decoders((0).to_bytes(8)) == (8, datetime(1970, 1, 1, tzinfo=UTC))
