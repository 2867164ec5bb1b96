"""The only place that looks for another restaurant for an order: for workers after a rejection, and for customers who ask."""

from datetime import datetime

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable
from orders.order import Order
from orders.rerouting import Alternative, alternative, may_go_on
from outbox import sql
from outbox.transition import Executor


async def find(db: Executor, order: Order, now: datetime, *, wanted: str | None = None) -> Alternative | None:
    """The nearest restaurant of the city that is open and has everything by name for what was paid, or the one that is wanted.

    Never one that has had this order, and none after so many. Raises `DatabaseUnavailable`.
    """
    if not may_go_on(order):
        return None
    had = [order.restaurant_id, *order.past_restaurants]
    names = sorted({line.name for line in order.items})
    try:
        rows = await db.fetch(
            sql.ALTERNATIVES, order.city, had, names, order.currency, wanted, order.address.longitude, order.address.latitude
        )
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"other restaurants cannot be looked for: {error}") from error
    found = (alternative(order, row, now) for row in rows)
    return next((each for each in found if each is not None), None)
