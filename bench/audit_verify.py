"""How fast the ledger is verified, event by event, and in how much memory; beside it, what only reading and hashing it takes."""

import hashlib
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from adapters.postgres import Connection, Pool, connect, open_pool
from adapters.settings import Settings
from audit import ledger, tree
from audit.events import read_event
from audit.verification.pages import PAGE_LEAVES
from audit.verification.sql import PAGE
from audit.verification.verifying import Wanted, verify
from bench.audit_making import delivered_order
from bench.database import own_database
from bench.making import Figure

DATABASE: Final = "rushline_verify"
_BATCH: Final = 5_000
_AT_ONCE: Final = 500  # orders that are under way at the same time


async def verify_rate(settings: Settings, number: int) -> list[Figure]:
    """A ledger of so many events: verified whole, and, for scale, only read, and only read and hashed."""
    async with ledger_of(settings, number) as (pool, dsn):
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


@asynccontextmanager
async def ledger_of(settings: Settings, number: int) -> AsyncIterator[tuple[Pool, str]]:
    """A database of its own whose ledger has about so many events, in the tree; and how to reach it."""
    async with own_database(settings, DATABASE) as own:
        async with connect(own.audit_url, service="bench") as writer:
            await _fill(writer, number)
        async with connect(own.migrate_url, service="bench") as owner:
            await owner.execute("VACUUM ANALYZE audit.events")
        async with open_pool(own.audit_url, service="bench", size=3) as pool:
            yield pool, own.audit_url


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
        orders = [delivered_order(at) for _ in range(_AT_ONCE)]
        for step in zip(*orders, strict=True):
            yield from step
            done += len(step)
