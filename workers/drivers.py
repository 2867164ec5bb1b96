"""The only place that claims drivers: the `Drivers` port over the table of drivers, without races."""

import math
from datetime import timedelta
from typing import Final

from adapters.postgres import Pool
from orders.order import Order
from workers import sql
from workers.ports import NoDriverAvailable, Reservation
from workers.store import reaching_the_database

_HELD_S: Final = 30
_HELD_AT_LEAST_S: Final = 5
_METRES_PER_DEGREE: Final = 111_195


class DriverTable:
    """A reservation holds for some seconds, so that a worker which dies after it blocks nobody for long."""

    def __init__(self, pool: Pool, time_scale: float) -> None:
        self._pool = pool
        self._held = timedelta(seconds=max(_HELD_AT_LEAST_S, _HELD_S / time_scale))

    async def reserve(self, order: Order, within_m: int | None) -> Reservation:
        degrees = None if within_m is None else within_m / _METRES_PER_DEGREE
        with reaching_the_database():
            row = await self._pool.fetchrow(
                sql.RESERVE_DRIVER,
                order.order_id, order.restaurant_id, order.city, list(order.past_drivers), self._held, degrees,
            )  # fmt: skip
        if row is None:
            where = "in the city" if within_m is None else f"within {within_m} m of the restaurant"
            raise NoDriverAvailable(f"nobody is free {where}")
        here, there = (row["latitude"], row["longitude"]), (row["from_latitude"], row["from_longitude"])
        return Reservation(row["driver_id"], distance_m(here, there))


def distance_m(here: tuple[float, float], there: tuple[float, float]) -> int:
    """Metres between two points (latitude, longitude) of one city, as the crow flies."""
    north = here[0] - there[0]
    east = (here[1] - there[1]) * math.cos(math.radians((here[0] + there[0]) / 2))
    return round(math.hypot(north, east) * _METRES_PER_DEGREE)
