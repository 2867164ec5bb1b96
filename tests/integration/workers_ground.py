"""A database and a RabbitMQ virtual host of the workers' tests' own, and what they do there: send, work, look."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import aiohttp
import msgspec
import pytest

from adapters.postgres import Pool, connect, open_pool
from adapters.rabbitmq import Publisher, open_publisher
from adapters.rabbitmq_consumer import Consumer
from adapters.settings import Settings
from adapters.topology_declared import declared_rabbitmq, render
from orders.commands import SCHEMA_VERSION, command_body, command_id
from orders.envelope import AMQP_PREFIX, Broker, OutboxRow, attributes
from orders.names import COMMANDS_EXCHANGE, PRIORITY, Command, Queue
from orders.order import Order
from outbox.migrations import migrate
from outbox.transition import load
from tests.fake_ports import FakePorts
from workers.delivery import Worker
from workers.moves import Mover

NAME = "rushline_workers"


@dataclass(frozen=True, slots=True)
class Letter:
    body: bytes
    headers: Mapping[str, Any]
    routing_key: str
    priority: int


class Ground:
    """Where the tests work. `settings.time_scale` is large, so that the first tier takes a tenth of a second."""

    def __init__(self, settings: Settings, pool: Pool, publisher: Publisher) -> None:
        self.settings, self.pool, self._publisher = settings, pool, publisher
        self.management = settings.rabbitmq_management_url.rstrip("/") + "/api/"

    async def order(self, order_id: str) -> Order:
        return (await load(self.pool, order_id))[0]

    async def done(self, command_key: str) -> bool:
        return bool(await self.pool.fetchval("SELECT EXISTS (SELECT FROM inbox WHERE message_id = $1)", command_key))

    async def issued(self, order_id: str) -> list[str]:
        """The types of the messages in the outbox for this order, oldest first."""
        rows = await self.pool.fetch("SELECT type FROM outbox WHERE aggregate_id = $1 ORDER BY id", order_id)
        return [row["type"] for row in rows]

    async def send(self, order: Order, kind: Command, /, *, detail: str = "", **values: Any) -> str:
        """Publish a command as the relay does: the one that the order waits for, or another. Returns its id."""
        key = next((k for k, entry in order.pending.items() if entry.type == kind), "")
        given = {"order_id": order.order_id, "position": order.position, **values}
        body = order.pending[key].body if key and not values else command_body(kind, given)
        key = key if key and not values else command_id(order.order_id, order.position, kind, detail)
        row = OutboxRow(
            event_id=key, aggregate_id=order.order_id, position=body["position"], type=kind.value,
            schema_version=SCHEMA_VERSION, body=msgspec.json.encode(body), headers={}, broker=Broker.RABBITMQ,
            destination=kind.value, priority=PRIORITY[kind], occurred_at=datetime.now(UTC),
        )  # fmt: skip
        await self.publish(row.destination, row.body, attributes(row, AMQP_PREFIX), row.priority, key)
        return key

    async def publish(
        self, routing_key: str, body: bytes, headers: Mapping[str, str], priority: int = 2, key: str = "x"
    ) -> None:
        await self._publisher.publish(COMMANDS_EXCHANGE, routing_key, body, headers, priority, key)

    async def letters(self, queue: str) -> list[Letter]:
        """What lies in a queue, taken out of it."""
        found = []
        async with await aio_pika.connect(self.settings.rabbitmq_url) as connection:
            source = await (await connection.channel()).get_queue(queue)
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                found.append(Letter(message.body, message.headers, message.routing_key or "", message.priority or 0))
        return found

    async def depth(self, queue: str) -> int:
        async with await aio_pika.connect(self.settings.rabbitmq_url) as connection:
            return (await (await connection.channel()).get_queue(queue)).declaration_result.message_count or 0

    async def consumers(self, queue: str) -> int:
        """How many take from this queue now."""
        async with await aio_pika.connect(self.settings.rabbitmq_url) as connection:
            return (await (await connection.channel()).get_queue(queue)).declaration_result.consumer_count or 0

    @asynccontextmanager
    async def working(
        self, fakes: FakePorts, *queues: Queue, pool: "Pool | None" = None, **changed: Any
    ) -> AsyncIterator[asyncio.Event]:
        """Workers on these queues (or all) meanwhile; they must end by themselves once stopped."""
        settings, stop = msgspec.structs.replace(self.settings, **changed), asyncio.Event()
        async with open_publisher(settings.rabbitmq_url, service="tests-move", timeout_ms=2_000) as publisher:
            worker = Worker(pool or self.pool, fakes.ports, Mover(publisher, settings.time_scale), settings, stop)
            consumer = Consumer(
                settings.rabbitmq_url, worker.take, service="tests", queues=[q.value for q in queues or Queue],
                concurrency=settings.worker_concurrency, drain_s=2,
            )  # fmt: skip
            running = asyncio.create_task(consumer.run(stop))
            try:
                yield stop
                assert not running.done(), running
            finally:
                stop.set()
                await asyncio.wait_for(running, 10)

    async def lose(self, queue: str) -> None:
        """Delete a queue with all that is in it, as an operator's slip of the hand does; then make it anew, empty."""
        async with aiohttp.ClientSession(self.management, raise_for_status=True) as session:
            async with session.delete(f"queues/{NAME}/{queue}"):
                pass
            await _declare(session)

    async def add_restaurant(self, order: Order) -> None:
        async with connect(self.settings.migrate_url, service="tests") as owner:
            await owner.execute(
                "INSERT INTO restaurants VALUES ($1, 'R', $2, 52.09, 5.12, 'UTC', '{}', 'eur', 300, 'http://127.0.0.1:1/', $3)",
                order.restaurant_id, order.city, "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            )  # fmt: skip

    async def add_driver(self, driver_id: str, city: str, latitude: float, longitude: float) -> None:
        async with connect(self.settings.migrate_url, service="tests") as owner:
            await owner.execute(
                """INSERT INTO drivers (driver_id, city, status, latitude, longitude)
                   VALUES ($1, $2, 'available', $3, $4)""",
                driver_id, city, latitude, longitude,
            )  # fmt: skip


@pytest.fixture
async def ground(stack: Settings) -> AsyncIterator[Ground]:
    settings = await _prepared(stack)
    async with (
        open_pool(settings.postgres_dsn, service="tests", size=8) as pool,
        open_publisher(settings.rabbitmq_url, service="tests", timeout_ms=2_000) as publisher,
    ):
        yield Ground(settings, pool, publisher)


async def _prepared(stack: Settings) -> Settings:
    settings = msgspec.structs.replace(
        stack,
        postgres_dsn=_elsewhere(stack.postgres_dsn),
        migrate_dsn=_elsewhere(stack.migrate_url),
        rabbitmq_url=_elsewhere(stack.rabbitmq_url),
        time_scale=600.0,
        worker_concurrency=8,
    )
    async with connect(stack.migrate_url, service="tests") as owner:
        if not await owner.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", NAME):
            await owner.execute(f"CREATE DATABASE {NAME}")
    await migrate(settings.migrate_url)
    await _virtual_host(stack)
    return settings


def _elsewhere(url: str) -> str:
    return urlsplit(url)._replace(path=f"/{NAME}").geturl()


async def _virtual_host(stack: Settings) -> None:
    """Made afresh, so that every test begins with empty queues."""
    base = stack.rabbitmq_management_url.rstrip("/") + "/api/"
    user = urlsplit(stack.rabbitmq_url).username
    async with aiohttp.ClientSession(base, raise_for_status=True) as session:
        async with session.delete(f"vhosts/{NAME}", raise_for_status=False) as answer:
            assert answer.status in (204, 404)
        async with session.put(f"vhosts/{NAME}"):
            pass
        for name in {user, urlsplit(stack.rabbitmq_management_url).username}:
            rights = {"configure": "", "write": ".*", "read": ".*"}
            if name != user:
                rights["configure"] = ".*"
            async with session.put(f"permissions/{NAME}/{quote(name or '')}", json=rights):
                pass
        await _declare(session)


async def _declare(session: aiohttp.ClientSession) -> None:
    async with session.get("overview") as answer:
        version = (await answer.json())["rabbitmq_version"]
    definitions = render(declared_rabbitmq(), version)
    for each in (one for many in definitions.values() for one in many):
        each["vhost"] = NAME
    del definitions["vhosts"]
    async with session.post("definitions", json=definitions):
        pass
