"""What RabbitMQ cannot hand back, or nobody takes in, is seen and alarmed, and the alarm ends when it does."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from adapters.rabbitmq import Publisher, open_publisher
from adapters.settings import Settings
from orders.names import DEAD_LETTERS
from outbox.alerts import Alert, open_alerts
from outbox.tier_watch import BLIND, STUCK, UNTAKEN, TierWatch
from tests.integration.workers_ground import NAME, Ground, ground
from tests.making import NOW, eventually

__all__ = ["ground"]

TIER = "orders.retry.1m"


@pytest.fixture
async def api(ground: Ground) -> AsyncIterator[aiohttp.ClientSession]:
    base = ground.settings.rabbitmq_management_url.rstrip("/") + "/api/"
    async with aiohttp.ClientSession(base, raise_for_status=True) as session:
        yield session


@pytest.fixture
async def publisher(ground: Ground) -> AsyncIterator[Publisher]:
    async with open_publisher(ground.settings.rabbitmq_url, service="tests", timeout_ms=2_000) as publisher:
        yield publisher


async def wait_in_the_tier(publisher: Publisher, routing_key: str, number: int, wait_ms: int = 50) -> None:
    for each in range(number):
        await publisher.publish(TIER, routing_key, b"{}", {}, 3, f"{routing_key}-{each}", wait_ms)


async def raised(ground: Ground, *kinds: str) -> list[Alert]:
    found = [alert for alert in await open_alerts(ground.pool) if alert.kind in (STUCK, UNTAKEN, BLIND)]
    assert {alert.kind for alert in found} == set(kinds)
    return found


def watching(settings: Settings, ground: Ground) -> Callable[[], Awaitable[int]]:
    """A look, a quarter of a minute after the one before."""
    watch, times = TierWatch(), itertools.count(0, 15)

    async def look() -> int:
        return await watch.step(settings, ground.pool, NOW + timedelta(seconds=next(times)))

    return look


async def test_what_a_tier_cannot_hand_back_is_alarmed_and_comes_back_when_it_can(
    ground: Ground, api: aiohttp.ClientSession, publisher: Publisher
) -> None:
    look = watching(ground.settings, ground)
    async with api.get(f"queues/{NAME}/payments") as answer:
        payments = await answer.json()
    async with api.delete(f"queues/{NAME}/payments"):
        pass
    full = {"pattern": "^drivers$", "definition": {"max-length": 1, "overflow": "reject-publish"}, "apply-to": "queues"}
    async with api.put(f"policies/{NAME}/full", json=full):
        pass
    await wait_in_the_tier(publisher, "payment.charge", 2)
    await wait_in_the_tier(publisher, "driver.dispatch", 3)

    async def alarmed() -> None:
        assert await look() == 4
        (alert,) = await raised(ground, STUCK)
        assert alert.subject == TIER
        assert "rabbitmq queue payments" in alert.detail

    await eventually(alarmed, 60)  # the broker counts every few seconds
    kept = {key: payments[key] for key in ("durable", "arguments")}
    async with api.put(f"queues/{NAME}/payments", json=kept):
        pass
    async with api.post(f"bindings/{NAME}/e/commands/q/payments", json={"routing_key": "payment.*"}):
        pass
    async with api.delete(f"policies/{NAME}/full"):
        pass

    async def over() -> None:
        assert await look() == 0
        await raised(ground)
        assert (await ground.depth("payments"), await ground.depth("drivers")) == (2, 3)

    await eventually(over, 60)


async def test_a_tier_in_good_order_raises_nothing_however_many_wait_in_it(ground: Ground, publisher: Publisher) -> None:
    look = watching(ground.settings, ground)
    await wait_in_the_tier(publisher, "payment.charge", 200, 60_000)
    await wait_in_the_tier(publisher, "payment.charge", 200)
    for _ in range(8):
        assert await look() == 0
    await raised(ground)


async def test_letters_that_nobody_takes_in_are_alarmed(ground: Ground, publisher: Publisher) -> None:
    look = watching(ground.settings, ground)
    await publisher.publish(DEAD_LETTERS, "payment.charge", b"{}", {}, 2, "x")

    async def alarmed() -> None:
        await look()
        (alert,) = await raised(ground, UNTAKEN)
        assert alert.subject == DEAD_LETTERS

    await eventually(alarmed, 60)  # the broker counts every few seconds
    assert len(await ground.letters(DEAD_LETTERS)) == 1

    async def over() -> None:
        await look()
        await raised(ground)

    await eventually(over, 60)


async def test_a_watch_that_may_not_look_says_so_and_goes_on_when_it_may(ground: Ground) -> None:
    watch = TierWatch()
    there = urlsplit(ground.settings.rabbitmq_management_url)
    nobody = there._replace(netloc=f"nobody:nothing@{there.hostname}:{there.port}").geturl()
    blind = msgspec.structs.replace(ground.settings, rabbitmq_management_url=nobody)
    for seconds in (0, 31):
        assert await watch.step(blind, ground.pool, NOW + timedelta(seconds=seconds)) == 0
    (alert,) = await raised(ground, BLIND)
    assert "RABBITMQ_MANAGEMENT_URL" in alert.detail
    assert await watch.step(ground.settings, ground.pool, NOW + timedelta(seconds=40)) == 0
    await raised(ground)


async def test_an_alarm_that_a_process_left_behind_is_cleared_by_the_next_one(ground: Ground) -> None:
    blind = msgspec.structs.replace(ground.settings, rabbitmq_management_url="http://127.0.0.1:1")
    watch = TierWatch(timedelta(0))
    await watch.step(blind, ground.pool, NOW)
    await raised(ground, BLIND)
    await TierWatch().step(ground.settings, ground.pool, NOW)
    await raised(ground)
