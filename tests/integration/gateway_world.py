"""The gateway's own database and two restaurants, for the other test_gateway_* files."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import pytest_asyncio

from adapters.postgres import Pool, connect, open_pool
from adapters.settings import Settings
from gateway.app import create_app
from gateway.auth import issue
from gateway.context import Gateway
from gateway.edge import Edge
from gateway.watch import Watch
from orders.decide import Cause, Wish, system
from orders.ids import new_id
from orders.lifecycle import Action
from orders.money import MAX_AMOUNT_MINOR
from orders.names import Role
from orders.order import Order
from outbox.migrations import migrate
from outbox.transition import load, move, utc_now, waits

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ALWAYS = {day: [["00:00", "24:00"]] for day in DAYS}


def _at(dsn: str, database: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="session")
def gateway_settings(stack: Settings) -> Iterator[Settings]:
    base = stack
    name = f"rushline_gw_{secrets.token_hex(4)}"

    async def owner(*statements: str) -> None:
        async with connect(base.migrate_url, service="test") as conn:
            for statement in statements:
                await conn.execute(statement)

    asyncio.run(owner(f"CREATE DATABASE {name}"))
    try:
        asyncio.run(migrate(_at(base.migrate_url, name)))
        yield msgspec.structs.replace(
            base,
            postgres_dsn=_at(base.postgres_dsn, name),
            migrate_dsn=_at(base.migrate_url, name),
            audit_dsn=_at(base.audit_url, name),
            audit_reader_dsn=_at(base.audit_reader_url, name),
            audit_migrate_dsn=_at(base.audit_migrate_url, name),
            stripe_webhook_secret="whsec_test",
            jwt_secret="x" * 40,
        )
    finally:
        asyncio.run(owner(f"DROP DATABASE {name}"))


@dataclass
class World:
    settings: Settings
    pool: Pool
    app: Edge
    http: httpx.AsyncClient
    watch: Watch
    at: list[datetime] = field(default_factory=list)
    customer: str = field(default_factory=lambda: new_id("cus"))
    restaurant: str = field(default_factory=lambda: new_id("rst"))
    other_restaurant: str = field(default_factory=lambda: new_id("rst"))
    driver: str = field(default_factory=lambda: new_id("drv"))
    city: str = field(default_factory=lambda: f"City {secrets.token_hex(4)}")

    def clock(self) -> datetime:
        return self.at[0] if self.at else utc_now()

    def token(self, role: str, subject: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {issue(self.settings, Role(role), subject, timedelta(hours=1))}"}

    @property
    def as_customer(self) -> dict[str, str]:
        return self.token("customer", self.customer)

    @property
    def as_restaurant(self) -> dict[str, str]:
        return self.token("restaurant", self.restaurant)

    @property
    def as_driver(self) -> dict[str, str]:
        return self.token("driver", self.driver)

    def order(self, **changes: Any) -> dict[str, Any]:
        return {
            "restaurant_id": self.restaurant,
            "items": [{"item_id": "itm_pizza", "quantity": 2}, {"item_id": "itm_cola", "quantity": 1}],
            "delivery_address": {
                "street": "Main Street 1",
                "city": self.city,
                "postal_code": "10115",
                "latitude": 52.5,
                "longitude": 13.4,
            },
            "payment_method_id": "pm_card_visa",
            **changes,
        }

    async def place(self, key: str | None = None, **changes: Any) -> httpx.Response:
        headers = {**self.as_customer, "Idempotency-Key": f'"{key or secrets.token_hex(8)}"'}
        return await self.http.post("/v1/orders", json=self.order(**changes), headers=headers)

    async def placed(self) -> str:
        answer = await self.place()
        assert answer.status_code == 201, answer.text
        order_id: str = answer.json()["order_id"]
        return order_id

    async def do(self, order_id: str, action: Action, **wish: Any) -> Order:
        cause = Cause(id=f"cmd_test_{secrets.token_hex(4)}", actor=system("test"), service="test")
        return await move(self.pool, order_id, Wish(action=action, **wish), cause, waits(self.settings))

    async def paid(self) -> str:
        order_id = await self.placed()
        await self.do(order_id, Action.BEGIN_PAYMENT)
        order, _ = await load(self.pool, order_id)
        await self.do(
            order_id,
            Action.CONFIRM_PAYMENT,
            changes={"captured": order.total, "money": "captured"},
            data={"amount": order.total},
        )
        return order_id

    async def accepted(self) -> str:
        order_id = await self.paid()
        await self.do(order_id, Action.NOTIFY_RESTAURANT)
        answer = await self.http.post(f"/v1/restaurant/orders/{order_id}/accept", headers=self.as_restaurant)
        assert answer.status_code == 200, answer.text
        return order_id

    async def assigned(self) -> str:
        order_id = await self.accepted()
        await self.pool.execute("UPDATE drivers SET reserved_for = $2 WHERE driver_id = $1", self.driver, order_id)
        await self.do(order_id, Action.ASSIGN_DRIVER, changes={"driver_id": self.driver}, take_driver=self.driver)
        return order_id

    async def count(self, sql: str, *args: Any) -> int:
        found: int = await self.pool.fetchval(sql, *args)
        return found


async def seed_world(world: World) -> None:
    for restaurant, price, fee in ((world.restaurant, 1000, 300), (world.other_restaurant, 900, 250)):
        await world.pool.execute(
            "INSERT INTO restaurants VALUES ($1, $2, $3, 52.5, 13.4, 'Europe/Berlin', $4, 'EUR', $5, 'http://127.0.0.1:1', 'whsec_x')",
            restaurant, f"Restaurant {restaurant[-4:]}", world.city, ALWAYS, fee,
        )  # fmt: skip
        menu = (
            ("itm_pizza", "Pizza", price, True),
            ("itm_cola", "Cola", 250, True),
            ("itm_water", "Water", 200, True),
            ("itm_truffle", "Truffle", 9000, True),
            ("itm_soup", "Soup", 500, False),
            ("itm_gold", "Gold", MAX_AMOUNT_MINOR, True),
        )
        await world.pool.executemany(
            "INSERT INTO menu_items VALUES ($1, $2, $3, $4, $5)", [(restaurant, *item) for item in menu]
        )
    await world.pool.execute(
        "INSERT INTO drivers (driver_id, city, status, latitude, longitude) VALUES ($1, $2, 'available', 52.5, 13.4)",
        world.driver, world.city,
    )  # fmt: skip


@dataclass(frozen=True)
class Served:
    """One application for a whole module: making one takes as long as a hundred requests."""

    settings: Settings
    pool: Pool
    app: Edge
    http: httpx.AsyncClient
    watch: Watch
    at: list[datetime]


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Served]:
    async with (
        open_pool(settings.postgres_dsn, service="test", size=8) as pool,
        open_pool(settings.audit_reader_url, service="test", size=4, lazy=True) as ledger,
    ):
        watch = Watch(pool, poll_s=0.02, heartbeat_s=0.2)
        at: list[datetime] = []
        clock = lambda: at[0] if at else datetime.now(UTC)  # noqa: E731
        app = create_app(Gateway(settings, pool, waits(settings), watch, clock=clock, ledger=ledger))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Served(settings, pool, app, http, watch, at)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(gateway_settings: Settings) -> AsyncIterator[Served]:
    async with serve(gateway_settings) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def world(served: Served) -> World:
    served.at.clear()
    made = World(served.settings, served.pool, served.app, served.http, served.watch, served.at)
    await seed_world(made)
    return made
