"""The only place for a customer's decision about items that the restaurant does not have: cancel, substitute, alternative."""

from typing import Final, assert_never

from gateway import sql
from gateway.answers import Decision
from gateway.context import Gateway
from gateway.menu import UnknownRestaurant, lines_for
from gateway.placing import closed
from gateway.problems import Refused
from gateway.schemas import ResolveOrder
from orders.decide import Cause, Wish
from orders.errors import Invalid, NotAllowed
from orders.hours import opening
from orders.lifecycle import Action
from orders.menu import merged
from orders.money import price
from orders.order import Order
from orders.rerouting import reroute
from outbox import alternatives
from outbox.transition import move

ITEM_UNAVAILABLE: Final = "item_unavailable"


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
            wish = Wish(action=Action.CANCEL, reason=ITEM_UNAVAILABLE)
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
    return reroute(order, order.restaurant_id, lines, price(lines, order.delivery_fee, order.currency), ITEM_UNAVAILABLE)


async def _alternative(gateway: Gateway, order: Order, choice: ResolveOrder) -> Wish:
    if choice.restaurant_id in (order.restaurant_id, *order.past_restaurants):
        raise Invalid("restaurant_id", "this is a restaurant that cannot; name another, or none")
    now = gateway.now()
    async with gateway.connection("other restaurants cannot be looked for") as conn:
        found = await alternatives.find(conn, order, now, wanted=choice.restaurant_id)
    if found is not None:
        return reroute(order, found.restaurant_id, found.items, found.amounts, ITEM_UNAVAILABLE)
    row = await gateway.row(sql.RESTAURANT, choice.restaurant_id, []) if choice.restaurant_id else None
    if row is not None and not (hours := opening(row["hours"], row["time_zone"], now)).is_open:
        raise closed(row["name"], hours)
    raise NoAlternative("no open restaurant in this city has all of the items for what was paid")
