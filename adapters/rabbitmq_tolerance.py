"""The only place that makes the driver read what a stranger may send: names that are not UTF-8, times that no calendar has.

The broker takes such a message, and the driver cannot decode its frame: the connection ends, the message comes again on the next
one, and a queue with one of them never moves. The driver looks its decoders up in two tables, by type; ours stand in for three
of them, and differ only where those would raise.
"""

import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from pamqp import decode

_LENGTH: Final = struct.Struct(">I")
_TIME: Final = struct.Struct(">Q")
_LONGEST_SHORT: Final = 255


def read_anything() -> None:
    """From now on, in this process. Again, it changes nothing."""
    methods: dict[str, Callable[..., Any]] = decode.METHODS
    values: dict[bytes, Callable[..., Any]] = decode.TABLE_MAPPING
    methods.update(shortstr=_short_text, table=_table, timestamp=_sent_at)
    values.update({b"F": _table, b"T": _time})


def _short_text(value: bytes) -> tuple[int, str]:
    end = 1 + value[0]
    return end, _text(value[1:end])


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    end, offset = 4 + _LENGTH.unpack_from(value)[0], 4
    found: dict[str, Any] = {}
    while offset < end:
        used, name = _short_text(value[offset : offset + 256])
        offset += used
        used, found[name] = decode.embedded_value(value[offset:])
        offset += used
    return end, found


def _time(value: bytes) -> tuple[int, datetime | int]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, int(_TIME.unpack_from(value)[0])


def _sent_at(value: bytes) -> tuple[int, datetime | None]:
    """The message's own property, which is a time or nothing."""
    used, found = _time(value)
    return used, found if isinstance(found, datetime) else None


def _text(value: bytes) -> str:
    """Cut to what a short text can be: spelled out it is longer, and a message that cannot be sent again cannot be parked."""
    return value.decode(errors="backslashreplace").encode()[:_LONGEST_SHORT].decode(errors="ignore")
