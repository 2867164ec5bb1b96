"""The ledger's events go into the archive, leave the ledger, are read across both, and are dropped after two years."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.archive_store import ArchiveStore
from adapters.postgres import connect
from adapters.settings import Settings
from audit import keys, reader
from audit.archive import sql as archive_sql
from audit.archive.reading_back import check_notes, manifest_of
from audit.checkpoint_files import CheckpointFiles
from bench.audit_making import delivered_order
from orders.merkle import Frontier, leaf_hash
from orders.notes import open_note
from orders.signing import verifier
from streams.checkpointing import folder_of
from tests.integration.archive_ground import MONDAY, Told, archiver, chain_of, facts, hot, put, steps, weeks
from tests.integration.audit_ground import at_home, checkpointed
from tests.integration.streams_making import database, rows
from tests.s3 import S3Server

pytestmark = pytest.mark.timeout(1_200)  # the first use on a machine builds the S3 server

LATER = datetime(2025, 11, 1, tzinfo=UTC)
TWO_YEARS_LATER = datetime(2027, 4, 1, tzinfo=UTC)


@pytest.fixture
def own(flavoured: Settings, tmp_path: Path) -> Iterator[Settings]:
    for settings in database(flavoured):
        yield at_home(settings, tmp_path)


@pytest.fixture(params=["file", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArchiveStore]:
    if request.param == "file":
        yield await ArchiveStore.open(f"file://{tmp_path}/archive")
    else:
        server: S3Server = request.getfixturevalue("s3")
        yield await ArchiveStore.open(server.url(tmp_path.name), server.environ)


async def test_events_go_through_the_whole_life_of_an_archive(own: Settings, store: ArchiveStore) -> None:
    made = await weeks(own, [30, 20, 10])
    names = ["events/000000000000-000000000270", "events/000000000270-000000000450", "events/000000000450-000000000540"]
    told = Told()
    each = archiver(own, store, told)
    # Two of three weeks are old enough.
    now = MONDAY + timedelta(weeks=2, days=91)
    life = ("written", "verified", "gone from the ledger")
    assert facts(await steps(each, now)) == [(name, what) for name in names[:2] for what in life]
    assert told.acts == [("log.archived", name) for name in names[:2]]
    bodies = {}
    async with connect(own.audit_reader_url, service="tests") as db:
        assert await hot(db) == 90
        bodies = {e.leaf_index: e.body async for e in reader.events_in(db, store, 0, 540)}
        assert list(bodies) == list(range(540))
        for orders in made:
            for order in orders[:3]:
                assert [e.body for e in await reader.events_of_chains(db, store, [chain_of(order)])] == order
    kept = await rows(own, "SELECT size, root FROM audit.tree")
    grown = Frontier()
    grown.extend(map(leaf_hash, bodies.values()))
    assert kept == [{"size": 540, "root": grown.root()}]
    # After two years they go, and what went is signed.
    due = [(names[0], "dropped"), *((names[2], what) for what in life)]
    assert facts(await steps(each, MONDAY + timedelta(weeks=1, days=731))) == due
    assert told.acts[2:] == [("log.dropped", names[0]), ("log.archived", names[2])]
    (row,) = await rows(own, "SELECT state, statement FROM audit.archives WHERE name = $1", names[0])
    assert row["state"] == "dropped"
    assert await store.get(f"{names[0]}/dropped.txt") == row["statement"].encode()
    opened = open_note(row["statement"], [verifier(key.vkey) for key in keys.public_keys(own)])
    said = dict(line.split(" ", 1) for line in opened.text.splitlines()[2:])
    alone = Frontier()
    alone.extend(leaf_hash(bodies[leaf]) for leaf in range(270))
    assert (said["leaves"], said["events"]) == ("0 270", "270")
    assert base64.b64decode(said["root"]) == alone.root()
    assert await store.list(names[0]) == [
        f"{names[0]}/{file}" for file in ("checkpoints.txt.zst", "dropped.txt", "manifest.json")
    ]
    assert await steps(each, MONDAY + timedelta(weeks=1, days=731)) == []


async def test_an_archive_carries_the_checkpoints_since_the_one_before(own: Settings, store: ArchiveStore) -> None:
    for number, count in enumerate((3, 2, 4)):
        await weeks(own, [count], MONDAY + timedelta(weeks=number))
    await steps(archiver(own, store), LATER)
    notes = list(CheckpointFiles(folder_of(own)).notes())
    assert len(notes) == 3
    async with connect(own.audit_reader_url, service="tests") as db:
        found = []
        for row in await db.fetch(archive_sql.ARCHIVES):
            manifest = await manifest_of(store, row["name"])
            found.append((manifest.tree.note, (await check_notes(store, manifest)).decode()))
    assert found == [(note, f"{note}\n") for note in notes]


async def test_what_no_checkpoint_covers_is_not_archived_yet(own: Settings, store: ArchiveStore) -> None:
    await weeks(own, [2])
    await put(own, MONDAY + timedelta(weeks=1), delivered_order(MONDAY + timedelta(weeks=1)))
    assert [done.archive for done in await steps(archiver(own, store), LATER)] == ["events/000000000000-000000000018"] * 3
    await checkpointed(own)
    assert [done.archive for done in await steps(archiver(own, store), LATER)] == ["events/000000000018-000000000027"] * 3


async def test_two_archivers_at_once_do_what_one_does(own: Settings, store: ArchiveStore) -> None:
    await weeks(own, [5, 5])
    told = Told()
    each = archiver(own, store, told)
    done = [did for some in await asyncio.gather(*(steps(each, LATER) for _ in range(4))) for did in some]
    done += await steps(each, LATER)
    assert len(done) == 6
    assert len(told.acts) == 2
    async with connect(own.audit_reader_url, service="tests") as db:
        assert await hot(db) == 0
        assert [e.leaf_index async for e in reader.events_in(db, store, 0, 90)] == list(range(90))


async def test_a_dry_run_names_what_is_due_and_changes_nothing(own: Settings, store: ArchiveStore) -> None:
    await weeks(own, [1, 2])
    each, names = archiver(own, store), ["events/000000000000-000000000009", "events/000000000009-000000000027"]
    async with connect(own.audit_url, service="tests") as db:
        assert facts(await each.plan(db, LATER)) == [(name, "would be archived") for name in names]
        assert await store.list() == []
    await steps(each, LATER)
    async with connect(own.audit_url, service="tests") as db:
        assert [what for _, what in facts(await each.plan(db, TWO_YEARS_LATER))] == ["would be dropped"] * 2
        assert await db.fetchval("SELECT count(*) FROM audit.archives WHERE state = 'cold'") == 2
