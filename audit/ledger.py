"""The only place that writes the ledger: every audit event as it was published, each linked to the one before."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import Connection
from audit import sql
from orders import chain
from orders.errors import BadMessage

SCHEMA_VERSION: Final = 1
_HASH_BYTES: Final = 32
_SORTED: Final = msgspec.json.Encoder(order="sorted")  # where it and `chain.canonical` agree, it is the quicker one


class _Actor(msgspec.Struct, frozen=True):
    type: str
    id: str


class _Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger is searched by, checked; the event itself stays a plain object, because its hash covers all of it."""

    event_id: str
    order_id: str
    position: int
    action: str
    actor: _Actor
    new_state: str | None = None
    occurred_at: datetime
    prev_hash: str
    hash: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An audit event as it came, with what its row needs. `whole`: the hash in it is the hash of it."""

    event_id: str
    order_id: str
    position: int
    action: str
    actor: _Actor
    new_state: str | None
    occurred_at: datetime
    prev_hash: bytes
    hash: bytes
    body: bytes
    whole: bool


class Head(msgspec.Struct, frozen=True):
    """Where an order's chain is."""

    position: int
    hash: bytes
    broken_at: int | None = None


def read_event(version: int, body: bytes) -> Event:
    """The event in these bytes. Raises `BadMessage` for a newer schema, or bytes that are no event in canonical form.

    An event whose hash is not that of its contents is returned, with `whole` false: it is evidence, not noise.
    """
    if version > SCHEMA_VERSION:
        raise BadMessage(f"the audit event has schema version {version}; this process reads up to {SCHEMA_VERSION}")
    try:
        raw: dict[str, Any] = msgspec.json.decode(body, type=dict)
        fields = msgspec.convert(raw, _Fields)
        hashes = bytes.fromhex(fields.prev_hash), bytes.fromhex(fields.hash)
        if any(len(each) != _HASH_BYTES for each in hashes):
            raise BadMessage("a hash of an audit event has 32 bytes")
        whole = chain.event_hash(raw) == fields.hash and (_SORTED.encode(raw) == body or chain.canonical(raw) == body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadMessage(f"not an audit event: {error}") from error
    return Event(
        event_id=fields.event_id, order_id=fields.order_id, position=fields.position, action=fields.action,
        actor=fields.actor, new_state=fields.new_state, occurred_at=fields.occurred_at, prev_hash=hashes[0],
        hash=hashes[1], body=body, whole=whole,
    )  # fmt: skip


async def prepare(db: Connection) -> None:
    """Make the partitions of the coming months."""
    await db.execute(sql.PREPARE)


async def store(db: Connection, events: Sequence[Event]) -> int:
    """Append events, each order's in the order of its positions; how many had to be set aside.

    In the caller's transaction. Whoever calls gives each position of an order once, without a gap.
    """
    rows = await db.fetch(sql.HEADS, list({event.order_id for event in events}))
    heads = {row["order_id"]: Head(0, row["hash"], row["broken_at"]) for row in rows}
    good, broken = link(events, heads)
    moved = {event.order_id: heads[event.order_id] for event in events}
    orders = sorted(moved)
    await db.execute(
        sql.APPEND, *_columns(good), orders, [moved[each].position for each in orders],
        [moved[each].hash for each in orders], [moved[each].broken_at for each in orders],
    )  # fmt: skip
    await _set_aside(db, [(event.order_id, event.position, reason, event.body) for event, reason in broken])
    return len(broken)


def link(events: Sequence[Event], heads: dict[str, Head]) -> tuple[list[Event], list[tuple[Event, str]]]:
    """Which events fit their order's chain, and which do not and why. Moves `heads` on.

    After one that does not fit, the next is held against the hash that it claimed: one edited event is one finding.
    """
    good: list[Event] = []
    broken: list[tuple[Event, str]] = []
    genesis = bytes.fromhex(chain.GENESIS)
    for event in events:
        head = heads.get(event.order_id) or Head(0, genesis)
        reason = _misfit(event, head)
        if reason is None:
            good.append(event)
        else:
            broken.append((event, reason))
        heads[event.order_id] = Head(event.position, event.hash, head.broken_at or (event.position if reason else None))
    return good, broken


def _misfit(event: Event, head: Head) -> str | None:
    if not event.whole:
        return "its hash is not the hash of its contents"
    if event.prev_hash != head.hash:
        return f"it links to {event.prev_hash.hex()}, and the event before it has {head.hash.hex()}"
    return None


async def compare(db: Connection, again: Sequence[tuple[str, int, bytes]]) -> int:
    """Events (order, position, bytes) at positions that are taken: those with other contents are set aside and counted."""
    orders, positions, bodies = [list(column) for column in zip(*again, strict=True)]
    known = {row["ordinal"] for row in await db.fetch(sql.KNOWN, orders, positions, bodies)}
    others = [each for ordinal, each in enumerate(again, start=1) if ordinal not in known]
    await _set_aside(db, [(o, p, "its position is taken by an event with other contents", body) for o, p, body in others])
    return len(others)


async def _set_aside(db: Connection, rows: Sequence[tuple[str, int, str, bytes]]) -> None:
    if rows:
        await db.execute(sql.SET_ASIDE, *(list(column) for column in zip(*rows, strict=True)))


def _columns(events: Sequence[Event]) -> list[list[Any]]:
    names = ("order_id", "position", "event_id", "action")
    return [
        *([getattr(event, name) for event in events] for name in names),
        [event.actor.type for event in events],
        [event.actor.id for event in events],
        *([getattr(event, name) for event in events] for name in ("new_state", "occurred_at", "prev_hash", "hash", "body")),
    ]
