"""Many payments at once while everything goes wrong that can: the provider's own ledger must be exact in the end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from adapters.payments import Intent, IntentUnexpectedState, Payments, ProcessingErrorDecline
from adapters.settings import Settings
from adapters.stripe import StripePayments
from orders.errors import RetryLater
from orders.ids import new_id
from tests.integration.payment_provider import KEY, ProviderProcess

T = TypeVar("T")
ORDERS = 80
FAULTS = ["--lost-answer-rate", "0.15", "--error-before-rate", "0.1", "--error-after-rate", "0.15", "--rate-limit-rate", "0.1"]


@pytest.fixture(params=["keys that last", "keys that are forgotten at once"])
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProviderProcess]:
    ttl = ["--key-ttl-s", "0.01"] if request.param.endswith("at once") else []
    process = await asyncio.to_thread(ProviderProcess, tmp_path / "ledger.jsonl", *FAULTS, "--hang-s", "0", *ttl)
    yield process
    process.kill()


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """As a worker does it: the same again, until the outcome is known."""
    while True:
        try:
            return await call()
        except IntentUnexpectedState:
            raise
        except RetryLater:
            await asyncio.sleep(0)


async def charge(payments: Payments, order_id: str, method: str) -> Intent:
    intent = await persist(lambda: payments.create(order_id, 1_000, "EUR", method))
    intent_id, attempt = intent.id, 1
    while intent.status != "succeeded":
        try:
            await payments.confirm(intent_id, order_id, attempt, method)
        except ProcessingErrorDecline:
            attempt += 1
        except RetryLater:
            pass
        intent = await persist(lambda: payments.retrieve(intent_id))
    return intent


async def one_order(payments: Payments, number: int) -> tuple[str, int]:
    """Charge, and for every second order give a part back, then (for every fourth) the rest. What is due back comes out."""
    order_id = new_id("ord")
    intent = await charge(payments, order_id, "pm_sim_flaky_1" if number % 3 == 0 else f"pm_sim_{number}")
    if number % 2:
        return order_id, 0
    await persist(lambda: payments.refund(intent.id, order_id, "price_difference", 300))
    if number % 4:
        return order_id, 300
    await persist(lambda: payments.refund(intent.id, order_id, "cancelled", 700))
    return order_id, 1_000


async def test_whatever_fails_every_order_is_charged_once_and_refunded_exactly(provider: ProviderProcess) -> None:
    settings = Settings(stripe_api_base=provider.base, stripe_api_key=KEY, stripe_timeout_ms=2_000)
    async with StripePayments(settings) as payments, aiohttp.ClientSession() as session:
        due = dict(await asyncio.gather(*(one_order(payments, number) for number in range(ORDERS))))
        async with session.get(f"{provider.base}/_sim/ledger") as answer:
            ledger = await answer.json()
    captured = {row["order_id"]: row["captured_minor"] for row in ledger["intents"] if row["captures"]}
    refunded = {row["order_id"]: row["refunded_minor"] for row in ledger["intents"] if row["captures"]}
    assert captured == dict.fromkeys(due, 1_000)
    assert refunded == due
    assert ledger["totals"]["orders_captured_twice"] == {}
    assert len(ledger["faults"]) > ORDERS / 2
