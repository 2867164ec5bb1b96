"""The only place that decides what a customer is told about an order, and how: by push, or by SMS."""

from collections.abc import Sequence
from typing import Final

from adapters.postgres import Connection
from orders.envelope import OutboxRow
from orders.facts import FactBody
from orders.names import ORDERS_TOPIC, Command, Fact, State
from outbox.transition import enqueue
from outbox.watched import enqueue_watched
from streams.commanding import command
from streams.group import Group, Incoming, fact_of

PUSHED: Final = {
    # What a customer waits for, and no more: steps between are on the tracking page.
    Fact.PAYMENT_CONFIRMED: "order_confirmed",
    Fact.ORDER_PICKED_UP: "picked_up",
    Fact.ORDER_DELIVERED: "delivered",
}
_ALWAYS: Final = {Fact.PAYMENT_REFUNDED: "refunded"}
_TIMEOUT: Final = "payment_timeout"  # given up after its retries: not the card's fault
_DECLINES: Final = frozenset({"payment_declined", "insufficient_funds", "payment_fraud"})


class Notifications(Group):
    """Push is sent and forgotten. What a customer must know goes by SMS, a command with retries, watched until it is done."""

    noun = "notifications"

    def __init__(self, *, topic: str = ORDERS_TOPIC, name: str = "") -> None:
        super().__init__(topic=topic, name=name)

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        rows = [row for row in map(message, taken) if row is not None]
        await enqueue(db, [row for row in rows if row.type == Command.NOTIFICATION_PUSH])
        await enqueue_watched(db, [row for row in rows if row.type == Command.NOTIFICATION_SMS])


def message(item: Incoming) -> OutboxRow | None:
    """What the customer is told about this fact, if anything. Pure."""
    fact = fact_of(item)
    if template := push_template(fact):
        kind = Command.NOTIFICATION_PUSH
    elif template := sms_template(fact):
        kind = Command.NOTIFICATION_SMS
    else:
        return None
    return command(kind, item, template, {"recipient": fact.customer_id, "template": template, "params": params(fact)})


def push_template(fact: FactBody) -> str | None:
    """The template of the push for this fact. Money that arrives for an order that has ended confirms nothing."""
    if fact.type is Fact.PAYMENT_CONFIRMED and fact.state != State.PAYMENT_CONFIRMED:
        return None
    return PUSHED.get(fact.type)


def sms_template(fact: FactBody) -> str | None:
    """The template of the SMS for this fact."""
    match fact.type:
        case Fact.PAYMENT_FAILED:
            return _why_not_paid(fact)
        case Fact.ORDER_CANCELLED:
            return "security_hold" if fact.reason == "fraud" else "order_cancelled"
        case Fact.RESTAURANT_REJECTED:
            return "item_unavailable" if fact.data.get("unavailable_items") else "restaurant_rejected"
        case Fact.DISPUTE_RESOLVED:
            return f"dispute_{fact.data.get('resolution')}"
        case Fact.ORDER_REROUTED:
            return "order_rerouted" if fact.data.get("from_restaurant_id") != fact.restaurant_id else None
        case _:
            return _ALWAYS.get(fact.type)


def _why_not_paid(fact: FactBody) -> str:
    if fact.reason == _TIMEOUT:
        return _TIMEOUT
    return "payment_declined" if fact.data.get("decline_code") or fact.reason in _DECLINES else "payment_failed"


def params(fact: FactBody) -> dict[str, str]:
    """What the template may use. Nothing that says who the customer is or where they live."""
    amount = fact.data.get("amount", fact.total)
    about = {"order_id": fact.order_id, "amount": str(amount), "currency": fact.currency}
    return {**about, "reason": fact.reason} if fact.reason else about
