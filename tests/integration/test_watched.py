"""What streams and automatic fixes ask for, and no order waits for: issued again where RabbitMQ lost it, until it is done."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from adapters.kafka_consumer import Partition, Record
from adapters.postgres import Connection
from orders.decide import Change
from orders.envelope import KAFKA_PREFIX, Broker, attributes
from orders.lifecycle import Action
from orders.names import Command, Queue, State
from outbox.clock import Clock
from outbox.transition import apply
from streams.fraud import Fraud
from streams.group import Group, receive
from streams.notifications import Notifications
from tests.fake_ports import FakePorts
from tests.integration.letters_ground import parked, record
from tests.integration.streams_making import facts, placing
from tests.integration.workers_ground import Ground, ground
from tests.making import change_of, empty, eventually, placed, relaying, unplaced

__all__ = ["ground"]

LATER = timedelta(hours=1)


@pytest.fixture(autouse=True)
async def emptied(ground: Ground) -> None:
    await empty(ground.settings)


async def _take(db: Connection, group: Group, changes: Sequence[Change]) -> None:
    """Let the facts of these changes take effect in a stream, in a transaction as it has one."""
    sent = [row for change in changes for row in facts([change], "t")]
    records = [
        Record(Partition("t", 0), number, row.aggregate_id.encode(), attributes(row, KAFKA_PREFIX), row.body)
        for number, row in enumerate(sent)
    ]
    async with db.transaction():
        await group.apply(db, [receive(record, group) for record in records])


async def _cancelled(ground: Ground) -> str:
    """An order that ended, and the SMS that says so in the outbox. Returns its id."""
    order = await placed(ground.pool)
    change = change_of(Action.CANCEL, order, datetime.now(UTC))
    await apply(ground.pool, change)
    async with ground.pool.acquire() as db:
        await _take(db, Notifications(topic="t"), [change])
    return order.order_id


async def _flagged(ground: Ground) -> list[str]:
    """Six orders by one card, and the command that cancels the last of them in the outbox. Returns their ids."""
    now = datetime.now(UTC)
    changes = []
    for _ in range(6):
        order = unplaced(now, placed_at=now, payment_method_id="pm_sim_thief")
        changes.append(placing(order, now))
        await apply(ground.pool, changes[-1])
    async with ground.pool.acquire() as db:
        await _take(db, Fraud(topic="t"), changes)
    return [change.order.order_id for change in changes]


async def _watched(ground: Ground) -> list[str]:
    return [row["type"] for row in await ground.pool.fetch("SELECT type FROM watched_commands")]


@asynccontextmanager
async def _clock(ground: Ground) -> AsyncIterator[None]:
    settings, stop = msgspec.structs.replace(ground.settings, stuck_s=600, clock_tick_ms=20), asyncio.Event()
    running = asyncio.create_task(Clock(ground.pool, settings).run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def _lost(ground: Ground, queue: Queue, least: int) -> None:
    """What is in the outbox reaches this queue, which is deleted then."""

    async def there() -> None:
        assert await ground.depth(queue.value) >= least

    async with relaying(ground.settings, (Broker.RABBITMQ,)):
        await eventually(there)
    await ground.lose(queue.value)
    assert await ground.depth(queue.value) == 0


async def test_an_sms_that_rabbitmq_lost_is_sent_once_all_the_same(ground: Ground) -> None:
    await _cancelled(ground)
    await _lost(ground, Queue.NOTIFICATIONS, 1)
    fakes = FakePorts()

    async def told() -> None:
        assert len(fakes.messages.named("sms")) == 1
        assert await _watched(ground) == []

    async with relaying(ground.settings, (Broker.RABBITMQ,)), _clock(ground), ground.working(fakes, Queue.NOTIFICATIONS):
        await eventually(told)


async def test_a_cancellation_for_fraud_that_rabbitmq_lost_ends_the_order_all_the_same(ground: Ground) -> None:
    orders = await _flagged(ground)
    await ground.pool.execute(
        "UPDATE orders SET deadline_at = now() + interval '1 day'"
    )  # their own commands: see the watchdog
    await ground.pool.execute("DELETE FROM outbox WHERE type <> 'order.cancel'")
    await _lost(ground, Queue.ORDERS, 1)

    async def one_ended() -> None:
        states = sorted([(await ground.order(each)).state for each in orders])
        assert states == [State.CANCELLED, *[State.PLACED] * 5]
        assert await _watched(ground) == []

    async with relaying(ground.settings, (Broker.RABBITMQ,)), _clock(ground), ground.working(FakePorts(), Queue.ORDERS):
        await eventually(one_ended)


async def test_what_is_parked_is_an_operators_and_what_is_late_is_over(ground: Ground) -> None:
    await _cancelled(ground)
    (sms,) = await ground.pool.fetch("SELECT event_id FROM watched_commands")
    clock, now = Clock(ground.pool, ground.settings), datetime.now(UTC)
    await ground.pool.execute("DELETE FROM outbox")
    await clock.step(now + LATER)
    again = [row["event_id"] for row in await ground.pool.fetch("SELECT event_id FROM outbox WHERE type = 'notification.sms'")]
    assert again == [sms["event_id"]]  # the same identity
    await record(ground.pool, parked(Command.NOTIFICATION_SMS, key=sms["event_id"]))
    await clock.step(now + 2 * LATER)
    assert await _watched(ground) == []

    order_id = await _cancelled(ground)
    await ground.pool.execute("UPDATE watched_commands SET first_at = now() - interval '8 days'")
    await clock.step(now + 2 * LATER)
    assert await _watched(ground) == []
    assert (await ground.order(order_id)).state is State.CANCELLED
