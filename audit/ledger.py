"""The only place that writes the ledger: every audit event as it was published, linked to the one before, a leaf of the log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from adapters.postgres import Connection
from audit import sql
from audit.events import AHEAD, Event
from orders import chain

COLUMNS: Final = (
    "leaf_index", "sequenced_at", "chain", "position", "event_id", "action", "actor_type", "actor_id", "new_state", "occurred_at",
    "body",
)  # fmt: skip


class Head(msgspec.Struct, frozen=True):
    """Where a chain is. `broken_at`: the first position at which it breaks."""

    position: int
    hash: str
    broken_at: int | None = None


_START: Final = Head(0, chain.GENESIS)


async def prepare(db: Connection) -> None:
    """Make the coming weeks' partitions, and let a process that stalls with the sequence in its hands be cut off."""
    await db.execute(sql.PATIENCE)
    await maintain(db)


async def maintain(db: Connection) -> None:
    """Make the coming weeks' partitions."""
    await db.execute(sql.PREPARE)


async def store(db: Connection, events: Sequence[Event]) -> int:
    """Append events, each chain's in the order of its positions; how many had to be set aside.

    In the caller's transaction, which holds the sequence from here to its end. Whoever calls gives each position of a chain
    once, without a gap.
    """
    rows = await db.fetch(sql.HEADS, list({event.chain for event in events}))
    heads = {row["chain"]: Head(row["position"], row["hash"], row["broken_at"]) for row in rows}
    good, broken = link(events, heads, datetime.now(UTC))
    moved = {event.chain: heads[event.chain] for event in events}
    await _set_aside(db, [(event.chain, event.position, reason, event.body) for event, reason in broken])
    chains = sorted(moved)
    await db.execute(
        sql.MOVE_HEADS, chains, [moved[each].position for each in chains], [moved[each].hash for each in chains],
        [moved[each].broken_at for each in chains],
    )  # fmt: skip
    if good:
        await append(db, good)
    return len(broken)


async def append(db: Connection, events: Sequence[Event]) -> int:
    """Give these events the next leaves and store them; the index of the first. In the caller's transaction."""
    taken = await db.fetchrow(sql.TAKE_LEAVES, len(events))
    assert taken is not None
    first, at = int(taken["first_leaf"]), taken["sequenced_at"]
    records = [
        (
            first + number,
            at,
            e.chain,
            e.position,
            e.event_id,
            e.action,
            e.actor_type,
            e.actor_id,
            e.new_state,
            e.occurred_at,
            e.body,
        )
        for number, e in enumerate(events)
    ]
    await db.copy_records_to_table("events", schema_name="audit", records=records, columns=COLUMNS)
    return first


def link(events: Sequence[Event], heads: dict[str, Head], now: datetime) -> tuple[list[Event], list[tuple[Event, str]]]:
    """Which events fit their chain, and which do not and why. Moves `heads` on.

    After one that does not fit, the next is held against the hash that it claimed: one edited event is one finding.
    """
    good: list[Event] = []
    broken: list[tuple[Event, str]] = []
    latest = now + AHEAD
    for event in events:
        head = heads.get(event.chain, _START)
        reason = _misfit(event, head, latest)
        if reason is None:
            good.append(event)
        else:
            broken.append((event, reason))
        heads[event.chain] = Head(event.position, event.hash, head.broken_at or (event.position if reason else None))
    return good, broken


def _misfit(event: Event, head: Head, latest: datetime) -> str | None:
    if not event.whole:
        return "its hash is not the hash of its contents"
    if event.prev_hash != head.hash:
        return f"it links to {event.prev_hash}, and the event before it has {head.hash}"
    if event.occurred_at > latest:
        return f"it is from the future: {event.occurred_at.isoformat()}, at {(latest - AHEAD).isoformat()}"
    return None


async def compare(db: Connection, again: Sequence[tuple[str, int, bytes]]) -> int:
    """Events (chain, position, bytes) at positions that are taken: those with other contents are set aside and counted."""
    chains, positions, bodies = [list(column) for column in zip(*again, strict=True)]
    known = {row["ordinal"] for row in await db.fetch(sql.KNOWN, chains, positions, bodies)}
    others = [each for ordinal, each in enumerate(again, start=1) if ordinal not in known]
    await _set_aside(db, [(o, p, "its position is taken by an event with other contents", body) for o, p, body in others])
    return len(others)


async def _set_aside(db: Connection, rows: Sequence[tuple[str, int, str, bytes]]) -> None:
    if rows:
        await db.execute(sql.SET_ASIDE, *(list(column) for column in zip(*rows, strict=True)))
