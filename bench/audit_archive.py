"""How fast events go into the archive and come back, and how few bytes they take there, all together."""

import base64
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from adapters.archive_store import ArchiveStore
from adapters.postgres import Connection, connect
from adapters.settings import Settings
from audit import ledger, reader, tree
from audit.archive.life import Archiver, Done
from audit.events import Event, read_event
from bench.audit_making import EVENTS_OF_AN_ORDER, delivered_order
from bench.database import own_database
from bench.making import Figure, percentile
from orders.checkpoints import Checkpoint
from orders.names import Act

DATABASE: Final = "rushline_audit_archive_bench"
_SINCE: Final = datetime(2025, 3, 3, tzinfo=UTC)  # a Monday
_ORDERS_A_SECOND: Final = 4
_CHECKPOINT_S: Final = 2
_BATCH: Final = 500
_LOOKS: Final = 20
_PARTITION: Final = """
CREATE TABLE audit.events_20250303 PARTITION OF audit.events FOR VALUES FROM ('2025-03-03+00') TO ('2025-03-10+00')
"""
_SIGNED: Final = "INSERT INTO audit.checkpoints (size, root, note, signed_at) VALUES ($1, $2, $3, $4)"


async def audit_archive(settings: Settings, number: int) -> list[Figure]:
    """A week of orders at a busy hour's rate, its checkpoints every two seconds, into a folder and back."""
    events = _events(number // EVENTS_OF_AN_ORDER)
    async with _ledger(settings) as db:
        await _fill(db, events)
        with tempfile.TemporaryDirectory(prefix="rushline-bench-") as folder:
            store = await ArchiveStore.open(f"file://{folder}")
            figures = await _archived(db, store, events)
            return figures + await _read(db, store, events)


async def _archived(db: Connection, store: ArchiveStore, events: list[Event]) -> list[Figure]:
    each = Archiver(dsn="", store=store, origin="bench", hot_days=1, keep_days=100_000, tell=_tell, alarm=_alarm, sign=str)
    took: dict[str, float] = {}
    used: dict[str, float] = {}
    size = 0
    for what in ("written", "verified", "gone from the ledger"):
        began, cpu = time.perf_counter(), time.process_time()
        done = await each.step(db, datetime.now(UTC))
        took[what], used[what] = time.perf_counter() - began, time.process_time() - cpu
        assert isinstance(done, Done)
        assert done.what == what
        size = done.bytes
    count = len(events)
    body = sum(len(event.body) for event in events) / count
    return [
        Figure("archive: written", count / took["written"], "events/s", f"{count} events of {body:.0f} bytes, from PostgreSQL"),
        Figure("archive: the same by this process's own time", count / used["written"], "events/s", "all its threads"),
        Figure("archive: read back and verified", count / took["verified"], "events/s", "every hash, column, and the tree"),
        Figure("archive: gone from the ledger", took["gone from the ledger"] * 1e3, "ms", "counted again, dropped whole"),
        Figure("archive: size", size / count, "bytes/event", "with checkpoints every 2 s"),
    ]


async def _read(db: Connection, store: ArchiveStore, events: list[Event]) -> list[Figure]:
    chains = [event.chain for event in events[:: len(events) // _LOOKS]]
    one = [await _timed(reader.events_of_chains(db, store, [chain])) for chain in chains]
    page = [
        await _timed(reader.search(db, store, reader.Filter(actor_id=e.actor_id))) for e in events[:: len(events) // _LOOKS]
    ]
    began = time.perf_counter()
    count = len([each async for each in reader.events_in(db, store, 0, len(events))])
    return [
        Figure("archive: an order's events, p50", percentile(one, 50) * 1e3, "ms", f"{_LOOKS} orders"),
        Figure("archive: an order's events, max", max(one) * 1e3, "ms"),
        Figure("archive: a page of somebody's events, p50", percentile(page, 50) * 1e3, "ms", "all of them searched"),
        Figure(
            "archive: read in the log's order", count / (time.perf_counter() - began), "events/s", "each held against the tree"
        ),
    ]


def _events(orders: int) -> list[Event]:
    """In the order of time, as they come."""
    made = []
    for number in range(orders):
        made += [read_event(1, body) for body in delivered_order(_SINCE + timedelta(seconds=number / _ORDERS_A_SECOND))]
    return sorted(made, key=lambda event: event.occurred_at)


async def _fill(db: Connection, events: list[Event]) -> None:
    for first in range(0, len(events), _BATCH):
        batch = events[first : first + _BATCH]
        rows = [_row(event, first + number, batch[-1].occurred_at) for number, event in enumerate(batch)]
        await db.copy_records_to_table("events", schema_name="audit", records=rows, columns=ledger.COLUMNS)
    heads = {event.chain: event for event in events}
    await db.execute("UPDATE audit.sequence SET next_leaf = $1", len(events))
    await db.executemany(
        "INSERT INTO audit.heads (chain, position, hash) VALUES ($1, $2, sha256(''))",
        [(e.chain, e.position) for e in heads.values()],
    )
    while await tree.step(db):
        pass
    head = await tree.head(db)
    ticks = int((events[-1].occurred_at - _SINCE).total_seconds() / _CHECKPOINT_S)
    sizes = sorted({head.size * tick // ticks for tick in range(1, ticks)} - {0, head.size})
    await db.executemany(_SIGNED, [(size, b"", _note(size, os.urandom(32)), _SINCE) for size in sizes])
    await db.execute(_SIGNED, head.size, head.root, _note(head.size, head.root), _SINCE)
    await db.execute("VACUUM ANALYZE audit.events")


def _row(event: Event, leaf: int, at: datetime) -> tuple[Any, ...]:
    values = msgspec.structs.asdict(event)
    return (leaf, at, *(values[name] for name in ledger.COLUMNS[2:]))


def _note(size: int, root: bytes) -> str:
    """As long as a signed one."""
    text = Checkpoint("rushline.example/audit", size, root).text()
    return f"{text}\n— rushline.example/audit {base64.b64encode(os.urandom(68)).decode()}\n"


async def _tell(act: Act, key: str, details: dict[str, Any]) -> None:
    del act, key, details


async def _alarm(trouble: str | None) -> None:
    del trouble


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


@asynccontextmanager
async def _ledger(settings: Settings) -> AsyncIterator[Connection]:
    async with own_database(settings, DATABASE) as own, connect(own.migrate_url, service="bench") as db:
        await db.execute(_PARTITION)
        yield db
