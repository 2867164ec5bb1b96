"""The only place that joins the archive's steps with the rest: the settings, the log's keys, deeds and alerts in the orders' database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from adapters.archive_store import ArchiveStore
from adapters.postgres import Pool, open_pool, transaction
from adapters.settings import Settings
from audit import keys
from audit.archiving import Archiver
from orders.decide import Cause, system
from orders.envelope import new_traceparent
from orders.names import Act
from outbox import alerts
from outbox.deeds import Deed, desk_of, record
from outbox.transition import utc_now
from streams import archiving_sql as sql

STUCK: Final = "audit-archive-stuck"  # the alert; its subject is the log
SERVICE: Final = "archiver"


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
    """Archive what is due until stopped. Without an archive nothing is: the ledger keeps everything."""
    if not settings.archive_url:
        await stop.wait()
        return
    async with open_archiver(settings) as archiver:
        await archiver.run(stop)
