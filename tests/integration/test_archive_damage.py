"""What is wrong with an archive is named, with its file; nothing leaves the ledger for an archive that is not whole."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from adapters.archive_store import ArchiveStore
from adapters.postgres import PostgresError, connect
from adapters.settings import Settings
from audit import reader
from audit.archive import manifest, parquet
from audit.archive import sql as archive_sql
from audit.archive.life import DAMAGED
from audit.archive.manifest import ArchiveBroken, FileAltered, FileMissing, FileTruncated, LedgerDiffers, ManifestAltered
from audit.reader import Filter
from tests.integration.archive_ground import MONDAY, archiver, chain_of, facts, hot, steps, weeks
from tests.integration.audit_ground import at_home
from tests.integration.streams_making import database, rows

LATER = datetime(2025, 11, 1, tzinfo=UTC)
NAME = "events/000000000000-000000000045"
PART = f"{NAME}/part-00000.parquet"
LIFE = ["written", "verified", "gone from the ledger"]


@pytest.fixture
def own(stack: Settings, tmp_path: Path) -> Iterator[Settings]:
    for settings in database(stack):
        yield at_home(settings, tmp_path)


@pytest.fixture
async def store(tmp_path: Path) -> ArchiveStore:
    return await ArchiveStore.open(f"file://{tmp_path}/archive")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _flip(path: Path) -> None:
    """A byte of each page; the sizes stay."""
    data = bytearray(path.read_bytes())
    for group in range((file := pq.ParquetFile(path)).num_row_groups):
        for column in range(len(parquet.SCHEMA)):
            about = file.metadata.row_group(group).column(column)
            data[about.data_page_offset + about.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def _edit(path: Path) -> None:
    said = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**said, "root": "ab" * 32}, order="sorted"))


def _scribble(path: Path) -> None:
    path.write_bytes(b'{"format": 1}')


DAMAGE: list[tuple[str, Callable[[Path], None], type[ArchiveBroken], str]] = [
    (PART, _remove, FileMissing, "not in the archive"),
    (PART, _cut, FileTruncated, "its manifest says"),
    (PART, _lengthen, FileAltered, "more than its manifest says"),
    (PART, _flip, FileAltered, "cannot be read"),
    (PART, _empty, FileAltered, "cannot be read"),
    (f"{NAME}/manifest.json", _remove, FileMissing, "not in the archive"),
    (f"{NAME}/manifest.json", _edit, ManifestAltered, "'root' is not what was written"),
    (f"{NAME}/manifest.json", _scribble, ManifestAltered, "cannot be read"),
]


@pytest.mark.parametrize(("file", "harm", "kind", "words"), DAMAGE)
async def test_what_is_damaged_is_named_and_a_search_still_gives_the_rest(
    own: Settings, store: ArchiveStore, folder: Path, file: str, harm: Callable[[Path], None], kind: type[ArchiveBroken], words: str
) -> None:  # fmt: skip
    made = await weeks(own, [5, 4])
    await steps(archiver(own, store), LATER)
    harm(folder / file)
    async with connect(own.audit_reader_url, service="tests") as db:
        with pytest.raises(kind, match=words) as raised:
            await reader.events_of_chains(db, store, [chain_of(made[0][0])])
        assert raised.value.file == file
        with pytest.raises(kind):
            [each async for each in reader.events_in(db, store, 0, 81)]
        lost: list[ArchiveBroken] = []
        chains = [chain_of(made[0][0]), chain_of(made[1][0])]
        rest = await reader.events_of_chains(db, store, chains, lost)
        assert [each.body for each in rest] == made[1][0]
        page = await reader.search(db, store, Filter(new_state="delivered"), limit=100)
        assert {each.chain for each in page.events} == {chain_of(order) for order in made[1]}
        (missing,) = page.missing
        assert missing.startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("file", "harm"), [(file, harm) for file, harm, _, _ in DAMAGE] + [(f"{NAME}/checkpoints.txt.zst", _cut)]
)
async def test_an_archive_that_is_damaged_before_it_is_verified_is_written_again(
    own: Settings, store: ArchiveStore, folder: Path, file: str, harm: Callable[[Path], None]
) -> None:
    await weeks(own, [5])
    each = archiver(own, store)
    assert facts(await steps(each, LATER, most=1)) == [(NAME, "written")]
    harm(folder / file)
    assert facts(await steps(each, LATER)) == [(NAME, DAMAGED), *((NAME, what) for what in LIFE)]
    async with connect(own.audit_reader_url, service="tests") as db:
        assert [e.leaf_index async for e in reader.events_in(db, store, 0, 45)] == list(range(45))


async def test_an_event_that_was_edited_in_the_ledger_is_not_archived_as_if_it_were_true(
    own: Settings, store: ArchiveStore
) -> None:
    await weeks(own, [5, 5])
    await rows(
        own, "UPDATE audit.events SET body = replace(encode(body, 'escape'), 'gateway', 'gatevay')::bytea WHERE leaf_index = 2"
    )
    with pytest.raises(LedgerDiffers, match="leaf 2 of the ledger is not the event"):
        await steps(archiver(own, store), LATER)
    # The week after it is in the archive; its own week is in the ledger, and there alone.
    assert await rows(own, "SELECT first_leaf, state FROM audit.archives") == [{"first_leaf": 45, "state": "cold"}]
    assert not [name for name in await store.list(NAME) if name.endswith("manifest.json")]
    assert await rows(own, "SELECT count(*) FROM audit.events") == [{"count": 45}]


async def test_a_week_from_which_an_event_was_removed_is_not_archived(own: Settings, store: ArchiveStore) -> None:
    await weeks(own, [5])
    await rows(own, "DELETE FROM audit.events WHERE leaf_index = 7")
    with pytest.raises(LedgerDiffers, match=r"44 events .* 45 leaves, 0 to 45: some were removed"):
        await steps(archiver(own, store), LATER)


async def test_a_file_that_is_forged_with_its_manifest_and_the_ledgers_memory_is_no_answer(
    own: Settings, store: ArchiveStore, folder: Path
) -> None:
    made = await weeks(own, [5])
    await steps(archiver(own, store), LATER)
    known = manifest.read(NAME, (folder / NAME / "manifest.json").read_bytes())
    table = pq.read_table(folder / PART).sort_by("leaf_index")
    bodies = [body.encode().replace(b'"reason":null', b'"reason":"abc"') for body in table["body"].to_pylist()]
    parquet.write(folder / PART, 0, table["sequenced_at"].to_pylist(), bodies)
    part = msgspec.structs.replace(known.parts[0], bytes=(folder / PART).stat().st_size)
    forged = msgspec.structs.replace(known, parts=[part])
    (folder / NAME / "manifest.json").write_bytes(manifest.spelled(forged))
    async with connect(own.audit_migrate_url, service="tests") as owner:
        await owner.execute("ALTER TABLE audit.archives DISABLE TRIGGER ALL")
        await owner.execute("UPDATE audit.archives SET manifest = $1", msgspec.to_builtins(forged))
    async with connect(own.audit_reader_url, service="tests") as db:
        with pytest.raises(FileAltered, match="leaf 0 is not the one that the log's tree has"):
            await reader.events_of_chains(db, store, [chain_of(made[0][0])])


async def test_nothing_leaves_the_ledger_for_an_archive_that_is_not_verified_or_of_another_range(
    own: Settings, store: ArchiveStore
) -> None:
    await weeks(own, [5])
    await steps(archiver(own, store), LATER, most=1)
    async with connect(own.audit_url, service="tests") as writer:
        for refused in (
            "SELECT audit.drop_events('events/no-such')",
            f"SELECT audit.drop_events('{NAME}')",
            "UPDATE audit.archives SET state = 'cold'",
            "UPDATE audit.archives SET state = 'dropped', statement = 'x'",
            "UPDATE audit.archives SET statement = 'x'",
        ):
            with pytest.raises(PostgresError):
                await writer.execute(refused)
        await steps(archiver(own, store), LATER, most=1)
        with pytest.raises(PostgresError):
            await writer.execute("UPDATE audit.archives SET state = 'cold'")
        await rows(own, "DELETE FROM audit.events WHERE leaf_index = 44")
        with pytest.raises(LedgerDiffers, match="the ledger has 44 events, leaves 0 to 44"):
            await steps(archiver(own, store), LATER)
        assert await hot(writer) == 44


async def test_an_archive_that_is_gone_altogether_is_named_by_its_manifest(
    own: Settings, store: ArchiveStore, folder: Path
) -> None:
    made = await weeks(own, [5])
    await steps(archiver(own, store), LATER)
    shutil.rmtree(folder / NAME)
    async with connect(own.audit_reader_url, service="tests") as db:
        with pytest.raises(FileMissing, match=r"manifest\.json: it is not in the archive"):
            await reader.events_of_chains(db, store, [chain_of(made[0][0])])
        assert (await reader.search(db, store, Filter(), limit=5)).events == []


async def test_only_files_that_can_match_are_opened(own: Settings, store: ArchiveStore, folder: Path) -> None:
    made = await weeks(own, [5, 5, 5])
    await steps(archiver(own, store), LATER)
    names = [row["name"] for row in await rows(own, archive_sql.ARCHIVES)]
    for name in names[::2]:
        shutil.rmtree(folder / name)  # whoever opens it fails
    middle = MONDAY + timedelta(weeks=1)
    async with connect(own.audit_reader_url, service="tests") as db:
        page = await reader.search(db, store, Filter(since=middle, before=middle + timedelta(days=4)), limit=100)
        assert len(page.events) == 45
        assert not page.missing
        assert [e.body async for e in reader.events_in(db, store, 45, 54)] == [order[0] for order in made[1]] + [
            order[1] for order in made[1][:4]
        ]
