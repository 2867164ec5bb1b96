"""The only place that writes what a group holds: what waits and until when, what is parked, what is let go.

All of it in the transaction of the batch. What failed gets its wake-up there too, as a row of the outbox for the next tier, or
its letter. A group in another schema, perhaps on another server, has no outbox: its facts are woken by their own `wake_at`
alone, on the same schedule, and `courier.py` carries its letters.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import Connection
from orders import parking
from orders.envelope import OutboxRow
from orders.tiers import Tier
from outbox.letters import held as letters
from outbox.transition import enqueue, utc_now
from streams import sql
from streams.group import Group, Incoming, Kind, Problem, printable
from streams.ordering import Plan
from streams.parking import Held, letter_row, tier_after, trail, wake_up

SKIPPED: Final = "skipped"  # the outcome of a letter whose fact an operator skipped on the command line
_MOST_REASON: Final = 500
# How much later than its wake-up from the tier a fact wakes by itself: a wake-up that is lost only delays.
_MARGIN_S: Final = 30
_LEAST_MARGIN_S: Final = 2.0


async def settle(db: Connection, group: Group, ended: Sequence[str], outcome: str, now: datetime) -> None:
    """The facts that were these letters came to their end: at once, or told for `courier.py` to carry."""
    if not ended:
        return
    if group.schema == "public":
        await letters.settle_all(db, ended, outcome=outcome, now=now)
    else:
        await db.execute(sql.SETTLE_LATER, group.name, sorted(set(ended)), outcome)


class _Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one fact that cannot take effect now."""

    item: Incoming
    problem: Problem
    attempts: int
    first_failed_at: datetime | None = None
    tier: Tier | None = None
    trail: dict[str, str] | None = None  # where it is parked

    @property
    def place(self) -> tuple[str, int, int]:
        return (*self.item.partition, self.item.offset)


class Holding:
    """One group's held facts."""

    def __init__(self, group: Group, time_scale: float, clock: Callable[[], datetime] = utc_now) -> None:
        self._group, self._time_scale, self._clock = group, time_scale, clock
        self._has_outbox = group.schema == "public"
        self._sql = {name: sql.in_schema(getattr(sql, name), group.schema) for name in _STATEMENTS}

    async def write(self, db: Connection, plan: Plan) -> None:
        """What became of the batch. Letters first: whoever decides about one locks it before the fact that it is."""
        now = self._clock()
        await settle(db, self._group, [item.letter_id for item in plan.freed if item.letter_id], letters.DONE, now)
        for name, items in (("FREE", plan.freed), ("STEP_OVER", plan.passed), ("REST", plan.rest)):
            if items:
                await db.execute(self._sql[name], self._group.name, *_places(items))
        if plan.hold:
            await self._hold(db, [self._fate(item, now) for item in plan.hold], now)

    def _fate(self, item: Incoming, now: datetime) -> _Fate:
        problem = item.problem or Problem(Kind.GAP, "")
        if problem.kind is Kind.GAP:
            return _Fate(item=item, problem=problem, attempts=item.attempts, first_failed_at=item.first_failed_at)
        attempts = item.attempts + 1
        tier = tier_after(problem, attempts)
        return _Fate(
            item=item, problem=problem, attempts=attempts, first_failed_at=item.first_failed_at or now, tier=tier,
            trail=trail(self._group, item, problem, attempts, now) if tier is None else None,
        )  # fmt: skip

    async def _hold(self, db: Connection, fates: Sequence[_Fate], now: datetime) -> None:
        written = await db.fetch(
            self._sql["HOLD"], self._group.name, *_places([fate.item for fate in fates]), *self._columns(fates, now)
        )
        if self._has_outbox:
            held = {(row["topic"], row["partition"], row["kafka_offset"]) for row in written}
            await enqueue(db, [row for fate in fates if fate.place in held for row in self._outbox(fate, now)])

    def _outbox(self, fate: _Fate, now: datetime) -> Iterable[OutboxRow]:
        item = fate.item
        if fate.tier is not None:
            yield wake_up(self._group, item, fate.tier, fate.attempts, fate.tier.wait_s / self._time_scale, now)
        if fate.trail is not None:
            held = Held(
                partition=item.partition, offset=item.offset, order_id=item.order_id, position=item.position,
                headers=item.headers, body=item.body,
            )  # fmt: skip
            yield letter_row(held, fate.trail, now)

    def _wait_s(self, tier: Tier | None) -> float | None:
        if tier is None:
            return None
        margin = max(_LEAST_MARGIN_S, _MARGIN_S / self._time_scale) if self._has_outbox else 0.0
        return tier.wait_s / self._time_scale + margin

    def _columns(self, fates: Sequence[_Fate], now: datetime) -> tuple[list[Any], ...]:
        items = [fate.item for fate in fates]
        return (
            [item.key for item in items],
            [item.order_id for item in items],
            [item.position for item in items],
            [{printable(k): printable(v) for k, v in item.headers.items()} for item in items],
            [item.body for item in items],
            [fate.problem.kind.value for fate in fates],
            [printable(fate.problem.reason)[:_MOST_REASON] for fate in fates],
            [fate.attempts for fate in fates],
            [fate.first_failed_at for fate in fates],
            [self._wait_s(fate.tier) for fate in fates],
            [now if fate.trail else None for fate in fates],
            [fate.trail[parking.LETTER] if fate.trail else fate.item.letter_id for fate in fates],
            [fate.trail for fate in fates],
        )


def _places(items: Iterable[Incoming]) -> tuple[list[str], list[int], list[int]]:
    found = [(*item.partition, item.offset) for item in items]
    return [each[0] for each in found], [each[1] for each in found], [each[2] for each in found]


_STATEMENTS: Final = ("HOLD", "FREE", "STEP_OVER", "REST")
