"""Every statement of the workers fits the real schema, and the search for a driver uses its index."""

from datetime import timedelta

import pytest

from adapters.postgres import connect
from orders.ids import new_id
from tests.integration.workers_ground import Ground, ground
from workers import sql

__all__ = ["ground"]

STATEMENTS = {name: text for name, text in vars(sql).items() if name.isupper()}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_the_statement_can_be_prepared(ground: Ground, name: str) -> None:
    async with ground.pool.acquire() as conn:
        await conn.prepare(STATEMENTS[name])


@pytest.mark.parametrize("degrees", [None, 0.03], ids=["in the city", "near"])
async def test_the_nearest_of_many_drivers_is_found_by_the_index(ground: Ground, degrees: float | None) -> None:
    """In a table of many drivers, nearly all of them elsewhere, the statement reads a few of them."""
    city, restaurant = new_id("rst"), new_id("rst")
    async with connect(ground.settings.migrate_url, service="tests") as owner:
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute(
            """INSERT INTO drivers (driver_id, city, status, latitude, longitude)
               SELECT 'many_' || n, CASE WHEN n % 50 = 0 THEN $1 ELSE 'x' END, 'available', 52 + n / 1e5, 5
               FROM generate_series(1, 20000) AS n""",
            city,
        )
        await owner.execute(
            "INSERT INTO restaurants VALUES ($1, 'R', $2, 52.1, 5, 'UTC', '{}', 'eur', 1, '', '')", restaurant, city
        )
        await owner.execute("ANALYZE drivers")
        row = await owner.fetchrow(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + sql.RESERVE_DRIVER,
            new_id("ord"), restaurant, city, [], timedelta(seconds=5), degrees,
        )  # fmt: skip
        await transaction.rollback()
    assert row is not None
    assert "drivers_free" in row[0]
