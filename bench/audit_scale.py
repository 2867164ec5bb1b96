"""How long support waits for an answer when the ledger holds very many events: over HTTP, from a gateway process of its own."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import msgspec

from adapters.postgres import Connection, connect
from adapters.process import leash
from adapters.settings import PREFIX, Settings
from audit.events import read_event
from audit.ledger import COLUMNS
from bench.audit_making import delivered_changes
from bench.database import own_database
from bench.making import Figure, percentile
from gateway.auth import issue
from orders.names import Role
from orders.order import Order
from outbox.transition import apply
from stack.ports import Ports

DATABASE: Final = "rushline_audit_scale"
_WEEKS: Final = 12
_SAMPLE: Final = 20  # real orders of each week, between the others
_EVENTS_OF_ONE: Final = 9
_TIMES: Final = 300
_PARTITION: Final = """
CREATE UNLOGGED TABLE audit.%(name)s PARTITION OF audit.events FOR VALUES FROM ('%(start)s') TO ('%(end)s')
"""
# Orders of nine events each, as large as real ones, their ids in the order of time as real ones are. Nobody opens these.
_FILL: Final = """
INSERT INTO audit.events (leaf_index, sequenced_at, chain, position, event_id, action, actor_type, actor_id, new_state, occurred_at, body)
SELECT $1 + n, at, chain, n % 9 + 1, 'aud_' || md5('e' || $1 + n)::uuid,
       (ARRAY['order.placed', 'payment.initiated', 'payment.confirmed', 'restaurant.notified', 'restaurant.accepted',
              'driver.assigned', 'driver.picked_up', 'driver.delivered', 'order.completed'])[n % 9 + 1],
       (ARRAY['customer', 'system', 'system', 'system', 'restaurant', 'system', 'driver', 'driver', 'driver'])[n % 9 + 1],
       CASE n % 9 WHEN 0 THEN 'cus_' || md5('c' || o %% 200000)::uuid WHEN 4 THEN 'rst_' || md5('r' || o %% 5000)::uuid
            WHEN 6 THEN 'drv_' || md5('d' || o %% 20000)::uuid WHEN 7 THEN 'drv_' || md5('d' || o %% 20000)::uuid
            WHEN 8 THEN 'drv_' || md5('d' || o %% 20000)::uuid ELSE 'worker-payments' END,
       (ARRAY['placed', 'payment_processing', 'payment_confirmed', 'restaurant_notified', 'restaurant_accepted',
              'driver_assigned', 'picked_up', 'delivered', 'delivered'])[n % 9 + 1],
       at, convert_to('{"chain":"' || chain || '","filler":"' || repeat(md5(chain), 21) || '"}', 'UTF8')
FROM (SELECT n, $1 / 9 + n / 9 AS o, $2::timestamptz + $3::interval * (n::double precision / $4) AS at
      FROM generate_series(0, $4 - 1) AS n) AS row
CROSS JOIN LATERAL (SELECT 'ord_' || overlay(md5('o' || row.o) placing lpad(to_hex(row.o), 12, '0') from 1)::uuid AS chain) AS of
""".replace("%%", "%")
_ORDERS: Final = """
INSERT INTO support_orders (order_id, customer_id, restaurant_id, driver_id, city, state, currency, total, captured, refunded,
                            position, last_fact, flagged, disputed, placed_at, delivered_at, ended_at, updated_at)
SELECT 'ord_' || overlay(md5('o' || o) placing lpad(to_hex(o), 12, '0') from 1)::uuid, 'cus_' || md5('c' || o % 200000)::uuid,
       'rst_' || md5('r' || o % 5000)::uuid, 'drv_' || md5('d' || o % 20000)::uuid, 'City ' || o % 50,
       CASE WHEN o % 50 = 0 THEN 'cancelled' ELSE 'delivered' END, 'EUR', 3200, 3200, 0, 9, 'order.completed', o % 1000 = 0,
       o % 50 = 1, at, at + interval '35 minutes', at + interval '35 minutes', at + interval '35 minutes'
FROM (SELECT o, $2::timestamptz + $3::interval * (o::double precision / $1) AS at FROM generate_series(0, $1 - 1) AS o) AS row
"""


async def audit_scale(settings: Settings, number: int) -> list[Figure]:
    """Investigations and timelines of real orders among so many events, and every kind of search. One caller, one after another."""
    async with _filled(settings, number) as (elsewhere, orders), _gateway(elsewhere) as session:
        figures = [
            Figure("audit: events in the ledger", number, "events", f"{_WEEKS} weeks, {number // _EVENTS_OF_ONE} orders")
        ]
        for what in ("timeline", "investigation", "integrity"):
            urls = [f"/v1/support/orders/{orders[n % len(orders)].order_id}/{what}" for n in range(_TIMES)]
            figures += await _asked(session, f"audit: {what}", urls)
        for name, urls in _searches(orders).items():
            figures += await _asked(session, f"audit: search by {name}", urls)
        return figures


def _searches(orders: Sequence[Order]) -> dict[str, list[str]]:
    old = (datetime.now(UTC) - timedelta(weeks=_WEEKS - 2)).isoformat().replace("+00:00", "Z")
    audit, found = "/v1/support/audit", "/v1/support/orders"
    asked = {
        "actor": [f"{audit}?actor={each.customer_id}" for each in orders],
        "action": [f"{audit}?action={each}" for each in ("order.placed", "dispute.opened", "driver.delivered")],
        "state": [f"{audit}?state={each}" for each in ("delivered", "payment_failed", "picked_up")],
        "time": [f"{audit}?before={old}"],
        "action, long ago": [f"{audit}?action=order.placed&before={old}"],
        "state, long ago": [f"{audit}?state=cancelled&before={old}"],
        "order": [f"{audit}?order_id={each.order_id}" for each in orders],
        "customer": [f"{found}?customer_id={each.customer_id}" for each in orders],
        "restaurant": [f"{found}?restaurant_id={each.restaurant_id}" for each in orders],
        "city, disputed": [f"{found}?city=City%207&disputed=true"],
        "state and time": [f"{found}?state=cancelled&placed_before={old}"],
    }
    return {name: [urls[n % len(urls)] for n in range(_TIMES // 5)] for name, urls in asked.items()}


async def _asked(session: aiohttp.ClientSession, name: str, urls: Sequence[str]) -> list[Figure]:
    took = []
    for url in urls:
        began = time.perf_counter()
        async with session.get(url) as answer:
            body = await answer.read()
        took.append(1_000 * (time.perf_counter() - began))
        if answer.status != 200:  # OK
            raise RuntimeError(f"{url}: {answer.status} {body[:300]!r}")
    return [Figure(f"{name}, {p}", percentile(took, int(p[1:])), "ms", f"{len(urls)} requests") for p in ("p50", "p99")]


@asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    names = (
        "postgres_dsn",
        "audit_reader_dsn",
        "audit_dsn",
        "http_port",
        "jwt_secret",
        "stripe_api_key",
        "stripe_webhook_secret",
    )
    environ = {**os.environ, **{PREFIX + name.upper(): str(getattr(settings, name)) for name in names}}
    command = [*leash(), sys.executable, "-m", "console", "gateway"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.DEVNULL)
    token = issue(settings, Role.SUPPORT, "bench", timedelta(hours=1))
    try:
        async with aiohttp.ClientSession(settings.base_url, headers={"authorization": f"Bearer {token}"}) as session:
            await _until_ready(session)
            yield session
    finally:
        process.terminate()
        await process.wait()


async def _until_ready(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.get("/livez") as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def _filled(settings: Settings, number: int) -> AsyncIterator[tuple[Settings, list[Order]]]:
    """A database of its own with so many events, and the orders among them that are real."""
    async with own_database(settings, DATABASE) as own:
        async with connect(own.migrate_url, service="bench") as db:
            orders = await _fill(db, number)
        yield msgspec.structs.replace(own, http_port=Ports.free().postgres), orders


async def _fill(db: Connection, number: int) -> list[Order]:
    indexes = await db.fetch("SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS made FROM pg_index"
                             " WHERE indrelid = 'audit.events'::regclass AND NOT indisprimary")  # fmt: skip
    for index in indexes:
        await db.execute(f"DROP INDEX {index['name']}")
    monday = (datetime.now(UTC) - timedelta(days=datetime.now(UTC).weekday())).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    orders: list[Order] = []
    leaf, each = 0, number // _WEEKS // _EVENTS_OF_ONE * _EVENTS_OF_ONE
    for week in range(_WEEKS, 0, -1):
        start, end = monday - timedelta(weeks=week), monday - timedelta(weeks=week - 1)
        await db.execute(_PARTITION % {"name": f"events_{start:%Y%m%d}", "start": start.isoformat(), "end": end.isoformat()})
        await db.execute(_FILL, leaf, start, timedelta(days=6), each, timeout=3_600)
        leaf += each
        for _ in range(_SAMPLE):
            leaf += await _real_order(db, leaf, end - timedelta(hours=12), orders)
    for index in indexes:
        await db.execute(index["made"].replace(" ON ONLY ", " ON "), timeout=3_600)  # of the partitions as well
    await db.execute(
        _ORDERS, number // _EVENTS_OF_ONE, monday - timedelta(weeks=_WEEKS), timedelta(weeks=_WEEKS), timeout=3_600
    )
    await db.execute("UPDATE audit.sequence SET next_leaf = $1, last_at = now()", leaf)
    await db.execute("VACUUM (ANALYZE) audit.events", timeout=3_600)
    await db.execute("VACUUM (ANALYZE) support_orders", timeout=3_600)
    return orders


async def _real_order(db: Connection, leaf: int, at: datetime, orders: list[Order]) -> int:
    """One that was delivered then, in both databases; how many leaves it has."""
    changes = delivered_changes(at)
    for change in changes:
        await apply(db, change)
    found = [read_event(1, event.audit) for change in changes for event in change.events]
    records: list[tuple[Any, ...]] = [
        (
            leaf + n,
            e.occurred_at,
            e.chain,
            e.position,
            e.event_id,
            e.action,
            e.actor_type,
            e.actor_id,
            e.new_state,
            e.occurred_at,
            e.body,
        )
        for n, e in enumerate(found)
    ]
    await db.copy_records_to_table("events", schema_name="audit", records=records, columns=COLUMNS)
    orders.append(changes[-1].order)
    return len(records)
