"""A city for the tests of whole orders: restaurants with menus, drivers, and relay, clock and workers that run meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from adapters.postgres import connect
from adapters.settings import Settings
from orders.decide import Cause, Wish
from orders.envelope import Broker
from orders.facts import Actor
from orders.hours import WEEKDAYS
from orders.ids import new_id
from orders.lifecycle import Action
from orders.names import Queue, Role
from orders.order import Order
from outbox.clock import Clock
from outbox.transition import move, utc_now, waits
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import Ground
from tests.making import placed, relaying
from workers.alternatives import AlternativeTable
from workers.drivers import DriverTable

ALWAYS = {day: [["00:00", "24:00"]] for day in WEEKDAYS}


class City:
    """`fakes` is the outside world; drivers and alternatives come from the real tables."""

    def __init__(self, ground: Ground, *, agreed: bool = True, **waiting: Any) -> None:
        self.ground, self.name, self.waiting = ground, new_id("rst"), waiting
        self.fakes = FakePorts(drivers=DriverTable(ground.pool, ground.settings.time_scale))
        self.fakes.alternatives = AlternativeTable(ground.pool, utc_now, agreed=agreed)

    @property
    def settings(self) -> Settings:
        return msgspec.structs.replace(self.ground.settings, **self.waiting, relay_idle_ms=10, clock_tick_ms=20)

    async def restaurant(self, *, fee: int = 300, pizza: int = 1_150, hours: Any = ALWAYS, city: str = "") -> str:
        """A restaurant with what every order of `tests.making` is of."""
        restaurant_id = new_id("rst")
        async with connect(self.ground.settings.migrate_url, service="tests") as owner:
            await owner.execute(
                "INSERT INTO restaurants VALUES ($1, 'R', $2, 52.09, 5.12, 'UTC', $3, 'eur', $4, 'http://127.0.0.1:1/', 'whsec_x')",
                restaurant_id, city or self.name, hours, fee,
            )  # fmt: skip
            await owner.executemany(
                "INSERT INTO menu_items VALUES ($1, $2, $3, $4)",
                [(restaurant_id, "itm_1", "Margherita", pizza), (restaurant_id, "itm_2", "Tiramisù", 600)],
            )
        return restaurant_id

    async def driver(self) -> str:
        driver_id = new_id("drv")
        await self.ground.add_driver(driver_id, self.name, 52.09, 5.12)
        return driver_id

    async def order(self, restaurant_id: str) -> Order:
        return await placed(self.ground.pool, city=self.name, restaurant_id=restaurant_id)

    @asynccontextmanager
    async def awake(self, *queues: Queue) -> AsyncIterator[None]:
        """Relay, clock and workers."""
        stop = asyncio.Event()
        async with relaying(self.settings, (Broker.RABBITMQ,)), self.ground.working(self.fakes, *queues, **self.waiting):
            clock = asyncio.create_task(Clock(self.ground.pool, self.settings).run(stop))
            try:
                yield
            finally:
                stop.set()
                await clock

    async def answer(self, order: Order, action: Action, reason: str | None = None, **values: Any) -> Order:
        """What the order's restaurant says, as the gateway would put it."""
        actor = Actor(Role.RESTAURANT, order.restaurant_id)
        cause = Cause(id=f"req_{new_id('cus')}", actor=actor, service="gateway")
        wish = Wish(action=action, reason=reason, values={"reason": reason or "", **values})
        return await move(self.ground.pool, order.order_id, wish, cause, waits(self.settings))

    def told(self, order: Order) -> list[tuple[str, str]]:
        """What the restaurants were told about this order: who, and what. The same message again is no news to them."""
        messages = {
            message_id: (who, body["type"])
            for who, message_id, body in self.fakes.restaurants.named("tell")
            if body["order_id"] == order.order_id
        }
        return list(messages.values())

    async def facts(self, order: Order) -> list[str]:
        rows = await self.ground.pool.fetch(
            "SELECT type FROM order_events WHERE order_id = $1 ORDER BY position", order.order_id
        )
        return [row["type"] for row in rows]

    async def failures(self, order: Order) -> list[str]:
        """The failures of this order that were answered, oldest first."""
        rows = await self.ground.pool.fetch(
            "SELECT failure_type FROM dead_letters WHERE order_id = $1 AND source = 'order' ORDER BY position", order.order_id
        )
        return [row["failure_type"] for row in rows]
