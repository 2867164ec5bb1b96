"""The only place that says what follows from a fact's failure: a wake-up through a tier, or a letter with its trail. Pure.

Nothing is published here: both are rows of the outbox, written in the transaction that holds the fact.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from adapters.kafka_consumer import Partition
from orders import parking
from orders.commands import command_body, command_id
from orders.decide import command_row
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, TRACEPARENT, Broker, OutboxRow
from orders.failures import CATEGORY, Category
from orders.ids import derived_id, is_id
from orders.names import DEAD_LETTERS, POISON, PRIORITY, Command
from orders.order import Pending
from orders.tiers import TIERS, Tier
from outbox.letters.model import letter_id
from streams.group import Group, Incoming, Kind, Problem, printable

_LONGEST_REASON: Final = 500
_LONGEST_VALUE: Final = 8_000
_MOST_HEADERS: Final = 60_000  # with the trail beside them, what a message to RabbitMQ can carry; the row has all of them
_LARGEST_VERSION: Final = 32_767
_MOST_DIGITS: Final = 20
_LONGEST_NAME: Final = 255
_OURS: Final = ("evt", "aud")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that is held, as it came: what its letter is made of."""

    partition: Partition
    offset: int
    order_id: str
    position: int | None
    headers: Mapping[str, str]
    body: bytes


def tier_after(problem: Problem, attempts: int) -> Tier | None:
    """Where a fact waits that has failed so often. None: its attempts are spent, or trying again cannot help."""
    return None if problem.final or attempts > len(TIERS) else TIERS[attempts - 1]


def wake_up(group: Group, item: Incoming, tier: Tier, attempts: int, wait_s: float, now: datetime) -> OutboxRow:
    """The command that wakes a fact which has failed so often, published to its tier. The same failure makes the same one."""
    position = item.position or 0
    body = {"order_id": item.order_id, "position": position, "group": group.name, "attempt": attempts}
    entry = Pending(Command.ORDER_WAKE.value, command_body(Command.ORDER_WAKE, body))
    detail = f"{group.name}/{item.partition.topic}/{item.partition.number}/{item.offset}/{attempts}/{now.isoformat()}"
    key = command_id(item.order_id, position, Command.ORDER_WAKE, detail)
    headers = {
        TRACEPARENT: item.headers.get(TRACEPARENT, "")[:_LONGEST_VALUE],
        parking.WAIT_MS: str(max(1, round(wait_s * 1000))),
    }
    row = command_row(key, entry, PRIORITY[Command.ORDER_WAKE], headers, now)
    return msgspec.structs.replace(row, destination=f"{tier.name}/{Command.ORDER_WAKE.value}")


def trail(group: Group, item: Incoming, problem: Problem, attempts: int, now: datetime) -> dict[str, str]:
    """What a letter says of the failure that parked it."""
    message_id = _message_id(group, item, problem)
    poison = problem.kind is Kind.UNREADABLE or CATEGORY[problem.failure] is Category.POISON
    said = {
        f"{AMQP_PREFIX}id": message_id,
        parking.LETTER: item.letter_id or letter_id(message_id, group.name),
        parking.CONSUMER: group.name,
        parking.HELD_IN: group.schema,
        parking.TOPIC: item.partition.topic,
        parking.PARTITION: str(item.partition.number),
        parking.OFFSET: str(item.offset),
        parking.FAILURE: problem.failure.value,
        parking.REASON: problem.slug,
        parking.ATTEMPTS: str(attempts),
        parking.FIRST_FAILED_AT: (item.first_failed_at or now).isoformat(),
        parking.LAST_FAILED_AT: now.isoformat(),
        parking.LAST_ERROR: problem.error,
        parking.LAST_SLUG: problem.slug,
        parking.LAST_MESSAGE: printable(problem.reason)[:_LONGEST_REASON],
        parking.QUARANTINED_AT if poison else parking.PARKED_AT: now.isoformat(),
    }
    return {**said, parking.STACK: printable(problem.stack)} if problem.stack else said


def letter_row(held: Held, said: Mapping[str, str], now: datetime) -> OutboxRow:
    """The letter's message: the record's own bytes and headers, with the trail beside them, on its way to a dead queue."""
    kind, version = held.headers.get(f"{KAFKA_PREFIX}type", ""), held.headers.get(f"{KAFKA_PREFIX}schemaversion", "")
    given = {f"{AMQP_PREFIX}schemaversion": version[:_LONGEST_VALUE]}
    place = (said[parking.CONSUMER], held.partition.topic, held.partition.number, held.offset)
    parked_at = said.get(parking.QUARANTINED_AT) or said[parking.PARKED_AT]
    return OutboxRow(
        event_id=derived_id("evt", *place, parked_at),  # each time that it is parked: several groups may park one fact
        aggregate_id=held.order_id,
        position=held.position,
        type=printable(kind)[:_LONGEST_VALUE],
        schema_version=_number(version),
        body=held.body,
        headers={**_sendable(held.headers), **given, **said},
        broker=Broker.RABBITMQ,
        destination=f"{POISON if parking.QUARANTINED_AT in said else DEAD_LETTERS}/",
        occurred_at=now,
    )


def _message_id(group: Group, item: Incoming, problem: Problem) -> str:
    """The event's own id where the fact can be read and has its place; else one made of where it lies."""
    envelope = item.envelope if problem.kind is Kind.FAILED and item.position is not None else None
    if envelope is not None and any(is_id(envelope.id, prefix) for prefix in _OURS):
        return envelope.id
    return derived_id("evt", group.name, item.partition.topic, item.partition.number, item.offset)


def _number(text: str) -> int:
    """The schema version as the outbox can hold it; the header has what was sent."""
    return min(int(text), _LARGEST_VERSION) if text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS else 0


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """The record's headers without another failure's trail, as far as a message can carry them."""
    kept: dict[str, str] = {}
    room = _MOST_HEADERS
    for name, value in headers.items():
        shown = printable(value)[:_LONGEST_VALUE]
        size = len(name.encode()) + len(shown.encode())
        of_another = name.startswith(parking.PREFIX) or name == parking.QUARANTINED_AT
        if of_another or len(name.encode()) > _LONGEST_NAME or size > room:
            continue
        room -= size
        kept[printable(name)] = shown
    return kept
