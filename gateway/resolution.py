"""The only place for a customer's decision about items that the restaurant does not have: cancel, substitute, alternative."""

from typing import Any, assert_never

import msgspec

from gateway import sql
from gateway.answers import Decision
from gateway.context import Gateway
from gateway.hours import opening
from gateway.menu import UnknownRestaurant, lines_for, merged, same_by_name
from gateway.placing import closed
from gateway.problems import Refused
from gateway.schemas import ResolveOrder
from orders.decide import Cause, Wish
from orders.errors import Invalid, NotAllowed
from orders.lifecycle import Action
from orders.money import Amounts, Line, price
from orders.order import Order
from outbox.transition import move


class TooExpensive(Invalid):
    """What was paid is all that will be paid."""

    slug = "too-expensive"


class NoAlternative(Refused):
    """No other restaurant that is open in this city has all of the items for what was paid."""

    slug = "no-alternative"


async def resolve(gateway: Gateway, order: Order, decision: Decision | None, choice: ResolveOrder, cause: Cause) -> Order:
    """Do what the customer decided, for the order as they saw it.

    Raises `NotAllowed` where they are not asked (any more), `Invalid` naming the field, `NoAlternative`, `RestaurantClosed`.
    """
    if decision is None:
        raise NotAllowed("resolve", order.state.value)
    match choice.choice:
        case "cancel":
            wish = Wish(action=Action.CANCEL, reason="item_unavailable")
        case "substitute":
            wish = await _substitute(gateway, order, decision, choice)
        case "alternative":
            wish = await _alternative(gateway, order, choice)
        case _:
            assert_never(choice.choice)

    def unless_moved(now: Order) -> Wish:
        if now.position != order.position:
            raise NotAllowed("resolve", now.state.value)
        return wish

    return await move(gateway.pool, order.order_id, unless_moved, cause, gateway.wait, clock=gateway.clock)


async def _substitute(gateway: Gateway, order: Order, decision: Decision, choice: ResolveOrder) -> Wish:
    row = await gateway.row(sql.RESTAURANT, order.restaurant_id, [item.item_id for item in choice.substitutes])
    if row is None:
        raise UnknownRestaurant
    for index, item in enumerate(choice.substitutes):
        if item.item_id in decision.unavailable_items:
            raise Invalid(f"substitutes[{index}].item_id", "this is one of the unavailable items")
    kept = [line for line in order.items if line.item_id not in decision.unavailable_items]
    lines = merged([*kept, *lines_for(choice.substitutes, row["menu"], "substitutes")], "substitutes")
    if not lines:
        raise Invalid("substitutes", "nothing would be left of the order; give substitutes, or cancel")
    return reroute(order, order.restaurant_id, lines, price(lines, order.delivery_fee, order.currency))


async def _alternative(gateway: Gateway, order: Order, choice: ResolveOrder) -> Wish:
    if choice.restaurant_id == order.restaurant_id:
        raise Invalid("restaurant_id", "this is the restaurant that cannot; name another, or none")
    names = sorted({line.name for line in order.items})
    rows = await gateway.rows(
        sql.ALTERNATIVES, order.city, order.restaurant_id, names, order.currency, choice.restaurant_id,
        order.address.longitude, order.address.latitude,
    )  # fmt: skip
    now = gateway.now()
    for row in rows:
        found = opening(row["hours"], row["time_zone"], now)
        if not found.is_open and choice.restaurant_id:
            raise closed(row["name"], found)
        lines = same_by_name(order.items, row["menu"])
        if not found.is_open or lines is None:
            continue
        amounts = price(lines, row["delivery_fee"], row["currency"])
        if amounts.total <= order.total:
            return reroute(order, row["restaurant_id"], lines, amounts)
    raise NoAlternative("no open restaurant in this city has all of the items for what was paid")


def reroute(order: Order, restaurant_id: str, lines: tuple[Line, ...], amounts: Amounts) -> Wish:
    """The wish to send the order on, with the difference going back. Raises `TooExpensive`."""
    if amounts.total > order.total:
        raise TooExpensive("substitutes", f"the new total is {amounts.total}, paid were {order.total} minor units")
    less = order.total - amounts.total
    changes: dict[str, Any] = {
        "items": lines,
        "item_count": amounts.item_count,
        "subtotal": amounts.subtotal,
        "delivery_fee": amounts.delivery_fee,
        "total": amounts.total,
    }
    return Wish(
        action=Action.REROUTE,
        reason="item_unavailable",
        changes={**changes, "restaurant_id": restaurant_id},
        data={**changes, "items": msgspec.to_builtins(lines), "from_restaurant_id": order.restaurant_id},
        refund={"reason": "price_difference", "amount": less} if less else None,
    )
