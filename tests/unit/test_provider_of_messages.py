"""The simulated messaging provider, through our adapter over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from adapters.messaging import Messaging, MessagingUnavailable, RecipientRefused
from adapters.settings import Settings
from simulation.messaging import Messaging as Provider


class World:
    """Our adapter, the provider's records, and the drivers to whom their pushes are handed on."""

    def __init__(self) -> None:
        self.at_drivers: list[dict[str, Any]] = []
        self.messaging: Messaging
        self.base = ""
        self.session: aiohttp.ClientSession

    async def take_push(self, request: web.Request) -> web.Response:
        self.at_drivers.append(await request.json())
        return web.Response(status=202)

    async def recorded(self, kind: str) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.base}/_sim/messages", params={"kind": kind}) as answer:
            messages: list[dict[str, Any]] = await answer.json()
            return messages

    async def behave(self, **knobs: object) -> int:
        async with self.session.post(f"{self.base}/_sim/behaviour", json=knobs) as answer:
            return answer.status


@pytest.fixture
async def world() -> AsyncIterator[World]:
    it = World()
    async with AsyncExitStack() as stack:
        it.session = await stack.enter_async_context(aiohttp.ClientSession())
        drivers = web.Application()
        drivers.router.add_post("/push", it.take_push)
        drivers_base = await _served(stack, drivers)
        it.base = await _served(stack, Provider(7, f"{drivers_base}/push", it.session).application())
        settings = Settings(sms_api_base=it.base, push_api_base=it.base, messaging_timeout_ms=500)
        it.messaging = await stack.enter_async_context(Messaging(settings))
        yield it


async def _served(stack: AsyncExitStack, app: web.Application) -> str:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110  # what is awaited comes over HTTP
            await asyncio.sleep(0.01)


async def test_an_sms_sent_again_with_its_key_is_one_sms(world: World) -> None:
    first = await world.messaging.send_sms("+4930123", "Your order is on its way", "evt_1")
    assert await world.messaging.send_sms("+4930123", "Your order is on its way", "evt_1") == first
    assert await world.recorded("sms") == [
        {"to": "+4930123", "body": "Your order is on its way", "idempotency_key": "evt_1"},
    ]


async def test_a_push_to_a_driver_reaches_the_driver_and_others_do_not(world: World) -> None:
    await world.messaging.send_push("cus_1", "Hello", "It is here", {})
    await world.messaging.send_push("drv_1", "New order", "Pick it up", {"order_id": "ord_1"})

    async def reached() -> bool:
        return [push["to"] for push in world.at_drivers] == ["drv_1"]

    await eventually(reached)
    assert world.at_drivers[0]["data"] == {"order_id": "ord_1"}
    assert [push["to"] for push in await world.recorded("push")] == ["cus_1", "drv_1"]


@pytest.mark.parametrize("outage", ["500", "429", "timeout"])
async def test_an_outage_is_for_later(world: World, outage: str) -> None:
    await world.behave(outage=outage, hang_s=1)
    with pytest.raises(MessagingUnavailable):
        await world.messaging.send_sms("+4930123", "hello", "evt_1")
    await world.behave(outage=None)
    await world.messaging.send_sms("+4930123", "hello", "evt_1")
    assert len(await world.recorded("sms")) == 1


@pytest.mark.parametrize("outage", ["500", "429", "timeout"])
async def test_a_probe_sends_nothing_and_knows_an_outage(world: World, outage: str) -> None:
    for probe in (world.messaging.probe_sms, world.messaging.probe_push):
        await probe()
        await world.behave(outage=outage, hang_s=1)
        with pytest.raises(MessagingUnavailable):
            await probe()
        await world.behave(outage=None)
    assert [await world.recorded(kind) for kind in ("sms", "push")] == [[], []]


async def test_a_message_that_the_provider_cannot_read_is_refused(world: World) -> None:
    with pytest.raises(RecipientRefused):
        await world.messaging.send_push("cus_1", "t", "b" * 70_000, {})


async def test_a_provider_that_is_not_there_is_for_later(unused_tcp_port: int) -> None:
    settings = Settings(sms_api_base=f"http://127.0.0.1:{unused_tcp_port}")
    async with Messaging(settings) as messaging:
        with pytest.raises(MessagingUnavailable):
            await messaging.send_sms("+4930123", "hello", "evt_1")


async def test_a_knob_that_cannot_be_is_refused(world: World) -> None:
    assert await world.behave(outage="fire") == 400
    assert await world.behave(failure_rate=0.5) == 200
