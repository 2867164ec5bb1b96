"""An archiver process that dies at its n-th step to the outside: `python -m tests.integration.deadly_archiver <n> <now> <keep days>`.

What it is given dies before and after each thing that it changes; nothing of ours is changed.
"""

import asyncio
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from adapters.archive_store import ArchiveStore
from adapters.postgres import connect
from adapters.settings import load_settings
from audit.archive import sql
from orders.names import Act
from streams.archiving import open_archiver

WRITES: Final = {sql.ADD, sql.VERIFIED, sql.DROP_EVENTS, sql.DROPPED, sql.STATE}


class Fate:
    """Counts what is done to the outside, and ends the process at its time, as the kernel does it."""

    def __init__(self, left: int) -> None:
        self._left = left

    def point(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyStore(ArchiveStore):
    """Dies before or after it has changed the archive."""

    fate: Fate

    async def put(self, name: str, data: bytes) -> None:
        self.fate.point()
        await super().put(name, data)
        self.fate.point()

    async def put_file(self, name: str, source: Path) -> None:
        self.fate.point()
        await super().put_file(name, source)
        self.fate.point()

    async def delete(self, name: str) -> None:
        self.fate.point()
        await super().delete(name)
        self.fate.point()


class DeadlyConnection:
    """Dies before or after it has changed the ledger."""

    def __init__(self, conn: Any, fate: Fate) -> None:
        self._conn, self._fate = conn, fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def execute(self, query: str, *values: Any, **options: Any) -> Any:
        return await self._done(self._conn.execute, query, values, options)

    async def fetchval(self, query: str, *values: Any, **options: Any) -> Any:
        return await self._done(self._conn.fetchval, query, values, options)

    async def _done(self, call: Any, query: str, values: Any, options: Any) -> Any:
        if query not in WRITES:
            return await call(query, *values, **options)
        self._fate.point()
        done = await call(query, *values, **options)
        self._fate.point()
        return done


async def archive(left: int, now: datetime, keep_days: float) -> None:
    """All that is due at that time, or until that step."""
    settings, fate = load_settings(), Fate(left)
    store = await DeadlyStore.open(settings.archive_url)
    store.fate = fate
    async with open_archiver(settings) as alive, connect(settings.audit_url, service="tests") as conn:

        async def tell(act: Act, key: str, details: dict[str, Any]) -> None:
            fate.point()
            await alive.tell(act, key, details)
            fate.point()

        def sign(text: str) -> str:
            fate.point()
            note = alive.sign(text)
            fate.point()
            return note

        each = msgspec.structs.replace(alive, store=store, tell=tell, sign=sign, keep_days=keep_days)
        db: Any = DeadlyConnection(conn, fate)
        while await each.step(db, now) is not None:
            pass


if __name__ == "__main__":
    asyncio.run(archive(int(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), float(sys.argv[3])))
