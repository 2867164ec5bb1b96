"""The only place that says what the handlers need of the world: one port for each kind of command."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import msgspec

from adapters.payments import Payments
from orders.errors import AlreadyDone, CallAnOperator, RetryLater
from orders.failures import FailureType
from orders.order import Order
from orders.rerouting import Alternative


class NoDriverAvailable(RetryLater):
    """Nobody in the city is free for this order. Asked again until the order's own deadline."""

    slug = "no-driver-available"
    failure = FailureType.DRIVER_UNAVAILABLE


class RestaurantUnreachable(RetryLater):
    """The restaurant's host does not take our message. Its 4xx may be a bug of theirs that is mended meanwhile."""

    slug = "restaurant-unreachable"
    failure = FailureType.RESTAURANT_TIMEOUT


class UnknownRestaurant(CallAnOperator):
    """An order names a restaurant that is not in the catalogue."""

    slug = "unknown-restaurant"
    failure = FailureType.UNKNOWN


class NotDelivered(AlreadyDone):
    """A message that is sent once and not again did not go out."""

    slug = "not-delivered"
    failure = FailureType.SERVICE_UNAVAILABLE


class Reservation(msgspec.Struct, frozen=True):
    """A driver held for an order for some seconds, and how far they are from the restaurant."""

    driver_id: str
    distance_m: int


class Restaurants(Protocol):
    async def tell(self, restaurant_id: str, message_id: str, body: bytes) -> None:
        """Send a signed webhook. Raises `RestaurantUnreachable`, `UnknownRestaurant`."""
        ...


class Drivers(Protocol):
    async def reserve(self, order: Order, within_m: int | None) -> Reservation:
        """The driver who is reserved for this order, or else the nearest free one so near to the restaurant (None: in the city).

        Raises `NoDriverAvailable`.
        """
        ...


class Alternatives(Protocol):
    async def find(self, order: Order) -> Alternative | None:
        """Another restaurant for the order, as far as its customer has agreed to one. Raises `DatabaseUnavailable`."""
        ...


class Messages(Protocol):
    """Each raises `MessagingUnavailable`, `RecipientRefused`, `BadMessagingCredentials`."""

    async def send_sms(self, to: str, body: str, idempotency_key: str) -> str: ...
    async def send_push(self, to: str, title: str, body: str, data: Mapping[str, str]) -> None: ...


class HeldFacts(Protocol):
    async def wake(self, group: str, order_id: str, position: int, attempt: int) -> None:
        """Let a stream's group try again what it holds. Nothing where that is over. Raises `DatabaseUnavailable`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything a handler can be given, and how long a restaurant may take to answer."""

    payments: Payments
    restaurants: Restaurants
    drivers: Drivers
    alternatives: Alternatives
    messages: Messages
    held: HeldFacts
    answer_within: timedelta
