"""The only place for the shapes of answers, and for who sees which part of an order."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from orders.money import Line
from orders.order import Order


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units (cents) of its currency."""

    amount_minor: int
    currency: str


class OrderWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Something the customer should know about an order that was accepted."""

    code: Literal["closing_soon"]
    message: str
    closes_at: datetime


class PlacedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was accepted."""

    order_id: str
    status: Literal["placed"]
    item_count: int
    subtotal: Money
    delivery_fee: Money
    total: Money
    warnings: list[OrderWarning]


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """One item of an order at the price that holds for it."""

    item_id: str
    name: str
    quantity: int
    unit_price: Money


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order goes."""

    street: str
    city: str
    postal_code: str
    latitude: float
    longitude: float


class MenuEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a menu."""

    item_id: str
    name: str
    unit_price: Money
    available: bool


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A restaurant that is open and has all of the order's items, at this total."""

    restaurant_id: str
    name: str
    total: Money


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the customer is asked: POST …/resolution until `until`; after that the money goes back.

    `substitutes`: what the restaurant has instead, nearest in price first, each of them for what was paid. `alternative`:
    who has everything, if somebody has.
    """

    unavailable_items: list[str]
    until: datetime | None
    substitutes: list[MenuEntry] = []
    alternative: Elsewhere | None = None


class CustomerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its customer sees it. `decision` where they are asked."""

    order_id: str
    status: str
    position: int
    restaurant_id: str
    items: list[OrderLine]
    item_count: int
    subtotal: Money
    delivery_fee: Money
    total: Money
    refunded: Money
    delivery_address: Place
    driver_id: str | None
    reason: str | None
    placed_at: datetime
    updated_at: datetime
    decision: Decision | None = None


class CustomerOrders(msgspec.Struct, frozen=True):
    """A page of orders, newest first. `next_cursor` is null on the last."""

    orders: list[CustomerOrder]
    next_cursor: str | None


class RestaurantOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its restaurant sees it."""

    order_id: str
    status: str
    position: int
    items: list[OrderLine]
    item_count: int
    subtotal: Money
    driver_id: str | None
    reason: str | None
    placed_at: datetime
    updated_at: datetime
    answer_until: datetime | None


class RestaurantOrders(msgspec.Struct, frozen=True):
    """A page of orders, newest first. `next_cursor` is null on the last."""

    orders: list[RestaurantOrder]
    next_cursor: str | None


class RestaurantCard(msgspec.Struct, frozen=True, kw_only=True):
    """A restaurant in a listing. Times are UTC."""

    restaurant_id: str
    name: str
    city: str
    latitude: float
    longitude: float
    time_zone: str
    delivery_fee: Money
    is_open: bool
    closes_at: datetime | None
    opens_at: datetime | None


class Restaurants(msgspec.Struct, frozen=True):
    """A page of restaurants. `next_cursor` is null on the last."""

    restaurants: list[RestaurantCard]
    next_cursor: str | None


class Menu(msgspec.Struct, frozen=True, kw_only=True):
    """A restaurant's menu."""

    restaurant_id: str
    items: list[MenuEntry]


class HoursOf(msgspec.Struct, frozen=True, kw_only=True):
    """A restaurant's opening times, local to its time zone."""

    restaurant_id: str
    time_zone: str
    hours: dict[str, list[list[str]]]


class PickUpPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the driver picks up."""

    restaurant_id: str
    name: str
    latitude: float
    longitude: float


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """The order that a driver carries."""

    order_id: str
    status: str
    item_count: int
    restaurant: PickUpPlace
    delivery_address: Place


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """A driver: `offline`, `available`, or `busy` with an assignment."""

    status: str
    assignment: Assignment | None


class DriverOrders(msgspec.Struct, frozen=True):
    """What the driver carries: one order or none."""

    orders: list[Assignment]


class DriverOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order after a driver's report."""

    order_id: str
    status: str
    position: int


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """A field at fault."""

    field: str
    message: str


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem (RFC 9457). `type` is stable; gateway/problems.py lists them all."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    errors: list[FieldError] = []
    opens_at: datetime | None = None


def lines_of(order: Order) -> list[OrderLine]:
    return [_line(line, order.currency) for line in order.items]


def _line(line: Line, currency: str) -> OrderLine:
    return OrderLine(item_id=line.item_id, name=line.name, quantity=line.quantity, unit_price=Money(line.unit_price, currency))


def for_customer(order: Order, decision: Decision | None = None) -> CustomerOrder:
    """All of it but what the platform keeps to itself."""
    return CustomerOrder(
        order_id=order.order_id, status=order.state.value, position=order.position, restaurant_id=order.restaurant_id,
        items=lines_of(order), item_count=order.item_count, subtotal=Money(order.subtotal, order.currency),
        delivery_fee=Money(order.delivery_fee, order.currency), total=Money(order.total, order.currency),
        refunded=Money(order.refunded, order.currency), delivery_address=place_of(order), driver_id=order.driver_id,
        reason=order.reason, placed_at=order.placed_at, updated_at=order.updated_at, decision=decision,
    )  # fmt: skip


def for_restaurant(order: Order) -> RestaurantOrder:
    """What is to be cooked: neither the customer nor where they live."""
    return RestaurantOrder(
        order_id=order.order_id, status=order.state.value, position=order.position, items=lines_of(order),
        item_count=order.item_count, subtotal=Money(order.subtotal, order.currency), driver_id=order.driver_id,
        reason=order.reason, placed_at=order.placed_at, updated_at=order.updated_at,
        answer_until=order.deadline_at if order.deadline == "restaurant_answer" else None,
    )  # fmt: skip


def for_driver(order: Order) -> DriverOrder:
    return DriverOrder(order_id=order.order_id, status=order.state.value, position=order.position)


def place_of(order: Order) -> Place:
    return msgspec.convert(order.address, Place, from_attributes=True)


def assignment_of(row: dict[str, Any] | None) -> Assignment | None:
    """From `gateway.sql.ASSIGNMENT`."""
    return msgspec.convert(row, Assignment) if row else None
