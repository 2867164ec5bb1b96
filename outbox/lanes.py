"""The only place that knows how a lane hands a batch of outbox rows to its broker."""

import asyncio
from typing import Final, Protocol

import msgspec

from adapters.kafka import FactRefused, Producer
from adapters.rabbitmq import Publisher
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, MAX_BODY_BYTES, Broker, OutboxRow, attributes
from orders.errors import CallAnOperator, RetryLater
from orders.names import COMMANDS_EXCHANGE, DEAD_LETTERS, POISON
from orders.parking import WAIT_MS
from orders.tiers import TIERS

# Kafka's default `message.max.bytes` is 1,048,588, headers included; RabbitMQ closes the channel above its own limit (16 MiB
# in 4.x). What goes to a dead queue was in a broker before, and keeps its bytes.
MAX_DEAD_BODY_BYTES: Final = 8_000_000
# RabbitMQ: all properties of a message go into one frame (131,072 bytes), and a name into one byte's length.
MAX_HEADER_BYTES: Final = 100_000
_LONGEST_NAME: Final = 255
_DEAD: Final = frozenset({DEAD_LETTERS, POISON})
_EXCHANGES: Final = _DEAD | {COMMANDS_EXCHANGE} | {tier.name for tier in TIERS}
Result = CallAnOperator | RetryLater | None


class TooLarge(CallAnOperator):
    """A message larger than a broker takes."""

    slug = "message-too-large"


class BadRow(CallAnOperator):
    """A row that no broker could take as it stands."""

    slug = "bad-outbox-row"


class WaitsBehind(CallAnOperator):
    """An earlier fact of the same order is set aside: this one waits behind it."""

    slug = "waits-behind"


class Lane(Protocol):
    """What the relay needs of a broker."""

    broker: Broker

    async def publish(self, rows: list[OutboxRow]) -> list[Result]:
        """For each row: None where the broker has it for good, else why not. Raises `RetryLater` for the whole batch."""
        ...

    async def reset(self) -> None:
        """Start afresh after a failure."""
        ...


class Route(msgspec.Struct, frozen=True):
    """Where a message for RabbitMQ goes, and how long it lives there."""

    exchange: str
    routing_key: str
    expiration_ms: int | None = None


def route(row: OutboxRow) -> Route:
    """What a row's destination means. Raises `BadRow`."""
    exchange, slash, routing_key = row.destination.rpartition("/")
    wait_ms = row.headers.get(WAIT_MS)
    if slash and exchange not in _EXCHANGES:  # published to, it would close the channel
        raise BadRow(f"the destination {row.destination[:100]!r} names no exchange of ours")
    if len(row.destination.encode()) > _LONGEST_NAME:
        raise BadRow(f"a destination has at most {_LONGEST_NAME} bytes")
    if wait_ms is not None and not (wait_ms.isascii() and wait_ms.isdecimal()):
        raise BadRow(f"{WAIT_MS} is {wait_ms[:20]!r}, not a number of milliseconds")
    return Route(exchange or COMMANDS_EXCHANGE, routing_key, None if wait_ms is None else int(wait_ms))


class RabbitLane:
    """Commands, and what failed on its way to a tier or a dead queue: all confirms of a batch outstanding at once."""

    broker = Broker.RABBITMQ

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(self, rows: list[OutboxRow]) -> list[Result]:
        # One at a time for each id: a command issued again may stand twice in a batch, and a returned message is
        # recognised by its id.
        first = {row.event_id: row for row in reversed(rows)}
        answers = dict(zip(first, await asyncio.gather(*map(self._one, first.values())), strict=True))
        return [answers[row.event_id] for row in rows]

    async def _one(self, row: OutboxRow) -> Result:
        try:
            to = route(row)
            headers = attributes(row, AMQP_PREFIX)
            headers.pop(WAIT_MS, None)
            _require_sendable(row, headers, MAX_DEAD_BODY_BYTES if to.exchange in _DEAD else MAX_BODY_BYTES)
            await self._publisher.publish(
                to.exchange, to.routing_key, row.body, headers, row.priority, row.event_id, to.expiration_ms
            )
        except (CallAnOperator, RetryLater) as error:
            return error
        return None

    async def reset(self) -> None:
        await self._publisher.close()


class KafkaLane:
    """Facts: a batch in flight at once, in order within each partition."""

    broker = Broker.KAFKA

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def publish(self, rows: list[OutboxRow]) -> list[Result]:
        results: list[Result] = [None] * len(rows)
        refused: set[tuple[str, str]] = set()
        sent: list[tuple[int, asyncio.Future[object]]] = []
        for index, row in enumerate(rows):
            of_order = (row.aggregate_id, row.destination)
            if of_order in refused and row.position is not None:
                results[index] = WaitsBehind("an earlier fact of this order was refused")
                continue
            answer = await self._send(row)
            if isinstance(answer, CallAnOperator):
                refused.add(of_order)
                results[index] = answer
            else:
                sent.append((index, answer))
        for (index, _), settled in zip(sent, await self._producer.settle([f for _, f in sent]), strict=True):
            results[index] = settled
        return results

    async def _send(self, row: OutboxRow) -> "asyncio.Future[object] | CallAnOperator":
        if len(row.body) > MAX_BODY_BYTES:
            return TooLarge(f"{len(row.body)} bytes, at most {MAX_BODY_BYTES}")
        try:
            return await self._producer.send(row.destination, row.aggregate_id, row.body, attributes(row, KAFKA_PREFIX))
        except FactRefused as error:
            return error

    async def reset(self) -> None:
        await self._producer.reset()


def _require_sendable(row: OutboxRow, headers: dict[str, str], most: int) -> None:
    """Raises `TooLarge`, `BadRow`: sent all the same, it would break the channel for every other row."""
    if len(row.body) > most:
        raise TooLarge(f"{len(row.body)} bytes, at most {most}")
    sizes = [(len(name.encode()), len(value.encode())) for name, value in headers.items()]
    if any(name > _LONGEST_NAME for name, _ in sizes):
        raise BadRow(f"a header's name has at most {_LONGEST_NAME} bytes")
    if (total := sum(name + value for name, value in sizes)) > MAX_HEADER_BYTES:
        raise TooLarge(f"{total} bytes of headers, at most {MAX_HEADER_BYTES}")


def as_row(record: dict[str, object]) -> OutboxRow:
    """An outbox row as it was read."""
    return msgspec.convert(record, OutboxRow)
