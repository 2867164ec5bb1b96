"""`restaurant.notify`: tells the restaurant that there is an order for it."""

from datetime import datetime

import msgspec

from orders.commands import NotifyRestaurant
from orders.decide import Wish
from orders.errors import Stale
from orders.lifecycle import Action, row_for
from orders.order import Order
from workers.outcome import Done, Outcome
from workers.ports import Restaurants


async def restaurant_notify(
    command: NotifyRestaurant, order: Order, restaurants: Restaurants, message_id: str, *, answer_by: datetime
) -> Outcome:
    """The position says which of two messages about one order is newer, whichever arrives first."""
    if command.restaurant_id != order.restaurant_id:
        raise Stale("the order went to another restaurant meanwhile")
    row_for(Action.NOTIFY_RESTAURANT, order.state)
    body = {
        "type": "order.new",
        "order_id": order.order_id,
        "position": command.position,
        "restaurant_id": order.restaurant_id,
        "items": order.items,
        "item_count": order.item_count,
        "subtotal": {"amount_minor": order.subtotal, "currency": order.currency},
        "total": {"amount_minor": order.total, "currency": order.currency},
        "address": order.address,
        "placed_at": order.placed_at,
        "answer_by": answer_by,
    }
    await restaurants.tell(order.restaurant_id, message_id, msgspec.json.encode(body))
    return Done(Wish(action=Action.NOTIFY_RESTAURANT))
