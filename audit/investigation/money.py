"""The only place that tells an order's money and what those outside said about it, from its steps and failed messages. Pure."""

from collections.abc import Sequence
from typing import Final

from audit.investigation.model import Answer, Failure, MoneyMove, MoneyTold, Step
from orders.disputes import left
from orders.order import Order

_PAYMENTS: Final = "payments"
_RESTAURANTS: Final = "restaurants"


def money_of(order: Order, steps: Sequence[Step]) -> MoneyTold:
    """What came in, went out, is on its way out, and is left; and whether the steps say what the order says."""
    moves = [move for step in steps if (move := _move(step)) is not None]
    captured = sum(move.amount_minor for move in moves if move.direction == "in")
    refunded = sum(move.amount_minor for move in moves if move.direction == "out")
    rest = left(order)
    return MoneyTold(
        currency=order.currency, total=order.total, captured=order.captured, refunded=order.refunded,
        on_its_way_out=order.captured - order.refunded - rest, left=rest, moves=moves,
        adds_up=(captured, refunded) == (order.captured, order.refunded),
    )  # fmt: skip


def _move(step: Step) -> MoneyMove | None:
    amount = int(step.details.get("amount") or 0)
    if step.action == "payment.confirmed":
        reference = str(step.details.get("payment_intent_id") or "")
        return MoneyMove(at=step.occurred_at, direction="in", amount_minor=amount, reason="payment", reference=reference)
    if step.action == "payment.refunded":
        reason = str(step.details.get("refund_reason") or step.reason or "")
        reference = str(step.details.get("refund_id") or "")
        return MoneyMove(at=step.occurred_at, direction="out", amount_minor=amount, reason=reason, reference=reference)
    return None


def provider_said(steps: Sequence[Step], failures: Sequence[Failure]) -> list[Answer]:
    """What the payment provider answered, as far as we know it."""
    told = [Answer(at=step.occurred_at, said=words) for step in steps if (words := _of_provider(step))]
    return sorted(told + _failed(failures, _PAYMENTS), key=lambda answer: answer.at)


def _of_provider(step: Step) -> str:
    match step.action:
        case "payment.confirmed":
            return (
                f"took {step.details.get('amount', '?')} minor units ({step.details.get('payment_intent_id', 'no reference')})"
            )
        case "payment.failed":
            code = step.details.get("decline_code")
            return f"declined: {code}" if code else f"no payment: {step.reason}"
        case "payment.refunded":
            return f"gave back {step.details.get('amount', '?')} minor units ({step.details.get('refund_id', 'no reference')})"
        case _:
            return ""


def restaurant_said(steps: Sequence[Step], failures: Sequence[Failure]) -> list[Answer]:
    """What the restaurant was told and answered."""
    told = [Answer(at=step.occurred_at, said=words) for step in steps if (words := _of_restaurant(step))]
    return sorted(told + _failed(failures, _RESTAURANTS), key=lambda answer: answer.at)


def _of_restaurant(step: Step) -> str:
    match step.action:
        case "restaurant.notified":
            return "was told of the order, and its system took it"
        case "restaurant.accepted":
            return "yes"
        case "restaurant.rejected":
            if step.actor.type != "restaurant":
                return f"gave no answer in time, or could not be reached: {step.reason}"
            items = ", ".join(map(str, step.details.get("unavailable_items", ())))
            said = f", in its words: {step.private['said']}" if step.private.get("said") else ""
            return f"no: {step.reason}" + (f", without {items}" if items else "") + said
        case _:
            return ""


def _failed(failures: Sequence[Failure], consumer: str) -> list[Answer]:
    return [
        Answer(at=each.last_failed_at, said=f"{each.type} failed {each.attempts} times: {each.error}: {each.message}")
        for each in failures
        if each.consumer == consumer
    ]
