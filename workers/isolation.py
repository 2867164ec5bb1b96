"""The only place that finds a message which kills its worker, and blames no other for it.

A message that arrives redelivered was in the hands of a worker that died, or let it go. It is handled alone in its process, after
a row that says so is committed; the row goes before the message is settled. So what is still there after a crash was alone when
it happened: its neighbours had been settled, or had not begun. This counts on every version of RabbitMQ.

Blame needs several starts without an end, each within an hour of the one before. A deploy or a machine that dies would have
to hit the same innocent message every time, within the moment that it is alone in hand; a SIGTERM lets it go and takes its row.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog

from adapters.postgres import DatabaseUnavailable, Pool
from adapters.rabbitmq_consumer import Delivery
from orders.errors import BadMessage
from workers import sql
from workers.store import reaching_the_database

MOST_STARTS: Final = 3
FORGOTTEN_AFTER: Final = timedelta(hours=1)
_FORGET_S: Final = 5.0
_MOST_REMEMBERED: Final = 10_000

log = structlog.get_logger()


class KillsItsWorker(BadMessage):
    """Its worker died each time that it was handled alone. Nobody looks into it again."""

    slug = "kills-its-worker"


class Turns:
    """Many together, or one alone, in the order in which they came: neither kind can starve the other."""

    def __init__(self) -> None:
        self._inside, self._alone = 0, False
        self._line: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def turn(self, *, alone: bool) -> AsyncIterator[None]:
        """Inside, beside others or as the only one."""
        if self._line or not self._free(alone=alone):
            await self._wait(alone=alone)
        else:
            self._enter(alone=alone)
        try:
            yield
        finally:
            self._leave()

    def _free(self, *, alone: bool) -> bool:
        return not self._alone and not (alone and self._inside)

    def _enter(self, *, alone: bool) -> None:
        self._inside += 1
        self._alone = alone

    def _leave(self) -> None:
        self._inside -= 1
        self._alone = False
        self._admit()

    async def _wait(self, *, alone: bool) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._line.append((alone, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # those behind us may have waited for us alone
            else:
                self._leave()  # it was our turn already
            raise

    def _admit(self) -> None:
        while self._line:
            alone, turn = self._line[0]
            if not turn.done() and not self._free(alone=alone):
                return
            self._line.popleft()
            if not turn.done():
                self._enter(alone=alone)
                turn.set_result(None)


class Suspects:
    """Which messages are suspect, and how often each was begun alone and did not end."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._put_back: set[str] = set()

    def is_one(self, delivery: Delivery) -> bool:
        """Whether nobody knows why it comes again. What this process put back itself has done no harm."""
        if not delivery.redelivered:
            return False
        key = message_key(delivery)
        known = key in self._put_back
        self._put_back.discard(key)
        return not known

    def put_back(self, delivery: Delivery) -> None:
        """It goes back into its queue, and is not suspect for that."""
        if len(self._put_back) < _MOST_REMEMBERED:
            self._put_back.add(message_key(delivery))

    async def begin(self, delivery: Delivery, now: datetime) -> int:
        """How often it was begun by now, this time included. Raises `DatabaseUnavailable`."""
        with reaching_the_database():
            times = await self._pool.fetchval(sql.BEGIN_ALONE, message_key(delivery), now, FORGOTTEN_AFTER)
        return int(times)

    async def end(self, delivery: Delivery) -> None:
        """It did not kill us. A row that cannot be removed now counts for an hour, and is not enough to blame anybody."""
        try:
            async with asyncio.timeout(_FORGET_S):
                with reaching_the_database():
                    await self._pool.execute(sql.END_ALONE, message_key(delivery))
        except (DatabaseUnavailable, TimeoutError):
            log.warning("a started command stays on record", queue=delivery.queue, message_id=delivery.message_id)

    async def sweep(self, now: datetime) -> None:
        """Forget what was begun long ago: its message went elsewhere. Raises `DatabaseUnavailable`."""
        with reaching_the_database():
            await self._pool.execute(sql.SWEEP_ALONE, now - FORGOTTEN_AFTER)


def message_key(delivery: Delivery) -> str:
    """The queue and the message's id; where it has none that can be stored, its body's digest."""
    if delivery.message_id and delivery.message_id.isprintable():
        return f"{delivery.queue}/{delivery.message_id}"
    return f"{delivery.queue}/{hashlib.sha256(delivery.body).hexdigest()}"
