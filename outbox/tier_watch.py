"""The only place that sees what lies in RabbitMQ and goes nowhere: what a tier cannot hand back, and letters that nobody takes.

A tier hands an expired message back at least once: it keeps it until the work queue has confirmed it. Where that queue is
missing, not bound, or full and refusing, the message stays, and with 32 of them nothing leaves the tier any more. The sign is
the broker's own count of messages that expired and are not confirmed (`messages_dlx`, tried on 3.10; 4.x has it too): in
good order that is a moment's work, so a tier whose count is above nothing at every look for half a minute is stuck.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from prometheus_client import Gauge

from adapters.queues import QueueState, queue_states
from adapters.settings import Settings
from adapters.topology import missing_on_rabbitmq
from adapters.topology_declared import TopologyError, declared_rabbitmq
from orders.names import DEAD_LETTERS, POISON
from outbox.alerts import clear_alert, raise_alert
from outbox.transition import Executor

STUCK_MESSAGES: Final = Gauge("rushline_tier_stuck_messages", "Expired messages that a tier cannot hand back", ["tier"])
STUCK: Final = "tier-stuck"  # subject: the tier
UNTAKEN: Final = "letters-untaken"  # subject: the dead queue
BLIND: Final = "tiers-unwatched"  # subject: what watches
_PATIENCE: Final = timedelta(seconds=30)
_LONG_AGO: Final = timedelta(seconds=60)
_LOOK_S: Final = 3.0  # whoever watches has other things to do
_DEAD: Final = (DEAD_LETTERS, POISON)

log = structlog.get_logger()


class _Sign(msgspec.Struct):
    """Since when something has looked wrong, what was told of it, and whether anything was told at all."""

    since: datetime | None = None
    told: str | None = None
    known: bool = False


class TierWatch:
    """`step` every few seconds, by one process at a time. It remembers the looks before; what it tells is in the alerts."""

    def __init__(self, patience: timedelta = _PATIENCE) -> None:
        self._patience = patience
        self._looked_at: datetime | None = None
        self._signs: dict[tuple[str, str], _Sign] = {}

    async def step(self, settings: Settings, db: Executor, now: datetime) -> int:
        """Look once; raise and clear alerts. Returns how many messages are stuck. Raises `DatabaseUnavailable`.

        Where RabbitMQ's management interface does not answer, or not this user, that is an alert of its own.
        """
        if self._looked_at is None or now - self._looked_at > max(2 * self._patience, _LONG_AGO):
            self._signs.clear()  # another process has watched meanwhile
        self._looked_at = now
        try:
            async with asyncio.timeout(_LOOK_S):
                states = await queue_states(settings)
        except TimeoutError:
            await self._judge(db, BLIND, "rabbitmq", f"RabbitMQ's management does not answer within {_LOOK_S:.0f} s.", now)
            return 0
        except TopologyError as error:
            await self._judge(db, BLIND, "rabbitmq", f"{error.problem} {error.remedy}", now)
            return 0
        await self._judge(db, BLIND, "rabbitmq", None, now)
        there = {state.name: state for state in states}
        for name in _DEAD:
            await self._judge(db, UNTAKEN, name, _untaken(there.get(name)), now)
        tiers = [queue.name for queue in declared_rabbitmq().queues if queue.kind == "tier"]
        return sum([await self._look_at_tier(settings, db, name, there.get(name), now) for name in tiers])

    async def _look_at_tier(self, settings: Settings, db: Executor, name: str, state: QueueState | None, now: datetime) -> int:
        count, detail = (state.expired, None) if state else (0, "The tier is missing. Run `rushline topology apply`.")
        if count:
            absent = await self._absent(settings)
            detail = f"{count} expired messages cannot go back. {absent}"
        is_stuck = await self._judge(db, STUCK, name, detail, now)
        STUCK_MESSAGES.labels(name).set(count if is_stuck else 0)
        return count if is_stuck else 0

    async def _absent(self, settings: Settings) -> str:
        """Why, as far as it can be seen without guessing."""
        try:
            async with asyncio.timeout(_LOOK_S):
                absent = await missing_on_rabbitmq(settings)
        except (TopologyError, TimeoutError) as error:
            return f"Why cannot be seen: {error}"
        if absent:
            return f"Missing: {', '.join(absent)}. Run `rushline topology apply`."
        return "No queue is missing: see `rushline topology diff` for a binding, and whether a work queue is full."

    async def _judge(self, db: Executor, kind: str, subject: str, detail: str | None, now: datetime) -> bool:
        """Raise what has looked wrong for long enough, again where its detail changed; clear what does not. True while raised."""
        sign = self._signs.setdefault((kind, subject), _Sign())
        if detail is None:
            if sign.told is not None or not sign.known:  # unknown: a process before this one may have raised it
                await clear_alert(db, kind, subject, now)
            sign.since, sign.told, sign.known = None, None, True
            return False
        sign.since = sign.since or now
        if now - sign.since < self._patience:
            return False
        if sign.told != detail:
            log.error("something lies in rabbitmq and goes nowhere", kind=kind, subject=subject, detail=detail)
            await raise_alert(db, kind, subject, detail, now)
            sign.told, sign.known = detail, True
        return True


def _untaken(state: QueueState | None) -> str | None:
    if state is None:
        return "The queue is missing. Run `rushline topology apply`."
    return None if state.consumers or not state.messages else f"{state.messages} letters, and nobody takes them in."
