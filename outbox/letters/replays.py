"""The only place where operators create replays of many letters, look at them, and pause, resume or cancel them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Record
from orders.errors import Invalid, NotFound, Refuse
from orders.ids import new_id
from orders.names import Act
from outbox.alerts import clear_alert
from outbox.letters import desk, search
from outbox.letters import replays_sql as sql
from outbox.letters.model import LetterFilter, NothingMatches
from outbox.letters.searching_sql import PLAN_FOR_VALUES
from outbox.letters.sending import check_reason, writing
from outbox.letters.stepping import STOPPED, step
from outbox.transition import Executor

__all__ = [
    "CANARY", "Item", "NoSuchReplay", "Replay", "ReplayState", "ReplayStateRefused", "StageProgress",
    "cancel", "create", "items", "list_replays", "pause", "progress", "resume", "step",
]  # fmt: skip

CANARY: Final = (1, 5)  # how many are sent and must have ended well before more follow
_MOST_STAGES: Final = 20
_FASTEST: Final = 1_000_000


class ReplayState(StrEnum):
    """`stopped`: at a failure, until somebody resumes or cancels it."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    DONE = "done"


class NoSuchReplay(NotFound):
    """There is no replay with this id."""

    slug = "replay-not-found"


class ReplayStateRefused(Refuse):
    """A replay that has ended stays so; one that does not run cannot be paused, one that runs cannot be resumed."""

    slug = "replay-state"


class StageProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: how many it sends (the last one: the rest) and what became of them."""

    size: int
    sent: int = 0  # under way: with a worker, in a queue, or waiting in a tier
    done: int = 0
    failed: int = 0
    skipped: int = 0


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """One replay and how far it is. `rate`: letters a second over the time in which it sent."""

    replay_id: str
    filter: LetterFilter
    cutoff: datetime
    reason: str
    stages: tuple[StageProgress, ...]
    stage: int
    per_second: int | None
    state: ReplayState
    why: str | None
    total: int
    waiting: int
    sent: int
    done: int
    failed: int
    skipped: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    rate: float | None
    seconds_left: float | None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One letter of a replay, by its number: the oldest failure is the first."""

    number: int
    letter_id: str
    stage: int
    state: str
    why: str | None
    sent_at: datetime | None


async def create(
    db: Executor,
    wanted: LetterFilter,
    *,
    cutoff: datetime | None = None,
    reason: str,
    stages: Sequence[int] = CANARY,
    per_second: int | None = None,
    actor: str,
    now: datetime,
    dry_run: bool = False,
) -> Replay:
    """Fix the letters that a replay will send, oldest failure first; the keeper sends them, stage by stage.

    Only open letters, failed up to the cut-off; what is snoozed only where its fingerprint is asked for. Raises `Invalid`
    naming the field, `NothingMatches`. A dry run says what would be created.
    """
    _check(wanted, reason, stages, per_second)
    if cutoff is not None and cutoff.tzinfo is None:
        raise Invalid("cutoff", "names no zone: give one, as in 2026-03-14T18:30:00Z")
    replay_id = new_id("rpl", round(now.timestamp() * 1000))
    limit, asked = min(cutoff or now, now), msgspec.to_builtins(wanted)
    async with writing(db, dry_run=dry_run) as conn:
        await conn.execute(
            sql.OPEN, replay_id, asked, limit, reason.strip(), per_second, actor, now
        )  # fmt: skip
        await conn.execute(PLAN_FOR_VALUES)
        total = await conn.fetchval(sql.CHOOSE, limit, *_arguments(wanted), now, replay_id)
        if not total:
            raise NothingMatches(await search.why_none(conn, wanted))
        await conn.execute(sql.SIZE, replay_id, total, _sizes(stages, total))
        await conn.execute(sql.TAKEN_UP, STOPPED, replay_id, now)
        begun = {"filter": asked, "total": total, "cutoff": limit.isoformat(), "per_second": per_second}
        await _tell(conn, "begun", replay_id, actor, now, reason=reason.strip(), **begun)
        return await _progress(conn, replay_id)


def _check(wanted: LetterFilter, reason: str, stages: Sequence[int], per_second: int | None) -> None:
    check_reason(reason)
    if wanted.state not in (None, "open"):
        raise Invalid("filter.state", f"is {wanted.state}: only open letters can be sent again; leave it out")
    if len(stages) > _MOST_STAGES or any(size < 1 for size in stages):
        raise Invalid("stages", f"give at most {_MOST_STAGES} sizes of 1 or more; none sends all at once")
    if per_second is not None and not 1 <= per_second <= _FASTEST:
        raise Invalid("per_second", f"is {per_second}: give 1 to {_FASTEST}, or nothing for no limit")


def _arguments(wanted: LetterFilter) -> list[Any]:
    return [
        wanted.fingerprint, wanted.failure_type, wanted.category, wanted.consumer, wanted.type, wanted.order_id,
        wanted.message_id, wanted.owner, wanted.words, wanted.failed_from, wanted.failed_before,
    ]  # fmt: skip


def _sizes(stages: Sequence[int], total: int) -> list[int]:
    """As many stages as there are letters for; the last one is the rest."""
    sizes: list[int] = []
    for size in stages:
        if sum(sizes) + size >= total:
            break
        sizes.append(size)
    return [*sizes, total - sum(sizes)]


async def pause(db: Executor, replay_id: str, *, actor: str, now: datetime) -> Replay:
    """Send no more until it is resumed. Raises `NoSuchReplay`, `ReplayStateRefused`."""
    return await _say(db, replay_id, ReplayState.PAUSED, {ReplayState.RUNNING}, "paused", actor, now)


async def resume(db: Executor, replay_id: str, *, actor: str, now: datetime) -> Replay:
    """Go on, accepting the failures so far. Raises `NoSuchReplay`, `ReplayStateRefused`."""
    halted = {ReplayState.PAUSED, ReplayState.STOPPED}
    return await _say(db, replay_id, ReplayState.RUNNING, halted, "resumed", actor, now)


async def cancel(db: Executor, replay_id: str, *, actor: str, now: datetime) -> Replay:
    """Send no more, ever; what is under way comes to its own end. Raises `NoSuchReplay`, `ReplayStateRefused`."""
    living = {ReplayState.RUNNING, ReplayState.PAUSED, ReplayState.STOPPED}
    return await _say(db, replay_id, ReplayState.CANCELLED, living, "cancelled", actor, now)


async def _say(
    db: Executor, replay_id: str, wanted: ReplayState, allowed: set[ReplayState], act: str, actor: str, now: datetime
) -> Replay:  # fmt: skip
    async with writing(db) as conn:
        record = await conn.fetchrow(sql.HOLD, replay_id)
        if record is None:
            raise NoSuchReplay(f"there is no replay {replay_id}")
        if record["state"] not in allowed:
            told = f" ({record['why']})" if record["why"] else ""
            raise ReplayStateRefused(f"{replay_id} is {record['state']}{told}: it cannot become {wanted.value}")
        await conn.execute(sql.SAY, replay_id, wanted.value, f"{act} by {actor}", now)
        await clear_alert(conn, STOPPED, replay_id, now)  # somebody has looked at it
        if wanted is ReplayState.CANCELLED:
            await conn.execute(sql.LEAVE, replay_id)
        await _tell(conn, act, replay_id, actor, now)
        return await _progress(conn, replay_id)


async def _tell(
    conn: Connection, act: str, replay_id: str, actor: str, now: datetime, *, reason: str | None = None, **details: Any
) -> None:  # fmt: skip
    cause = f"{replay_id}/{act}/{now.isoformat()}"
    told = {"act": act, "replay_id": replay_id, **details}
    await desk.tell(conn, Act.REPLAY_CHANGED, told, actor=actor, cause=cause, now=now, reason=reason)


async def progress(db: Executor, replay_id: str) -> Replay:
    """A replay and how far it is. Raises `NoSuchReplay`."""
    async with writing(db) as conn:
        return await _progress(conn, replay_id)


async def _progress(conn: Connection, replay_id: str) -> Replay:
    record = await conn.fetchrow(sql.SHOW, replay_id)
    if record is None:
        raise NoSuchReplay(f"there is no replay {replay_id}")
    return _replay(record, await conn.fetch(sql.TALLY, replay_id))


def _replay(record: Record, tally: Sequence[Record]) -> Replay:
    by_stage: dict[int, dict[str, int]] = {}
    totals = dict.fromkeys(("waiting", "sent", "done", "failed", "skipped"), 0)
    for row in tally:
        totals[row["state"]] += row["number"]
        if row["stage"] is not None:
            by_stage.setdefault(row["stage"], {})[row["state"]] = row["number"]
    stages = tuple(StageProgress(size=size, **by_stage.get(number, {})) for number, size in enumerate(record["stages"]))
    rate = _rate(tally, totals["sent"] + totals["done"] + totals["failed"])
    pace = record["per_second"] or rate
    values = {**dict(record), **totals, "stages": stages, "rate": rate}
    left = totals["waiting"] / pace if pace and record["state"] == ReplayState.RUNNING else None
    return msgspec.convert({**values, "seconds_left": left}, Replay, from_attributes=True)


def _rate(tally: Sequence[Record], sent: int) -> float | None:
    """Letters a second between the first and the last that were sent; unknown while all went at once."""
    first = min((row["first_sent_at"] for row in tally if row["first_sent_at"]), default=None)
    last = max((row["last_sent_at"] for row in tally if row["last_sent_at"]), default=None)
    if first is None or last is None or last - first <= timedelta(0):
        return None
    return round(sent / float((last - first).total_seconds()), 3)


async def list_replays(
    db: Executor, *, state: ReplayState | None = None, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Replay]:
    """Replays, newest first; `before` is the `created_at` and id of the last one that was seen."""
    created_at, replay_id = before or (None, None)
    async with writing(db) as conn:
        records = await conn.fetch(sql.LIST, created_at, replay_id, state and state.value, limit)
        return [_replay(record, await conn.fetch(sql.TALLY, record["replay_id"])) for record in records]


async def items(db: Executor, replay_id: str, *, state: str | None = None, after: int = 0, limit: int = 100) -> list[Item]:
    """The letters of a replay, by number from `after` on. None for a replay that there is not."""
    try:
        records = await db.fetch(sql.ITEMS, replay_id, after, state, limit)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the replay cannot be read: {type(error).__name__}") from error
    return [msgspec.convert(dict(record), Item) for record in records]
