"""Refunds through the real SDK against the provider's process: once per order and reason, whatever is lost or forgotten."""

from collections.abc import AsyncIterator, Iterator

import pytest

from adapters.payments import (
    OutcomeUnknown,
    RefundOverlaps,
)
from orders.ids import new_id
from tests.integration.payment_provider import ProviderProcess, World, visit


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


async def test_refunds_add_up_to_what_was_captured_and_no_further(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    part = await world.payments.refund(intent_id, order_id, "price_difference", 700, settle=False)
    assert (part.status, part.amount_minor, part.reason) == ("succeeded", 700, "price_difference")
    with pytest.raises(RefundOverlaps):
        await world.payments.refund(intent_id, order_id, "dispute_items", 1_801)
    await world.payments.refund(intent_id, order_id, "cancelled", 1_800)
    found = await world.payments.retrieve(intent_id)
    assert (found.status, found.captured_minor, found.refunded_minor) == ("succeeded", 2_500, 2_500)
    assert await world.refunded_minor(order_id) == 2_500


async def test_a_refund_that_overlapped_another_is_made_with_what_is_left(world: World, order_id: str) -> None:
    intent_id = await world.paid(order_id)
    await world.payments.refund(intent_id, order_id, "price_difference-7", 700)
    with pytest.raises(RefundOverlaps):
        await world.payments.refund(intent_id, order_id, "cancelled", 2_500)
    await world.payments.refund(intent_id, order_id, "cancelled", 1_800)
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
