"""The relay takes rows to the tiers and the dead queues, with the time they wait, and never lets one row stop the lane."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aio_pika
import msgspec
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from adapters.postgres import Pool
from adapters.settings import Settings
from orders.envelope import Broker
from orders.ids import new_id
from orders.names import Command, Queue
from orders.parking import CONSUMER, WAIT_MS
from outbox.transition import enqueue
from tests.making import command_message, empty, eventually, quick, relaying

LARGE = b"\x00\xff" * 520_000  # about what Kafka takes at most


@pytest.fixture
async def settings(stack: Settings) -> Settings:
    await empty(stack)
    return quick(stack)


@pytest.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        for name in (*Queue, "orders.retry.1m", "orders.dlq", "orders.dlq.poison"):
            await (await channel.get_queue(name, ensure=False)).purge()
        yield channel


async def _next(channel: AbstractChannel, queue: str) -> AbstractIncomingMessage:
    found: list[AbstractIncomingMessage] = []

    async def arrived() -> None:
        message = await (await channel.get_queue(queue, ensure=False)).get(no_ack=True, fail=False)
        assert message is not None
        found.append(message)

    await eventually(arrived)
    return found[0]


async def _settled(pool: Pool) -> list[dict[str, Any]]:
    """What was set aside, once the outbox is empty."""

    async def drained() -> None:
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 0

    await eventually(drained)
    return [dict(row) for row in await pool.fetch("SELECT event_id, reason FROM outbox_set_aside ORDER BY id")]


async def test_a_row_for_a_tier_waits_there_and_comes_back_to_its_work_queue(
    settings: Settings, pool: Pool, channel: AbstractChannel
) -> None:
    row = command_message(
        new_id("ord"), destination="orders.retry.1m/order.deadline", headers={WAIT_MS: "1500", "traceparent": "00-a-b-01"}
    )
    async with relaying(settings, (Broker.RABBITMQ,)):
        began = datetime.now(UTC)
        await enqueue(pool, [row])
        message = await _next(channel, "orders")
    assert 1.5 <= (datetime.now(UTC) - began).total_seconds() < 5
    assert message.message_id == row.event_id
    assert message.routing_key == Command.ORDER_DEADLINE
    assert message.headers["traceparent"] == "00-a-b-01"
    assert WAIT_MS not in message.headers


async def test_a_row_for_a_dead_queue_keeps_its_bytes_and_headers_whatever_they_are(
    settings: Settings, pool: Pool, channel: AbstractChannel
) -> None:
    headers = {CONSUMER: "support", "ce_id": "evt_1", "x": "n\u00fcll"}
    row = command_message(new_id("ord"), destination="orders.dlq.poison/", body=LARGE, headers=headers)
    async with relaying(settings, (Broker.RABBITMQ,)):
        await enqueue(pool, [row])
        message = await _next(channel, "orders.dlq.poison")
    assert message.body == LARGE
    assert headers.items() <= message.headers.items()


async def test_a_command_that_is_too_large_is_set_aside_though_a_dead_queue_would_take_it(
    settings: Settings, pool: Pool, channel: AbstractChannel
) -> None:
    row = command_message(new_id("ord"), body=LARGE)
    async with relaying(settings, (Broker.RABBITMQ,)):
        await enqueue(pool, [row])
        (aside,) = await _settled(pool)
    assert aside["reason"].startswith("message-too-large")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"destination": "no.such.exchange/x"}, "bad-outbox-row"),
        ({"headers": {"x" * 300: "1"}}, "bad-outbox-row"),
        ({"headers": {"x": "y" * 120_000}}, "message-too-large"),
        ({"destination": "orders.retry.1m/order.wake", "headers": {WAIT_MS: "soon"}}, "bad-outbox-row"),
    ],
    ids=["an exchange that is not there", "a header's name that is too long", "too many headers", "a wait that is no number"],
)
async def test_a_row_that_would_break_the_channel_is_set_aside_and_the_others_go_on(
    settings: Settings, pool: Pool, channel: AbstractChannel, bad: dict[str, Any], reason: str
) -> None:
    sick, well = command_message(new_id("ord"), **bad), command_message(new_id("ord"))
    sick = msgspec.structs.replace(sick, event_id=new_id("cmd"))
    async with relaying(settings, (Broker.RABBITMQ,)):
        await enqueue(pool, [sick, well])
        assert (await _next(channel, "payments")).message_id == well.event_id
        (aside,) = await _settled(pool)
    assert (aside["event_id"], aside["reason"].split(":")[0]) == (sick.event_id, reason)
