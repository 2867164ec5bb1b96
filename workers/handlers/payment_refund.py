"""`payment.refund`: settles what became of a charge, then gives back what is due, once per reason."""

from typing import Final, cast

from adapters.payments import Intent, IntentUnexpectedState, Payments
from orders.commands import RefundPayment
from orders.decide import Wish
from orders.errors import CallAnOperator, RetryLater
from orders.failures import FailureType
from orders.lifecycle import Action, row_for
from orders.money import REFUND_PARTS, RefundReason, refund_due
from orders.names import Money
from orders.order import Order
from workers.outcome import Done, Nothing, Outcome, Step

_LIVING: Final = ("pending", "requires_action", "succeeded")


class ChargeNotSettled(RetryLater):
    """Whether there is anything to give back is not known yet."""

    slug = "charge-not-settled"
    failure = FailureType.PAYMENT_TIMEOUT


class RefundFailed(RetryLater):
    """The provider took the refund and could not carry it out."""

    slug = "refund-failed"
    failure = FailureType.SERVICE_UNAVAILABLE


class UnknownRefundReason(CallAnOperator):
    """Nobody has said which part of an order goes back for this reason."""

    slug = "unknown-refund-reason"
    failure = FailureType.UNKNOWN


async def payment_refund(command: RefundPayment, order: Order, payments: Payments) -> Outcome:
    if command.reason not in REFUND_PARTS:
        raise UnknownRefundReason(f"there is no refund for {command.reason[:50]!r}")
    if order.payment_intent_id is None:
        return Nothing()  # no payment was ever begun
    if order.money is Money.NONE:
        row_for(Action.CONFIRM_LATE_PAYMENT, order.state)  # never take the intent away from a charge that is under way
    intent = await payments.retrieve(order.payment_intent_id)
    if order.money is Money.NONE:
        return await _settle(intent, order, payments)
    reason = cast("RefundReason", command.reason)  # one of the table's keys, as was checked
    amount = refund_due(reason, order.amounts, order.captured, order.refunded, command.amount)
    if not amount:
        return Nothing()
    # More went back than we have recorded: it may be this very refund, whose answer was lost.
    lost = intent.refunded_minor > order.refunded
    refund = await payments.refund(intent.id, order.order_id, _once(command), amount, settle=lost)
    if refund.status not in _LIVING:
        raise RefundFailed(f"{refund.id} is {refund.status}")
    total = order.refunded + refund.amount_minor
    return Done(
        Wish(
            action=Action.RECORD_REFUND,
            reason=reason,
            changes={"refunded": total, "money": Money.REFUNDED if total >= order.captured else Money.PART_REFUNDED},
            data={"refund_id": refund.id, "refund_reason": reason, "amount": refund.amount_minor, "refunded_total": total},
        )
    )


def _once(command: RefundPayment) -> str:
    """What makes a refund happen once. A part that was named may go back several times, each for a cause of its own."""
    return f"{command.reason}-{command.position}" if command.amount else command.reason


async def _settle(intent: Intent, order: Order, payments: Payments) -> Outcome:
    """We know of no captured money. Either there is some after all, or there never will be."""
    if intent.status == "succeeded":
        return Step(
            Wish(
                action=Action.CONFIRM_LATE_PAYMENT,
                changes={"money": Money.CAPTURED, "captured": intent.captured_minor},
                data={"payment_intent_id": intent.id, "amount": intent.captured_minor},
            )
        )
    if intent.status == "canceled":
        return Nothing()
    if intent.status == "processing":
        raise ChargeNotSettled(f"{intent.id} is {intent.status}")
    try:
        intent = await payments.cancel(intent.id, order.order_id)
    except IntentUnexpectedState:
        intent = await payments.retrieve(intent.id)
    if intent.status == "canceled":
        return Nothing()
    if intent.status == "succeeded":
        return await _settle(intent, order, payments)
    raise ChargeNotSettled(f"{intent.id} is {intent.status}")
