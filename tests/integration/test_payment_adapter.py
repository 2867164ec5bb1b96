"""The real SDK, through our adapter, against the provider's process over real HTTP: one row per thing that can happen."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from adapters.payments import (
    CardDeclined,
    FraudSuspected,
    InsufficientFunds,
    IntentUnexpectedState,
    OutcomeUnknown,
    ProcessingErrorDecline,
    ProviderRefused,
)
from orders.ids import new_id
from tests.integration.payment_provider import ProviderProcess, World, eventually, visit


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
