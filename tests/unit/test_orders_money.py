"""Totals of an order, and which part of them goes back."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.errors import Invalid
from orders.money import MAX_AMOUNT_MINOR, REFUND_PARTS, Amounts, Line, RefundReason, price, refund_due

AMOUNTS = Amounts(currency="eur", item_count=3, subtotal=2_900, delivery_fee=300)
LINES = st.lists(
    st.builds(Line, st.just("itm"), st.just("name"), st.integers(1, 99), st.integers(1, 10_000)), min_size=1, max_size=50
)


@given(LINES, st.integers(0, 5_000))
def test_the_total_is_what_the_lines_and_the_delivery_cost(lines: list[Line], fee: int) -> None:
    amounts = price(lines, fee, "eur")
    assert amounts.subtotal == sum(line.unit_price for line in lines for _ in range(line.quantity))
    assert amounts.item_count == sum(line.quantity for line in lines)
    assert amounts.total == amounts.subtotal + fee


@pytest.mark.parametrize("lines", [[], [Line("itm", "free", 1, 0)], [Line("itm", "palace", 2, MAX_AMOUNT_MINOR)]])
def test_what_a_provider_cannot_charge_is_refused_naming_the_items(lines: list[Line]) -> None:
    with pytest.raises(Invalid) as refused:
        price(lines, 0, "eur")
    assert refused.value.field == "items"


def test_the_largest_charge_is_still_possible() -> None:
    assert price([Line("itm", "palace", 1, MAX_AMOUNT_MINOR)], 0, "eur").total == MAX_AMOUNT_MINOR


@pytest.mark.parametrize(
    ("reason", "given", "due"),
    [
        ("cancelled", 0, 3_200),
        ("price_difference", 250, 250),
        ("dispute_never_arrived", 0, 3_200),
        ("dispute_items", 1_150, 1_150),
        ("dispute_late", 0, 300),
        ("dispute_late", 500, 500),
        ("dispute_never_arrived", 1_000, 1_000),
        ("dispute_other", 250, 250),
        ("cancelled", 250, 3_200),
    ],
)
def test_each_reason_gives_back_its_part(reason: RefundReason, given: int, due: int) -> None:
    assert refund_due(reason, AMOUNTS, captured=3_200, refunded=0, given=given) == due


@given(st.sampled_from(get_args(RefundReason)), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(-100, 20_000))
def test_never_more_goes_back_than_is_held_and_never_less_than_nothing(
    reason: RefundReason, captured: int, refunded: int, given: int
) -> None:
    due = refund_due(reason, AMOUNTS, captured, refunded, given)
    assert 0 <= due <= max(0, captured - refunded)


@given(st.integers(1, 10_000), st.data())
def test_a_cancellation_gives_back_all_that_is_still_held(captured: int, data: st.DataObject) -> None:
    refunded = data.draw(st.integers(0, captured))
    assert refund_due("cancelled", AMOUNTS, captured, refunded) == captured - refunded


def test_every_reason_has_its_part() -> None:
    assert set(REFUND_PARTS) == set(get_args(RefundReason))
