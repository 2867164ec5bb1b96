"""The only place where a worker reads and writes what a failed message carries with it: the headers of `orders.parking`."""

import traceback
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from adapters.rabbitmq_consumer import Delivery
from orders.failures import FailureType
from orders.parking import (
    ATTEMPTS,
    CONSUMER,
    FAILURE,
    FIRST_FAILED_AT,
    LAST_ERROR,
    LAST_FAILED_AT,
    LAST_MESSAGE,
    LAST_SLUG,
    PREFIX,
    STACK,
)
from workers.judge import failure_of, reason_of
from workers.ports import NoDriverAvailable

_LONGEST_MESSAGE: Final = 300
_LONGEST_STACK: Final = 4_000
_BROKERS_OWN: Final = "x-"  # x-death and its like: what the broker says of this trip, not of the message
_OURS: Final = (PREFIX, "cloudEvents_", "traceparent")
# All properties of a message go into one frame of 131,072 bytes. A stranger's headers may fill it, and ours must fit too.
_MOST_FOREIGN: Final = 60_000
_CUT: Final = 200


def attempts(headers: Mapping[str, Any]) -> int:
    """How many attempts this message has spent."""
    value = texts(headers).get(ATTEMPTS, "0")
    return int(value) if value.isdecimal() and len(value) < 10 else 0  # noqa: PLR2004  # more digits than anything we count


def attempt_number(headers: Mapping[str, Any], error: BaseException) -> int:
    """Which attempt this failure ended, counted from 1.

    A search for a driver counts its rounds, and may have many of them. They are no failures of what comes after it.
    """
    searched = texts(headers).get(LAST_SLUG) == NoDriverAvailable.slug
    return 1 if searched and not isinstance(error, NoDriverAvailable) else attempts(headers) + 1


def waited_s(headers: Mapping[str, Any], now: datetime, time_scale: float) -> float:
    """Business time since the message failed first; none where it never did, or where that cannot be read."""
    try:
        first = datetime.fromisoformat(texts(headers)[FIRST_FAILED_AT])
        return max(0.0, (now - first).total_seconds()) * time_scale
    except (KeyError, ValueError, TypeError):  # TypeError: a time without a zone
        return 0.0


def failed(delivery: Delivery, error: BaseException, now: datetime, *, spends: bool) -> dict[str, Any]:
    """The headers as they were sent, with what is known of this failure."""
    kept = {name: sendable(value) for name, value in delivery.headers.items() if not name.startswith(_BROKERS_OWN)}
    kept.pop(STACK, None)
    failure, spent = failure_of(error), attempt_number(delivery.headers, error)
    headers = {
        FIRST_FAILED_AT: now.isoformat(),
        **_fitting(kept),
        ATTEMPTS: str(spent if spends else attempts(delivery.headers)),
        LAST_FAILED_AT: now.isoformat(),
        LAST_ERROR: type(error).__name__,
        LAST_SLUG: reason_of(error),
        LAST_MESSAGE: str(error)[:_LONGEST_MESSAGE],
        FAILURE: failure.value,
        CONSUMER: delivery.queue,
    }
    if failure is FailureType.UNKNOWN:
        headers[STACK] = "".join(traceback.format_exception(error))[-_LONGEST_STACK:]  # the innermost frames are the last
    return headers


def texts(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers that are texts or numbers, as texts. The broker adds tables of its own."""
    return {name: str(value) for name, value in headers.items() if isinstance(value, str | int)}


def sendable(value: Any) -> Any:
    """Texts in no known encoding arrive as bytes, which the driver reads and cannot send. What else it may not, goes as a text."""
    match value:
        case bytes():
            return value.decode(errors="backslashreplace")
        case None | bool() | int() | float() | str() | bytearray() | datetime() | Decimal():
            return value
        case dict():
            return {name: sendable(each) for name, each in value.items()}
        case list():
            return [sendable(each) for each in value]
        case _:
            return repr(value)


def _fitting(headers: dict[str, Any]) -> dict[str, Any]:
    """As they are; where a stranger's would leave no room for ours, theirs are cut to what can be read of them."""
    sizes = {name: len(repr(value).encode(errors="backslashreplace")) for name, value in headers.items()}
    if sum(sizes.values()) + sum(map(len, sizes)) <= _MOST_FOREIGN:
        return headers
    kept: dict[str, Any] = {}
    room = _MOST_FOREIGN
    for name, value in sorted(headers.items(), key=lambda item: not item[0].startswith(_OURS)):
        short = value if sizes[name] <= _CUT else str(value)[:_CUT]
        room -= len(name) + min(sizes[name], 4 * _CUT)
        if room < 0:
            break
        kept[name] = short
    return kept
