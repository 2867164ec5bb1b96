"""The only place that finds a fact which kills its stream, and blames no other for it.

A stream that was killed reads the same batch again. So the first batch of each partition after a start is on record before it
is looked into, by a row for each partition, which goes with the batch's commit. Where such a row is there already, a stream was
started with this batch and died: each fact is handled alone then, after a row of its own is committed. What is still on record
after the next death is the one that was in hand. A first batch that ends before the deadly fact is progress all the same: the
next start reads on from there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from adapters.kafka_consumer import Partition, Record
from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, connect
from orders.errors import BadMessage
from outbox.transition import utc_now
from streams import sql
from streams.group import Group, Incoming, Kind, Problem, receive

MOST_STARTS: Final = 3
FORGOTTEN_AFTER: Final = timedelta(hours=1)

_log = structlog.get_logger(__name__)


class KillsItsStream(BadMessage):
    """Its stream died each time that it was handled alone. Nobody looks into it again."""

    slug = "kills-its-stream"


class Isolation:
    """One member's. `wary`: the batch in hand killed a stream before. `alone`: shared by all streams of a process, since they
    die together: no two facts are on record at once.
    """

    def __init__(self, group: Group, dsn: str, alone: asyncio.Lock, clock: Callable[[], datetime] = utc_now) -> None:
        self._group, self._dsn, self._alone, self._clock = group, dsn, alone, clock
        self._stack = AsyncExitStack()
        self._conn: Connection | None = None
        self._unproven: set[Partition] = set()
        self._survived: set[str] = set()  # begun by this process, which lives
        self._deadly: set[str] = set()
        self._begin, self._end = (sql.in_schema(each, group.schema) for each in (sql.BEGIN_STARTED, sql.END_STARTED))
        self.wary = False

    def placed(self, partitions: Collection[Partition]) -> None:
        """These are read from here on: what killed a stream is about to come."""
        self._unproven.update(partitions)

    async def before(self, db: Connection, partitions: Collection[Partition]) -> None:
        """Put the batch on record, outside of its transaction, where these partitions are not proven."""
        self.wary = False
        names = [_name(partition) for partition in sorted(self._unproven.intersection(partitions))]
        if names:
            self.wary = max(await self._put_on_record(db, names)) > 1
        if self.wary:
            _log.warning("stream-reads-alone", group=self._group.name, partitions=names)

    async def after(self, db: Connection, partitions: Collection[Partition]) -> None:
        """In the batch's transaction: it did not kill us, or what would have is held."""
        names = [_name(partition) for partition in self._unproven.intersection(partitions)]
        if names:
            await db.execute(self._end, self._group.name, [*names, *self._deadly], self._clock() - FORGOTTEN_AFTER)

    def proven(self, partitions: Collection[Partition]) -> None:
        """A batch of these was committed."""
        self._unproven.difference_update(partitions)
        self._survived.clear()
        self._deadly.clear()

    async def receive(self, records: Sequence[Record]) -> list[Incoming]:
        """The facts in these records. Raises `DatabaseUnavailable` where they are to be on record and cannot be."""
        if not self.wary:
            return [receive(record, self._group) for record in records]
        return [await self._receive(record) for record in records]

    async def _receive(self, record: Record) -> Incoming:
        try:
            async with self._one(record.partition, record.offset, "read"):
                return receive(record, self._group)
        except KillsItsStream as error:
            return receive(record, self._group, unread=Problem.of(Kind.FAILED, error))

    def taking_effect(self, item: Incoming) -> AbstractAsyncContextManager[None]:
        """Around the effect of one fact. Raises as `_one`."""
        return self._one(item.partition, item.offset, "apply")

    @asynccontextmanager
    async def _one(self, partition: Partition, offset: int, doing: str) -> AsyncIterator[None]:
        """One fact in hand, alone. Raises `KillsItsStream` where it must not be, `DatabaseUnavailable`."""
        name = f"{_name(partition)}/{offset}/{doing}"
        async with self._alone:
            if name not in self._deadly:
                (times,) = await self._put_on_record(await self._connection(), [name])
                if times > MOST_STARTS:
                    self._deadly.add(name)
            if name in self._deadly:
                raise KillsItsStream(f"its stream died {MOST_STARTS} times with nothing else in hand")
            try:
                yield
            finally:
                await self._outlived(name)

    async def _outlived(self, name: str) -> None:
        with suppress(DatabaseUnavailable, *UNAVAILABLE):  # else it counts from one when this process begins it again
            db = await self._connection()
            await db.execute(self._end, self._group.name, [name], self._clock() - FORGOTTEN_AFTER)

    async def close(self) -> None:
        """Drop the connection, in whatever state it is."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._conn = None
        with suppress(*UNAVAILABLE):
            await stack.aclose()

    async def _put_on_record(self, db: Connection, names: Sequence[str]) -> list[int]:
        """How often each was begun by now without an end, this time included."""
        known = [name for name in names if name in self._survived]
        rows = await db.fetch(self._begin, self._group.name, list(names), known, self._clock(), FORGOTTEN_AFTER)
        self._survived.update(names)
        return [row["times"] for row in rows]

    async def _connection(self) -> Connection:
        if self._conn is None or self._conn.is_closed():
            await self.close()
            self._conn = await self._stack.enter_async_context(connect(self._dsn, service=f"stream-{self._group.name}-alone"))
        return self._conn


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.number}"
