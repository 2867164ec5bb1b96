"""The only place that carries between a group's held facts and the letters, and that watches over what is held.

Most groups write their letters in the transaction of their batch, and operators reach their facts in the letter's own. The
audit group has a schema of its own, perhaps on a server of its own: there, what one side wrote for the other is carried over,
at least once, each step harmless when it is done again: letters of parked facts into the outbox, decisions to the facts, ends of
facts to their letters. Nothing here moves a position, and no partition waits for it.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from adapters.kafka_consumer import Partition
from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, PostgresError, connect
from adapters.settings import Settings
from outbox import alerts
from outbox.letters import held as letters
from outbox.transition import enqueue, utc_now
from streams import courier_sql, metrics, sql
from streams.group import Group, Kind
from streams.parking import Held, letter_row

GAP: Final = "gap"  # the alert about orders that wait for a fact that never came; its subject is the group
_STEP_S: Final = 1.0
_LOOK_S: Final = 10.0
_AT_ONCE: Final = 200
_GAP_S: Final = 300  # business time: longer than any fact is on its way
_LEAST_GAP_S: Final = 60.0
_PARKED: Final = "parked"

_log = structlog.get_logger(__name__)


class Courier:
    """One group's. Any number may run: what one has carried, the others do not find, or carry again without harm."""

    def __init__(self, group: Group, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self._group, self._settings, self._clock = group, settings, clock
        self._apart = group.schema != "public"
        self._sql = {name: sql.in_schema(getattr(courier_sql, name), group.schema) for name in _STATEMENTS}
        self._gaps = -1

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped. A database that is away is waited for."""
        while not stop.is_set():
            try:
                async with AsyncExitStack() as stack:
                    own, main = await self._connect(stack)
                    await self._rounds(own, main, stop)
            except (DatabaseUnavailable, PostgresError, *UNAVAILABLE) as error:
                _log.warning("stream-courier-waits", group=self._group.name, error=f"{type(error).__name__}: {error}"[:200])
                await _pause(stop, _STEP_S)

    async def _connect(self, stack: AsyncExitStack) -> tuple[Connection, Connection]:
        service = f"courier-{self._group.name}"
        main = await stack.enter_async_context(connect(self._settings.postgres_dsn, service=service))
        if not self._apart:
            return main, main
        return await stack.enter_async_context(connect(self._settings.audit_url, service=service)), main

    async def _rounds(self, own: Connection, main: Connection, stop: asyncio.Event) -> None:
        look_at = 0.0
        clock = asyncio.get_running_loop().time
        while not stop.is_set():
            carried = await self.carry(own, main)
            if clock() >= look_at:
                await self.look(own, main)
                look_at = clock() + _LOOK_S
            if carried < _AT_ONCE:
                await _pause(stop, _STEP_S if self._apart else _LOOK_S)

    async def carry(self, own: Connection, main: Connection) -> int:
        """One round. Returns how much was carried: nothing where the group's own transactions do it all."""
        if not self._apart:
            return 0
        return await self._report(own, main) + await self._decide(own, main) + await self._settle(own, main)

    async def _report(self, own: Connection, main: Connection) -> int:
        rows = await own.fetch(self._sql["TO_REPORT"], self._group.name, _AT_ONCE)
        if rows:
            await enqueue(main, [letter_row(_held(row), row["trail"], self._clock()) for row in rows])
            names = ("topic", "partition", "kafka_offset", "parked_at")
            await own.execute(self._sql["REPORTED"], self._group.name, *([row[name] for row in rows] for name in names))
        return len(rows)

    async def _decide(self, own: Connection, main: Connection) -> int:
        rows = await main.fetch(self._sql["DECISIONS"], self._group.name, _AT_ONCE)
        gone = []
        for row in rows:
            statement = self._sql["WAKE" if row["decision"] == "wake" else "SKIP"]
            place = (row["topic"], row["partition"], row["kafka_offset"])
            if await own.fetchval(statement, self._group.name, *place, row["letter_id"]) is None and row["decision"] == "wake":
                gone.append(row["letter_id"])
        if rows:
            async with main.transaction():
                if gone:  # it took effect, or was passed, before the decision came
                    await letters.settle_all(main, gone, outcome=letters.DONE, now=self._clock())
                await main.execute(self._sql["CARRIED"], [row["id"] for row in rows])
        return len(rows)

    async def _settle(self, own: Connection, main: Connection) -> int:
        rows = await own.fetch(self._sql["SETTLED"], self._group.name, _AT_ONCE)
        for outcome in sorted({row["outcome"] for row in rows}):
            ended = [row["letter_id"] for row in rows if row["outcome"] == outcome]
            await letters.settle_all(main, ended, outcome=outcome, now=self._clock())
        if rows:
            names = ("letter_id", "settled_at")
            await own.execute(self._sql["FORGET_SETTLED"], *([row[name] for row in rows] for name in names))
        return len(rows)

    async def look(self, own: Connection, main: Connection) -> None:
        """Count what is held, raise or clear the alert about gaps, forget evidence that Kafka has no more."""
        name = self._group.name
        found = {row["kind"]: row["number"] for row in await own.fetch(self._sql["COUNTS"], name)}
        for kind in (*Kind, _PARKED):
            metrics.HELD_NOW.labels(name, str(kind)).set(found.get(kind, 0))
        wait_s = max(_LEAST_GAP_S, self._settings.scaled_s(_GAP_S))
        await self._tell_gaps(await own.fetch(self._sql["GAPS"], name, timedelta(seconds=wait_s)), main)
        kept = timedelta(hours=self._settings.kafka_retention_hours)
        await own.execute(self._sql["PRUNE"], name, kept, _AT_ONCE)

    async def _tell_gaps(self, rows: list[Any], main: Connection) -> None:
        if len(rows) == self._gaps:
            return
        self._gaps, name = len(rows), self._group.name
        if not rows:
            await alerts.clear_alert(main, GAP, name, self._clock())
            return
        first = rows[0]
        said = (
            f"{name}: {len(rows)} orders wait for a fact that has not come, {first['order_id']} since {first['held_at']:%H:%M:%S}Z "
            f"for one before position {first['position']}. If it is lost: rushline stream skip {name} {first['order_id']}"
        )
        await alerts.raise_alert(main, GAP, name, said, self._clock())


def _held(row: Any) -> Held:
    return Held(
        partition=Partition(row["topic"], row["partition"]), offset=row["kafka_offset"], order_id=row["order_id"],
        position=row["position"], headers=row["headers"], body=row["body"],
    )  # fmt: skip


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


_STATEMENTS: Final = (
    "TO_REPORT", "REPORTED", "DECISIONS", "CARRIED", "WAKE", "SKIP", "SETTLED", "FORGET_SETTLED", "COUNTS", "GAPS", "PRUNE",
)  # fmt: skip
