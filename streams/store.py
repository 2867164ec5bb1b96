"""The only place that stores how far a group is: offsets, positions, held facts, in one schema and one connection."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from adapters.kafka_consumer import Partition, Record
from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, connect
from orders.errors import RetryLater
from orders.failures import FailureType
from streams import sql
from streams.group import Group, Incoming, Kind, Problem, receive
from streams.holding import Holding
from streams.ordering import Plan


class LostPartition(RetryLater):
    """Somebody else has moved a partition's offset: this batch is theirs. Nothing was written; read the offsets again."""

    slug = "lost-partition"
    failure = FailureType.SERVICE_UNAVAILABLE


LooksInto = Callable[[Sequence[Record]], Awaitable[list[Incoming]]]


class Move(msgspec.Struct, frozen=True):
    """A partition's offset: what it must be, and what it becomes."""

    believed: int
    next: int


class Store:
    """One group's connection and bookkeeping. Opens the connection where it is missing, drops it after trouble."""

    def __init__(self, group: Group, dsn: str, time_scale: float, look_into: LooksInto) -> None:
        self._group, self._dsn, self._look_into = group, dsn, look_into
        self._holding = Holding(group, time_scale)
        self._stack = AsyncExitStack()
        self._conn: Connection | None = None
        self._sql = {name: sql.in_schema(getattr(sql, name), group.schema) for name in _STATEMENTS}

    async def connection(self) -> Connection:
        """The connection. Raises `DatabaseUnavailable`."""
        if self._conn is None or self._conn.is_closed():
            await self.close()
            conn = await self._stack.enter_async_context(connect(self._dsn, service=f"stream-{self._group.name}"))
            try:
                if not self._group.durable:
                    await conn.execute("SET synchronous_commit = off")
                await self._group.prepare(conn)
            except UNAVAILABLE as error:
                raise DatabaseUnavailable(f"the connection broke: {error}") from error
            self._conn = conn
        return self._conn

    async def close(self) -> None:
        """Drop the connection, in whatever state it is."""
        stack, self._stack, self._conn = self._stack, AsyncExitStack(), None
        try:
            await stack.aclose()
        except UNAVAILABLE:
            return

    async def offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Where to go on in these partitions. One that was never read begins at its beginning."""
        db, wanted = await self.connection(), sorted(partitions)
        await db.execute(self._sql["BEGIN_AT"], self._group.name, [p.topic for p in wanted], [p.number for p in wanted])
        rows = await db.fetch(self._sql["OFFSETS"], self._group.name)
        found = {Partition(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        return {partition: found[partition] for partition in wanted}

    async def take(
        self, db: Connection, moves: Mapping[Partition, Move], orders: Collection[str]
    ) -> tuple[dict[str, int], list[Incoming]]:
        """Move the offsets; say how far these orders are and what is held of them. Raises `LostPartition`."""
        parts = sorted(moves)
        row = await db.fetchrow(
            self._sql["TAKE"], self._group.name, [p.topic for p in parts], [p.number for p in parts],
            [moves[p].believed for p in parts], [moves[p].next for p in parts], list(orders),
        )  # fmt: skip
        assert row is not None
        if row["moved"] != len(parts):
            raise LostPartition(f"{self._group.name}: {len(parts) - row['moved']} of {len(parts)} partitions are not ours")
        held = await db.fetch(self._sql["HELD"], self._group.name, row["holding"]) if row["holding"] else []
        return row["positions"] or {}, [await self._held(each) for each in held]

    async def due(self, partitions: Collection[Partition], most: int) -> list[tuple[Partition, str]]:
        """Orders of which something held in these partitions may be tried again, no more than `most`."""
        parts, db = sorted(partitions), await self.connection()
        rows = await db.fetch(self._sql["DUE"], self._group.name, [p.topic for p in parts], [p.number for p in parts], most)
        return [(Partition(row["topic"], row["partition"]), row["order_id"]) for row in rows]

    async def finish(self, db: Connection, plan: Plan) -> None:
        """Write what became of the batch."""
        await self._holding.write(db, plan)
        if plan.positions:
            await db.execute(self._sql["MOVE_POSITIONS"], self._group.name, list(plan.positions), list(plan.positions.values()))

    async def _held(self, row: Mapping[str, Any]) -> Incoming:
        """As it came. What is parked or discarded is not looked into: it may be what kills."""
        partition = Partition(row["topic"], row["partition"])
        record = Record(partition, row["kafka_offset"], row["message_key"], row["headers"], row["body"])
        kind, woken, discarded = Kind(row["kind"]), row["woken"], row["discarded"]
        may_take_effect = kind is Kind.GAP or woken
        if may_take_effect and not discarded:
            (item,) = await self._look_into([record])
        else:
            item = receive(record, self._group, unread=Problem(kind, row["reason"]))
        return msgspec.structs.replace(
            item, order_id=row["order_id"], position=item.position if woken else row["position"], held=True, woken=woken,
            discarded=discarded, attempts=row["attempts"], first_failed_at=row["first_failed_at"], letter_id=row["letter_id"],
            problem=None if may_take_effect and discarded else item.problem,
        )  # fmt: skip


_STATEMENTS: Final = ("BEGIN_AT", "OFFSETS", "TAKE", "HELD", "DUE", "MOVE_POSITIONS")
