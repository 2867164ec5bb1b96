"""What one change of an order costs: changes a second, round trips, processor time of the caller."""

import time

from adapters.postgres import connect
from adapters.settings import Settings
from bench.making import Figure, fresh_order
from orders.decide import Cause, Wish, decide, system
from orders.facts import Actor
from orders.lifecycle import Action
from orders.names import Role
from orders.order import Order
from outbox.transition import apply, load, utc_now, waits


async def change_costs(settings: Settings, orders: int) -> list[Figure]:
    """One connection, one change after the other: an order is placed, then its payment begins."""
    wait = waits(settings)
    place = Wish(action=Action.PLACE)
    begin = Wish(action=Action.BEGIN_PAYMENT, changes={"payment_intent_id": None})
    fresh = [fresh_order() for _ in range(orders)]
    trips = 0

    def count(_: object) -> None:
        nonlocal trips
        trips += 1

    async with connect(settings.postgres_dsn, service="bench") as conn:
        for order in fresh:
            await apply(conn, decide(order, place, _because(Actor(Role.CUSTOMER, order.customer_id), order), utc_now(), wait))
        conn.add_query_logger(count)
        began, cpu = time.perf_counter(), time.process_time()
        for order in fresh:
            loaded, _ = await load(conn, order.order_id)
            await apply(conn, decide(loaded, begin, _because(system("bench"), order), utc_now(), wait))
        took, used = time.perf_counter() - began, time.process_time() - cpu
        conn.remove_query_logger(count)
    return [
        Figure("change of an order", orders / took, "changes/s", "one connection, load and write, one event on two topics"),
        Figure("round trips per change", trips / orders, ""),
        Figure("caller's processor time per change", used / orders * 1e6, "µs"),
    ]


def _because(actor: Actor, order: Order) -> Cause:
    return Cause(id="bench", actor=actor, service="bench", traceparent=order.traceparent)
