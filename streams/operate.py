"""The only place where an operator moves a group: replay, seek, skip. Never while the group runs, never twice in effect."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from adapters.kafka_consumer import members_of, offsets_at
from adapters.postgres import Connection, connect
from adapters.settings import Settings
from orders.errors import Invalid, NotFound, Refuse
from outbox.transition import utc_now
from streams import sql
from streams.group import Group
from streams.holding import SKIPPED, settle


class GroupRunning(Refuse):
    """The group has members: they would overtake the operator."""

    slug = "group-running"

    def __init__(self, name: str, members: int) -> None:
        super().__init__(f"the group {name} is running with {members} {'member' if members == 1 else 'members'}")
        self.remedy = "Stop its processes first; a killed one leaves the group within ten seconds."


class CannotRebuild(Refuse):
    """What the group does goes out into the world: it cannot be emptied and done again."""

    slug = "cannot-rebuild"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has no read model that could be built again")
        self.remedy = "Replay without --rebuild: what took effect before stays as it is."


class Moved(msgspec.Struct, frozen=True):
    """One partition, from where to where."""

    group: str
    topic: str
    partition: int
    was: int | None
    next_offset: int


class Skipped(msgspec.Struct, frozen=True):
    """One order: where it stood, where it goes on, how many facts were given up and how many are tried again."""

    group: str
    order_id: str
    was: int
    position: int
    skipped: int
    woken: int


async def replay(
    settings: Settings, group: Group, *, since: datetime | None = None, rebuild: bool = False, dry_run: bool = False
) -> list[Moved]:
    """Let the group read again, from the beginning or a time on, and try what it holds. Only what has not taken effect will.

    `rebuild` empties its read model first, so that every fact that Kafka still has will; orders whose beginning it has no
    more are held. Raises `GroupRunning`, `CannotRebuild`.
    """
    if rebuild and not group.read_models:
        raise CannotRebuild(group.name)
    await _require_stopped(settings, group)
    offsets = await offsets_at(settings.kafka_bootstrap, group.topic, since)
    async with connect(_dsn(settings, group), service="console") as db, db.transaction():
        moved = await _moved(db, group, {number: begin for number, (_, begin, _) in offsets.items()})
        if not dry_run:
            if rebuild:
                await _empty(db, group)
            await _move(db, group, moved)
            await db.execute(_on(group, "WAKE_ALL"), group.name)
    return moved


async def seek(
    settings: Settings, group: Group, topic: str, partition: int, offset: int, *, dry_run: bool = False
) -> list[Moved]:
    """Let the group go on from this offset of one partition. Raises `GroupRunning`, `Invalid` for what is not there.

    Facts that are jumped over leave gaps: later facts of their orders are held, until `skip`, or a seek back.
    """
    if topic != group.topic:
        raise Invalid("topic", f"{group.name} reads {group.topic}, not {topic}")
    await _require_stopped(settings, group)
    offsets = await offsets_at(settings.kafka_bootstrap, topic, None)
    if partition not in offsets:
        raise Invalid("partition", f"{topic} has the partitions 0 to {len(offsets) - 1}")
    first, _, end = offsets[partition]
    if not first <= offset <= end:
        raise Invalid("offset", f"partition {partition} of {topic} has the offsets {first} to {end}")
    async with connect(_dsn(settings, group), service="console") as db, db.transaction():
        moved = await _moved(db, group, {partition: offset})
        if not dry_run:
            await _move(db, group, moved)
    return moved


async def skip(settings: Settings, group: Group, order_id: str, *, dry_run: bool = False) -> Skipped:
    """Let an order go on without the one thing it waits for: a gap, or a fact that cannot take effect.

    The fact stays, marked; the others are tried again when the group runs. Raises `GroupRunning`, `NotFound`.
    """
    await _require_stopped(settings, group)
    async with connect(_dsn(settings, group), service="console") as db, db.transaction():
        at = await db.fetchval(_on(group, "POSITION"), group.name, order_id) or 0
        held = [row["position"] for row in await db.fetch(_on(group, "WAITING"), group.name, order_id)]
        if not held:
            raise NotFound(f"{group.name} holds nothing of {order_id}")
        waiting = [position for position in held if position is not None and position > at]
        to = max(at + 1, min(waiting) - 1) if waiting else at
        gone = sum(position is None if not waiting else position is not None and position <= to for position in held)
        if not dry_run:
            rows = await db.fetch(_on(group, "SKIP_HELD"), group.name, order_id, to, not waiting)
            await settle(db, group, [row["letter_id"] for row in rows if row["skip"] and row["letter_id"]], SKIPPED, utc_now())
            await db.execute(_on(group, "MOVE_POSITIONS"), group.name, [order_id], [to])
    return Skipped(group.name, order_id, at, to, gone, len(held) - gone)


async def _require_stopped(settings: Settings, group: Group) -> None:
    if members := await members_of(settings.kafka_bootstrap, group.name):
        raise GroupRunning(group.name, members)


async def _moved(db: Connection, group: Group, to: Mapping[int, int]) -> list[Moved]:
    rows = await db.fetch(_on(group, "OFFSETS"), group.name)
    was = {row["partition"]: row["next_offset"] for row in rows if row["topic"] == group.topic}
    return [Moved(group.name, group.topic, number, was.get(number), offset) for number, offset in sorted(to.items())]


async def _move(db: Connection, group: Group, moved: list[Moved]) -> None:
    numbers, offsets = [each.partition for each in moved], [each.next_offset for each in moved]
    await db.execute(_on(group, "SEEK"), group.name, group.topic, numbers, offsets)


async def _empty(db: Connection, group: Group) -> None:
    await db.execute(sql.EMPTY[group.noun])
    for name in ("FORGET_POSITIONS", "FORGET_HELD"):
        await db.execute(_on(group, name), group.name)


def _on(group: Group, name: str) -> Any:
    return sql.in_schema(getattr(sql, name), group.schema)


def _dsn(settings: Settings, group: Group) -> str:
    return settings.audit_url if group.schema == "audit" else settings.postgres_dsn
