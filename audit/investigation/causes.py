"""The only place that says what most likely went wrong with an order, and puts the order into a sentence or two. Pure.

The causes are asked one after the other; the first that finds something is the answer: what ended the order stands before what
only delayed it.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from audit.investigation.model import Cause, DisputeTold, Failure, Finding, Integrity, MoneyTold, Step
from orders.names import State
from orders.order import Order


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What a cause is looked for in."""

    order: Order
    steps: Sequence[Step]
    findings: Sequence[Finding]
    failures: Sequence[Failure]
    money: MoneyTold
    integrity: Integrity
    disputes: Sequence[DisputeTold] = ()

    def last(self, action: str) -> Step | None:
        return next((step for step in reversed(self.steps) if step.action == action), None)

    def found(self, name: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.name == name), None)


_DECLINES: Final = {
    "insufficient_funds": "The card had not enough money.",
    "payment_fraud": "The bank declined the card because it suspects fraud.",
    "payment_declined": "The bank declined the card.",
}
_CANCELLED: Final = {
    "customer_request": ("customer_cancelled", "The customer cancelled the order."),
    "item_unavailable": ("item_unavailable", "An item was not available, and the order was ended instead of changed."),
    "no_driver": ("driver_unavailable", "No driver was found in time."),
    "delivery_overdue": ("driver_lost", "The driver picked it up and never delivered it."),
    "closing_time": ("restaurant_closed", "The restaurant was closing and took no more orders."),
    "restaurant_rejected": ("restaurant_rejected", "The restaurant could not take it, and no other could."),
    "restaurant_timeout": ("restaurant_timeout", "The restaurant did not answer in time, and no other could take it."),
    "support_request": ("support_cancelled", "Support cancelled the order."),
}


def _record(case: Case) -> Cause | None:
    if case.integrity.held is not False:
        return None
    words = "The record of this order does not hold: trust nothing of it before somebody has looked at it."
    return Cause(name="record_broken", words=words, why=[case.integrity.words])


def _fraud(case: Case) -> Cause | None:
    step = case.last("fraud.detected")
    if step is None:
        return None
    rule = str(step.details.get("rule") or "unknown")
    return Cause(
        name="fraud", words="Our fraud rules stopped or flagged the order.", why=[f"rule {rule} at position {step.position}"]
    )


def _refund(case: Case) -> Cause | None:
    parked = [each for each in case.failures if each.type == "payment.refund" and each.state == "open"]
    missing = case.found("refund_missing")
    if not parked and missing is None:
        return None
    why = [f"{each.type} is parked: {each.error}" for each in parked] + ([missing.words] if missing else [])
    return Cause(name="refund_stuck", words="The money has not gone back yet.", why=why)


def _payment(case: Case) -> Cause | None:
    step = case.last("payment.failed")
    if step is None or case.order.state is not State.PAYMENT_FAILED:
        return None
    if step.reason in _DECLINES or step.details.get("decline_code"):
        words = _DECLINES.get(step.reason or "", _DECLINES["payment_declined"])
        return Cause(
            name=step.reason or "payment_declined", words=words, why=[f"decline code {step.details.get('decline_code')}"]
        )
    why = [f"{each.error}: {each.message}" for each in case.failures if each.consumer == "payments"]
    return Cause(name="payment_timeout", words="The payment provider gave no usable answer in time.", why=why)


def _cancelled(case: Case) -> Cause | None:
    step = case.last("order.cancelled")
    if step is None or case.order.state is not State.CANCELLED:
        return None
    reason = (step.reason or "").partition(":")[0]
    name, words = _CANCELLED.get(reason, ("cancelled", f"The order was cancelled: {step.reason}."))
    why = [f"by {step.actor.type} {step.actor.id} at position {step.position}"]
    rejected = case.last("restaurant.rejected")
    if rejected is not None and name != "customer_cancelled":
        why.append(f"the restaurant's no at position {rejected.position}: {rejected.reason}")
    return Cause(name=name, words=words, why=why)


def _no_show(case: Case) -> Cause | None:
    released = [step for step in case.steps if step.action == "driver.released"]
    if not released:
        return None
    words = f"{len(released)} drivers gave the order back or did not come before one carried it."
    why = [f"driver {step.details.get('driver_id')}: {step.reason}" for step in released]
    return Cause(name="driver_no_show", words=words if len(released) > 1 else "The first driver did not come.", why=why)


def _stuck(case: Case) -> Cause | None:
    waiting = [each for each in case.failures if each.state in ("open", "replaying")]
    if not waiting:
        return None
    first = waiting[0]
    words = f"A message about the order failed and nobody has dealt with it yet: {first.type}."
    return Cause(
        name="message_failed", words=words, why=[f"{each.type}: {each.failure_type}, {each.error}" for each in waiting]
    )


_SLOWEST: Final = {
    "payment_start": "our payment workers were behind", "payment_answer": "the payment provider was slow",
    "restaurant_told": "the restaurant could not be told", "restaurant_answer": "the restaurant was slow to answer",
    "customer_decision": "it was decided late", "driver_search": "no driver was free",
    "pick_up": "the driver was late at the restaurant", "delivery": "the driver took long, or did not press “delivered”",
}  # fmt: skip


def _slow(case: Case) -> Cause | None:
    slow = [each for each in case.findings if each.name.removesuffix("_missing") in _SLOWEST]
    if not slow:
        return None
    worst = max(slow, key=lambda each: (each.seconds or 0) - (each.limit_s or 0))
    name = worst.name.removesuffix("_missing")
    words = f"Most of the delay: {_SLOWEST[name]}."
    return Cause(name=f"slow_{name}", words=words, why=[each.words for each in slow])


CAUSES: Final[tuple[Callable[[Case], Cause | None], ...]] = (
    _record, _fraud, _refund, _payment, _cancelled, _stuck, _no_show, _slow,
)  # fmt: skip
NOTHING: Final = Cause(name="none", words="Nothing out of the ordinary is on record.")


def likely_cause(case: Case) -> Cause:
    """The first cause that finds something."""
    return next((cause for ask in CAUSES if (cause := ask(case)) is not None), NOTHING)


def summary(case: Case, cause: Cause) -> str:
    """The order for whoever is on the phone: where it is, the money, what is unusual."""
    order, money = case.order, case.money
    parts = [f"The order is {order.state.value.replace('_', ' ')}, at position {order.position}."]
    parts.append(_of_money(money))
    if cause is not NOTHING:
        parts.append(cause.words)
    unusual = sum(each.severity != "notice" for each in case.findings)
    if unusual:
        parts.append(f"{unusual} things took longer than usual or are missing.")
    open_now = [each for each in case.disputes if each.state == "open"]
    if open_now:
        parts.append(f"A dispute ({open_now[0].kind.replace('_', ' ')}) is open.")
    return " ".join(parts)


def _of_money(money: MoneyTold) -> str:
    def told(minor: int) -> str:
        return f"{minor // 100}.{minor % 100:02d} {money.currency.upper()}"

    if not money.captured:
        return "No money was taken."
    words = f"{told(money.captured)} were taken"
    if money.refunded:
        words += f", {told(money.refunded)} given back"
    if money.on_its_way_out:
        words += f", {told(money.on_its_way_out)} are on their way back"
    return words + "."
