"""Between any two steps a worker can die, lose its broker or be told to stop: the next one goes on where it stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from adapters.payments import OutcomeUnknown
from adapters.settings import Settings
from orders.lifecycle import Action
from orders.names import DEAD_LETTERS, Command, Money, Queue, State
from outbox.transition import apply
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import NAME, Ground, ground
from tests.making import change_of, eventually, placed, walked

__all__ = ["ground"]


async def _die(*_: Any) -> None:
    raise asyncio.CancelledError


async def _once(ground: Ground, check: Callable[[], Awaitable[None]], fakes: FakePorts, *queues: Queue) -> None:
    async with ground.working(fakes, *queues):
        await eventually(check)


@pytest.mark.parametrize("moment", ["before create", "after create", "before confirm", "after confirm"])
async def test_a_charge_that_was_killed_is_finished_by_the_next_worker_and_charged_once(ground: Ground, moment: str) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    when, call = moment.split()
    getattr(fakes.payments, when)[call] = [asyncio.CancelledError()]
    key = await ground.send(order, Command.PAYMENT_CHARGE)

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED
        assert await ground.done(key)

    await _once(ground, confirmed, fakes, Queue.PAYMENTS)
    assert len(fakes.payments.named("confirm")) == (2 if moment == "before confirm" else 1)
    assert [intent.captured_minor for intent in fakes.payments.intents.values()] == [order.total]


async def test_a_charge_whose_outcome_is_unknown_is_settled_by_looking(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.after["confirm"] = [OutcomeUnknown("the answer was lost")]
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED

    await _once(ground, confirmed, fakes, Queue.PAYMENTS)
    assert len(fakes.payments.named("confirm")) == len(fakes.payments.named("retrieve")) == 1


async def test_a_charge_that_succeeds_after_its_order_was_cancelled_is_refunded(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    confirm = fakes.payments.confirm

    async def cancelled_meanwhile(*arguments: Any) -> Any:
        intent = await confirm(*arguments)
        now = await ground.order(order.order_id)
        now = await apply(ground.pool, change_of(Action.CANCEL, now))
        await ground.send(now, Command.PAYMENT_REFUND)
        return intent

    fakes.payments.confirm = cancelled_meanwhile  # type: ignore[method-assign]
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def refunded() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.money, now.captured, now.refunded) == (
            State.CANCELLED, Money.REFUNDED, order.total, order.total,
        )  # fmt: skip
        assert not now.pending

    await _once(ground, refunded, fakes, Queue.PAYMENTS)
    issued = await ground.issued(order.order_id)
    assert issued.count("payment.confirmed") == issued.count("payment.refunded") == 2  # a fact and its audit event


async def test_a_refund_whose_worker_was_killed_after_it_is_recorded_and_not_made_again(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED

    await _once(ground, confirmed, fakes, Queue.PAYMENTS)
    order = await apply(ground.pool, change_of(Action.CANCEL, await ground.order(order.order_id)))
    fakes.payments.after["refund"] = [asyncio.CancelledError()]
    await ground.send(order, Command.PAYMENT_REFUND)

    async def refunded() -> None:
        now = await ground.order(order.order_id)
        assert (now.money, now.refunded) == (Money.REFUNDED, order.total)

    await _once(ground, refunded, fakes, Queue.PAYMENTS)
    assert [call[-1] for call in fakes.payments.named("refund")] == [False, True]  # the second one looked first
    assert [intent.refunded_minor for intent in fakes.payments.intents.values()] == [order.total]


async def test_a_lost_connection_is_made_again_and_nothing_is_done_twice(ground: Ground, stack: Settings) -> None:
    fakes = FakePorts()
    orders = [await walked(ground.pool, State.PAYMENT_CONFIRMED) for _ in range(20)]
    tell, cut = fakes.restaurants.tell, asyncio.Event()

    async def tell_while_cut(*arguments: Any) -> None:
        if not cut.is_set():
            cut.set()
            await _cut_connections(stack)
        await tell(*arguments)

    fakes.restaurants.tell = tell_while_cut  # type: ignore[method-assign]
    for order in orders:
        await ground.send(order, Command.RESTAURANT_NOTIFY)

    async def all_told() -> None:
        assert {(await ground.order(order.order_id)).state for order in orders} == {State.RESTAURANT_NOTIFIED}
        assert await ground.depth(Queue.RESTAURANTS) == 0

    await _once(ground, all_told, fakes, Queue.RESTAURANTS)
    assert {(await ground.order(order.order_id)).position for order in orders} == {orders[0].position + 1}
    assert await ground.depth(DEAD_LETTERS) == 0


async def _cut_connections(stack: Settings) -> None:
    """Until one is found: the broker lists a new connection only after a moment."""
    async with aiohttp.ClientSession(stack.rabbitmq_management_url.rstrip("/") + "/api/") as session:

        async def found() -> None:
            async with session.get("connections") as answer:
                listed = await answer.json()
            ours = [
                each["name"] for each in listed if each.get("vhost") == NAME and "consume" in str(each.get("client_properties"))
            ]
            assert ours
            for name in ours:
                async with session.delete(f"connections/{name}"):
                    pass

        await eventually(found)


async def test_workers_that_are_told_to_stop_finish_what_is_in_hand_and_release_the_rest(ground: Ground) -> None:
    fakes = FakePorts()
    orders = [await walked(ground.pool, State.PAYMENT_CONFIRMED) for _ in range(6)]
    held, go_on = asyncio.Semaphore(0), asyncio.Event()
    tell = fakes.restaurants.tell

    async def tell_slowly(*arguments: Any) -> None:
        held.release()
        await go_on.wait()
        await tell(*arguments)

    fakes.restaurants.tell = tell_slowly  # type: ignore[method-assign]
    for order in orders:
        await ground.send(order, Command.RESTAURANT_NOTIFY)
    async with ground.working(fakes, Queue.RESTAURANTS, worker_concurrency=2) as stop:
        await held.acquire()
        await held.acquire()
        stop.set()
        go_on.set()
    states = [(await ground.order(order.order_id)).state for order in orders]
    assert states.count(State.RESTAURANT_NOTIFIED) == 2

    async def released() -> None:
        assert await ground.depth(Queue.RESTAURANTS) == 4

    await eventually(released)
