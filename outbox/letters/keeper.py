"""The only place that decides what is done about letters beside recording them: bounded steps in turn, by one process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from adapters.postgres import Pool
from adapters.settings import Settings
from orders.errors import RetryLater
from outbox import metrics
from outbox.lease import Lease
from outbox.letters import fixing, library, lost, replays, set_aside, watch
from outbox.letters.superseding import Superseding
from outbox.tier_watch import TierWatch

_LEASE_MS: Final = 10_000
_BUSY_S: Final = 0.05  # something was done: there may be more
_IDLE_S: Final = 0.5
_NOW_AND_THEN_S: Final = 5.0
_EACH_MINUTE_S: Final = 60.0
_SELDOM_S: Final = 3_600.0

log = structlog.get_logger()


class Step(msgspec.Struct, frozen=True):
    """One job, done again and again. `work` returns how much it did; `every_s`: not more often."""

    work: Callable[[datetime], Awaitable[int]]
    every_s: float = 0.0


def steps(pool: Pool, settings: Settings) -> dict[str, Step]:
    """Every job of the keeper, in the order in which they are done."""
    superseding, tiers = Superseding(pool), TierWatch()
    return {
        "superseding": Step(superseding.step),
        "set-aside": Step(lambda now: set_aside.step(pool, now)),
        "library": Step(lambda now: library.install(pool, now), _SELDOM_S),
        "fixing": Step(lambda now: fixing.step(pool, settings, now)),
        "replays": Step(lambda now: replays.step(pool, now)),
        "lost": Step(lambda now: lost.step(pool, now), _EACH_MINUTE_S),
        "tiers": Step(lambda now: tiers.step(settings, pool, now), _NOW_AND_THEN_S),
        "watch": Step(lambda now: watch.step(pool, now), _NOW_AND_THEN_S),
    }


class Keeper:
    """`run` is `step` again and again while this process holds the lease. One job that fails does not stop the others."""

    def __init__(self, pool: Pool, settings: Settings, jobs: Mapping[str, Step] | None = None) -> None:
        self._jobs = steps(pool, settings) if jobs is None else jobs
        self._lease = Lease(pool, "letters", _LEASE_MS)
        self._due = dict.fromkeys(self._jobs, 0.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep until stopped. The database being away only makes it wait."""
        try:
            while not stop.is_set():
                done = 0
                try:
                    if await self._lease.hold():
                        done = await self.step(datetime.now(UTC))
                except RetryLater as error:
                    log.warning("the keeper waits", error=error.slug, detail=str(error)[:200])
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _BUSY_S if done else _IDLE_S)
        finally:
            await self._lease.drop()

    async def step(self, now: datetime) -> int:
        """Every job that is due, once. Returns how much was done that may lead to more."""
        done = 0
        for name, job in self._jobs.items():
            if time.monotonic() < self._due[name]:
                continue
            self._due[name] = time.monotonic() + job.every_s
            if not await self._lease.hold():
                return 0  # a step took long, and somebody else keeps now
            moved = await self._guarded(name, job, now)
            done += 0 if job.every_s else moved
        return done

    async def _guarded(self, name: str, job: Step, now: datetime) -> int:
        try:
            return await job.work(now)
        except RetryLater as error:
            metrics.LETTERS_STEPS.labels(name, error.slug).inc()
            log.warning("a step of the keeper waits", step=name, error=error.slug, detail=str(error)[:200])
        except Exception as error:  # whatever it is, the other jobs go on
            metrics.LETTERS_STEPS.labels(name, type(error).__name__).inc()
            log.exception("a step of the keeper failed", step=name)
        return 0
