"""The only place that takes messages out of the dead queues: in batches, each acknowledged once its letters are committed."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from adapters.postgres import DatabaseUnavailable, Pool
from adapters.rabbitmq_consumer import Delivery
from orders.errors import RetryLater
from outbox.letters.ingest import ingest
from outbox.letters.parked import Parked, letter_of

MOST: Final = 200
_MOST_BYTES: Final = 16_000_000
_GATHER_S: Final = 0.02  # so that a burst makes few transactions, and nobody notices the wait
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0

log = structlog.get_logger()


class _Waiting(msgspec.Struct, frozen=True, eq=False):
    """A delivery in hand, and whoever waits to settle it."""

    delivery: Delivery
    recorded: "asyncio.Future[bool]"


class Intake:
    """`take` is the consumers' handler; `run` records what they took. A message that is not recorded goes back to its queue."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._line: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    async def take(self, delivery: Delivery) -> None:
        """Stand in line; acknowledge once the letter is committed."""
        if self._ended:
            await delivery.release()
            return
        waiting = _Waiting(delivery, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._arrived.set()
        if await waiting.recorded:
            await delivery.ack()
        else:
            await delivery.release()

    async def run(self, stop: asyncio.Event) -> None:
        """Record batches until stopped; what is in line then goes back."""
        ended = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                arrived = asyncio.create_task(self._arrived.wait())
                await asyncio.wait([ended, arrived], return_when=asyncio.FIRST_COMPLETED)
                arrived.cancel()
                if len(self._line) < MOST:
                    await _pause(stop, _GATHER_S)
                await self._record(self._next(), stop)
        finally:
            ended.cancel()
            self._ended = True
            _tell(self._line, recorded=False)
            self._line.clear()

    def _next(self) -> list[_Waiting]:
        """The head of the line: at most so many, and not much more than so many bytes."""
        batch: list[_Waiting] = []
        held = 0
        while self._line and len(batch) < MOST and held < _MOST_BYTES:
            batch.append(self._line.popleft())
            held += len(batch[-1].delivery.body)
        if not self._line:
            self._arrived.clear()
        return batch

    async def _record(self, batch: Sequence[_Waiting], stop: asyncio.Event) -> None:
        """In place until the database has them: nothing here is a message's fault."""
        wait_s = _FIRST_WAIT_S
        while batch and not stop.is_set():
            try:
                await self._all_or_each(batch)
            except RetryLater as error:
                log.warning("letters wait", error=error.slug, detail=str(error)[:200], letters=len(batch))
                await _pause(stop, wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                return
        _tell(batch, recorded=False)

    async def _all_or_each(self, batch: Sequence[_Waiting]) -> None:
        """All at once. Where one of them cannot be recorded, each by itself: it must not keep the others out."""
        try:
            await self._ingest(batch)
        except RetryLater:
            raise
        except Exception:
            log.exception("a batch of letters cannot be recorded", letters=len(batch))
            for waiting in batch:
                await self._one(waiting)
        else:
            _tell(batch, recorded=True)

    async def _one(self, waiting: _Waiting) -> None:
        try:
            await self._ingest([waiting])
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("a letter cannot be recorded: it stays in its queue", message_id=waiting.delivery.message_id)
            _tell([waiting], recorded=False)
        else:
            _tell([waiting], recorded=True)

    async def _ingest(self, batch: Sequence[_Waiting]) -> None:
        now = datetime.now(UTC)
        await ingest(self._pool, [letter_of(_parked(waiting.delivery), now) for waiting in batch], now)


def _parked(delivery: Delivery) -> Parked:
    return Parked(
        queue=delivery.queue,
        routing_key=delivery.routing_key,
        headers=delivery.headers,
        body=delivery.body,
        message_id=delivery.message_id,
        priority=delivery.priority,
    )


def _tell(batch: Sequence[_Waiting] | deque[_Waiting], *, recorded: bool) -> None:
    for waiting in batch:
        if not waiting.recorded.done():
            waiting.recorded.set_result(recorded)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
