"""The only place that says whether an order may go to another restaurant, and what changes with it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from orders.decide import Wish
from orders.errors import Invalid
from orders.hours import opening
from orders.lifecycle import Action
from orders.menu import same_by_name
from orders.money import Amounts, Line, price
from orders.order import Order

CLOSING_TIME: Final = "closing_time"
# Why a restaurant lost an order that another may still cook. At closing time the customer gets the money at once: it is late.
REROUTED_AFTER: Final = frozenset({"restaurant_rejected", "restaurant_timeout", "restaurant_unreachable"})
MOST_REROUTES: Final = 2  # each costs the customer a restaurant's whole wait: after three of them the money is worth more


class TooExpensive(Invalid):
    """What was paid is all that will be paid."""

    slug = "too-expensive"


class Alternative(msgspec.Struct, frozen=True):
    """A restaurant that is open and has all of the order's items for what was paid, or less."""

    restaurant_id: str
    name: str
    items: tuple[Line, ...]
    amounts: Amounts


def may_go_on(order: Order) -> bool:
    """Whether one more restaurant may be tried."""
    return len(order.past_restaurants) < MOST_REROUTES


def alternative(order: Order, candidate: Mapping[str, Any], now: datetime) -> Alternative | None:
    """What this restaurant (`outbox.sql.ALTERNATIVES`) can do for the order. None: it is closed, lacks something, or costs more."""
    if not opening(candidate["hours"], candidate["time_zone"], now).is_open:
        return None
    try:
        items = same_by_name(order.items, candidate["menu"])
        amounts = items and price(items, candidate["delivery_fee"], candidate["currency"])
    except Invalid:  # two lines become one that is too large
        return None
    if not items or not amounts or amounts.total > order.total:
        return None
    return Alternative(candidate["restaurant_id"], candidate["name"], items, amounts)


def reroute(order: Order, restaurant_id: str, items: tuple[Line, ...], amounts: Amounts, reason: str) -> Wish:
    """The wish to send the order on, with the difference going back. Raises `TooExpensive`.

    The restaurant may be the same: then these are substitutes.
    """
    if amounts.total > order.total:
        raise TooExpensive("substitutes", f"the new total is {amounts.total}, paid were {order.total} minor units")
    less = order.total - amounts.total
    changes: dict[str, Any] = {
        "items": items,
        "item_count": amounts.item_count,
        "subtotal": amounts.subtotal,
        "delivery_fee": amounts.delivery_fee,
        "total": amounts.total,
    }
    lost = () if restaurant_id == order.restaurant_id else (order.restaurant_id,)
    return Wish(
        action=Action.REROUTE,
        reason=reason,
        changes={**changes, "restaurant_id": restaurant_id, "past_restaurants": (*order.past_restaurants, *lost)},
        data={**changes, "items": msgspec.to_builtins(items), "from_restaurant_id": order.restaurant_id},
        refund={"reason": "price_difference", "amount": less} if less else None,
    )
