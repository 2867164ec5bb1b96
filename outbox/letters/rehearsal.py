"""The only place where a change is tried without being made: all of it, with every refusal it would meet, then rolled back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.postgres import Connection


@asynccontextmanager
async def changing(conn: Connection, *, dry_run: bool) -> AsyncIterator[Connection]:
    """One transaction, committed at the end unless it is only a rehearsal."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        yield conn
    except BaseException:
        await transaction.rollback()
        raise
    if dry_run:
        await transaction.rollback()
    else:
        await transaction.commit()
