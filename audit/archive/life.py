"""The only place that leads an archive through its life: written, verified, its events gone from the ledger, dropped after its time.

Each step is safe to do again and follows from what is stored, so that a process killed between any two of them is followed by
one that goes on. Events leave the ledger only when all of them were read back from the archive and held against the log's tree;
the database looks once more itself (`audit.drop_events`).
"""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from adapters.archive_store import ArchiveStore
from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, PostgresError, Record, connect, sqlstate
from audit.archive import sql
from audit.archive.manifest import MANIFEST, STATEMENT, ArchiveBroken, LedgerDiffers, Manifest, name_of, recorded, spelled
from audit.archive.reading_back import verify
from audit.archive.writing import Range, extent, write
from orders.errors import CallAnOperator, Refuse, RetryLater
from orders.names import Act

# An audit event about the log itself. The key names what it is about: told again after a crash, it is the same event.
Tell = Callable[[Act, str, dict[str, Any]], Awaitable[None]]
Sign = Callable[[str], str]  # a text, as a signed note of the log
Alarm = Callable[[str | None], Awaitable[None]]  # what must be looked at; None: nothing (any more)

DROPPED_FORMAT: Final = "rushline/audit-dropped/v1"
DAMAGED: Final = "damaged, to be written again"
_EVERY_S: Final = 3_600
_LONG_S: Final = 900  # for what counts or drops a whole range
_MOST_DAYS: Final = 365_000  # before any event
_STAYS: Final = "RL005"  # what audit.drop_events and the table say of a step that is not due

log = structlog.get_logger(__name__)


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did, or would do."""

    archive: str
    what: str
    events: int
    bytes: int = 0


class Archiver(msgspec.Struct, frozen=True, kw_only=True):
    """`run` is `step` again and again. Of several, one at a time does something."""

    dsn: str
    store: ArchiveStore
    origin: str
    hot_days: float
    keep_days: float
    tell: Tell
    sign: Sign
    alarm: Alarm

    async def run(self, stop: asyncio.Event, every_s: float = _EVERY_S) -> None:
        """Do what is due until stopped. What cannot be done is logged, and tried again an hour later."""
        while not stop.is_set():
            try:
                await self._round(stop)
            except RetryLater as error:
                log.warning("audit-archive-waits", error=error.slug, detail=str(error)[:200])
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)

    async def _round(self, stop: asyncio.Event) -> None:
        trouble = None
        try:
            async with connect(self.dsn, service="archiver") as db:
                while not stop.is_set() and (done := await self.step(db, datetime.now(UTC))) is not None:
                    log.info("audit-archive", **msgspec.to_builtins(done))
                    if done.what == DAMAGED:  # what breaks each time is not written in a circle
                        trouble = f"{done.archive} was damaged while its events were still in the ledger; it is written again"
                        break
        except (CallAnOperator, Refuse) as error:
            log.error("audit-archive-stuck", error=error.slug, detail=str(error)[:500])  # noqa: TRY400
            trouble = f"{error.slug}: {error}"
        await self.alarm(trouble)

    async def step(self, db: Connection, now: datetime) -> Done | None:
        """The next step of one archive, what was begun first; None where none is due, or another archiver is at it.

        `db` is this archiver's own connection. Raises `LedgerDiffers`, `ArchiveUnavailable`, `DatabaseUnavailable`.
        """
        try:
            if not await db.fetchval(sql.LOCK):
                return None
            try:
                return await self._next(db, now)
            finally:
                if not db.is_closed():
                    await db.execute(sql.UNLOCK)
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"the archive waits for the ledger: {error}") from error
        except PostgresError as error:
            if sqlstate(error) != _STAYS:
                raise
            raise LedgerDiffers(str(error)) from error

    async def plan(self, db: Connection, now: datetime) -> list[Done]:
        """What would be archived and dropped. Nothing is changed."""
        planned = [
            Done(archive=name_of(due.first, due.end), what="would be archived", events=due.end - due.first)
            for due in await self._due(db, now)
        ]
        rows = await db.fetch(sql.TO_DROP, _ago(now, self.keep_days))
        manifests = [recorded(row["name"], row["manifest"]) for row in rows]
        return planned + [_done(each, "would be dropped") for each in manifests]

    async def _next(self, db: Connection, now: datetime) -> Done | None:
        begun = await db.fetchrow(sql.NEXT, _ago(now, self.keep_days))
        if begun is None:
            return await self._write(db, now)
        manifest = recorded(begun["name"], begun["manifest"])
        match begun["state"]:
            case "written":
                return await self._verify(db, manifest)
            case "verified":
                return await self._go_cold(db, manifest)
            case _:
                return await self._drop(db, manifest, begun, now)

    async def _due(self, db: Connection, now: datetime) -> list[Range]:
        rows = await db.fetch(sql.DUE, _ago(now, self.hot_days))
        found = [await extent(db, row["from_at"], row["to_at"]) for row in rows]
        signed = await db.fetchval(sql.SIGNED)
        return [each for each in found if each is not None and each.end <= signed]

    async def _write(self, db: Connection, now: datetime) -> Done | None:
        """The oldest week that can be. One that is not what the log says keeps only itself out, and is raised when all else is done."""
        refused: LedgerDiffers | None = None
        signed = await db.fetchval(sql.SIGNED)
        for row in await db.fetch(sql.DUE, _ago(now, self.hot_days)):
            try:
                due = await extent(db, row["from_at"], row["to_at"])
                if due is not None and due.end <= signed:
                    return _done(await write(db, self.store, due), "written")
            except LedgerDiffers as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return None

    async def _verify(self, db: Connection, manifest: Manifest) -> Done:
        try:
            await verify(db, self.store, manifest)
        except ArchiveBroken as error:
            # Nothing is lost: the events are in the ledger. Manifest first, so that what is half gone is no archive.
            log.error("audit-archive-damaged", archive=manifest.name, detail=str(error)[:500])  # noqa: TRY400
            await self._remove(manifest, MANIFEST, *self._files(manifest))
            await db.execute(sql.FORGET, manifest.name)
            return _done(manifest, DAMAGED)
        await db.execute(sql.VERIFIED, manifest.name)
        return _done(manifest, "verified")

    async def _go_cold(self, db: Connection, manifest: Manifest) -> Done:
        await self.tell(Act.LOG_ARCHIVED, manifest.name, _details(manifest))
        await db.execute(sql.DROP_EVENTS, manifest.name, timeout=_LONG_S)
        return _done(manifest, "gone from the ledger")

    async def _drop(self, db: Connection, manifest: Manifest, row: Record, now: datetime) -> Done:
        """The statement stands in the table before the first file goes, and in the archive; the manifest stays there with it."""
        signed = row["statement"] or self.sign(statement(manifest, self.origin, self.keep_days, now))
        note = await db.fetchval(sql.STATE, manifest.name, signed)
        await self.store.put(manifest.path(STATEMENT), note.encode())
        await self.tell(Act.LOG_DROPPED, manifest.name, _details(manifest))
        await self._remove(manifest, *(part.file for part in manifest.parts))
        await db.execute(sql.DROPPED, manifest.name)
        return _done(manifest, "dropped")

    def _files(self, manifest: Manifest) -> list[str]:
        return [*(part.file for part in manifest.parts), manifest.checkpoints.file]

    async def _remove(self, manifest: Manifest, *files: str) -> None:
        for file in files:
            await self.store.delete(manifest.path(file))


def _ago(now: datetime, days: float) -> datetime:
    return now - timedelta(days=min(days, _MOST_DAYS))


def statement(manifest: Manifest, origin: str, keep_days: float, now: datetime) -> str:
    """What is signed when an archive is dropped. Its second line keeps it from ever being read as a checkpoint."""
    root, tree = (base64.b64encode(bytes.fromhex(each)).decode() for each in (manifest.root, manifest.tree.root))
    lines = (
        f"{origin}/dropped",
        DROPPED_FORMAT,
        f"archive {manifest.name}",
        f"leaves {manifest.first_leaf} {manifest.end_leaf}",
        f"events {manifest.events}",
        f"root {root}",
        f"sequenced {manifest.from_at.isoformat()} {manifest.to_at.isoformat()}",
        f"occurred {manifest.first_occurred_at.isoformat()} {manifest.last_occurred_at.isoformat()}",
        f"checkpoint {manifest.tree.size} {tree}",
        f"manifest {hashlib.sha256(spelled(manifest)).hexdigest()}",
        f"dropped {now.astimezone(UTC).isoformat()}",
        f"reason kept for {keep_days:g} days, as configured",
    )
    return "".join(f"{line}\n" for line in lines)


def _details(manifest: Manifest) -> dict[str, Any]:
    return {
        "archive": manifest.name, "first_leaf": manifest.first_leaf, "end_leaf": manifest.end_leaf, "events": manifest.events,
        "root": manifest.root, "bytes": manifest.bytes,
    }  # fmt: skip


def _done(manifest: Manifest, what: str) -> Done:
    return Done(archive=manifest.name, what=what, events=manifest.events, bytes=manifest.bytes)
