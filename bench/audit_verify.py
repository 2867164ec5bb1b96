"""How fast the ledger is verified, event by event, and in how much memory; beside it, what only reading and hashing it takes."""

import hashlib
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from adapters.postgres import Connection, Pool, connect, open_pool
from adapters.settings import Settings
from audit import ledger, tree
from audit.events import read_event
from audit.verify_pages import PAGE_LEAVES
from audit.verify_sql import PAGE
from audit.verifying import Wanted, verify
from bench.making import Figure
from orders import chain
from orders.ids import derived_id, new_id
from outbox.migrations import migrate

DATABASE: Final = "rushline_verify"
_BATCH: Final = 5_000
_AT_ONCE: Final = 500  # orders that are under way at the same time
_STEPS: Final = (
    ("order.placed", "placed"), ("payment.initiated", "payment_processing"), ("payment.confirmed", "payment_confirmed"),
    ("restaurant.notified", "restaurant_notified"), ("restaurant.accepted", "restaurant_accepted"),
    ("driver.assigned", "driver_assigned"), ("driver.picked_up", "picked_up"), ("driver.delivered", "delivered"),
    ("order.completed", "delivered"),
)  # fmt: skip
_ITEMS: Final = [{"item_id": f"itm_{n}", "name": "Margherita", "quantity": 2, "unit_price": 1_150} for n in range(2)]


async def verify_rate(settings: Settings, number: int) -> list[Figure]:
    """A ledger of so many events: verified whole, and, for scale, only read, and only read and hashed."""
    dsn = _own(settings.audit_url)
    async with ledger_of(settings, number) as pool:
        events = await pool.fetchval("SELECT count(*) FROM audit.events")
        hashed = await _hashed(pool, events)
        before = _processor_s()
        report = await verify(pool, dsn, None, None, Wanted())
        cpu = _processor_s() - before
        assert report.whole, report.findings[0].sentence
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return [
        Figure("audit: verified", events / report.seconds, "events/s", f"{events} events: chains, columns, leaves, tiles"),
        Figure("audit: verified, processor time", cpu / events * 1e6, "µs/event", "all our processes together"),
        Figure("audit: only read and hashed twice", events / hashed, "events/s", "one process, nothing else checked"),
        Figure("audit: memory of verifying", most / 1024, "MiB", "the largest of our processes"),
    ]


def _processor_s() -> float:
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


async def _hashed(pool: Pool, events: int) -> float:
    began = time.monotonic()
    for first in range(0, events, PAGE_LEAVES):
        for _, _, body in await pool.fetch(PAGE, first, first + PAGE_LEAVES):
            hashlib.sha256(body).digest()
            hashlib.sha256(body).digest()
    return time.monotonic() - began


def _own(dsn: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{DATABASE}").geturl()


@asynccontextmanager
async def ledger_of(settings: Settings, number: int) -> AsyncIterator[Pool]:
    """A database of its own whose ledger has about so many events, in the tree."""
    owner_dsn, audit_dsn = _own(settings.migrate_url), _own(settings.audit_url)
    async with connect(settings.migrate_url, service="bench") as owner:
        await owner.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        await owner.execute(f"CREATE DATABASE {DATABASE}")
    try:
        await migrate(owner_dsn)
        async with connect(audit_dsn, service="bench") as writer:
            await _fill(writer, number)
        async with connect(owner_dsn, service="bench") as owner:
            await owner.execute("VACUUM ANALYZE audit.events")
        async with open_pool(audit_dsn, service="bench", size=3) as pool:
            yield pool
    finally:
        async with connect(settings.migrate_url, service="bench") as owner:
            await owner.execute(f"DROP DATABASE {DATABASE}")


async def _fill(writer: Connection, number: int) -> None:
    batch = []
    for body in events_of(number):
        batch.append(read_event(1, body))
        if len(batch) == _BATCH:
            await _store(writer, batch)
            batch = []
    if batch:
        await _store(writer, batch)


async def _store(writer: Connection, batch: list[Any]) -> None:
    async with writer.transaction():
        await ledger.store(writer, batch)
    while await tree.step(writer):
        pass


def events_of(number: int) -> Iterator[bytes]:
    """Events of orders that are under way side by side, as the relay publishes them."""
    at, done = datetime.now(UTC) - timedelta(hours=1), 0
    while done < number:
        orders = [(new_id("ord"), new_id("cus"), chain.GENESIS) for _ in range(_AT_ONCE)]
        for position, (action, state) in enumerate(_STEPS, 1):
            for place, (order_id, customer, head) in enumerate(orders):
                digest, body = chain.seal(_event(order_id, customer, position, action, state, at), head)
                orders[place] = (order_id, customer, digest)
                yield body
                done += 1


def _event(order_id: str, customer: str, position: int, action: str, state: str, at: datetime) -> dict[str, Any]:
    placed = position == 1
    return {
        "v": 1, "event_id": derived_id("aud", order_id, position), "fact_id": derived_id("evt", order_id, position),
        "order_id": order_id, "position": position, "action": action,
        "actor": {"type": "customer", "id": customer} if placed else {"type": "system", "id": "payments"},
        "previous_state": None if placed else _STEPS[position - 2][1], "new_state": state, "reason": None,
        "details": {"items": _ITEMS, "total": 3_200} if placed else {}, "service": "bench", "correlation_id": order_id[4:],
        "causation_id": f"cmd_{order_id[4:]}_{position}", "occurred_at": msgspec.to_builtins(at.isoformat()),
    }  # fmt: skip
