"""The one clock: turns deadlines that ran out into commands, through the outbox, and keeps the tables young.

It is also the watchdog: commands that an order still waits for are issued again with the same identity, and so are those of
streams and fixes (`watched.py`). What a broker lost for good comes back, and what was only slow is recognised as a duplicate.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool
from adapters.settings import Settings
from orders.commands import command_body, command_id
from orders.decide import command_row
from orders.envelope import TRACEPARENT, OutboxRow, trace_id
from orders.errors import RetryLater
from orders.lifecycle import Deadline
from orders.names import PRIORITY, Command
from orders.order import Pending
from outbox import metrics, sql, watched
from outbox.lease import Lease
from outbox.transition import enqueue

_BATCH: Final = 500
_LEASE_MS: Final = 3_000
_HOUSEKEEPING_S: Final = 60
_REMEMBERED: Final = timedelta(days=7)  # no command and no customer's retry comes back after so long
_FORGET_AT_ONCE: Final = 5_000

log = structlog.get_logger()


def issued_again(record: dict[str, Any], now: datetime) -> list[OutboxRow]:
    """The commands for one order whose deadline ran out: those it waits for, and `order.deadline` unless just stuck."""
    headers = {
        TRACEPARENT: record["traceparent"],
        "causationid": f"clock:{record['deadline']}",
        "correlationid": trace_id(record["traceparent"]),
    }
    waiting = msgspec.convert(record["pending"], dict[str, Pending])
    rows = [command_row(key, entry, PRIORITY[Command(entry.type)], headers, now) for key, entry in waiting.items()]
    if record["deadline"] != Deadline.STUCK:
        kind, order_id, position = record["deadline"], record["order_id"], record["deadline_position"]
        body = command_body(Command.ORDER_DEADLINE, {"order_id": order_id, "position": position, "kind": kind})
        key = command_id(order_id, position, Command.ORDER_DEADLINE, kind)
        entry = Pending(Command.ORDER_DEADLINE.value, body)
        rows.append(command_row(key, entry, PRIORITY[Command.ORDER_DEADLINE], headers, now))
    return rows


class Clock:
    """`run` is `step` again and again while this process holds the clock's lease."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._lease = Lease(pool, "clock", max(_LEASE_MS, 3 * settings.clock_tick_ms))
        self._next_housekeeping = datetime.min.replace(tzinfo=UTC)

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until stopped. The database being away only makes it wait."""
        try:
            while not stop.is_set():
                done = 0
                try:
                    if await self._lease.hold():
                        now = datetime.now(UTC)
                        done = await self.step(now)
                        await self._keep_house(now)
                except RetryLater as error:
                    log.warning("clock waits", error=error.slug, detail=str(error)[:200])
                if done < _BATCH:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), self._settings.clock_tick_ms / 1000)
        finally:
            await self._lease.drop()

    async def step(self, now: datetime) -> int:
        """Turn one batch of due orders into commands, in one transaction. Returns how many orders were due."""
        again = timedelta(seconds=self._settings.scaled_s(self._settings.stuck_s))
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                due = await conn.fetch(sql.DUE, now, again, _BATCH)
                await enqueue(conn, [row for record in due for row in issued_again(dict(record), now)])
                await watched.issue_again(conn, now, again, _BATCH)
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"the clock cannot read what is due: {error}") from error
        for record in due:
            metrics.DUE.labels(record["deadline"]).inc()
        return len(due)

    async def _keep_house(self, now: datetime) -> None:
        if now < self._next_housekeeping:
            return
        try:
            await self._pool.execute(sql.MAINTAIN, self._settings.events_hot_days)
            await self._pool.execute(sql.FORGET_INBOX, now - _REMEMBERED, _FORGET_AT_ONCE)
            await self._pool.execute(sql.FORGET_KEYS, now - _REMEMBERED, _FORGET_AT_ONCE)
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"housekeeping is put off: {error}") from error
        self._next_housekeeping = now + timedelta(seconds=_HOUSEKEEPING_S)
