"""The only place that says what looks like fraud: each rule is a name, its sentence and a pure function of the history."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

VELOCITY_WINDOW_S: Final = 600  # business seconds
VELOCITY_ORDERS: Final = 5
USUAL_TIMES: Final = 5
USUAL_ORDERS: Final = 3
USUAL_FLOOR_MINOR: Final = 10_000
SPEED_KMH: Final = 150
DISTANCE_FLOOR_KM: Final = 20
_EARTH_KM: Final = 6_371.0


class Place(msgspec.Struct, frozen=True):
    """Where and when an order was to be delivered. Degrees."""

    latitude: float
    longitude: float
    at: datetime


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when an order is placed. Only orders before it count; `recent_orders` counts itself too."""

    total: int
    here: Place
    recent_orders: int = 1  # by the same payment method, within the velocity window
    past_orders: int = 0  # completed ones of the customer, in the same currency, the last 50
    past_mean: float = 0.0  # of their totals
    before: Place | None = None  # the customer's order before this one
    time_scale: float = 1.0


class Rule(msgspec.Struct, frozen=True):
    """A rule fires where `looks_wrong` says so."""

    name: str
    means: str
    looks_wrong: Callable[[History], bool]


def velocity(seen: History) -> bool:
    return seen.recent_orders > VELOCITY_ORDERS


def unusual_amount(seen: History) -> bool:
    return seen.past_orders >= USUAL_ORDERS and seen.total >= USUAL_FLOOR_MINOR and seen.total > USUAL_TIMES * seen.past_mean


def impossible_distance(seen: History) -> bool:
    if seen.before is None:
        return False
    distance = kilometres(seen.before, seen.here)
    hours = abs((seen.here.at - seen.before.at) / timedelta(hours=1)) * seen.time_scale
    return distance > DISTANCE_FLOOR_KM and distance > SPEED_KMH * hours


RULES: Final = (
    Rule("velocity", f"more than {VELOCITY_ORDERS} orders in ten minutes by one payment method", velocity),
    Rule("unusual_amount", f"more than {USUAL_TIMES} times what this customer usually spends", unusual_amount),
    Rule("impossible_distance", f"two addresses further apart than {SPEED_KMH} km/h allows", impossible_distance),
)


def fired(seen: History) -> list[str]:
    """The names of the rules that this order breaks, in the table's order."""
    return [rule.name for rule in RULES if rule.looks_wrong(seen)]


def kilometres(one: Place, other: Place) -> float:
    """The distance over the ground (haversine)."""
    lat1, lat2 = math.radians(one.latitude), math.radians(other.latitude)
    half_lat, half_lon = (lat2 - lat1) / 2, math.radians(other.longitude - one.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(half_lon) ** 2
    return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(chord)))
