"""The provider away, restarted, refusing us, and its events: through the real SDK against its process."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from adapters.payments import (
    BadProviderCredentials,
    CardDeclined,
    OutcomeUnknown,
    ProviderUnavailable,
)
from adapters.settings import Settings
from adapters.stripe import StripePayments, verify_event
from orders.ids import new_id
from tests.integration.payment_provider import KEY, SECRET, ProviderProcess, World, eventually, refused, visit


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    process = ProviderProcess(tmp_path_factory.mktemp("provider") / "ledger.jsonl")
    yield process
    process.kill()


@pytest.fixture
async def world(provider: ProviderProcess) -> AsyncIterator[World]:
    async with visit(provider) as world:
        yield world


@pytest.fixture
def order_id() -> str:
    return new_id("ord")


async def test_too_many_requests_were_certainly_not_executed(world: World, order_id: str) -> None:
    await world.behave(rate_limit_rate=1)
    with pytest.raises(ProviderUnavailable):
        await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(rate_limit_rate=0)
    assert (await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")).status == "requires_confirmation"


@pytest.mark.parametrize("outage", ["500", "timeout"])
async def test_a_probe_knows_an_outage_from_a_provider_that_is_there(world: World, outage: str) -> None:
    probe = world.adapter.probe
    await probe()
    await world.behave(outage=outage, hang_s=1)
    with pytest.raises(OutcomeUnknown):
        await probe()
    await world.behave(outage=None)
    await probe()


async def test_a_port_that_refuses_was_certainly_not_reached(world: World, order_id: str) -> None:
    await world.behave(outage="refuse", until_s=0.5)

    async def answers() -> bool:
        return not await refused(world.payments, order_id)

    await eventually(lambda: refused(world.payments, order_id))
    await eventually(answers)


async def test_an_outage_that_refuses_ends_when_the_control_port_says_so(
    tmp_path: Path, order_id: str, unused_tcp_port: int
) -> None:
    flags = ["--control-port", str(unused_tcp_port)]
    process = await asyncio.to_thread(ProviderProcess, tmp_path / "ledger.jsonl", *flags)
    try:
        settings = Settings(stripe_api_base=process.base, stripe_api_key=KEY)
        async with StripePayments(settings) as payments, aiohttp.ClientSession() as session:
            world = World(payments, f"http://127.0.0.1:{unused_tcp_port}", session)
            for outage in ({"outage": "refuse", "until_s": 600}, {"outage": "refuse"}):
                await world.behave(**outage)
                await eventually(lambda: refused(payments, order_id))
                await world.behave(latency_median_ms=1)
                assert await refused(payments, order_id)
                await world.behave(outage=None)
                await payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    finally:
        process.kill()


async def test_an_unknown_key_of_ours_calls_an_operator(provider: ProviderProcess, world: World, order_id: str) -> None:
    async with StripePayments(Settings(stripe_api_base=provider.base, stripe_api_key="sk_other")) as payments:
        with pytest.raises(BadProviderCredentials):
            await payments.create(order_id, 2_500, "EUR", "pm_card_visa")


async def test_a_provider_killed_and_started_again_has_lost_nothing_it_answered(
    provider: ProviderProcess, world: World, order_id: str
) -> None:
    intent_id = await world.paid(order_id)
    await world.payments.refund(intent_id, order_id, "price_difference", 700)
    before = await world.rows(order_id)
    provider.restart()
    assert await world.rows(order_id) == before
    assert (await world.payments.confirm(intent_id, order_id, 1, "pm_card_visa")).captured_minor == 2_500
    await world.payments.refund(intent_id, order_id, "price_difference", 700, settle=False)
    assert await world.refunded_minor(order_id) == 700


async def test_signed_events_arrive_at_the_configured_address(tmp_path: Path, order_id: str) -> None:
    arrived: list[tuple[bytes, str]] = []

    async def take(request: web.Request) -> web.Response:
        arrived.append((await request.read(), request.headers["Stripe-Signature"]))
        return web.Response(status=500 if len(arrived) == 1 else 200)  # the first is sent again

    app = web.Application()
    app.router.add_post("/webhooks/stripe", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/stripe"
    flags = ["--webhook-url", url, "--webhook-secret", SECRET, "--webhook-delay-s", "0.01"]
    process = await asyncio.to_thread(ProviderProcess, tmp_path / "ledger.jsonl", *flags)
    try:
        settings = Settings(stripe_api_base=process.base, stripe_api_key=KEY)
        async with StripePayments(settings) as payments:
            intent = await payments.create(order_id, 2_500, "EUR", "pm_card_visa")
            with pytest.raises(CardDeclined):
                await payments.confirm(intent.id, order_id, 1, "pm_card_visa_chargeDeclined")
            await payments.confirm(intent.id, order_id, 2, "pm_card_visa")
            await payments.refund(intent.id, order_id, "cancelled", 2_500)

        async def all_there() -> bool:
            return len({json.loads(body)["id"] for body, _ in arrived}) == 3 and len(arrived) == 4

        await eventually(all_there)
    finally:
        process.kill()
        await runner.cleanup()
    events = [verify_event(body, header, SECRET, datetime.now(UTC)) for body, header in arrived]
    assert {event.type for event in events} == {
        "payment_intent.payment_failed",
        "payment_intent.succeeded",
        "charge.refunded",
    }
    assert {(event.intent_id, event.order_id) for event in events} == {(intent.id, order_id)}
