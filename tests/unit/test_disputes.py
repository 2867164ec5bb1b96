"""What of an order's money a dispute can give back: never more than is left, counting what is on its way."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.disputes import REASON_OF, DisputeKind, RefundAboveRest, amount_back, left
from orders.money import REFUND_PARTS
from orders.names import Command, State
from orders.order import Order, Pending
from orders.said import DRIVER_WORDS, RESTAURANT_WORDS, worded
from tests.making import order_in

PAID = order_in(State.DELIVERED)  # 32.00, of which 3.00 for the delivery
REFUNDS = st.lists(
    st.tuples(st.sampled_from(sorted(REFUND_PARTS)), st.integers(0, 5_000)), max_size=5
)  # fmt: skip


def order(refunded: int = 0, *pending: tuple[str, int]) -> Order:
    """Delivered and paid, so much refunded, and these refunds on their way."""
    waiting = {
        f"cmd_{number}": Pending(
            Command.PAYMENT_REFUND, {"order_id": PAID.order_id, "position": number, "reason": reason, "amount": amount}
        )
        for number, (reason, amount) in enumerate(pending)
    }  # fmt: skip
    return msgspec.structs.replace(PAID, refunded=refunded, pending=waiting)


@pytest.mark.parametrize(
    ("given_order", "rest"),
    [
        (order(), 3_200), (order(1_000), 2_200), (order(0, ("cancelled", 0)), 0), (order(0, ("dispute_items", 500)), 2_700),
        (order(200, ("dispute_late", 0)), 2_700), (order(3_200), 0), (order(3_000, ("dispute_items", 900)), 0),
        (order(0, ("dispute_items", 500), ("price_difference", 700)), 2_000),
    ],
)  # fmt: skip
def test_what_is_left_counts_refunds_that_are_on_their_way(given_order: Order, rest: int) -> None:
    assert left(given_order) == rest


@pytest.mark.parametrize(
    ("kind", "given_amount", "refunded", "back"),
    [
        (DisputeKind.NEVER_ARRIVED, None, 0, 3_200), (DisputeKind.NEVER_ARRIVED, None, 1_000, 2_200),
        (DisputeKind.LATE, None, 0, 300), (DisputeKind.LATE, 1_000, 0, 1_000), (DisputeKind.ITEMS, None, 0, 3_200),
        (DisputeKind.ITEMS, 1, 3_199, 1), (DisputeKind.OTHER, 3_200, 0, 3_200), (DisputeKind.LATE, None, 3_000, 200),
    ],
)  # fmt: skip
def test_without_an_amount_the_part_that_the_dispute_is_about_goes_back(
    kind: DisputeKind, given_amount: int | None, refunded: int, back: int
) -> None:
    assert amount_back(order(refunded), kind, given_amount) == back


@pytest.mark.parametrize("kind", list(DisputeKind))
@pytest.mark.parametrize(("refunded", "amount"), [(0, 3_201), (3_200, None), (3_200, 1), (3_000, 201)])
def test_more_than_is_left_is_refused(kind: DisputeKind, refunded: int, amount: int | None) -> None:
    with pytest.raises(RefundAboveRest, match=f"{3_200 - refunded} are left of 3200"):
        amount_back(order(refunded), kind, amount)


@given(st.sampled_from(list(DisputeKind)), st.integers(0, 3_200), REFUNDS, st.none() | st.integers(1, 5_000))
def test_whatever_is_on_its_way_no_more_goes_back_than_came_in(
    kind: DisputeKind, refunded: int, pending: list[tuple[str, int]], amount: int | None
) -> None:
    told = order(refunded, *pending)
    rest = left(told)
    assert 0 <= rest <= 3_200 - refunded
    try:
        back = amount_back(told, kind, amount)
    except RefundAboveRest:
        return
    assert 0 < back <= rest


def test_every_kind_has_a_reason_that_refunds_know() -> None:
    assert {REASON_OF[kind] for kind in DisputeKind} == {reason for reason in REFUND_PARTS if reason.startswith("dispute_")}


@pytest.mark.parametrize("words", [RESTAURANT_WORDS, DRIVER_WORDS])
def test_words_of_ours_stay_and_whatever_else_is_typed_does_not(words: frozenset[str]) -> None:
    for word in words:
        assert worded(word, words, "other") == (word, "")
    assert worded("Mrs Miller again", words, "other") == ("other", "Mrs Miller again")
    assert worded("no_show", DRIVER_WORDS, "driver_unable") == ("driver_unable", "no_show")  # what only the clock says
