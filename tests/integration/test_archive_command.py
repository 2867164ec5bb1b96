"""`rushline audit archive` does what is due at once, says what it did, and tells the audit trail of it once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.postgres import open_pool
from adapters.settings import PREFIX, Settings
from audit.checkpoint_files import COPIED, CheckpointFiles
from console.audit_archive import archive
from orders import chain
from orders.errors import Invalid
from orders.names import Act
from outbox import alerts
from streams.archiving import STUCK, copy_checkpoints, open_archiver, run, told
from streams.checkpointing import folder_of
from tests.integration.archive_ground import weeks
from tests.integration.audit_ground import at_home, checkpointed, stored
from tests.integration.streams_making import database, rows
from tests.making import eventually

NAME = "events/000000000000-000000000018"


@pytest.fixture
def own(stack: Settings, tmp_path: Path) -> Iterator[Settings]:
    for settings in database(stack):
        yield msgspec.structs.replace(at_home(settings, tmp_path), archive_url=f"file://{tmp_path}/archive")


def _archive(own: Settings, *words: str) -> Result:
    names = ("postgres_dsn", "audit_dsn", "audit_reader_dsn", "archive_url", "audit_origin")
    environ = {f"{PREFIX}{name.upper()}": getattr(own, name) for name in names}
    return CliRunner().invoke(archive, words, env={**environ, f"{PREFIX}HOME": own.home})


def _said(result: Result) -> list[tuple[str, str, int]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = msgspec.json.decode(result.stdout)
    return [(each["archive"], each["what"], each["events"]) for each in found]


def test_it_archives_what_is_due_and_says_so(own: Settings) -> None:
    asyncio.run(weeks(own, [2]))
    assert _said(_archive(own, "--dry-run", "--json")) == [(NAME, "would be archived", 18)]
    assert _said(_archive(own, "--json", "--older-than", "1000000")) == []
    life = ("written", "verified", "gone from the ledger")
    assert _said(_archive(own, "--json")) == [(NAME, what, 18) for what in life]
    assert "Nothing is due" in _archive(own).output
    (row,) = asyncio.run(rows(own, "SELECT body FROM outbox WHERE destination = 'audit.events'"))
    event = msgspec.json.decode(row["body"])
    assert chain.first_broken([event]) is None
    assert (event["action"], event["chain"], event["details"]["archive"]) == ("log.archived", "desk.archiver", NAME)
    assert event["actor"] == {"id": "archiver", "type": "system"}


def test_without_an_archive_it_says_what_to_set(own: Settings) -> None:
    result = _archive(msgspec.structs.replace(own, archive_url=""))
    assert isinstance(result.exception, Invalid)
    assert "RUSHLINE_ARCHIVE_URL" in str(result.exception)


async def test_what_is_told_twice_is_one_event(own: Settings) -> None:
    async with open_pool(own.postgres_dsn, service="tests", size=2) as main:
        await asyncio.gather(*(told(main, Act.LOG_DROPPED, NAME, {"archive": NAME}) for _ in range(3)))
        await told(main, Act.LOG_ARCHIVED, NAME, {"archive": NAME})
    found = await rows(own, "SELECT type FROM outbox WHERE destination = 'audit.events' ORDER BY position")
    assert [row["type"] for row in found] == ["log.dropped", "log.archived"]


async def test_a_week_that_cannot_be_archived_raises_an_alert_until_it_can(own: Settings) -> None:
    await weeks(own, [2])
    (kept,) = await rows(own, "SELECT * FROM audit.events WHERE leaf_index = 5")
    await rows(own, "DELETE FROM audit.events WHERE leaf_index = 5")

    async def raised(kinds: list[str]) -> None:
        async with open_pool(own.postgres_dsn, service="tests", size=1) as main:
            assert [each.kind for each in await alerts.open_alerts(main)] == kinds

    await _until(own, lambda: raised([STUCK]))
    values = ", ".join(f"${number}" for number in range(1, len(kept) + 1))
    await rows(own, f"INSERT INTO audit.events VALUES ({values})", *kept.values())  # noqa: S608
    await _until(own, lambda: raised([]))
    assert await rows(own, "SELECT state FROM audit.archives") == [{"state": "cold"}]


async def _until(own: Settings, check: Any) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(run(own, stop))
    try:
        await eventually(check)
    finally:
        stop.set()
        await task


async def test_each_days_checkpoints_are_copied_into_the_archive_as_they_grow(own: Settings) -> None:
    async with open_archiver(own) as archiver:
        seen: dict[str, int] = {}
        assert await copy_checkpoints(archiver.store, own, seen) == 0
        for _ in range(2):
            await stored(own)
            await checkpointed(own)
            assert await copy_checkpoints(archiver.store, own, seen) == 1
            assert await copy_checkpoints(archiver.store, own, seen) == 0
        (name,) = await archiver.store.list(COPIED)
        kept = (await archiver.store.get(name)).decode()
    notes = list(CheckpointFiles(folder_of(own)).notes())
    assert len(notes) == 2
    assert kept == "".join(f"{note}\n" for note in notes)
