"""What the audit benchmarks are made of: the events of delivered orders, as the system itself seals them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from bench.making import fresh_order
from orders.decide import Cause, Change, Wish, decide, system
from orders.facts import Actor
from orders.ids import derived_id, new_id
from orders.lifecycle import Action, Deadline, row_for
from orders.names import Role
from orders.order import Order
from orders.privacy import new_key

EVENTS_OF_AN_ORDER: Final = 9
_WAY: Final = (
    (Action.BEGIN_PAYMENT, 1), (Action.CONFIRM_PAYMENT, 2), (Action.NOTIFY_RESTAURANT, 3), (Action.ACCEPT, 90),
    (Action.ASSIGN_DRIVER, 100), (Action.PICK_UP, 900), (Action.DELIVER, 2_100),
)  # fmt: skip


def delivered_order(placed_at: datetime) -> list[bytes]:
    """The audit events of one order, from its first to its last, in canonical bytes."""
    return [event.audit for change in delivered_changes(placed_at) for event in change.events]


def delivered_changes(placed_at: datetime) -> list[Change]:
    """All that happens to an order that goes well."""
    order = msgspec.structs.replace(fresh_order(), placed_at=placed_at, updated_at=placed_at)
    key = new_key()
    data = {
        name: getattr(order, name) for name in ("items", "item_count", "subtotal", "delivery_fee", "total", "payment_method_id")
    }
    wish = Wish(action=Action.PLACE, data=data, private={"address": order.address}, key=key)
    cause = Cause(
        id=new_id("cmd"), actor=Actor(Role.CUSTOMER, order.customer_id), service="gateway", traceparent=order.traceparent
    )
    changes = [decide(order, wish, cause, placed_at, _wait)]
    for action, seconds in _WAY:
        at = placed_at + timedelta(seconds=seconds, microseconds=len(changes) * 1_234)
        changes.append(_moved(changes[-1].order, action, at))
    return changes


def events(number: int, since: datetime) -> Iterator[bytes]:
    """So many events of orders that are placed one after another; those of one order follow each other."""
    made = 0
    while made < number:
        for body in delivered_order(since + timedelta(milliseconds=made)):
            yield body
            made += 1
            if made == number:
                return


def _moved(order: Order, action: Action, at: datetime) -> Change:
    driver = new_id("drv")
    data: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    match action:
        case Action.CONFIRM_PAYMENT:
            data = {"payment_intent_id": f"pi_{order.order_id[-24:]}", "amount": order.total}
            changes = {"captured": order.total}
        case Action.ASSIGN_DRIVER:
            data, changes = {"driver_id": driver, "distance_m": 900}, {"driver_id": driver}
        case _:
            pass
    role = min(row_for(action, order.state).by)
    who = {Role.RESTAURANT: order.restaurant_id, Role.DRIVER: order.driver_id or driver}.get(role)
    actor = Actor(role, who) if who else system("worker-payments")
    cause = Cause(
        id=derived_id("cmd", order.order_id, action.value),
        actor=actor,
        service="worker-payments",
        traceparent=order.traceparent,
    )
    return decide(order, Wish(action=action, data=data, changes=changes), cause, at, _wait)


def _wait(_: Deadline) -> timedelta:
    return timedelta(minutes=5)
