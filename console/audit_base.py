"""The only place for what the verbs of `rushline audit` share: who acts, written into the audit trail, and the ledger's connection."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from orders.names import Act

if TYPE_CHECKING:
    from adapters.settings import Settings

T = TypeVar("T")


def read(work: Callable[[Any], Awaitable[T]]) -> T:
    """Do it on one connection of the ledger's reader. Raises `Refused`."""
    from console.dlq_base import refused
    from orders.errors import Refuse

    try:
        return asyncio.run(_connected(work))
    except Refuse as error:
        raise refused(error) from error


async def _connected(work: Callable[[Any], Awaitable[T]]) -> T:
    from adapters.postgres import connect
    from adapters.settings import load_settings

    async with connect(load_settings().audit_reader_url, service="console") as conn:
        return await work(conn)


@asynccontextmanager
async def open_archive(settings: "Settings", missed: list[str] | None = None) -> AsyncIterator[Any]:
    """The archive, or None where there is none. One that does not answer is an error, or said in `missed` and done without."""
    from adapters.archive_errors import ArchiveUnavailable
    from adapters.archive_store import ArchiveStore

    store = None
    if settings.archive_url:
        try:
            store = await ArchiveStore.open(settings.archive_url)
        except ArchiveUnavailable as error:
            if missed is None:
                raise
            missed.append(f"The archive was not read: {error}.")
    yield store


async def recorded(
    conn: Any, act: Act, actor: str, details: dict[str, Any], now: datetime, *, order_id: str | None = None
) -> None:  # fmt: skip
    """Write into the audit trail that somebody did this here. On a connection of the orders' database."""
    from orders.decide import Cause
    from orders.envelope import new_traceparent
    from orders.facts import Actor
    from orders.names import Role
    from outbox.deeds import Deed, desk_of, record

    cause = Cause(
        id=f"req_{secrets.token_hex(8)}", actor=Actor(Role.AUDITOR, actor), service="console", traceparent=new_traceparent()
    )
    async with conn.transaction():
        await record(conn, [Deed(act=act, chain=desk_of(actor), order_id=order_id, details=details)], cause, now)
