"""The only place where a stream runs: poll, then one transaction for offsets, positions, effects and held facts.

Partitions never block. A fact that cannot take effect is held with later facts of its order, and the rest goes on; only a
database that is away is waited for, in place. After a crash anywhere the offsets in PostgreSQL say where to go on.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from adapters.kafka_consumer import Consumer, Partition, Record
from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, PostgresError, sqlstate
from streams import metrics
from streams.group import Group, Incoming, Kind, Problem
from streams.isolation import Isolation
from streams.ordering import Plan, plan
from streams.store import LostPartition, Move, Store

_log = structlog.get_logger(__name__)
_POLL_MS: Final = 500
_LOOK_EVERY_S: Final = 1.0
_WOKEN_AT_ONCE: Final = 100
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
# What a single fact can do wrong: data, integrity, program limits, an exception raised in a function. Every other error of
# the server (no such table, disk full, read-only) is about the server, and is waited for.
_OF_THE_FACT: Final = ("22", "23", "54", "P0", "RL")


class _Broken(Exception):  # noqa: N818  # never leaves this module
    """A batch as a whole cannot be applied: find out which of its facts."""


class Stream:
    """One member of one group."""

    def __init__(
        self,
        group: Group,
        consumer: Consumer,
        dsn: str,
        *,
        batch_rows: int,
        time_scale: float = 1.0,
        alone: asyncio.Lock | None = None,
    ) -> None:
        """`alone`: the same for all streams of a process."""
        self._group, self._consumer, self._batch_rows = group, consumer, batch_rows
        self._isolation = Isolation(group, dsn, alone or asyncio.Lock())
        self._store = Store(group, dsn, time_scale, self._isolation.receive)
        self._next: dict[Partition, int] = {}
        self._look_at, self._wait_s = 0.0, _FIRST_WAIT_S

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped. Raises `TopicsMissing`."""
        try:
            while not stop.is_set():
                try:
                    await self.step()
                    self._wait_s = _FIRST_WAIT_S
                except (DatabaseUnavailable, PostgresError, *UNAVAILABLE) as error:
                    await self._trouble(error, stop)
        finally:
            await self._close()

    async def step(self) -> int:
        """Take one batch, by size or time, whichever is first. Returns how many facts arrived, held ones not counted.

        Raises `DatabaseUnavailable` or a driver's error; the batch is then read again.
        """
        if self._consumer.unplaced:
            await self._place()
        woken = await self._woken()  # first: what is read and then not taken, because this fails, would be skipped
        records = await self._consumer.poll(self._batch_rows, 0 if woken else _POLL_MS)
        if records or woken:
            await self._take(records, woken)
        return len(records)

    async def _place(self) -> None:
        offsets = await self._store.offsets(self._consumer.unplaced)
        self._isolation.placed(offsets)
        self._look_at = 0.0  # what is held there is looked at before anything is read: either may kill
        for partition, offset in offsets.items():
            self._next[partition] = offset
            self._consumer.place(partition, offset)

    async def _woken(self) -> list[tuple[Partition, str]]:
        if time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        metrics.LAG.labels(self._group.name).set(self._consumer.lag())
        due = await self._store.due(self._consumer.placed, _WOKEN_AT_ONCE)
        if len(due) == _WOKEN_AT_ONCE:
            self._look_at = 0.0  # there is more
        return due

    async def _take(self, records: list[Record], woken: list[tuple[Partition, str]]) -> None:
        moves = {partition: Move(self._next[partition], self._next[partition]) for partition, _ in woken}
        for record in records:
            moves[record.partition] = Move(self._next[record.partition], record.offset + 1)
        began = time.monotonic()
        try:
            await self._isolation.before(await self._store.connection(), moves)
            batch = await self._isolation.receive(records)
            orders = {item.order_id for item in batch} | {order_id for _, order_id in woken}
            try:
                done = await self._commit(batch, moves, orders, careful=False)
            except _Broken as error:
                _log.warning("stream-batch-broken", group=self._group.name, error=str(error))
                done = await self._commit(batch, moves, orders, careful=True)
        except LostPartition as error:
            _log.warning("stream-lost-partition", group=self._group.name, error=str(error))
            metrics.LOST.labels(self._group.name).inc()
            self._consumer.displace(moves)
            return
        except BaseException:
            self._consumer.displace(moves)  # whatever became of it, the offsets in the database say
            raise
        self._next |= {partition: move.next for partition, move in moves.items()}
        self._isolation.proven({record.partition for record in records})
        self._consumer.commit({partition: move.next for partition, move in moves.items()})
        self._count(done, time.monotonic() - began)

    async def _commit(
        self, batch: Sequence[Incoming], moves: dict[Partition, Move], orders: set[str], *, careful: bool
    ) -> Plan:
        db = await self._store.connection()
        async with db.transaction():
            positions, held = await self._store.take(db, moves, orders)
            planned = plan(batch, positions, held)
            if careful:
                failed = await self._find_failing(db, planned)
                planned = plan(_marked(batch, failed), positions, _marked(held, failed))
            elif planned.apply:
                await self._apply(db, planned.apply)
            if planned.repeated:
                await self._group.repeated(db, planned.repeated)
            await self._store.finish(db, planned)
            await self._isolation.after(db, moves)
        return planned

    async def _apply(self, db: Connection, facts: Sequence[Incoming]) -> None:
        try:
            if not self._isolation.wary:
                await self._group.apply(db, facts)
                return
            for item in facts:
                async with self._isolation.taking_effect(item):
                    await self._group.apply(db, [item])
        except Exception as error:
            if _is_about_the_server(error):
                raise
            raise _Broken(f"{type(error).__name__}: {error}") from error

    async def _find_failing(self, db: Connection, planned: Plan) -> dict[tuple[Partition, int], Problem]:
        """Halve what fails, each half under a savepoint, until a fact fails alone; its order goes no further."""
        failed: dict[tuple[Partition, int], Problem] = {}
        stopped: set[str] = set()

        async def halve(items: Sequence[Incoming]) -> None:
            middle = len(items) // 2
            await attempt(items[:middle])
            await attempt(items[middle:])

        async def attempt(items: Sequence[Incoming]) -> None:
            able = [item for item in items if item.position is None or item.order_id not in stopped]
            if not able:
                return
            try:
                async with db.transaction():
                    await self._apply(db, able)
            except _Broken as error:
                first, *more = able
                if more:
                    await halve(able)
                    return
                failed[first.partition, first.offset] = Problem.of(Kind.FAILED, error.__cause__ or error)
                if first.position is not None:
                    stopped.add(first.order_id)

        await halve(planned.apply)
        return failed

    async def _trouble(self, error: BaseException, stop: asyncio.Event) -> None:
        _log.error("stream-database-away", group=self._group.name, error=f"{type(error).__name__}: {error}")
        metrics.RETRIES.labels(self._group.name).inc()
        await self._close()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), self._wait_s)
        self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)

    async def _close(self) -> None:
        await self._store.close()
        await self._isolation.close()

    def _count(self, done: Plan, seconds: float) -> None:
        name = self._group.name
        metrics.APPLIED.labels(name).inc(len(done.apply))
        metrics.BATCH_S.labels(name).observe(seconds)
        if done.repeated:
            metrics.REPEATED.labels(name).inc(len(done.repeated))
        if done.freed:
            metrics.FREED.labels(name).inc(len(done.freed))
        if done.passed:
            metrics.PASSED.labels(name).inc(len(done.passed))
        for item in done.hold:
            kind = item.problem.kind if item.problem else Kind.GAP
            metrics.HELD.labels(name, kind.value).inc()
            if kind is not Kind.GAP:
                reason = item.problem.reason if item.problem else ""
                _log.error("stream-fact-held", group=name, order_id=item.order_id, position=item.position, reason=reason)


def _marked(items: Sequence[Incoming], failed: dict[tuple[Partition, int], Problem]) -> list[Incoming]:
    """These, where one failed with what it failed with; a held one was tried even where nothing but its turn had woken it."""
    marked = []
    for item in items:
        problem = failed.get((item.partition, item.offset))
        marked.append(msgspec.structs.replace(item, problem=problem, woken=item.held) if problem else item)
    return marked


def _is_about_the_server(error: Exception) -> bool:
    if isinstance(error, (DatabaseUnavailable, *UNAVAILABLE)):
        return True
    return isinstance(error, PostgresError) and not sqlstate(error).startswith(_OF_THE_FACT)
