"""The real SDK, through our adapter, against the provider's process over real HTTP: one row per thing that can happen."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from adapters.payments import (
    BadProviderCredentials,
    CardDeclined,
    FraudSuspected,
    InsufficientFunds,
    IntentUnexpectedState,
    OutcomeUnknown,
    Payments,
    ProcessingErrorDecline,
    ProviderRefused,
    ProviderUnavailable,
)
from adapters.settings import Settings
from adapters.stripe import StripePayments, verify_event
from orders.ids import new_id

KEY = "sk_test_contract"
SECRET = "whsec_contract"
CALM = {
    "latency_median_ms": 0, "lost_answer_rate": 0, "error_before_rate": 0, "error_after_rate": 0, "rate_limit_rate": 0,
    "hang_s": 0, "outage": None, "key_ttl_s": 86_400,
}  # fmt: skip


class ProviderProcess:
    """The provider as a process of its own; `restart` kills it first, without a warning."""

    def __init__(self, ledger: Path, *flags: str) -> None:
        self._ledger, self._flags, self._port = ledger, flags, "0"
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "simulation.provider", "--port", self._port, "--key", KEY, "--seed", "7"]
        command += ["--ledger", str(self._ledger), "--latency-median-ms", "0", *self._flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base = self._process.stdout.readline().removeprefix("listening on ").strip()
        assert self.base.startswith("http://"), "the provider did not start"
        self._port = self.base.rpartition(":")[2]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def restart(self) -> None:
        self.kill()
        self._start()


class World:
    """The adapter under test beside the provider's own controls and records."""

    def __init__(self, payments: StripePayments, base: str, session: aiohttp.ClientSession) -> None:
        self.payments: Payments = payments
        self._base, self._session = base, session

    async def behave(self, **knobs: object) -> None:
        async with self._session.post(f"{self._base}/_sim/behaviour", json=knobs) as answer:
            assert answer.status == 200, await answer.text()

    async def rows(self, order_id: str) -> list[dict[str, Any]]:
        async with self._session.get(f"{self._base}/_sim/ledger") as answer:
            return [row for row in (await answer.json())["intents"] if row["order_id"] == order_id]

    async def captured_minor(self, order_id: str) -> int:
        return sum(row["captured_minor"] for row in await self.rows(order_id))

    async def refunded_minor(self, order_id: str) -> int:
        return sum(row["refunded_minor"] for row in await self.rows(order_id))

    async def paid(self, order_id: str, amount: int = 2_500) -> str:
        intent = await self.payments.create(order_id, amount, "EUR", "pm_card_visa")
        return (await self.payments.confirm(intent.id, order_id, 1, "pm_card_visa")).id


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    process = ProviderProcess(tmp_path_factory.mktemp("provider") / "ledger.jsonl")
    yield process
    process.kill()


@pytest.fixture
async def world(provider: ProviderProcess) -> AsyncIterator[World]:
    settings = Settings(stripe_api_base=provider.base, stripe_api_key=KEY, stripe_timeout_ms=500)
    async with StripePayments(settings) as payments, aiohttp.ClientSession() as session:
        world = World(payments, provider.base, session)
        await world.behave(**CALM)
        yield world
        await world.behave(**CALM)


@pytest.fixture
def order_id() -> str:
    return new_id("ord")


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110  # what is awaited is in another process
            await asyncio.sleep(0.02)


async def test_an_intent_is_made_unconfirmed_and_moves_no_money(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    assert (intent.status, intent.amount_minor, intent.captured_minor, intent.decline) == (
        "requires_confirmation",
        2_500,
        0,
        None,
    )
    assert await world.captured_minor(order_id) == 0


async def test_a_confirmed_intent_is_captured_in_full(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    confirmed = await world.payments.confirm(intent.id, order_id, 1, "pm_sim_42")
    assert (confirmed.id, confirmed.status, confirmed.captured_minor) == (intent.id, "succeeded", 2_500)
    assert confirmed == await world.payments.retrieve(intent.id)
    assert await world.captured_minor(order_id) == 2_500


async def test_creating_again_gives_the_same_intent(world: World, order_id: str) -> None:
    first = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    assert await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa") == first


@pytest.mark.parametrize(
    ("method", "error", "code"),
    [
        ("pm_card_visa_chargeDeclined", CardDeclined, "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", InsufficientFunds, "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", CardDeclined, "expired_card"),
        ("pm_card_chargeDeclinedFraudulent", FraudSuspected, "fraudulent"),
        ("pm_card_radarBlock", FraudSuspected, "fraudulent"),
        ("pm_card_chargeDeclinedProcessingError", ProcessingErrorDecline, "processing_error"),
    ],
)
async def test_each_decline_is_an_error_of_its_own_and_stays_on_the_intent(
    world: World, order_id: str, method: str, error: type[CardDeclined | ProcessingErrorDecline], code: str
) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", method)
    with pytest.raises(error) as caught:
        await world.payments.confirm(intent.id, order_id, 1, method)
    assert type(caught.value) is error
    assert caught.value.code == code
    found = await world.payments.retrieve(intent.id)
    assert (found.status, found.decline, found.captured_minor) == ("requires_payment_method", code, 0)


async def test_the_same_attempt_is_declined_the_same_way_and_the_next_one_can_pay(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_sim_flaky_1")
    for _ in range(2):
        with pytest.raises(ProcessingErrorDecline):
            await world.payments.confirm(intent.id, order_id, 1, "pm_sim_flaky_1")
    paid = await world.payments.confirm(intent.id, order_id, 2, "pm_sim_flaky_1")
    assert (paid.status, paid.decline) == ("succeeded", None)
    assert [row["attempts"] for row in await world.rows(order_id)] == [2]


async def test_a_charge_whose_answer_is_lost_is_found_by_retrieving(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(lost_answer_rate=1)
    with pytest.raises(OutcomeUnknown):
        await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")
    found = await world.payments.retrieve(intent.id)
    assert (found.status, found.captured_minor) == ("succeeded", 2_500)


async def test_a_provider_that_answers_too_late_leaves_the_outcome_unknown(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(latency_median_ms=900, latency_sigma=0)
    with pytest.raises(OutcomeUnknown):
        await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")
    with pytest.raises(OutcomeUnknown):  # the same call is still under way: 409, and still no second charge
        await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")
    await world.behave(latency_median_ms=0)

    async def charged() -> bool:
        return (await world.payments.retrieve(intent.id)).status == "succeeded"

    await eventually(charged)
    assert await world.captured_minor(order_id) == 2_500


async def test_a_charge_that_ended_in_500_is_settled_although_the_key_replays_the_500(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(error_after_rate=1)
    with pytest.raises(OutcomeUnknown):
        await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")
    await world.behave(error_after_rate=0)
    assert (await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")).captured_minor == 2_500
    assert await world.captured_minor(order_id) == 2_500


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_stored_500_that_charged_nothing_does_not_block_the_order_for_a_day(
    world: World, order_id: str, failures: int
) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(error_before_rate=1)
    for _ in range(failures):
        with pytest.raises(OutcomeUnknown):
            await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")
    await world.behave(error_before_rate=0)
    assert (await world.payments.retrieve(intent.id)).status == "requires_confirmation"
    assert (await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")).status == "succeeded"
    assert await world.captured_minor(order_id) == 2_500


async def test_creating_after_a_stored_500_makes_an_intent_under_the_next_key(world: World, order_id: str) -> None:
    await world.behave(outage="500")
    with pytest.raises(OutcomeUnknown):
        await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(outage=None)
    first = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    assert await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa") == first


async def test_confirming_twice_under_other_numbers_charges_once(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    with pytest.raises(IntentUnexpectedState):
        await world.payments.confirm(intent_id, order_id, 2, "pm_card_visa")
    assert await world.captured_minor(order_id) == 2_500


async def test_two_confirmations_at_once_charge_once(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(latency_median_ms=50)
    both = await asyncio.gather(
        *(world.payments.confirm(intent.id, order_id, 1, "pm_card_visa") for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["Intent", "OutcomeUnknown"]
    assert await world.captured_minor(order_id) == 2_500


async def test_a_cancelled_intent_cannot_be_confirmed_and_cancelling_again_is_the_same(world: World, order_id: str) -> None:
    intent = await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    assert (await world.payments.cancel(intent.id, order_id)).status == "canceled"
    assert (await world.payments.cancel(intent.id, order_id)).status == "canceled"
    with pytest.raises(IntentUnexpectedState):
        await world.payments.confirm(intent.id, order_id, 1, "pm_card_visa")
    assert await world.captured_minor(order_id) == 0


async def test_a_captured_intent_cannot_be_cancelled(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    with pytest.raises(IntentUnexpectedState):
        await world.payments.cancel(intent_id, order_id)


async def test_refunds_add_up_to_what_was_captured_and_no_further(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    part = await world.payments.refund(intent_id, order_id, "price_difference", 700, settle=False)
    assert (part.status, part.amount_minor, part.reason) == ("succeeded", 700, "price_difference")
    with pytest.raises(ProviderRefused):
        await world.payments.refund(intent_id, order_id, "dispute_items", 1_801)
    await world.payments.refund(intent_id, order_id, "cancelled", 1_800)
    found = await world.payments.retrieve(intent_id)
    assert (found.status, found.captured_minor, found.refunded_minor) == ("succeeded", 2_500, 2_500)
    assert await world.refunded_minor(order_id) == 2_500


@pytest.mark.parametrize("settle", [True, False])
@pytest.mark.parametrize("fault", ["lost_answer_rate", "error_after_rate", "error_before_rate"])
async def test_a_refund_whose_answer_fails_is_given_once(world: World, order_id: str, fault: str, settle: bool) -> None:
    intent_id = await world.paid(order_id)
    await world.behave(**{fault: 1})
    first: object = None
    try:
        first = await world.payments.refund(intent_id, order_id, "price_difference", 700, settle=False)
    except OutcomeUnknown:
        assert fault == "error_before_rate"
    await world.behave(**{fault: 0})
    again = await world.payments.refund(intent_id, order_id, "price_difference", 700, settle=settle)
    assert first in (None, again)
    assert await world.refunded_minor(order_id) == 700


async def test_a_refund_is_given_once_even_when_the_provider_has_forgotten_the_key(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    first = await world.payments.refund(intent_id, order_id, "price_difference", 700)
    await world.behave(key_ttl_s=0)
    assert await world.payments.refund(intent_id, order_id, "price_difference", 700) == first
    assert await world.refunded_minor(order_id) == 700


async def test_a_forgotten_key_charges_no_second_time(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    await world.behave(key_ttl_s=0)
    with pytest.raises(IntentUnexpectedState):
        await world.payments.confirm(intent_id, order_id, 1, "pm_card_visa")
    assert (await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")).id != intent_id
    assert await world.captured_minor(order_id) == 2_500


async def test_the_same_key_with_other_parameters_is_refused(world: World, order_id: str) -> None:
    await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    with pytest.raises(ProviderRefused):
        await world.payments.create(order_id, 2_600, "EUR", "pm_card_visa")


async def test_an_unknown_intent_and_an_amount_of_nothing_are_refused(world: World, order_id: str) -> None:
    with pytest.raises(ProviderRefused):
        await world.payments.retrieve("pi_nobody")
    with pytest.raises(ProviderRefused):
        await world.payments.create(order_id, 0, "EUR", "pm_card_visa")


async def test_too_many_requests_were_certainly_not_executed(world: World, order_id: str) -> None:
    await world.behave(rate_limit_rate=1)
    with pytest.raises(ProviderUnavailable):
        await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    await world.behave(rate_limit_rate=0)
    assert (await world.payments.create(order_id, 2_500, "EUR", "pm_card_visa")).status == "requires_confirmation"


async def refused(payments: Payments, order_id: str) -> bool:
    """Whether no connection is made. (A request on a kept connection may still be cut off: then its outcome is unknown.)"""
    try:
        await payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    except ProviderUnavailable:
        return True
    except OutcomeUnknown:
        return False
    return False


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
