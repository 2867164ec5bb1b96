"""The only place for the shapes of requests, with every bound that keeps out what PostgreSQL or a broker cannot hold."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from orders.money import MAX_AMOUNT_MINOR, MAX_LINES, MAX_QUANTITY

_END: Final = r"(?![\s\S])"  # `$` would let a final line break through
_PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+" + _END
_CLOCK: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"

Id: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}" + _END, examples=["rst_019a5f00-0000-7000-8000-000000000001"])
]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=120, pattern=_PRINTABLE)]
PostalCode: TypeAlias = Annotated[str, Meta(min_length=1, max_length=20, pattern=_PRINTABLE)]
Latitude: TypeAlias = Annotated[float, Meta(ge=-90, le=90)]
Longitude: TypeAlias = Annotated[float, Meta(ge=-180, le=180)]
Quantity: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
Currency: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z]{3}" + _END)]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body: a field that we do not know is refused, since what it asked for would not be done."""


class Price(Body, frozen=True):
    """An amount in minor units (cents) of the restaurant's currency."""

    amount_minor: Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
    currency: Currency


class Item(Body, frozen=True):
    """So many of an item of the restaurant's menu."""

    item_id: Id
    quantity: Quantity


class DeliveryAddress(Body, frozen=True):
    """Where the order goes. Coordinates in degrees (WGS 84)."""

    street: Text
    city: Text
    postal_code: PostalCode
    latitude: Latitude
    longitude: Longitude


class PlaceOrder(Body, frozen=True):
    """An order. Prices are the menu's, never the caller's."""

    restaurant_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_LINES)]
    delivery_address: DeliveryAddress
    payment_method_id: Annotated[str, Meta(pattern=r"^pm_[A-Za-z0-9_]{1,100}" + _END, examples=["pm_card_visa"])]


class CancelOrder(Body, frozen=True):
    """Why, in the customer's own words, if they like. Support can read them, nobody else."""

    reason: Text | None = None


class ResolveOrder(Body, frozen=True):
    """What becomes of an order with items that the restaurant does not have.

    `substitute`: the same restaurant, without those items and with `substitutes`. `alternative`: all of it from another
    restaurant, `restaurant_id` or the nearest. `cancel`: all of the money back. Never for more than was paid.
    """

    choice: Literal["cancel", "substitute", "alternative"]
    substitutes: Annotated[list[Item], Meta(max_length=MAX_LINES)] = []
    restaurant_id: Id | None = None


class RejectOrder(Body, frozen=True):
    """Why the restaurant cannot take it. With `unavailable_items` the customer is asked, otherwise the order ends.

    `reason` is one of the words `closing_time`, `closed`, `too_busy`, `sold_out`, `kitchen_problem`, `staff_shortage` …; anything
    else is kept for support and told to nobody, `restaurant_rejected` stands for it.
    """

    reason: Text
    unavailable_items: Annotated[list[Id], Meta(max_length=MAX_LINES)] = []


_Time: TypeAlias = Annotated[str, Meta(pattern=f"^({_CLOCK}|24:00){_END}")]


Day: TypeAlias = Annotated[list[Annotated[list[_Time], Meta(min_length=2, max_length=2)]], Meta(max_length=6)]


class WeeklyHours(Body, frozen=True):
    """Opening times of each day as ["from", "until"], local. An end that is not after its start is on the next day."""

    monday: Day = []
    tuesday: Day = []
    wednesday: Day = []
    thursday: Day = []
    friday: Day = []
    saturday: Day = []
    sunday: Day = []


class PutHours(Body, frozen=True):
    """All opening times of a week. `time_zone`: an IANA name, unchanged where it is left out."""

    hours: WeeklyHours
    time_zone: Annotated[str, Meta(max_length=64, examples=["Europe/Berlin"])] | None = None


class MenuItem(Body, frozen=True):
    """An item of a menu. `unit_price` is in the restaurant's currency."""

    item_id: Id
    name: Name
    unit_price: Price
    available: bool = True


class PutMenu(Body, frozen=True):
    """The whole menu: what is not in it is no longer offered."""

    items: Annotated[list[MenuItem], Meta(min_length=1, max_length=500)]


class DriverStatus(Body, frozen=True):
    """Whether the driver takes orders, and where they are."""

    status: Literal["available", "offline"]
    latitude: Latitude
    longitude: Longitude


class DriverLocation(Body, frozen=True):
    """Where the driver is."""

    latitude: Latitude
    longitude: Longitude


class ReleaseOrder(Body, frozen=True):
    """Why the driver cannot carry it: `vehicle_problem`, `accident`, `too_far` …; anything else is kept for support."""

    reason: Text = "driver_unable"


PLACE_ORDER_EXAMPLE: Final = {
    "restaurant_id": "rst_019a5f00-0000-7000-8000-000000000001",
    "items": [{"item_id": "itm_019a5f00-0000-7000-8000-000000000001", "quantity": 2}],
    "delivery_address": {
        "street": "Main Street 1", "city": "Berlin", "postal_code": "10115", "latitude": 52.53, "longitude": 13.38,
    },
    "payment_method_id": "pm_card_visa",
}  # fmt: skip
