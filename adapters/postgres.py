"""The only importer of asyncpg: pools, connections, and what their errors mean to us."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from orders.errors import RetryLater
from orders.failures import FailureType

Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"
Pool: TypeAlias = "asyncpg.Pool[Any]"
Executor: TypeAlias = "Connection | Pool"  # whoever runs one statement
Record = asyncpg.Record

PostgresError = asyncpg.PostgresError
UniqueViolation = asyncpg.UniqueViolationError
# What a caller may meet when the server is away, restarting, or full: the world is wrong for now.
UNAVAILABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection says that the server broke off between two statements
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
_CONNECT_TIMEOUT_S: Final = 10
_COMMAND_TIMEOUT_S: Final = 30


class DatabaseUnavailable(RetryLater):
    """PostgreSQL does not answer, or asked us to come back."""

    slug = "database-unavailable"
    failure = FailureType.SERVICE_UNAVAILABLE


async def _prepare(conn: Any) -> None:
    await conn.set_type_codec("jsonb", encoder=_to_json, decoder=msgspec.json.decode, schema="pg_catalog", format="text")


async def _leave_as_is(_: Any) -> None:
    """Nothing to reset, and so no round trip: we set nothing for a session, and hold no session locks or cursors."""


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _server_settings(service: str) -> dict[str, str]:
    return {"application_name": f"rushline-{service}", "timezone": "UTC"}


@asynccontextmanager
async def open_pool(
    dsn: str, *, service: str, size: int, ready: bool = False, lazy: bool = False, warm: Sequence[str] = ()
) -> AsyncIterator[Pool]:
    """A pool of up to `size` connections. Raises `DatabaseUnavailable` where the server cannot be reached at all.

    `ready`: all of them from the start, and kept. A new connection costs tens of milliseconds of this process's time
    (passwords, types), and so does the first use of a statement with new types: `warm` are prepared at once. `lazy`: none
    before it is needed, so that a server that is away is met by whoever needs it, and by nobody else.
    """

    async def prepare(conn: Any) -> None:
        await _prepare(conn)
        for statement in warm:
            await conn.prepare(statement)

    try:
        pool = await asyncpg.create_pool(
            dsn, min_size=size if ready else 0 if lazy else 1, max_size=size, timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S, init=prepare, reset=_leave_as_is, server_settings=_server_settings(service),
            max_inactive_connection_lifetime=0 if ready else 300,
        )  # fmt: skip
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {error}") from error
    try:
        yield pool
    finally:
        pool.terminate() if pool.is_closing() else await pool.close()


@asynccontextmanager
async def one_connection(db: Executor) -> AsyncIterator[Connection]:
    """The connection that was given, or one of the pool: for what takes more than one statement."""
    if isinstance(db, asyncpg.Pool):
        async with db.acquire() as conn:
            yield conn
    else:
        yield db


@asynccontextmanager
async def connect(dsn: str, *, service: str) -> AsyncIterator[Connection]:
    """One connection, for what must not share: leases, migrations. Raises `DatabaseUnavailable`."""
    try:
        conn = await asyncpg.connect(
            dsn, timeout=_CONNECT_TIMEOUT_S, command_timeout=_COMMAND_TIMEOUT_S, server_settings=_server_settings(service)
        )
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {error}") from error
    try:
        await _prepare(conn)
        yield conn
    finally:
        await conn.close(timeout=5)


@asynccontextmanager
async def transaction(db: Executor) -> AsyncIterator[Connection]:
    """A transaction on a connection of the pool, or on the caller's own (within their transaction, if they are in one).

    Raises `DatabaseUnavailable` where the server is away: whether it was committed is then unknown.
    """
    try:
        async with one_connection(db) as conn, conn.transaction():
            yield conn
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the change may or may not be written: {error}") from error


def sqlstate(error: BaseException) -> str:
    """The five characters of a PostgreSQL error, or nothing."""
    return str(getattr(error, "sqlstate", "") or "")
