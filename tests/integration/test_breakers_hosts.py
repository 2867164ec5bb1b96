"""One restaurant's host away or slow among others: its messages wait, theirs do not, and it costs no attempt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from adapters.postgres import connect
from orders.names import DEAD_LETTERS, Command, Queue, State
from orders.order import Order
from tests.integration.test_breakers_payments import running
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually, walked

__all__ = ["ground"]

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
TIERS = ("orders.retry.1m", "orders.retry.5m", "orders.retry.15m")


class Kitchen:
    """A restaurant's host: `status` is what it answers, after `pause_s`; it can stop listening."""

    def __init__(self) -> None:
        self.status, self.pause_s, self.asked, self.port = 200, 0.0, 0, 0
        self.most_at_once = self._now = 0
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/orders"

    async def open(self) -> None:
        app = web.Application()
        app.router.add_post("/orders", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self.port or int(runner.addresses[0][1])

    async def close(self) -> None:
        await self._stack.aclose()

    async def _take(self, _: web.Request) -> web.Response:
        self.asked += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self._now -= 1
        return web.Response(status=self.status)


@asynccontextmanager
async def kitchen() -> AsyncIterator[Kitchen]:
    it = Kitchen()
    await it.open()
    try:
        yield it
    finally:
        await it.close()


@pytest.fixture
async def bad() -> AsyncIterator[Kitchen]:
    async with kitchen() as it:
        yield it


@pytest.fixture
async def good() -> AsyncIterator[Kitchen]:
    async with kitchen() as it:
        yield it


async def orders_for(ground: Ground, kitchen: Kitchen, number: int) -> list[Order]:
    """So many paid orders, each of a restaurant of its own, at this host."""
    orders = [await walked(ground.pool, State.PAYMENT_CONFIRMED) for _ in range(number)]
    async with connect(ground.settings.migrate_url, service="tests") as owner:
        await owner.executemany(
            "INSERT INTO restaurants VALUES ($1, 'R', 'Utrecht', 52.09, 5.12, 'UTC', '{}', 'eur', 300, $2, $3)",
            [(order.restaurant_id, kitchen.url, SECRET) for order in orders],
        )
    return orders


async def send(ground: Ground, orders: list[Order]) -> None:
    for order in orders:
        await ground.send(order, Command.RESTAURANT_NOTIFY)


async def told(ground: Ground, orders: list[Order]) -> None:
    for order in orders:
        assert (await ground.order(order.order_id)).state is State.RESTAURANT_NOTIFIED


async def empty(ground: Ground) -> None:
    assert [await ground.depth(queue) for queue in (Queue.RESTAURANTS, *TIERS)] == [0] * 4


async def all_in_tiers(ground: Ground, number: int) -> None:
    assert sum([await ground.depth(tier) for tier in TIERS]) == number


@pytest.mark.parametrize("failure", ["refuses", "500", "hangs"])
async def test_messages_for_a_host_that_is_away_wait_without_spending_attempts(
    ground: Ground, bad: Kitchen, good: Kitchen, failure: str
) -> None:
    theirs, others = await orders_for(ground, bad, 30), await orders_for(ground, good, 30)
    if failure == "refuses":
        await bad.close()
    bad.status, bad.pause_s = (500 if failure == "500" else 200), (30 if failure == "hangs" else 0)
    settings = msgspec.structs.replace(ground.settings, time_scale=1.0, webhook_timeout_ms=300)
    await send(ground, [order for pair in zip(theirs, others, strict=True) for order in pair])
    async with running(settings, Queue.RESTAURANTS):
        await eventually(lambda: told(ground, others))
        await eventually(lambda: all_in_tiers(ground, 30))
    assert bad.asked <= 16  # as many as were under way when it was found out
    waiting = await ground.letters(TIERS[0])
    assert {letter.headers.get("rushline-attempts", "0") for letter in waiting} == {"0"}


async def test_a_host_that_comes_back_is_told_everything_and_nobody_was_given_up(
    ground: Ground, bad: Kitchen, good: Kitchen
) -> None:
    theirs = await orders_for(ground, bad, 30)
    await bad.close()
    async with running(msgspec.structs.replace(ground.settings, time_scale=120.0), Queue.RESTAURANTS):
        await send(ground, theirs)
        await eventually(lambda: all_in_tiers(ground, 30))
        others = await orders_for(ground, good, 5)
        await send(ground, others)
        await eventually(lambda: told(ground, others))
        await bad.open()
        await eventually(lambda: told(ground, theirs))
        await eventually(lambda: empty(ground))
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_a_host_that_refuses_a_message_is_not_away_and_the_message_spends_its_attempts(
    ground: Ground, bad: Kitchen
) -> None:
    bad.status = 404
    orders = await orders_for(ground, bad, 3)
    await send(ground, orders)

    async def given_up() -> None:
        assert await ground.depth(DEAD_LETTERS) == 3

    async with running(msgspec.structs.replace(ground.settings, time_scale=6_000.0), Queue.RESTAURANTS):
        await eventually(given_up)
    assert bad.asked >= 3 * 4


async def test_a_host_that_hangs_does_not_take_all_hands(ground: Ground, bad: Kitchen, good: Kitchen) -> None:
    theirs, others = await orders_for(ground, bad, 60), await orders_for(ground, good, 60)
    bad.pause_s = 60
    settings = msgspec.structs.replace(ground.settings, time_scale=1.0, webhook_timeout_ms=30_000, worker_concurrency=16)
    await send(ground, theirs)  # all of them before the others
    await send(ground, others)
    async with running(settings, Queue.RESTAURANTS):
        await eventually(lambda: told(ground, others), 25)  # before the first call that hangs has ended
    assert bad.most_at_once <= 4


async def test_a_busy_host_that_answers_is_not_held_back(ground: Ground, good: Kitchen) -> None:
    orders = await orders_for(ground, good, 60)
    good.pause_s = 0.05
    settings = msgspec.structs.replace(ground.settings, time_scale=1.0, worker_concurrency=16)
    await send(ground, orders)
    async with running(settings, Queue.RESTAURANTS):
        await eventually(lambda: told(ground, orders))
    assert good.most_at_once > 8
    assert await ground.depth(TIERS[0]) == 0
