"""`driver.dispatch`: finds the nearest free driver, claims them for the order, and tells them."""

from datetime import datetime

from orders.commands import DispatchDriver
from orders.decide import Wish
from orders.lifecycle import Action, row_for
from orders.order import Order
from workers.notices import push_to_driver
from workers.outcome import Done, Outcome
from workers.ports import Drivers


async def driver_dispatch(command: DispatchDriver, order: Order, drivers: Drivers, *, now: datetime) -> Outcome:
    row_for(Action.ASSIGN_DRIVER, order.state)
    found = await drivers.reserve(order)
    return Done(
        Wish(
            action=Action.ASSIGN_DRIVER,
            changes={"driver_id": found.driver_id},
            data={"driver_id": found.driver_id, "distance_m": found.distance_m},
            take_driver=found.driver_id,
        ),
        also=(push_to_driver(order, command.position, found, now),),
    )
