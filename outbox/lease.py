"""The only place that decides which of several processes does what only one may do at a time.

A lease, not a bare advisory lock: a holder that is paused (SIGSTOP, a stalled machine) keeps its session and with it a
lock for ever, but it cannot keep renewing a lease. What it still does after waking is harmless by design.
"""

import os
import secrets
import time
from datetime import timedelta
from typing import Final

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool
from outbox import sql

_RENEW_AFTER: Final = 1 / 3  # of its length


class Lease:
    """`hold()` before each piece of work: True while this process is the one."""

    def __init__(self, pool: Pool, name: str, length_ms: int) -> None:
        self.name = name
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._pool, self._length_s = pool, length_ms / 1000
        self._until = self._renew_at = 0.0
        self.held = False

    async def hold(self) -> bool:
        """Take or renew the lease where that is due. The time is counted from before the question was asked.

        Raises `DatabaseUnavailable`; the lease then simply runs out.
        """
        asked = time.monotonic()
        if self.held and asked < self._renew_at:
            return True
        try:
            fence = await self._pool.fetchval(sql.TAKE_LEASE, self.name, self.owner, timedelta(seconds=self._length_s))
        except UNAVAILABLE as error:
            self.held = self.held and asked < self._until
            raise DatabaseUnavailable(f"the lease {self.name} cannot be renewed: {error}") from error
        self.held = fence is not None
        self._until, self._renew_at = asked + self._length_s, asked + self._length_s * _RENEW_AFTER
        return self.held

    async def drop(self) -> None:
        """Give it back, so that a standby need not wait. Where the database is away it runs out by itself."""
        if self.held:
            self.held = False
            try:
                await self._pool.execute(sql.DROP_LEASE, self.name, self.owner)
            except UNAVAILABLE:
                return
