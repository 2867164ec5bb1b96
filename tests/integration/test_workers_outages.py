"""RabbitMQ or PostgreSQL goes away under load and comes back: through a proxy that can be cut, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aio_pika
import pytest

from adapters.payments import ProviderUnavailable
from adapters.postgres import open_pool
from orders.names import COMMANDS_EXCHANGE, DEAD_LETTERS, POISON, Command, Queue, State
from orders.order import Order
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually, placed

__all__ = ["ground"]


class Cable:
    """A way to a server that can be cut."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        user = f"{self._target.username}:{self._target.password}@"
        return self._target._replace(netloc=f"{user}127.0.0.1:{self._port}").geturl()

    async def plug_in(self) -> None:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._links:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._links |= {writer, there_writer}
        for task in (_pump(reader, there_writer), _pump(there_reader, writer)):
            running = asyncio.create_task(task)
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def _cable(url: str) -> AsyncIterator[Cable]:
    cable = Cable(url)
    await cable.plug_in()
    try:
        yield cable
    finally:
        await cable.cut()


async def _charges(ground: Ground, number: int) -> list[Order]:
    orders = [await placed(ground.pool) for _ in range(number)]
    for order in orders:
        await ground.send(order, Command.PAYMENT_CHARGE)
    return orders


async def _all_confirmed(ground: Ground, orders: list[Order]) -> None:
    now = [await ground.order(order.order_id) for order in orders]
    assert {order.state for order in now} == {State.PAYMENT_CONFIRMED}
    assert {order.position for order in now} == {3}
    assert await ground.depth(Queue.PAYMENTS) == await ground.depth("orders.retry.1m") == 0


async def _some_moved(ground: Ground) -> None:
    assert await ground.pool.fetchval("SELECT count(*) FROM inbox WHERE done_at > now() - interval '10 s'")


async def test_rabbitmq_that_goes_away_is_found_again_and_every_charge_is_made_once(ground: Ground) -> None:
    orders, fakes = await _charges(ground, 60), FakePorts()
    fakes.payments.before["confirm"] = [ProviderUnavailable("a blink")] * 30  # some are on their way to a tier when it goes
    async with _cable(ground.settings.rabbitmq_url) as cable, ground.working(fakes, Queue.PAYMENTS, rabbitmq_url=cable.url):
        await eventually(lambda: _some_moved(ground))
        for _ in range(3):
            await cable.cut()
            await cable.plug_in()
            await asyncio.sleep(0.2)  # long enough to connect, too short to finish
        await eventually(lambda: _all_confirmed(ground, orders), 30)
    assert {intent.captured_minor for intent in fakes.payments.intents.values()} == {orders[0].total}
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_postgresql_that_goes_away_costs_no_attempt_and_no_letter(ground: Ground) -> None:
    orders, fakes = await _charges(ground, 60), FakePorts()
    async with (
        _cable(ground.settings.postgres_dsn) as cable,
        open_pool(cable.url, service="tests", size=4) as pool,
        ground.working(fakes, Queue.PAYMENTS, pool=pool, time_scale=1.0),  # a tier would take a minute
    ):
        await eventually(lambda: _some_moved(ground))
        await cable.cut()
        await asyncio.sleep(0.5)  # the outage
        await cable.plug_in()
        await eventually(lambda: _all_confirmed(ground, orders), 30)
    assert {intent.captured_minor for intent in fakes.payments.intents.values()} == {orders[0].total}
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_workers_that_are_stopped_while_the_database_is_away_release_what_they_hold(ground: Ground) -> None:
    orders, fakes = await _charges(ground, 4), FakePorts()
    async with _cable(ground.settings.postgres_dsn) as cable, open_pool(cable.url, service="tests", size=4) as pool:
        await cable.cut()
        async with ground.working(fakes, Queue.PAYMENTS, pool=pool):

            async def taken() -> None:
                assert await ground.depth(Queue.PAYMENTS) == 0

            await eventually(taken)

    async def released() -> None:
        assert await ground.depth(Queue.PAYMENTS) == len(orders)

    await eventually(released)


@pytest.mark.parametrize("header", [None, bytearray(b"\xff\xfe"), {"a": [1, 2.5, None]}, True, 2**40, "é" * 1_000])
async def test_a_strange_message_is_quarantined_whatever_its_headers_hold(ground: Ground, header: object) -> None:
    async with await aio_pika.connect(ground.settings.rabbitmq_url) as connection:
        exchange = await (await connection.channel()).get_exchange(COMMANDS_EXCHANGE)
        await exchange.publish(aio_pika.Message(b"?", headers={"strange": header}), "payment.charge")  # type: ignore[dict-item]

    async def quarantined() -> None:
        assert await ground.depth(POISON) == 1

    async with ground.working(FakePorts(), Queue.PAYMENTS):
        await eventually(quarantined)
    (letter,) = await ground.letters(POISON)
    assert letter.body == b"?"
    assert letter.headers["strange"] == header
