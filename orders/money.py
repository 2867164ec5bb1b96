"""The only place that counts money: totals of an order, and which part of them goes back at each stage.

All amounts are integers in minor units (cents) of the order's one currency.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from orders.errors import Invalid

MAX_AMOUNT_MINOR: Final = 99_999_999  # the largest charge that Stripe takes in a two-decimal currency
MAX_QUANTITY: Final = 99
MAX_LINES: Final = 50


class Line(msgspec.Struct, frozen=True):
    """One item of an order at the price the restaurant's menu had when it was placed."""

    item_id: str
    name: str
    quantity: int
    unit_price: int


class Amounts(msgspec.Struct, frozen=True):
    """What an order costs, in minor units: `total = subtotal + delivery_fee`."""

    currency: str
    item_count: int
    subtotal: int
    delivery_fee: int

    @property
    def total(self) -> int:
        return self.subtotal + self.delivery_fee


def price(lines: Iterable[Line], delivery_fee: int, currency: str) -> Amounts:
    """What these lines cost. Raises `Invalid` above what a payment provider can charge at once."""
    lines = list(lines)
    amounts = Amounts(
        currency=currency,
        item_count=sum(line.quantity for line in lines),
        subtotal=sum(line.quantity * line.unit_price for line in lines),
        delivery_fee=delivery_fee,
    )
    if not 0 < amounts.total <= MAX_AMOUNT_MINOR:
        raise Invalid("items", f"the total must be between 1 and {MAX_AMOUNT_MINOR} minor units, this is {amounts.total}")
    return amounts


RefundReason = Literal[
    "cancelled", "price_difference", "dispute_never_arrived", "dispute_items", "dispute_late", "dispute_other"
]  # fmt: skip
Part = Literal["all", "subtotal", "delivery_fee", "given"]

REFUND_PARTS: Final[Mapping[RefundReason, Part]] = {
    # Before delivery: whoever cancels, and whyever, all of it goes back. The second promise has no exceptions.
    "cancelled": "all",
    # Another restaurant, or substitutes, for less: the difference goes back.
    "price_difference": "given",
    # After delivery: what the dispute found.
    "dispute_never_arrived": "all",
    "dispute_items": "given",
    "dispute_late": "delivery_fee",
    "dispute_other": "given",
}
_DISPUTE: Final = "dispute_"


def refund_due(reason: RefundReason, amounts: Amounts, captured: int, refunded: int, given: int = 0) -> int:
    """What goes back for this reason: its part of the order, never more than is still held.

    Who resolves a dispute may name another amount, `given`; a cancellation gives all of it back whatever is named.
    """
    parts: dict[Part, int] = {
        "all": captured,
        "subtotal": amounts.subtotal,
        "delivery_fee": amounts.delivery_fee,
        "given": given,
    }
    due = given if given and reason.startswith(_DISPUTE) else parts[REFUND_PARTS[reason]]
    return max(0, min(due, captured - refunded))
