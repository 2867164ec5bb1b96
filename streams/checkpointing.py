"""The only place where the audit log's loop runs: events enter the tree, its root is signed, and the checkpoint goes out.

Any number of processes may run it: one holds the tree at a time, and signing the same tree again makes the same note. A
checkpoint is on disk before anybody sees it; then witnesses are asked, it is served over HTTP, and goes to `audit.checkpoints`
by the outbox.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, PostgresError, connect
from adapters.settings import Settings
from audit import keys, ledger, signing, tree
from audit.checkpoint_files import CheckpointFiles
from audit.witnessing import Witnesses
from orders.checkpoints import Checkpoint
from orders.envelope import Broker, OutboxRow
from orders.errors import CallAnOperator, NoteRefused
from orders.ids import derived_id
from orders.names import CHECKPOINTS_TOPIC
from outbox import alerts
from outbox.transition import enqueue, utc_now
from streams import checkpointing_sql as sql
from streams import metrics

REFUSED: Final = "audit-log-refused"  # the alert: nothing can be signed; its subject is the log
BROKEN: Final = "audit-chain-broken"  # the alert: an event does not fit its chain; its subject is the chain
_HOUR_S: Final = 3_600.0
_LOOK_BACK: Final = timedelta(days=1)
_log = structlog.get_logger(__name__)


class Checkpointing:
    """`run` is `step` again and again."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self._settings, self._clock = settings, clock
        self._signing: signing.Signing | None = None
        self._witnesses = Witnesses.of(settings, lambda name: metrics.UNWITNESSED.labels(name).inc())
        self._published = self._seen_broken = 0
        self._refused = False
        self._maintain_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped. A database that is away is waited for; what must not be signed is alarmed, and looked at again."""
        pause = self._settings.audit_checkpoint_ms / 1000
        while not stop.is_set():
            try:
                async with AsyncExitStack() as stack:
                    service = "checkpointing"
                    own = await stack.enter_async_context(connect(self._settings.audit_url, service=service))
                    main = await stack.enter_async_context(connect(self._settings.postgres_dsn, service=service))
                    await own.execute(sql.PATIENCE)
                    while not stop.is_set():
                        await self._round(own, main)
                        await _pause(stop, pause)
            except (DatabaseUnavailable, PostgresError, *UNAVAILABLE) as error:
                _log.warning("audit-checkpointing-waits", error=f"{type(error).__name__}: {error}"[:200])
                await _pause(stop, pause)

    async def _round(self, own: Connection, main: Connection) -> None:
        try:
            await self.step(own, main)
        except (CallAnOperator, NoteRefused) as error:
            _log.error("audit-log-refused", error=error.slug, detail=str(error))
            metrics.LOG_REFUSED.set(1)
            self._refused = True
            await alerts.raise_alert(main, REFUSED, self._settings.audit_origin, f"{error.slug}: {error}", self._clock())
            return
        metrics.LOG_REFUSED.set(0)
        if self._refused:
            await alerts.clear_alert(main, REFUSED, self._settings.audit_origin, self._clock())
            self._refused = False

    async def step(self, own: Connection, main: Connection) -> int:
        """Let all new events enter the tree, sign, publish. Returns the size of the newest checkpoint that was published by it.

        Raises what must be looked at (`LogForked`, `LogBroken`, `KeysMissing`), `DatabaseUnavailable`.
        """
        if asyncio.get_running_loop().time() >= self._maintain_at:
            await ledger.maintain(own)
            self._maintain_at = asyncio.get_running_loop().time() + _HOUR_S
        await self._tell_what_is_broken(own, main)
        while await tree.step(own) == tree.AT_ONCE:
            pass
        metrics.LOG_SIZE.set((await tree.head(own)).size)
        at = self._clock()
        signer = await self._signer(own, at)
        await signer.next(own, at)
        note = signer.kept() or await signing.newest(own)
        if note is None:
            return 0
        checkpoint = signer.open(note).checkpoint
        if checkpoint.size > self._published:
            await self._publish(own, main, note, checkpoint, at)
        return self._published

    async def _signer(self, own: Connection, at: datetime) -> signing.Signing:
        """Its keys are read anew each time, so that a rotation is seen; a first key is made only for a log that never was signed."""
        files = CheckpointFiles(folder_of(self._settings))
        if self._signing is None and not keys.path_of(self._settings).exists():
            if await signing.newest(own) or files.last():
                keys.load(self._settings)  # says what to restore
            keys.make(self._settings, at)
        self._signing = signing.Signing(keys.load(self._settings), files)
        return self._signing

    async def _publish(self, own: Connection, main: Connection, note: str, checkpoint: Checkpoint, at: datetime) -> None:
        note = await self._witnesses.cosigned(note, checkpoint, own)
        await signing.serve(own, note, checkpoint, at)
        await enqueue(main, [_row(note, checkpoint, at)])
        self._published = checkpoint.size
        metrics.CHECKPOINT_SIZE.set(checkpoint.size)
        metrics.CHECKPOINT_AT.set(at.timestamp())

    async def _tell_what_is_broken(self, own: Connection, main: Connection) -> None:
        rows = await own.fetch(sql.BROKEN_SINCE, self._seen_broken, self._clock() - _LOOK_BACK)
        for row in rows:
            detail = f"position {row['position']}: {row['reason']}"
            await alerts.raise_alert(main, BROKEN, row["chain"], detail, self._clock())
            self._seen_broken = row["id"]


def folder_of(settings: Settings) -> Path:
    """Where every signed checkpoint is kept."""
    return Path(settings.audit_checkpoints) if settings.audit_checkpoints else settings.audit_folder / "checkpoints"


def _row(note: str, checkpoint: Checkpoint, at: datetime) -> OutboxRow:
    """The note itself is the body: any tool reads it."""
    return OutboxRow(
        event_id=derived_id("evt", checkpoint.origin, checkpoint.size, checkpoint.root.hex()), aggregate_type="log",
        aggregate_id=checkpoint.origin, position=None, type=CHECKPOINTS_TOPIC, schema_version=1, body=note.encode(), headers={},
        broker=Broker.KAFKA, destination=CHECKPOINTS_TOPIC, occurred_at=at,
    )  # fmt: skip


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
