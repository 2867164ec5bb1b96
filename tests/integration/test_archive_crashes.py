"""An archiver is killed before and after everything it changes: nothing is lost, nothing is there twice, nothing goes too early."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from adapters.archive_store import ArchiveStore
from adapters.postgres import connect
from adapters.settings import PREFIX, Settings
from audit import reader
from orders.notes import parse_note
from streams.archiving import open_archiver
from tests.integration.archive_ground import MONDAY, chain_of, steps, weeks
from tests.integration.audit_ground import at_home
from tests.integration.streams_making import database, rows
from tests.making import REPOSITORY

pytestmark = pytest.mark.timeout(900)  # a process for each point at which one is killed

TO_COLD: Final = 14  # a file, checkpoints, manifest, row; verified; told, gone from the ledger: before and after each
TO_DROP: Final = 12  # signed, in the table, in the archive; told; a file is deleted; done
KEPT_FOR_EVER: Final = 100_000


@pytest.fixture
def own(stack: Settings, tmp_path: Path) -> Iterator[Settings]:
    for settings in database(stack):
        yield msgspec.structs.replace(at_home(settings, tmp_path), archive_url=f"file://{tmp_path}/archive")


async def _deadly(own: Settings, point: int, now: datetime, keep_days: float) -> int:
    """A process that dies there; its exit code."""
    names = ("home", "postgres_dsn", "audit_dsn", "audit_reader_dsn", "archive_url", "audit_origin")
    environ = {**os.environ, **{f"{PREFIX}{name.upper()}": getattr(own, name) for name in names}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.deadly_archiver", str(point), now.isoformat(), str(keep_days),
        cwd=REPOSITORY, env=environ,
    )  # fmt: skip
    return await process.wait()


async def _finished(own: Settings, now: datetime, keep_days: float) -> None:
    """One that is left alone does the rest, and then there is none."""
    async with open_archiver(own) as alive:
        await steps(msgspec.structs.replace(alive, keep_days=keep_days), now)


async def _told(own: Settings, action: str) -> list[str]:
    found = await rows(
        own, "SELECT body FROM outbox WHERE destination = 'audit.events' AND type = $1 ORDER BY position", action
    )
    return [msgspec.json.decode(row["body"])["details"]["archive"] for row in found]


async def test_killed_anywhere_on_the_way_out_of_the_ledger(own: Settings) -> None:
    made = await weeks(own, [2] * TO_COLD)
    bodies = [body for week in made for order in week for body in order]
    store = await ArchiveStore.open(own.archive_url)
    for point in range(1, TO_COLD + 1):
        now = MONDAY + timedelta(weeks=point, days=90, hours=1)  # one more week is due
        assert await _deadly(own, point, now, KEPT_FOR_EVER) == -signal.SIGKILL
        await _all_there(own, store, bodies)
        await _finished(own, now, KEPT_FOR_EVER)
        await _all_there(own, store, bodies)
        states = await rows(own, "SELECT name, state FROM audit.archives ORDER BY first_leaf")
        assert states == [{"name": f"events/{n * 18:012}-{n * 18 + 18:012}", "state": "cold"} for n in range(point)]
    assert await _deadly(own, 1, now, KEPT_FOR_EVER) == 0  # nothing is left to die at
    assert await rows(own, "SELECT FROM audit.events") == []
    assert await _told(own, "log.archived") == [row["name"] for row in states]
    assert len(await store.list("events")) == TO_COLD * 3


async def _all_there(own: Settings, store: ArchiveStore, bodies: list[bytes]) -> None:
    async with connect(own.audit_reader_url, service="tests") as db:
        found = [each async for each in reader.events_in(db, store, 0, len(bodies))]
        assert [each.leaf_index for each in found] == list(range(len(bodies)))
        assert sorted(each.body for each in found) == sorted(bodies)


async def test_killed_anywhere_while_an_archive_is_dropped(own: Settings) -> None:
    made = await weeks(own, [1] * TO_DROP)
    store = await ArchiveStore.open(own.archive_url)
    await _finished(own, MONDAY + timedelta(weeks=TO_DROP, days=91), KEPT_FOR_EVER)
    for point in range(1, TO_DROP + 1):
        now = MONDAY + timedelta(weeks=point, days=730, hours=1)
        assert await _deadly(own, point, now, 730) == -signal.SIGKILL
        async with connect(own.audit_reader_url, service="tests") as db:
            found = await reader.events_of_chains(db, store, [chain_of(made[point - 1][0])])
            assert len(found) in {0, 9}  # whole or gone, and never an error
            for week in made[point:]:
                assert [each.body for each in await reader.events_of_chains(db, store, [chain_of(week[0])])] == week[0]
        await _finished(own, now, 730)
        states = await rows(own, "SELECT name, state, statement FROM audit.archives ORDER BY first_leaf")
        assert [row["state"] for row in states] == ["dropped"] * point + ["cold"] * (TO_DROP - point)
    assert await _told(own, "log.dropped") == [row["name"] for row in states]
    for row in states:
        assert (await store.get(f"{row['name']}/dropped.txt")).decode() == row["statement"]
        assert f"archive {row['name']}\n" in parse_note(row["statement"]).text
    assert not [name for name in await store.list("events") if name.endswith(".parquet")]


async def test_an_archiver_that_hangs_with_the_lock_keeps_others_out_and_does_no_harm(own: Settings) -> None:
    await weeks(own, [1])
    now = MONDAY + timedelta(weeks=1, days=91)
    async with connect(own.audit_url, service="tests") as hanging:
        assert await hanging.fetchval("SELECT pg_try_advisory_lock(hashtext('audit.archive'))")
        await _finished(own, now, KEPT_FOR_EVER)
        assert not await rows(own, "SELECT FROM audit.archives")
    await _finished(own, now, KEPT_FOR_EVER)
    assert len(await rows(own, "SELECT FROM audit.archives WHERE state = 'cold'")) == 1
