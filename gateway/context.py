"""The only place for what every route needs: the gateway's connections and settings, and the cause of a change."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Pool, Record
from adapters.settings import Settings
from gateway.archived import Archived
from gateway.edge import Arrival
from gateway.watch import Watch
from orders.decide import Cause, Wait
from orders.errors import NotFound
from orders.facts import Actor
from orders.ids import is_id
from orders.order import Order
from outbox.transition import Clock, utc_now

SERVICE: Final = "gateway"
_ACQUIRE_S: Final = 5.0
_LEDGER_S: Final = 2.0

HttpRequest: TypeAlias = Request[Actor, Any, Any]


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Around every call of PostgreSQL that is not the transition's own. Raises `DatabaseUnavailable`."""
    try:
        yield
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"{what}: {error}") from error


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the routes share. `ledger`: for reading the audit trail; perhaps another server, which may be away.
    `archive`: what has left it.
    """

    settings: Settings
    pool: Pool
    wait: Wait
    watch: Watch
    clock: Clock = utc_now
    ledger: "Pool | None" = None
    archive: Archived | None = None

    def now(self) -> datetime:
        return self.clock()

    @asynccontextmanager
    async def transaction(self, what: str) -> AsyncIterator[Connection]:
        """One transaction on one connection. Raises `DatabaseUnavailable`."""
        async with self.connection(what) as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def connection(self, what: str) -> AsyncIterator[Connection]:
        """One connection, for a statement that is its own transaction. Raises `DatabaseUnavailable`."""
        with answering(what):
            async with self.pool.acquire(timeout=_ACQUIRE_S) as conn:
                yield conn

    @asynccontextmanager
    async def reading(self, what: str) -> AsyncIterator[Connection]:
        """A transaction on the ledger's server, for reading. Raises `DatabaseUnavailable`."""
        if self.ledger is None:
            raise DatabaseUnavailable(f"{what}: this gateway knows no ledger")
        with answering(what):
            async with self.ledger.acquire(timeout=_LEDGER_S) as conn, conn.transaction(readonly=True):
                yield conn

    async def rows(self, sql: str, *args: Any) -> list[Record]:
        async with self.connection("the rows cannot be read") as conn:
            return await conn.fetch(sql, *args)

    async def row(self, sql: str, *args: Any) -> Record | None:
        async with self.connection("the row cannot be read") as conn:
            return await conn.fetchrow(sql, *args)


Gate: TypeAlias = NamedDependency[SkipValidation[Gateway]]


def cause_of(request: HttpRequest) -> Cause:
    """Who asks for the change, in which request. The id is the caller's, so its prefix keeps it apart from any command's."""
    arrival: Arrival = request.scope["rushline"]  # type: ignore[typeddict-item]  # put there by gateway/edge.py
    return Cause(id=f"req_{arrival.request_id}", actor=request.user, service=SERVICE, traceparent=arrival.traceparent)


def order_id_of(text: str) -> str:
    """The order's id in a path. Raises `NotFound` for anything that cannot be one."""
    if not is_id(text, "ord"):
        raise NotFound("there is no such order")
    return text


def orders_of(rows: list[Record]) -> list[Order]:
    return [msgspec.convert(row["order_row"], Order) for row in rows]
