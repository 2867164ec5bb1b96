"""The archive keeps the same promises as a folder and as a bucket of a real S3 server."""

import asyncio
import io
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyarrow import dataset, parquet

from adapters.archive_errors import (
    ArchiveUnavailable,
    BadArchive,
    BadArchiveCredentials,
    BadArchiveName,
    DamagedObject,
    NotInArchive,
    typed,
)
from adapters.archive_store import ArchiveStore
from adapters.process import leash
from tests.making import REPOSITORY, eventually
from tests.s3 import S3Server, s3_server

pytestmark = pytest.mark.timeout(1_200)  # the first use on a machine builds the S3 server

_PUT_FILE = """
import asyncio, sys
from pathlib import Path
from adapters.archive_store import ArchiveStore

async def main(url, name, source):
    await (await ArchiveStore.open(url)).put_file(name, Path(source))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=["file", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str], Path]:
    """An empty archive: its URL, what the environment must hold, and the folder in which its objects are files."""
    if request.param == "file":
        return f"file://{tmp_path}/archive", {}, tmp_path / "archive"
    server: S3Server = request.getfixturevalue("s3")
    prefix = uuid.uuid4().hex
    return server.url(prefix), server.environ, server.folder / prefix


@pytest.fixture
async def store(where: tuple[str, dict[str, str], Path]) -> ArchiveStore:
    return await ArchiveStore.open(where[0], where[1])


def _events(day: str, rows: int = 1_000) -> bytes:
    table = pa.table(
        {"event_id": [f"{day}-{number}" for number in range(rows)], "leaf": range(rows), "body": ["x" * 50] * rows}
    )
    out = io.BytesIO()
    parquet.write_table(table, out, row_group_size=100, compression="zstd")
    return out.getvalue()


async def test_what_was_put_is_got_measured_and_listed(store: ArchiveStore) -> None:
    await store.put("a/2.bin", b"two")
    await store.put("a/1.bin", b"")
    await store.put("b=3/c/3.bin", b"three")
    assert await store.get("a/2.bin", size=3) == b"two"
    assert await store.get("a/1.bin") == b""
    assert await store.size("b=3/c/3.bin") == 5
    assert await store.list() == ["a/1.bin", "a/2.bin", "b=3/c/3.bin"]
    assert await store.list("a/") == ["a/1.bin", "a/2.bin"]
    assert await store.list("nowhere") == []


async def test_another_put_takes_the_place_of_the_first(store: ArchiveStore) -> None:
    await store.put("a", b"first")
    await store.put("a", b"second")
    assert await store.get("a") == b"second"
    assert await store.list() == ["a"]


async def test_what_is_not_there_is_said_to_be_missing_and_deleted_without_a_word(store: ArchiveStore) -> None:
    await store.put("a/b", b"x")
    await store.delete("a/b")
    await store.delete("a/b")
    assert not await store.exists("a/b")
    assert not await store.exists("a")
    for call in (store.get, store.size, store.open_input):
        with pytest.raises(NotInArchive):
            await call("a/b")


async def test_a_file_of_many_parts_arrives_whole_and_leaves_no_draft(
    store: ArchiveStore, where: tuple[str, dict[str, str], Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_048_576) * 25)
    await store.put_file("big/file", source)
    assert await store.get("big/file") == source.read_bytes()
    assert [path for path in (where[2] / ".drafts").rglob("*") if path.is_file()] == []


async def test_a_file_that_cannot_be_read_to_its_end_changes_nothing(store: ArchiveStore) -> None:
    await store.put("kept", b"before")
    with pytest.raises(ArchiveUnavailable):
        await store.put_file("kept", Path("/proc/self/mem"))  # opens, and fails to be read
    assert await store.get("kept") == b"before"
    assert await store.list() == ["kept"]


async def test_a_process_killed_in_the_middle_of_a_file_leaves_nothing_to_be_seen(
    store: ArchiveStore, where: tuple[str, dict[str, str], Path], tmp_path: Path
) -> None:
    await store.put("kept", b"before")
    for name in ("kept", "new"):
        await _killed_in_the_middle(where, name, tmp_path / f"pipe-{name}")
    assert await store.get("kept") == b"before"
    assert not await store.exists("new")
    assert await store.list() == ["kept"]


async def _killed_in_the_middle(where: tuple[str, dict[str, str], Path], name: str, pipe: Path) -> None:
    """The source is a pipe that never ends: once it took this much, most of it is written, and the rest is waited for."""
    os.mkfifo(pipe)
    command = [*leash(), sys.executable, "-c", _PUT_FILE, where[0], name, str(pipe)]
    process = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, env={**os.environ, **where[1]})
    async with asyncio.timeout(60):
        writer = await asyncio.to_thread(pipe.open, "wb", buffering=0)
        for _ in range(20):
            await asyncio.to_thread(writer.write, bytes(1_048_576))
    assert process.returncode is None
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    writer.close()


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../b", "/etc/passwd", "a//b", "a/", ".drafts/a", "a/.hidden", "", ".", "a\0b", "a\nb", "ü", "a" * 600],
)
async def test_a_name_that_could_leave_the_archive_is_refused(store: ArchiveStore, name: str, tmp_path: Path) -> None:
    for call in (store.get, store.size, store.exists, store.delete, store.open_input):
        with pytest.raises(BadArchiveName):
            await call(name)
    with pytest.raises(BadArchiveName):
        await store.put(name, b"x")
    with pytest.raises(BadArchiveName):
        await store.put_file(name, tmp_path / "none")
    if name:
        with pytest.raises(BadArchiveName):
            await store.list(name.rstrip("/") + "/..")


async def test_a_truncated_object_is_damaged_whoever_reads_it(
    store: ArchiveStore, where: tuple[str, dict[str, str], Path]
) -> None:
    whole = _events("2025-03-14")
    await store.put("day.parquet", whole)
    os.truncate(where[2] / "day.parquet", len(whole) // 2)
    with pytest.raises(DamagedObject):
        await store.get("day.parquet", size=len(whole))
    with pytest.raises(DamagedObject), typed():
        parquet.read_table(await store.open_input("day.parquet"))


async def test_duckdb_asks_an_archive_and_opens_only_the_days_and_columns_it_needs(
    store: ArchiveStore, where: tuple[str, dict[str, str], Path]
) -> None:
    for day in ("2025-03-14", "2025-03-15"):
        await store.put(f"events/day={day}/part-0.parquet", _events(day))
    events = dataset.dataset(store.path("events"), format="parquet", partitioning="hive", filesystem=store.filesystem)
    os.truncate(where[2] / "events" / "day=2025-03-15" / "part-0.parquet", 100)
    config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    with duckdb.connect(config=config) as connection:
        connection.register("events", events)
        asked = "SELECT event_id FROM events WHERE day = '2025-03-14' AND leaf BETWEEN 500 AND 502 ORDER BY leaf"
        assert connection.sql(asked).fetchall() == [(f"2025-03-14-{number}",) for number in (500, 501, 502)]
        plan = "".join(row[1] for row in connection.sql(f"EXPLAIN {asked}").fetchall())
        scan = plan[plan.index("ARROW_SCAN") :]
        assert "Filters" in scan
        assert "body" not in scan
        with pytest.raises(duckdb.Error):
            connection.sql("SELECT count(leaf) FROM events WHERE body <> ''").fetchall()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "no archive"),
        ("/a/folder", "no archive"),
        ("http://127.0.0.1/x", "no archive"),
        ("file://elsewhere/x", "not a folder"),
        ("file:///tmp/../etc", "not a folder"),
        ("file:///dev/null", "not a folder"),
        ("s3://", "no bucket"),
        ("s3://bucket/../other", "no bucket"),
        ("s3://bucket/x?endpoint=1", "no option 'endpoint'"),
        ("s3://bucket/x", "no credentials"),
    ],
)
async def test_a_url_that_cannot_be_used_names_the_setting_and_the_remedy(url: str, problem: str) -> None:
    with pytest.raises(BadArchive, match=f"RUSHLINE_ARCHIVE_URL: .*{problem}.*\\. [A-Z]"):
        await ArchiveStore.open(url, {})


async def test_a_bucket_that_is_missing_names_the_setting_and_the_remedy(s3: S3Server) -> None:
    with pytest.raises(BadArchive, match=r"RUSHLINE_ARCHIVE_URL: there is no bucket 'another'.*Make the bucket"):
        await ArchiveStore.open(s3.url(bucket="another"), s3.environ)


async def test_wrong_credentials_are_told_apart_from_an_outage(s3: S3Server) -> None:
    wrong = {**s3.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}
    with pytest.raises(BadArchiveCredentials, match="Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        await ArchiveStore.open(s3.url(), wrong)
    with pytest.raises(BadArchive, match="AWS_ACCESS_KEY_ID"):
        await ArchiveStore.open(s3.url(), {**s3.environ, "AWS_ACCESS_KEY_ID": "nobody"})


async def test_credentials_may_come_with_the_url(s3: S3Server) -> None:
    store = await ArchiveStore.open(s3.url("by-url", who=f"{s3.access_key}:{s3.secret_key}"), {})
    await store.put("a", b"x")
    assert await store.list() == ["a"]


async def test_a_server_that_dies_or_hangs_is_something_to_try_again_later() -> None:
    with s3_server() as server:
        store = await ArchiveStore.open(server.url("x"), server.environ, call_s=3)
        await store.put("a", b"x")
        server.pause()
        with pytest.raises(ArchiveUnavailable):
            await store.get("a")
        server.kill()

        async def every_call_says_so() -> None:
            for call in (store.put("a", b"y"), store.get("a"), store.list(), store.exists("a"), store.delete("a")):
                with pytest.raises(ArchiveUnavailable):
                    await call

        await eventually(every_call_says_so)
        with pytest.raises(ArchiveUnavailable):
            await ArchiveStore.open(server.url("x"), server.environ)
