"""`driver.dispatch`: finds the nearest free driver, claims them for the order, and tells them."""

from datetime import datetime
from typing import Final

from orders.commands import DispatchDriver
from orders.decide import Wish
from orders.lifecycle import Action, row_for
from orders.order import Order
from workers.notices import push_to_driver
from workers.outcome import Done, Outcome
from workers.ports import Drivers

# How far from the restaurant to look, by how often nobody was found, a minute apart; after that in the whole city. Food that
# waits gets cold, and so does food that is fetched from afar: 3 km is ten minutes by bicycle, and each minute of waiting
# makes twice as far worth it.
RADII_M: Final = (3_000, 6_000, 12_000)


async def driver_dispatch(command: DispatchDriver, order: Order, drivers: Drivers, *, attempts: int, now: datetime) -> Outcome:
    """`attempts`: how often the search was in vain before."""
    row_for(Action.ASSIGN_DRIVER, order.state)
    found = await drivers.reserve(order, RADII_M[attempts] if attempts < len(RADII_M) else None)
    return Done(
        Wish(
            action=Action.ASSIGN_DRIVER,
            changes={"driver_id": found.driver_id},
            data={"driver_id": found.driver_id, "distance_m": found.distance_m},
            take_driver=found.driver_id,
        ),
        also=(push_to_driver(order, command.position, found, now),),
    )
