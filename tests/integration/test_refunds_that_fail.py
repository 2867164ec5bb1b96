"""A refund that fails goes through the tiers and ends with an operator, never silently; and a replay finishes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from adapters.payments import ProviderUnavailable
from orders.lifecycle import Action
from orders.names import DEAD_LETTERS, Money, State
from orders.order import Order
from outbox.alerts import REFUND_PARKED, open_alerts
from outbox.letters.sending import replay_one
from outbox.transition import apply
from tests.integration.city import City
from tests.integration.workers_ground import Ground, ground
from tests.making import change_of, empty, eventually
from workers import letters

__all__ = ["ground"]

LONG = 600_000


@pytest.fixture(autouse=True)
async def _fresh(ground: Ground) -> None:
    await empty(ground.settings)


@asynccontextmanager
async def _post(ground: Ground) -> AsyncIterator[None]:
    """The process of the letters."""
    stop = asyncio.Event()
    running = asyncio.create_task(letters.run(ground.settings, stop))
    try:
        yield
        assert not running.done(), running
    finally:
        stop.set()
        await running


async def _cancelled_without_refund(ground: Ground, city: City) -> Order:
    """A paid order that was called off while the provider takes no refunds."""
    order = await city.order(await city.restaurant())

    async def notified() -> None:
        assert (await ground.order(order.order_id)).state is State.RESTAURANT_NOTIFIED

    await eventually(notified)
    city.fakes.payments.always["refund"] = ProviderUnavailable("503")
    await apply(ground.pool, change_of(Action.CANCEL, await ground.order(order.order_id)))
    return order


async def test_a_refund_that_fails_for_good_is_a_letter_with_an_alert_and_its_replay_gives_the_money_back(
    ground: Ground,
) -> None:
    city = City(ground, restaurant_answer_s=LONG)

    async def parked() -> None:
        row = await ground.pool.fetchrow(
            "SELECT state FROM dead_letters WHERE order_id = $1 AND type = 'payment.refund'", order.order_id
        )
        assert row is not None
        assert row["state"] == "open"
        assert not (await ground.order(order.order_id)).pending  # the watchdog lets go of it

    async def refunded() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.money, now.refunded) == (State.CANCELLED, Money.REFUNDED, order.total)

    async def settled() -> None:
        row = await ground.pool.fetchrow("SELECT state, resolution FROM dead_letters WHERE letter_id = $1", letter_id)
        assert row is not None
        assert tuple(row) == ("resolved", "replayed")
        assert [alert for alert in await open_alerts(ground.pool) if alert.subject == letter_id] == []

    async with city.awake(), _post(ground):
        order = await _cancelled_without_refund(ground, city)
        await eventually(parked)
        now = await ground.order(order.order_id)
        assert (now.state, now.money, now.captured, now.refunded) == (State.CANCELLED, Money.CAPTURED, order.total, 0)
        letter_id = await ground.pool.fetchval("SELECT letter_id FROM dead_letters WHERE type = 'payment.refund'")
        assert [(alert.kind, alert.subject) for alert in await open_alerts(ground.pool)] == [(REFUND_PARKED, letter_id)]
        city.fakes.payments.always.clear()
        await replay_one(ground.pool, letter_id, actor="op_1", now=datetime.now(UTC))
        await eventually(refunded)
        await eventually(settled)
    assert len(city.fakes.payments.refunds) == 1


async def test_a_refund_that_fails_for_a_while_needs_nobody(ground: Ground) -> None:
    city = City(ground, restaurant_answer_s=LONG)

    async def tried() -> None:
        assert len(city.fakes.payments.named("refund")) >= 2

    async def refunded() -> None:
        now = await ground.order(order.order_id)
        assert (now.money, now.refunded, now.pending) == (Money.REFUNDED, order.total, {})

    async with city.awake(), _post(ground):
        order = await _cancelled_without_refund(ground, city)
        await eventually(tried)
        city.fakes.payments.always.clear()
        await eventually(refunded)
    assert await open_alerts(ground.pool) == []
    assert await ground.pool.fetchval("SELECT count(*) FROM dead_letters WHERE source = 'command'") == 0


async def test_a_refund_that_was_parked_and_lost_before_anybody_saw_it_is_issued_again(ground: Ground) -> None:
    city = City(ground, restaurant_answer_s=LONG)

    async def parked() -> None:
        assert await ground.depth(DEAD_LETTERS) >= 1

    async def refunded() -> None:
        now = await ground.order(order.order_id)
        assert (now.money, now.refunded, now.pending) == (Money.REFUNDED, order.total, {})

    async with city.awake():  # and no process of the letters
        order = await _cancelled_without_refund(ground, city)
        await eventually(parked)
        await ground.lose(DEAD_LETTERS)
        city.fakes.payments.always.clear()
        await eventually(refunded)
    assert len(city.fakes.payments.refunds) == 1
