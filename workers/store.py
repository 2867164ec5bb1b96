"""The only place where the workers write to the database: always through the outbox's own transition, or beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool
from orders.decide import Change
from orders.envelope import OutboxRow
from orders.order import Order
from outbox import sql as outbox_sql
from outbox.transition import apply, enqueue, finish
from workers import sql


@contextmanager
def reaching_the_database() -> Iterator[None]:
    """Names what a statement meets while the server is away. Raises `DatabaseUnavailable`."""
    try:
        yield
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the database cannot be asked: {type(error).__name__}") from error


async def commit(pool: Pool, change: Change, *, done_command: str | None, also: Sequence[OutboxRow] = ()) -> Order:
    """Write a change and, in the same transaction, other messages. Raises as `outbox.transition.apply`."""
    if not also:
        return await apply(pool, change, done_command=done_command)
    with reaching_the_database():
        async with pool.acquire() as conn, conn.transaction():
            order = await apply(conn, change, done_command=done_command)
            await enqueue(conn, list(also))
            return order


async def remember_attempt(pool: Pool, order_id: str, attempt: int) -> None:
    """Store the number of the next payment attempt. Never goes back."""
    with reaching_the_database():
        await pool.execute(outbox_sql.REMEMBER_PAYMENT, order_id, None, attempt)


async def finish_and_tell(pool: Pool, order: Order, command_id: str, also: Sequence[OutboxRow], at: datetime) -> None:
    """Remember that a command is done which changed nothing, and write the messages that follow from it. Idempotent."""
    if also:
        with reaching_the_database():
            await pool.execute(
                sql.FINISH_AND_TELL, command_id, at,
                [r.event_id for r in also], [r.aggregate_type for r in also], [r.aggregate_id for r in also],
                [r.position for r in also], [r.type for r in also], [r.schema_version for r in also],
                [r.body for r in also], [r.headers for r in also], [r.broker.value for r in also],
                [r.destination for r in also], [r.priority for r in also], [r.occurred_at for r in also],
            )  # fmt: skip
    if not also or command_id in order.pending:
        await finish(pool, order.order_id, command_id, at)
