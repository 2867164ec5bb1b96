"""The only place for the words of disputes: what they are about, how they end, and what of the money goes back.

Pure: what is left to give back counts what is refunded and what is on its way.
"""

from enum import StrEnum
from typing import Final, Literal

from orders.errors import Refuse
from orders.money import REFUND_PARTS, RefundReason, refund_due
from orders.names import Command
from orders.order import Order


class DisputeKind(StrEnum):
    """What the customer says."""

    NEVER_ARRIVED = "never_arrived"
    ITEMS = "items"  # missing, wrong or spoilt
    LATE = "late"
    OTHER = "other"


class DisputeState(StrEnum):
    """Open until it is resolved, one way or the other."""

    OPEN = "open"
    REFUNDED = "refunded"
    REFUSED = "refused"


class Refusal(StrEnum):
    """Why nothing goes back: what the customer is told. What is said beside it is for the record."""

    DELIVERED_AS_ORDERED = "delivered_as_ordered"
    NO_EVIDENCE = "no_evidence"
    REFUNDED_BEFORE = "refunded_before"
    TOO_LATE = "too_late"
    NOT_COVERED = "not_covered"


Resolution = Literal["refund", "refuse"]

REASON_OF: Final[dict[DisputeKind, RefundReason]] = {
    DisputeKind.NEVER_ARRIVED: "dispute_never_arrived",
    DisputeKind.ITEMS: "dispute_items",
    DisputeKind.LATE: "dispute_late",
    DisputeKind.OTHER: "dispute_other",
}


class RefundAboveRest(Refuse):
    """More would go back than is left of what was paid, counting refunds that are on their way."""

    slug = "refund-above-rest"


def left(order: Order) -> int:
    """What of the order's money is neither refunded nor on its way back."""
    refunded = order.refunded
    for pending in order.pending.values():
        if pending.type == Command.PAYMENT_REFUND:
            reason, given = pending.body["reason"], int(pending.body.get("amount") or 0)
            refunded += refund_due(reason, order.amounts, order.captured, refunded, given)
    return order.captured - refunded


def amount_back(order: Order, kind: DisputeKind, given: int | None) -> int:
    """What goes back: what was named, or the part that this kind of dispute is about. Raises `RefundAboveRest`."""
    rest = left(order)
    wanted = given or refund_due(REASON_OF[kind], order.amounts, order.captured, order.captured - rest)
    if not wanted and REFUND_PARTS[REASON_OF[kind]] == "given":
        wanted = rest  # a kind without a part of its own: all that is left
    if not 0 < wanted <= rest:
        raise RefundAboveRest(
            f"{wanted} minor units cannot go back: {rest} are left of {order.captured} captured, "
            f"with {order.captured - rest} refunded or on their way"
        )
    return wanted
