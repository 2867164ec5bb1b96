"""The only place that joins the archive's steps with the rest: the settings, the log's keys, deeds and alerts in the orders' database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import structlog

from adapters.archive_store import ArchiveStore
from adapters.postgres import Pool, open_pool, transaction
from adapters.settings import Settings
from audit import keys
from audit.archive.life import Archiver
from audit.checkpoint_files import COPIED
from orders.decide import Cause, system
from orders.envelope import new_traceparent
from orders.errors import RetryLater
from orders.names import Act
from outbox import alerts
from outbox.deeds import Deed, desk_of, record
from outbox.transition import utc_now
from streams import archiving_sql as sql
from streams.checkpointing import folder_of

STUCK: Final = "audit-archive-stuck"  # the alert; its subject is the log
SERVICE: Final = "archiver"
_PAUSE_S: Final = 60.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_archiver(settings: Settings, *, hot_days: float | None = None) -> AsyncIterator[Archiver]:
    """The archiver that the settings describe. Raises `BadArchive`, `DatabaseUnavailable`."""
    store = await ArchiveStore.open(settings.archive_url)
    async with open_pool(settings.postgres_dsn, service=SERVICE, size=1) as main:

        async def tell(act: Act, key: str, details: dict[str, Any]) -> None:
            await told(main, act, key, details)

        async def alarm(trouble: str | None) -> None:
            if trouble is None:
                await alerts.clear_alert(main, STUCK, settings.audit_origin, utc_now())
            else:
                await alerts.raise_alert(main, STUCK, settings.audit_origin, trouble, utc_now())

        yield Archiver(
            dsn=settings.audit_url, store=store, origin=settings.audit_origin, tell=tell, alarm=alarm,
            sign=lambda text: keys.load(settings).sign_text(text, utc_now()),
            hot_days=settings.audit_hot_days if hot_days is None else hot_days, keep_days=settings.audit_keep_days,
        )  # fmt: skip


async def told(main: Pool, act: Act, key: str, details: dict[str, Any]) -> None:
    """One audit event about an archive, however often it is told: the inbox remembers it in the same transaction."""
    cause = Cause(id=f"{act.value}:{key}", actor=system(SERVICE), service=SERVICE, traceparent=new_traceparent())
    now = utc_now()
    async with transaction(main) as conn:
        if await conn.fetchval(sql.FIRST_TIME, cause.id, now):
            await record(conn, [Deed(act=act, chain=desk_of(SERVICE), details=details)], cause, now)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Archive what is due, and copy the checkpoints, until stopped. An archive that is away is waited for. Raises `BadArchive`."""
    while not stop.is_set():
        try:
            async with open_archiver(settings) as archiver, asyncio.TaskGroup() as tasks:
                tasks.create_task(archiver.run(stop))
                tasks.create_task(_copying(archiver.store, settings, stop))
        except RetryLater as error:
            _log.warning("audit-archive-waits", error=error.slug, detail=str(error)[:200])
            await _pause(stop)


async def _copying(store: ArchiveStore, settings: Settings, stop: asyncio.Event) -> None:
    seen: dict[str, int] = {}
    while not stop.is_set():
        try:
            await copy_checkpoints(store, settings, seen)
        except RetryLater as error:
            _log.warning("audit-checkpoints-not-copied", error=error.slug, detail=str(error)[:200])
        await _pause(stop)


async def copy_checkpoints(store: ArchiveStore, settings: Settings, seen: dict[str, int]) -> int:
    """Put each day's file of checkpoints into the archive, where it has grown since; how many did. `seen`: their sizes so far."""
    copied = 0
    for path in sorted(folder_of(settings).glob("[0-9]*.txt")):
        size = path.stat().st_size
        if seen.get(path.name) != size:
            await store.put_file(f"{COPIED}/{path.name}", path)
            seen[path.name], copied = size, copied + 1
    return copied


async def _pause(stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), _PAUSE_S)
