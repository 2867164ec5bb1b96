"""The routes that show restaurants and their menus."""

from datetime import datetime
from typing import Annotated

from litestar import Router, get
from litestar.params import FromPath, QueryParameter

from adapters.postgres import Record
from gateway import sql
from gateway.answers import Menu, MenuEntry, Money, RestaurantCard, Restaurants
from gateway.auth import only
from gateway.context import Gate
from gateway.docs import problems
from gateway.paging import Cursor, Limit, after_id
from orders.errors import Invalid, NotFound
from orders.hours import opening
from orders.names import Role


@get("/", responses=problems())
async def list_restaurants(
    gateway: Gate,
    city: Annotated[str | None, QueryParameter(max_length=200, description="Of this city only.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Restaurants:
    """Restaurants, of one city or of all."""
    if city is not None and not city.isprintable():
        raise Invalid("city", "control characters are not possible")
    rows = await gateway.rows(sql.RESTAURANTS, city, after_id(cursor), limit)
    now = gateway.now()
    return Restaurants([_card(row, now) for row in rows], rows[-1]["restaurant_id"] if len(rows) == limit else None)


def _card(row: Record, now: datetime) -> RestaurantCard:
    found = opening(row["hours"], row["time_zone"], now)
    return RestaurantCard(
        restaurant_id=row["restaurant_id"], name=row["name"], city=row["city"], latitude=row["latitude"],
        longitude=row["longitude"], time_zone=row["time_zone"], delivery_fee=Money(row["delivery_fee"], row["currency"]),
        is_open=found.is_open, closes_at=found.closes_at, opens_at=found.opens_at,
    )  # fmt: skip


@get("/{restaurant_id:str}/menu", responses=problems(404))
async def get_menu(gateway: Gate, restaurant_id: FromPath[str]) -> Menu:
    """A restaurant's menu. Prices are those that an order placed now would have."""
    row = await gateway.row(sql.RESTAURANT, restaurant_id, None) if restaurant_id.isprintable() else None
    if row is None:
        raise NotFound("there is no such restaurant")
    return menu_of(row)


def menu_of(row: Record) -> Menu:
    """From `gateway.sql.RESTAURANT`."""
    entries = [
        MenuEntry(
            item_id=m["item_id"], name=m["name"], unit_price=Money(m["unit_price"], row["currency"]), available=m["available"]
        )
        for m in row["menu"]
    ]
    return Menu(restaurant_id=row["restaurant_id"], items=entries)


router = Router("/v1/restaurants", route_handlers=[list_restaurants, get_menu], guards=[only(Role.CUSTOMER)],
                tags=["customers"])  # fmt: skip
