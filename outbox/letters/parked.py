"""The only place that reads a parked message. It cannot fail: what nobody else could read must be readable here."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from orders import parking
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX
from orders.failures import CATEGORY, FailureType
from orders.ids import is_id
from orders.names import POISON, Command, Fact, Queue, audit_action
from outbox.letters.fingerprint import fingerprint
from outbox.letters.model import Letter, Source, letter_id

_LONGEST_NAME: Final = 200  # what an index holds
_LONGEST_TEXT: Final = 2_000
_LONGEST_STACK: Final = 20_000
_LARGEST: Final = 2**31 - 1
_LARGEST_OFFSET: Final = 2**63 - 1
_BROKERS_OWN: Final = "x-"  # x-death and its like: what the broker says of a trip, not of the message
_KNOWN_TYPES: Final = frozenset({*Command, *Fact, *map(audit_action, Fact)})
_OURS: Final = ("cmd", "evt", "aud")
_NOBODY: Final = "unknown"


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it lies in a dead queue. Header values are whatever the driver makes of them."""

    queue: str
    routing_key: str
    headers: Mapping[str, Any]
    body: bytes
    message_id: str
    priority: int


def letter_of(parked: Parked, now: datetime) -> Letter:
    """The letter that this message is. Total: every message makes one, and a copy of it makes the same."""
    headers = _texts(parked.headers)
    found = _Found(parked, headers, now)
    failure, message_id = found.failure, found.message_id
    consumer, kind, error, stack = found.consumer, found.kind, found.error, found.text(parking.STACK, _LONGEST_STACK)
    failed_at = found.time(parking.LAST_FAILED_AT) or found.parked_at
    return Letter(
        letter_id=found.letter_id or letter_id(message_id, consumer),
        source=Source.FACT if parking.TOPIC in headers else Source.COMMAND,
        message_id=message_id,
        consumer=consumer,
        queue=_clean(parked.queue, _LONGEST_NAME),
        order_id=found.attribute("subject") or None,
        type=kind,
        schema_version=found.number(found.attribute("schemaversion"), _LARGEST),
        position=found.number(found.attribute("position"), _LARGEST),
        routing_key=_clean(parked.routing_key, _LONGEST_TEXT),
        priority=max(0, min(parked.priority, 255)),
        headers=headers,
        body=parked.body,
        failure_type=failure,
        category=CATEGORY[failure],
        reason=found.text(parking.REASON, _LONGEST_NAME) or failure.value,
        error=error,
        message=found.text(parking.LAST_MESSAGE, _LONGEST_TEXT),
        stack=stack,
        # Types that nobody knows are one kind, or each of them would make a group of its own.
        fingerprint=fingerprint(consumer, kind if kind in _KNOWN_TYPES else "", failure.value, error, stack),
        attempts=found.number(headers.get(parking.ATTEMPTS, ""), _LARGEST) or 1,
        generation=1,
        first_failed_at=min(found.time(parking.FIRST_FAILED_AT) or failed_at, failed_at),
        last_failed_at=failed_at,
        parked_at=found.parked_at,
        quarantined_at=found.parked_at if parked.queue == POISON else None,
        topic=found.text(parking.TOPIC, _LONGEST_NAME) or None,
        partition=found.number(headers.get(parking.PARTITION, ""), _LARGEST),
        kafka_offset=found.number(headers.get(parking.OFFSET, ""), _LARGEST_OFFSET),
    )


class _Found:
    """What can be made out of a message's headers."""

    def __init__(self, parked: Parked, headers: Mapping[str, str], now: datetime) -> None:
        self._parked, self._headers, self._now = parked, headers, now
        self.parked_at = self.time(parking.QUARANTINED_AT) or self.time(parking.PARKED_AT) or now
        self.kind = self.attribute("type")
        self.consumer = self.text(parking.CONSUMER, _LONGEST_NAME) or _queue_for(parked.routing_key)
        self.error = self.text(parking.LAST_ERROR, _LONGEST_NAME)

    @property
    def failure(self) -> FailureType:
        """Whatever lies in quarantine is no message that anybody can use."""
        if self._parked.queue == POISON:
            return FailureType.INVALID_MESSAGE
        try:
            return FailureType(self._headers.get(parking.FAILURE, ""))
        except ValueError:
            return FailureType.UNKNOWN

    @property
    def letter_id(self) -> str:
        """The letter that it was when it was sent again."""
        given = self.text(parking.LETTER, _LONGEST_NAME)
        return given if is_id(given, "let") else ""

    @property
    def message_id(self) -> str:
        """Its own, where it has one of ours. Else one made of its body too: two bad messages may claim the same."""
        given = self.attribute("id") or _clean(self._parked.message_id, _LONGEST_NAME)
        if any(is_id(given, prefix) for prefix in _OURS):
            return given
        digest = hashlib.sha256(self._parked.body).hexdigest()[:32]
        return f"{given[: _LONGEST_NAME - 40]}#{digest}" if given else f"#{digest}"

    def attribute(self, name: str) -> str:
        """A CloudEvents attribute, as either broker spells it."""
        return self.text(AMQP_PREFIX + name, _LONGEST_NAME) or self.text(KAFKA_PREFIX + name, _LONGEST_NAME)

    def text(self, header: str, longest: int) -> str:
        return self._headers.get(header, "")[:longest]

    def time(self, header: str) -> datetime | None:
        """A time that has passed."""
        try:
            at = datetime.fromisoformat(self._headers.get(header, ""))
            return min(at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC), self._now)
        except (ValueError, OverflowError):
            return None

    @staticmethod
    def number(text: str, largest: int) -> int | None:
        """A whole number that the table can hold."""
        if not (text.isascii() and text.isdecimal() and len(text) < 20):  # noqa: PLR2004  # as long as any that fits
            return None
        return min(int(text), largest)


def _queue_for(routing_key: str) -> str:
    name = f"{routing_key.split('.', maxsplit=1)[0]}s"
    return name if name in set(Queue) else _NOBODY


def _texts(headers: Mapping[str, Any]) -> dict[str, str]:
    kept = ((_clean(str(name), _LONGEST_NAME), value) for name, value in headers.items())
    return {name: _text(value) for name, value in kept if not name.startswith(_BROKERS_OWN)}


def _text(value: Any) -> str:
    match value:
        case str():
            return _clean(value)
        case bytes() | bytearray():
            return _clean(bytes(value).decode(errors="backslashreplace"))
        case datetime():
            return value.isoformat()
        case _:
            return _clean(str(value))


def _clean(text: str, longest: int | None = None) -> str:
    """What PostgreSQL and JSON can hold: no NUL, no half of a surrogate pair."""
    return text[:longest].encode(errors="replace").decode().replace("\x00", "\ufffd")
