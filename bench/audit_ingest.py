"""How many audit events a second enter the ledger, against plain batched inserts into an equal table, in one run."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from adapters.postgres import Connection, connect
from adapters.settings import Settings
from audit import ledger, tree
from audit.events import Event, read_event
from bench.audit_making import events
from bench.database import own_database
from bench.immudb_peer import built, seconds_in_immudb
from bench.making import Figure, percentile

DATABASE: Final = "rushline_audit_bench"
_BATCH: Final = 2_000
_SLICE: Final = 25
_TIMES: Final = 5

# The same columns and indexes, and nothing of what makes it a log.
_PLAIN: Final = """
CREATE TABLE plain_events (LIKE audit.events INCLUDING ALL);
"""
_INSERT: Final = """
INSERT INTO plain_events SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::integer[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::bytea[])
"""


async def audit_ingest(settings: Settings, number: int) -> list[Figure]:
    """Both ways in turn, several times; medians."""
    immudb = await asyncio.to_thread(built, settings.home)
    async with _database(settings) as db:
        took: dict[str, list[float]] = {"ledger": [], "plain": [], "cpu": [], "tree": [], "immudb": []}
        for _ in range(_TIMES):
            bodies = list(events(number, datetime(2026, 1, 5, tzinfo=UTC)))
            cpu = time.process_time()
            took["ledger"].append(await _timed(lambda: _into_ledger(db, bodies)))  # noqa: B023  # called at once
            took["cpu"].append(time.process_time() - cpu)
            found = [read_event(1, body) for body in bodies]
            took["plain"].append(await _timed(lambda: _plainly(db, found)))  # noqa: B023
            await db.execute("TRUNCATE plain_events")
            took["tree"].append(await _timed(lambda: _into_tree(db)))
            took["immudb"] += [await seconds_in_immudb(immudb, bodies)] if immudb else []
    note = f"{number} events, batches of {_BATCH}, median of {_TIMES}"
    ours, plain = (number / percentile(took[each], 50) for each in ("ledger", "plain"))
    return [
        Figure("audit: checked, chained and stored", ours, "events/s", note),
        Figure("audit: the same by this process's own time", number / percentile(took["cpu"], 50), "events/s", "one core"),
        Figure("audit: plain batched inserts, unchecked", plain, "events/s", "equal table and indexes"),
        Figure("audit: ledger against plain", ours / plain, "times"),
        *(
            Figure("audit: immudb", number / percentile(each, 50), "events/s", "batches of 500, in Go")
            for each in [took["immudb"]]
            if each
        ),
        Figure(
            "audit: entered into the Merkle tree", number / percentile(took["tree"], 50), "events/s", "hashed, tiles stored"
        ),
    ]


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Connection]:
    async with own_database(settings, DATABASE) as own, connect(own.migrate_url, service="bench") as db:
        await db.execute(_PLAIN)
        yield db


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def _into_ledger(db: Connection, bodies: Sequence[bytes]) -> None:
    """The next batch is read while the server stores this one, as two members of the group do between them."""
    storing: asyncio.Task[None] | None = None
    for first in range(0, len(bodies), _BATCH):
        batch: list[Event] = []
        for at in range(first, min(first + _BATCH, len(bodies)), _SLICE):
            batch += [read_event(1, body) for body in bodies[at : min(at + _SLICE, first + _BATCH)]]
            await asyncio.sleep(0)
        if storing:
            await storing
        storing = asyncio.create_task(_store(db, batch))
    if storing:
        await storing


async def _store(db: Connection, batch: Sequence[Event]) -> None:
    async with db.transaction():
        assert await ledger.store(db, batch) == 0


async def _plainly(db: Connection, found: Sequence[Event]) -> None:
    """With the columns at hand, as whoever stored plain rows would have them."""
    at = datetime.now(UTC)
    names = ("chain", "position", "event_id", "action", "actor_type", "actor_id", "new_state", "occurred_at", "body")
    for first in range(0, len(found), _BATCH):
        batch = found[first : first + _BATCH]
        columns = [[getattr(event, name) for event in batch] for name in names]
        await db.execute(_INSERT, list(range(first, first + len(batch))), [at] * len(batch), *columns)


async def _into_tree(db: Connection) -> None:
    while await tree.step(db) == tree.AT_ONCE:
        pass
