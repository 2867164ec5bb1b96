"""The only publisher of the outbox: one lane per broker, each on its own, each with one active relay and standbys.

At-least-once: a row is removed after its confirm, so a crash between the two publishes it again. Consumers apply an
order's positions once and in order; commands are deduplicated by their id.
"""

import asyncio
import time
from collections import Counter as Tally
from contextlib import suppress
from typing import Final

import structlog

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool
from adapters.settings import Settings
from orders.envelope import Broker, OutboxRow
from orders.errors import CallAnOperator, RetryLater
from outbox import metrics, sql
from outbox.lanes import Lane, WaitsBehind, as_row
from outbox.lease import Lease
from outbox.low_water import LowWater

_FIRST_WAIT_S: Final = 0.005
# After a batch that was not full: a step costs about the same for one row as for fifty, so the more there was, the longer
# the next one gathers. Facts can wait longer than commands.
_GATHER_S: Final = 0.005
_GATHER_MORE_S: Final = 0.002  # for each row
_GATHER_MOST_S: Final = {Broker.RABBITMQ: 0.020, Broker.KAFKA: 0.100}
_FEW: Final = 16  # a sixteenth of a batch is as good as full
_LONGEST_RETRY_S: Final = 1.0
_LOOK_AROUND_S: Final = 1.0  # horizon, what is set aside
_REFUSALS: Final = 5  # a nack may be a passing trouble of a queue; five in a row are not

log = structlog.get_logger()


class Relay:
    """One lane. `run` is `step` again and again while this process holds the lane's lease."""

    def __init__(self, pool: Pool, lane: Lane, settings: Settings) -> None:
        self._pool, self._lane = pool, lane
        self._batch = settings.relay_batch_rows if lane.broker is Broker.KAFKA else max(1, settings.relay_batch_rows // 2)
        self._idle_s = settings.relay_idle_ms / 1000
        self.lease = Lease(pool, f"relay-{lane.broker.value}", settings.relay_lease_ms)
        self._low = LowWater()
        self._held_back: set[tuple[str, str]] = set()
        self._look_again = 0.0
        self._refusals: Tally[int] = Tally()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until stopped. Nothing that a broker or the database does ends this loop."""
        wait = _FIRST_WAIT_S
        try:
            while not stop.is_set():
                try:
                    if not await self.lease.hold():
                        self._look_again = 0.0
                        wait = self._idle_s
                    elif moved := await self.step():
                        full = moved >= self._batch // _FEW
                        wait = 0.0 if full else min(_GATHER_S + moved * _GATHER_MORE_S, _GATHER_MOST_S[self._lane.broker])
                    else:
                        wait = min(max(wait * 2, _FIRST_WAIT_S), self._idle_s)
                except RetryLater as error:
                    wait = min(max(wait * 2, self._idle_s), _LONGEST_RETRY_S)
                    metrics.FAILURES.labels(self._lane.broker.value, error.slug).inc()
                    log.warning("relay waits", lane=self._lane.broker.value, error=error.slug, detail=str(error)[:200])
                    await self._lane.reset()
                if wait:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), wait)
        finally:
            await self.lease.drop()

    async def step(self) -> int:
        """Publish and remove one batch. Returns how many rows left the lane.

        Raises `RetryLater` where the broker or the database is away; what was confirmed is removed even then.
        """
        try:
            await self._look_around()
            records = await self._pool.fetch(sql.NEXT_ROWS, self._lane.broker.value, self._low.mark, self._batch)
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"the outbox cannot be read: {error}") from error
        self._low.settle(records[0]["id"] if records else None)
        if not records:
            return 0
        rows = {record["id"]: as_row(dict(record)) for record in records}
        aside = {id_: WaitsBehind("an earlier fact of this order is set aside") for id_, r in rows.items() if self._waits(r)}
        ready = {id_: row for id_, row in rows.items() if id_ not in aside}
        results = dict(zip(ready, await self._lane.publish(list(ready.values())), strict=True))
        return await self._settle(results, aside)

    def _waits(self, row: OutboxRow) -> bool:
        return row.position is not None and (row.aggregate_id, row.destination) in self._held_back

    async def _settle(self, results: dict[int, CallAnOperator | RetryLater | None], waiting: "dict[int, WaitsBehind]") -> int:
        confirmed = [id_ for id_, error in results.items() if error is None]
        aside: dict[int, CallAnOperator | RetryLater] = {**waiting}
        for id_, error in results.items():
            if isinstance(error, RetryLater):
                self._refusals.update([id_] if error.slug == "refused-by-broker" else [])
            if isinstance(error, CallAnOperator) or self._refusals[id_] >= _REFUSALS:
                aside[id_] = error or RetryLater()
        unsettled = [error for id_, error in results.items() if isinstance(error, RetryLater) and id_ not in aside]
        try:
            if confirmed:
                await self._pool.execute(sql.REMOVE, self._lane.broker.value, confirmed)
            if aside:
                await self._set_aside(aside)
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"published rows could not be removed: {error}") from error
        metrics.PUBLISHED.labels(self._lane.broker.value).inc(len(confirmed))
        if unsettled:
            raise unsettled[0]
        return len(confirmed) + len(aside)

    async def _set_aside(self, aside: dict[int, CallAnOperator | RetryLater]) -> None:
        reasons = [f"{error.slug}: {error}"[:500] for error in aside.values()]
        await self._pool.execute(sql.SET_ASIDE, self._lane.broker.value, list(aside), reasons)
        for id_ in aside:
            self._refusals.pop(id_, None)
        metrics.SET_ASIDE.labels(self._lane.broker.value).inc(len(aside))
        log.error("rows set aside", lane=self._lane.broker.value, rows=len(aside), first=reasons[0])
        self._look_again = 0.0

    async def _look_around(self) -> None:
        if time.monotonic() < self._look_again:
            return
        broker = self._lane.broker.value
        (horizon,) = await self._pool.fetch(sql.HORIZON)
        self._low.observe(horizon["id"], horizon["oldest_running"], horizon["next_transaction"])
        if self._lane.broker is Broker.KAFKA:
            held = await self._pool.fetch(sql.HELD_BACK, broker)
            self._held_back = {(row["aggregate_id"], row["destination"]) for row in held}
        self._look_again = time.monotonic() + _LOOK_AROUND_S
