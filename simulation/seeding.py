"""The only place that writes the country into the catalogue: restaurants, menus and drivers, again and again the same."""

from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString
from zoneinfo import ZoneInfo

from adapters.postgres import connect
from adapters.settings import Settings
from simulation.country import CURRENCY, City, Country, Restaurant

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOSES_IN_S: Final = 600  # of business time, for those that close soon

# Two spans that overlap: there is no minute of the day in which an open restaurant is about to close.
_ALWAYS: Final = {day: [["00:00", "16:00"], ["12:00", "04:00"]] for day in _DAYS}
_NEVER: Final[dict[str, list[list[str]]]] = {day: [] for day in _DAYS}

# What a restaurant is; told anew each time, since hours follow the clock and the address follows the port.
_UPSERT_RESTAURANTS: Final[LiteralString] = """
    INSERT INTO restaurants (restaurant_id, name, city, latitude, longitude, time_zone, hours, currency, delivery_fee,
                             webhook_url, webhook_secret)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (restaurant_id) DO UPDATE SET
        name = excluded.name, city = excluded.city, hours = excluded.hours, delivery_fee = excluded.delivery_fee,
        webhook_url = excluded.webhook_url, webhook_secret = excluded.webhook_secret
"""

# Menus as they were at the beginning, with everything in stock.
_UPSERT_MENUS: Final[LiteralString] = """
    INSERT INTO menu_items (restaurant_id, item_id, name, unit_price, available)
    SELECT restaurant_id, item_id, name, unit_price, true
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS m (restaurant_id, item_id, name, unit_price)
    ON CONFLICT (restaurant_id, item_id) DO UPDATE SET
        name = excluded.name, unit_price = excluded.unit_price, available = true
"""

# Drivers go home and are free, but for those who still carry an order.
_UPSERT_DRIVERS: Final[LiteralString] = """
    INSERT INTO drivers (driver_id, city, status, latitude, longitude)
    SELECT driver_id, city, 'available', latitude, longitude
    FROM unnest($1::text[], $2::text[], $3::float8[], $4::float8[]) AS d (driver_id, city, latitude, longitude)
    ON CONFLICT (driver_id) DO UPDATE SET
        city = excluded.city, latitude = excluded.latitude, longitude = excluded.longitude,
        status = CASE WHEN drivers.order_id IS NULL THEN 'available' ELSE drivers.status END, updated_at = now()
"""


async def seed_catalogue(
    settings: Settings, country: Country, restaurants_url: str, time_scale: float, now: datetime | None = None
) -> None:
    """Write the country. Needs the schema's owner (`migrate_url`); the application itself may not insert restaurants."""
    at = now or datetime.now(UTC)
    menus = [(r.restaurant_id, m.item_id, m.name, m.unit_price) for r in country.restaurants for m in r.menu]
    drivers = [(d.driver_id, country.cities[d.city].name, d.latitude, d.longitude) for d in country.drivers]
    rows = [_row(r, country.cities[r.city], restaurants_url, time_scale, at) for r in country.restaurants]
    async with connect(settings.migrate_url, service="simulation") as conn, conn.transaction():
        await conn.executemany(_UPSERT_RESTAURANTS, rows)
        await conn.execute(_UPSERT_MENUS, *map(list, zip(*menus, strict=True)))
        await conn.execute(_UPSERT_DRIVERS, *map(list, zip(*drivers, strict=True)))


def _row(restaurant: Restaurant, city: City, restaurants_url: str, time_scale: float, at: datetime) -> tuple[object, ...]:
    return (
        restaurant.restaurant_id, restaurant.name, city.name, restaurant.latitude, restaurant.longitude, city.time_zone,
        hours_of(restaurant, city, time_scale, at), CURRENCY, restaurant.delivery_fee,
        f"{restaurants_url}/restaurants/{restaurant.restaurant_id}/webhook", restaurant.webhook_secret,
    )  # fmt: skip


def hours_of(restaurant: Restaurant, city: City, time_scale: float, at: datetime) -> dict[str, list[list[str]]]:
    """Opening hours in the restaurant's own time. Hours know no seconds: the end is the next full minute."""
    match restaurant.hours:
        case "open":
            return _ALWAYS
        case "closed":
            return _NEVER
        case "closing_soon":
            end = (at + timedelta(seconds=_CLOSES_IN_S / time_scale + 60)).astimezone(ZoneInfo(city.time_zone))
            start = end - timedelta(hours=6)
            return {**_NEVER, _DAYS[start.weekday()]: [[f"{start:%H:%M}", f"{end:%H:%M}"]]}
