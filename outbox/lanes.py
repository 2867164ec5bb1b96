"""The only place that knows how a lane hands a batch of outbox rows to its broker."""

import asyncio
from typing import Final, Protocol

import msgspec

from adapters.kafka import FactRefused, Producer
from adapters.rabbitmq import Publisher
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, Broker, OutboxRow, attributes
from orders.errors import CallAnOperator, RetryLater
from orders.names import COMMANDS_EXCHANGE

# Kafka's default `message.max.bytes` is 1,048,588, headers included; RabbitMQ closes the channel above its own limit.
MAX_BODY_BYTES: Final = 1_000_000
Result = CallAnOperator | RetryLater | None


class TooLarge(CallAnOperator):
    """A message larger than a broker takes."""

    slug = "message-too-large"


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


class RabbitLane:
    """Commands: all confirms of a batch outstanding at once."""

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
        if too_large := _too_large(row):
            return too_large
        try:
            await self._publisher.publish(
                COMMANDS_EXCHANGE, row.destination, row.body, attributes(row, AMQP_PREFIX), row.priority, row.event_id
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
        if too_large := _too_large(row):
            return too_large
        try:
            return await self._producer.send(row.destination, row.aggregate_id, row.body, attributes(row, KAFKA_PREFIX))
        except FactRefused as error:
            return error

    async def reset(self) -> None:
        await self._producer.reset()


def _too_large(row: OutboxRow) -> TooLarge | None:
    if len(row.body) <= MAX_BODY_BYTES:
        return None
    return TooLarge(f"{len(row.body)} bytes, at most {MAX_BODY_BYTES}")


def as_row(record: dict[str, object]) -> OutboxRow:
    """An outbox row as it was read."""
    return msgspec.convert(record, OutboxRow)
