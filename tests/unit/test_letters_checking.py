"""Whatever bytes an edit is made from or consists of, they can be shown; what no worker could read is never let through."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.commands import read_command
from orders.ids import derived_id
from outbox.letters.checking import diff
from outbox.letters.readable import unreadable

BODIES = st.one_of(
    st.binary(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ).map(msgspec.json.encode),
)


@given(BODIES, BODIES)
def test_any_two_bodies_make_a_diff_that_the_database_can_keep(before: bytes, after: bytes) -> None:
    shown = diff(before, after)
    assert "\x00" not in shown
    assert shown.encode().decode() == shown


def test_a_diff_of_json_is_by_lines_as_people_read_it() -> None:
    assert diff(b'{"a":1,"b":2}', b'{"a":1,"b":3}').splitlines()[2:] == [
        "@@ -1,4 +1,4 @@", " {", '   "a": 1,', '-  "b": 2', '+  "b": 3', " }",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "version", "body", "routing_key", "message_id", "said"),
    [
        ("", 1, b"{}", "payment.charge", "cmd", "does not say"),
        ("payment.charge", 2, b"{}", "payment.charge", "cmd", "schema version 2"),
        ("payment.charge", 1, b"{", "payment.charge", "cmd", "payment.charge:"),
        ("payment.charge", 1, None, "restaurant.notify", "cmd", "belongs in payments"),
        ("payment.charge", 1, None, "payment.charge", "evt", "not that of a command"),
        ("payment.charge", 1, b'{"order_id":"17","position":1}', "payment.charge", "cmd", "order_id"),
    ],
)
def test_what_no_worker_could_read_says_why(
    kind: str, version: int, body: bytes | None, routing_key: str, message_id: str, said: str
) -> None:
    whole = msgspec.json.encode({"order_id": derived_id("ord", 1), "position": 1}) if body is None else body
    assert said in unreadable(kind, version, whole, routing_key=routing_key, message_id=derived_id(message_id, 1))


@given(BODIES)
def test_what_is_said_to_be_readable_can_be_read(body: bytes) -> None:
    if not unreadable("payment.charge", 1, body, routing_key="payment.charge", message_id=derived_id("cmd", 1)):
        read_command("payment.charge", 1, body)
