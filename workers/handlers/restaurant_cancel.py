"""`restaurant.cancel`: tells the restaurant that an order is off. May arrive before the order itself did."""

import msgspec

from orders.commands import CancelRestaurant
from orders.order import Order
from workers.outcome import Nothing, Outcome
from workers.ports import Restaurants


async def restaurant_cancel(command: CancelRestaurant, order: Order, restaurants: Restaurants, message_id: str) -> Outcome:
    body = {
        "type": "order.cancelled",
        "order_id": order.order_id,
        "position": command.position,
        "restaurant_id": command.restaurant_id,
        "reason": command.reason,
    }
    await restaurants.tell(command.restaurant_id, message_id, msgspec.json.encode(body))
    return Nothing()
