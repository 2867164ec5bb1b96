"""The only place that streams the log in its order: pages are fetched and checked ahead, side by side, and handed out in turn.

In this process, or, where there is much to do, in some of their own: an event takes more time to check than to read.
"""

import asyncio
import gc
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from multiprocessing import get_context
from typing import Any, Final, Protocol

import msgspec

from adapters.postgres import Connection, Pool, connect
from audit.verification import sql
from audit.verification.page import Page, check_page, joined

PAGE_LEAVES: Final = 8_192  # whole tiles
WORTH_PROCESSES: Final = 100_000  # leaves: below, starting them takes longer than they save
_MOST_PROCESSES: Final = 8
_FETCH_S: Final = 300
Ask = Callable[[int, int], Coroutine[Any, Any, Page]]


class Archived(Protocol):
    """An event that has left the ledger for its archive."""

    @property
    def leaf_index(self) -> int: ...

    @property
    def body(self) -> bytes: ...


Colder = Callable[[int, int], AsyncIterator[Archived]]  # the archived events from one leaf to before another
_PACK: Final = msgspec.msgpack.Encoder()
_UNPACK: Final = msgspec.msgpack.Decoder(Page)


def processes_for(leaves: int) -> int:
    """How many processes are worth it for so many leaves; none: this one does it."""
    return min(os.cpu_count() or 1, _MOST_PROCESSES) if leaves >= WORTH_PROCESSES else 0


def spanning(ask: Ask, colder: Colder | None, first_hot: int, latest: datetime) -> Ask:
    """Whoever checks pages of the ledger, and of the archive where leaves have left it: those have no columns to compare."""
    if colder is None or not first_hot:
        return ask

    async def either(first: int, last: int) -> Page:
        if first >= first_hot:
            return await ask(first, last)
        rows = [(each.leaf_index, None, each.body) async for each in colder(first, min(last, first_hot))]
        cold = check_page(first, min(last, first_hot), rows, latest)
        return cold if last <= first_hot else joined(cold, await ask(first_hot, last))

    return either


async def pages(ask: Ask, begin: int, end: int, ahead: int, page_leaves: int = PAGE_LEAVES) -> AsyncIterator[Page]:
    """The checked pages, in order, with so many under way."""
    ranges, under_way = _ranges(begin, end, page_leaves), deque[asyncio.Task[Page]]()
    try:
        for first, last in ranges:
            under_way.append(asyncio.create_task(ask(first, last)))
            if len(under_way) > ahead:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


@asynccontextmanager
async def asking(db: Pool, dsn: str, latest: datetime, processes: int) -> AsyncIterator[tuple[Ask, int]]:
    """Whoever checks pages, and how many may be asked of them at once."""
    if not processes:
        yield lambda first, last: _here(db, first, last, latest), 1
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(dsn, latest)) as executor:
        loop = asyncio.get_running_loop()

        async def elsewhere(first: int, last: int) -> Page:
            return _UNPACK.decode(await loop.run_in_executor(executor, _elsewhere, first, last))

        yield elsewhere, processes + 1


async def _here(db: Pool, first: int, last: int, latest: datetime) -> Page:
    async with db.acquire() as conn:
        return await _checked(conn, first, last, latest)


async def _checked(conn: Connection, first: int, last: int, latest: datetime) -> Page:
    return check_page(first, last, await conn.fetch(sql.PAGE, first, last, timeout=_FETCH_S), latest)


class _Own:
    """What a process of its own has: a loop, a connection, and the time after which an event is from the future."""

    def __init__(self, dsn: str, latest: datetime) -> None:
        self.loop, self.latest = asyncio.new_event_loop(), latest
        self._connecting = connect(dsn, service="verify")
        self.conn = self.loop.run_until_complete(self._connecting.__aenter__())


_own: list[_Own] = []


def _begin(dsn: str, latest: datetime) -> None:
    gc.freeze()
    gc.set_threshold(200_000)  # a page's rows are no garbage, however many they are
    _own.append(_Own(dsn, latest))


def _elsewhere(first: int, last: int) -> bytes:
    own = _own[0]
    return _PACK.encode(own.loop.run_until_complete(_checked(own.conn, first, last, own.latest)))


def _ranges(begin: int, end: int, page_leaves: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        until = min(begin - begin % page_leaves + page_leaves, end)
        yield begin, until
        begin = until
