"""The only place that follows orders for whoever watches them: one query for all of them, not one per connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from adapters.postgres import UNAVAILABLE, Pool
from gateway import sql
from orders.errors import RushlineError
from orders.facts import SCHEMA_VERSION, FactBody, read_fact
from orders.names import FINAL

_POLL_S: Final = 0.25
_AFTER_ERROR_S: Final = 2.0
_HEARTBEAT_S: Final = 15.0
_FINAL: Final = [state.value for state in FINAL]
_log = structlog.get_logger()

Mail = asyncio.Queue["FactBody | None"]  # None: nothing more will come


@dataclass
class _Order:
    position: int
    mail: set[Mail] = field(default_factory=set)


class Watch:
    """Polls for news of the watched orders while there are any, and hands them to every follower."""

    def __init__(self, pool: Pool, *, poll_s: float = _POLL_S, heartbeat_s: float = _HEARTBEAT_S) -> None:
        self._pool, self._poll_s, self._heartbeat_s = pool, poll_s, heartbeat_s
        self._orders: dict[str, _Order] = {}
        self._changed = asyncio.Event()
        self._closed = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; then every follower's stream ends, to be resumed elsewhere."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                pause = self._poll_s
                try:
                    await self.step()
                except (*UNAVAILABLE, RushlineError) as error:
                    _log.warning("gateway.watch.failed", error=repr(error))
                    pause = _AFTER_ERROR_S
                self._changed.clear()
                joined = asyncio.ensure_future(self._changed.wait())
                timeout = pause if self._orders else None
                await asyncio.wait({joined, stopping}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                joined.cancel()
        finally:
            self._closed = True
            stopping.cancel()
            for order_id in list(self._orders):
                self._end(order_id)

    async def step(self) -> int:
        """Ask once for all watched orders; how many events were handed on."""
        if not self._orders:
            return 0
        asked = {order_id: order.position for order_id, order in self._orders.items()}
        rows = await self._pool.fetch(sql.NEWS, list(asked), list(asked.values()), _FINAL)
        for row in rows:
            order = self._orders.get(row["order_id"])
            if order is None or row["position"] is None or row["position"] <= order.position:
                continue
            order.position = row["position"]
            fact = read_fact(SCHEMA_VERSION, row["fact"])
            for mail in order.mail:
                mail.put_nowait(fact)
        for order_id in {row["order_id"] for row in rows if row["done"]}:
            if order_id in self._orders and self._orders[order_id].position >= asked[order_id]:
                self._end(order_id)
        return len(rows)

    def _end(self, order_id: str) -> None:
        for mail in self._orders.pop(order_id).mail:
            mail.put_nowait(None)

    async def follow(self, order_id: str, after: int) -> AsyncGenerator["FactBody | None", None]:
        """The order's events above this position, each once, in order; None now and then where nothing happens."""
        if self._closed:
            return
        mail: Mail = asyncio.Queue()
        order = self._orders.setdefault(order_id, _Order(after))
        order.position = min(order.position, after)
        order.mail.add(mail)
        self._changed.set()
        try:
            while True:
                try:
                    fact = await asyncio.wait_for(mail.get(), self._heartbeat_s)
                except TimeoutError:
                    yield None
                    continue
                if fact is None:
                    return
                if (fact.position or 0) > after:
                    after = fact.position or 0
                    yield fact
        finally:
            order.mail.discard(mail)
            if not order.mail and self._orders.get(order_id) is order:
                with suppress(KeyError):
                    del self._orders[order_id]
