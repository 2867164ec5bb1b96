"""What a broker lost for good is issued again with the same identity: every order still ends, and nothing is done twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from adapters.settings import Settings
from orders.decide import Cause, Wish
from orders.envelope import Broker
from orders.errors import NotAllowed
from orders.facts import Actor
from orders.ids import new_id
from orders.lifecycle import Action
from orders.names import FINAL, Money, Queue, Role, State
from orders.order import Order
from outbox.clock import Clock
from outbox.transition import move, waits
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import Ground, ground
from tests.making import empty, eventually, placed, relaying
from workers.drivers import DriverTable
from workers.ports import RestaurantUnreachable

__all__ = ["ground"]

ORDERS = 12
TIER = "orders.retry.1m"


# A second until the watchdog looks, and nothing that ends an order meanwhile.
WAITS = {
    "stuck_s": 600, "driver_search_s": 600, "driver_escalation_s": 60_000, "restaurant_answer_s": 60_000, "pick_up_s": 60_000,
    "delivery_s": 60_000,
}  # fmt: skip


def _quick(ground: Ground) -> Settings:
    return msgspec.structs.replace(ground.settings, **WAITS, relay_idle_ms=10, clock_tick_ms=20)


@asynccontextmanager
async def _running(ground: Ground) -> AsyncIterator[None]:
    """The relay to RabbitMQ, and the clock."""
    settings, stop = _quick(ground), asyncio.Event()
    async with relaying(settings, (Broker.RABBITMQ,)):
        clock = asyncio.create_task(Clock(ground.pool, settings).run(stop))
        try:
            yield
        finally:
            stop.set()
            await clock


async def _orders(ground: Ground) -> list[Order]:
    """Orders of one city, with a driver for each."""
    await empty(ground.settings)
    city = new_id("rst")
    orders = [await placed(ground.pool, city=city) for _ in range(ORDERS)]
    for order in orders:
        await ground.add_restaurant(order)
        await ground.add_driver(new_id("drv"), city, 52.09, 5.12)
    await ground.pool.execute("UPDATE orders SET deadline_at = now() + interval '1 second'")
    return orders


class _People:
    """Restaurants answer what they were told, drivers carry what they were given."""

    def __init__(self, ground: Ground, *, rejecting: bool = False) -> None:
        self._ground, self._answer = ground, Action.REJECT if rejecting else Action.ACCEPT
        self._wait = waits(_quick(ground))

    async def act(self, order: Order) -> None:
        match order.state:
            case State.RESTAURANT_NOTIFIED:
                await self._do(order, self._answer, Actor(Role.RESTAURANT, order.restaurant_id))
            case State.DRIVER_ASSIGNED:
                await self._do(order, Action.PICK_UP, Actor(Role.DRIVER, order.driver_id or ""))
            case State.PICKED_UP:
                await self._do(order, Action.DELIVER, Actor(Role.DRIVER, order.driver_id or ""))
            case _:
                pass

    async def _do(self, order: Order, action: Action, actor: Actor) -> None:
        cause = Cause(id=f"req_{action.value}_{order.position}", actor=actor, service="tests")
        values = {"reason": "restaurant_rejected"} if action is Action.REJECT else {}
        with suppress(NotAllowed):
            await move(self._ground.pool, order.order_id, Wish(action=action, values=values), cause, self._wait)

    async def all_end(self, orders: Sequence[Order]) -> None:
        now = [await self._ground.order(order.order_id) for order in orders]
        for order in now:
            await self.act(order)
        assert [(o.state, [p.type for p in o.pending.values()]) for o in now if o.state not in FINAL or o.pending] == []


async def _once(ground: Ground, fakes: FakePorts, orders: Sequence[Order], end: State) -> None:
    """Each ended as it should, was charged once, and cost its people one message for each step."""
    now = [await ground.order(order.order_id) for order in orders]
    assert {order.state for order in now} == {end}
    captured = [intent.captured_minor for intent in fakes.payments.intents.values()]
    assert captured == [order.captured for order in now] == [orders[0].total] * ORDERS
    assert {order.money for order in now} == {Money.CAPTURED if end is State.DELIVERED else Money.REFUNDED}
    positions = await ground.pool.fetch("SELECT count(*) = max(position) AS gapless FROM order_events GROUP BY order_id")
    assert all(row["gapless"] for row in positions)


@pytest.mark.parametrize(
    ("lost", "rejecting"),
    [(Queue.PAYMENTS, False), (Queue.RESTAURANTS, False), (Queue.DRIVERS, False), (Queue.ORDERS, True)],
    ids=["payments", "restaurants", "drivers", "orders"],
)
async def test_a_queue_that_was_deleted_with_messages_in_it_costs_no_order(
    ground: Ground, lost: Queue, rejecting: bool
) -> None:
    orders, fakes = await _orders(ground), FakePorts(drivers=DriverTable(ground.pool, 600.0))
    people = _People(ground, rejecting=rejecting)
    others = [queue for queue in Queue if queue is not lost]

    async def all_wait_there() -> None:
        for order in orders:
            await people.act(await ground.order(order.order_id))
        assert await ground.depth(lost.value) >= ORDERS

    async with _running(ground):
        async with ground.working(fakes, *others, **WAITS):
            await eventually(all_wait_there)
        await ground.lose(lost.value)
        assert await ground.depth(lost.value) < ORDERS  # what the clock has issued since, at most
        async with ground.working(fakes, **WAITS):
            await eventually(lambda: people.all_end(orders))
    await _once(ground, fakes, orders, State.CANCELLED if rejecting else State.DELIVERED)


async def test_a_tier_that_was_deleted_with_messages_in_it_costs_no_order(ground: Ground) -> None:
    orders, fakes = await _orders(ground), FakePorts(drivers=DriverTable(ground.pool, 600.0))
    people = _People(ground)
    fakes.restaurants.always["tell"] = RestaurantUnreachable("nobody opens")

    async def all_wait_there() -> None:
        assert await ground.depth(TIER) >= ORDERS

    async with _running(ground):
        async with ground.working(fakes, time_scale=1.0, stuck_s=1):  # a minute in the tier
            await eventually(all_wait_there)
        await ground.lose(TIER)
        fakes.restaurants.always.clear()
        async with ground.working(fakes, **WAITS):
            await eventually(lambda: people.all_end(orders))
    await _once(ground, fakes, orders, State.DELIVERED)
