"""`order.deadline`: an order has waited too long for something. Stale once it waits for something else."""

from typing import assert_never

from orders.commands import OrderDeadline
from orders.decide import Wish
from orders.errors import BadMessage, Stale
from orders.lifecycle import Action, Deadline
from orders.order import Order
from workers.outcome import Done, Outcome


async def order_deadline(command: OrderDeadline, order: Order) -> Outcome:
    """What is recorded meanwhile beside the order's way (a refund, an intervention) does not end the wait."""
    try:
        kind = Deadline(command.kind)
    except ValueError as error:
        raise BadMessage(f"there is no deadline {command.kind[:50]!r}") from error
    since = order.deadline_position or order.position  # none: set by a process from before there was one
    if order.deadline is not kind or since != command.position:
        raise Stale(f"the order no longer waits for {kind.value} since position {command.position}")
    return Done(_wish(kind, order))


def _wish(kind: Deadline, order: Order) -> Wish:
    match kind:
        case Deadline.RESTAURANT_ANSWER:
            return Wish(action=Action.GIVE_UP_RESTAURANT, reason="restaurant_timeout")
        case Deadline.DRIVER_SEARCH:
            return Wish(action=Action.ESCALATE_SEARCH, reason="driver_unavailable")
        case Deadline.DRIVER_ESCALATION:
            return Wish(action=Action.CANCEL, reason="no_driver")
        case Deadline.PICK_UP:
            return _released(order)
        case Deadline.DELIVERY:
            return Wish(action=Action.CANCEL, reason="delivery_overdue")
        case Deadline.CUSTOMER_DECISION:
            return Wish(action=Action.CANCEL, reason="item_unavailable")
        case Deadline.STUCK:
            raise Stale("an order that is stuck has its commands issued again; it does not end")
        case _:
            assert_never(kind)


def _released(order: Order) -> Wish:
    """The driver did not show up: free for others, and not asked again for this order."""
    late = order.driver_id
    if late is None:
        raise Stale("the order has no driver")
    return Wish(
        action=Action.RELEASE_DRIVER,
        reason="no_show",
        changes={"driver_id": None, "past_drivers": (*order.past_drivers, late)},
        data={"driver_id": late},
        free_driver=late,
    )
