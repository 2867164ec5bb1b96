"""The only place for what an order is between two transitions: the row that is loaded, decided upon and written back."""

from datetime import datetime
from typing import Any

import msgspec

from orders.lifecycle import Deadline
from orders.money import Amounts, Line
from orders.names import Money, State


class Address(msgspec.Struct, frozen=True):
    """Where the order goes. Coordinates in degrees (WGS 84)."""

    street: str
    city: str
    postal_code: str
    latitude: float
    longitude: float


class Pending(msgspec.Struct, frozen=True):
    """A command that was issued and not done yet."""

    type: str
    body: dict[str, Any]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One order at one position. Amounts in minor units of `currency`."""

    order_id: str
    customer_id: str
    restaurant_id: str
    city: str
    state: State
    money: Money = Money.NONE
    position: int = 0
    chain_head: str
    items: tuple[Line, ...]
    address: Address
    currency: str
    item_count: int
    subtotal: int
    delivery_fee: int
    total: int
    captured: int = 0
    refunded: int = 0
    payment_method_id: str
    payment_intent_id: str | None = None
    payment_attempt: int = 1
    past_restaurants: tuple[str, ...] = ()  # that lost it: never asked again
    driver_id: str | None = None
    past_drivers: tuple[str, ...] = ()
    reason: str | None = None  # why it was rejected, cancelled or failed
    pending: dict[str, Pending] = {}  # commands issued and not done yet, by their id: what the watchdog issues again
    deadline: Deadline | None = None
    deadline_at: datetime | None = None
    deadline_position: int | None = None  # of the event that set it: what the command about it names
    traceparent: str = ""
    placed_at: datetime
    updated_at: datetime

    @property
    def amounts(self) -> Amounts:
        return Amounts(
            currency=self.currency, item_count=self.item_count, subtotal=self.subtotal, delivery_fee=self.delivery_fee
        )
