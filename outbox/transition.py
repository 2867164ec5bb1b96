"""The one door to changing an order: load, decide, and one server-side call that writes all of it or nothing.

Two round trips. A lost race raises `LostRace` and is started again from the load by `move`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Executor, PostgresError, sqlstate, transaction
from adapters.settings import Settings
from orders import commands, facts
from orders.decide import Cause, Change, Wait, Wish, decide
from orders.envelope import OutboxRow
from orders.errors import AlreadyDone, LostRace, NotFound, Refuse
from orders.failures import FailureType
from orders.lifecycle import Deadline
from orders.order import Order
from orders.privacy import PersonalKey
from outbox import sql
from outbox.letters.compensated import record

__all__ = [
    "Clock", "DriverTaken", "Executor", "Request", "RequestAnswered", "RequestUnderWay", "apply", "enqueue", "finish", "load", "move",
    "place", "utc_now", "waits",
]  # fmt: skip

_LOST_RACE: Final = "RL001"
_LOST_DRIVER: Final = "RL002"
_KEY_BUSY: Final = "RL004"
_UNIQUE: Final = "23505"
_ATTEMPTS: Final = 5
_ORDER: Final = msgspec.json.Decoder(Order)

Clock = Callable[[], datetime]


class DriverTaken(LostRace):
    """The driver's reservation ran out before the order could take them. Nothing was written; look for another."""

    slug = "driver-taken"
    failure = FailureType.DRIVER_UNAVAILABLE


class RequestUnderWay(Refuse):
    """Another request with this idempotency key is being answered. Nothing was written."""

    slug = "idempotency-in-flight"


class RequestAnswered(AlreadyDone):
    """A request with this idempotency key was answered meanwhile. Nothing was written; its answer is stored."""

    slug = "idempotency-answered"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a request that places an order: the same key gets the same answer.

    `new_key`: the customer's key for personal data, where this order is the first to need one.
    """

    customer_id: str
    key: str
    body_hash: str
    answer: bytes
    new_key: PersonalKey | None = None


def utc_now() -> datetime:
    return datetime.now(UTC)


def waits(settings: Settings) -> Wait:
    """How long an order may wait for each kind of thing, in wall time."""
    seconds = {
        Deadline.STUCK: settings.stuck_s,
        Deadline.RESTAURANT_ANSWER: settings.restaurant_answer_s,
        Deadline.DRIVER_SEARCH: settings.driver_search_s,
        Deadline.DRIVER_ESCALATION: settings.driver_escalation_s,
        Deadline.PICK_UP: settings.pick_up_s,
        Deadline.DELIVERY: settings.delivery_s,
        Deadline.CUSTOMER_DECISION: settings.customer_decision_s,
    }
    return lambda kind: timedelta(seconds=settings.scaled_s(seconds[kind]))


async def load(db: Executor, order_id: str, message_id: str = "") -> tuple[Order, bool]:
    """The order as it is, and whether this command has been done. Raises `NotFound`, `DatabaseUnavailable`."""
    try:
        row = await db.fetchrow(sql.LOAD, order_id, message_id)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the order cannot be loaded: {error}") from error
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    return _ORDER.decode(row["order_row"]), row["done"]


async def apply(db: Executor, change: Change, *, done_command: str | None = None) -> Order:
    """Write the change: order, events, outbox, inbox. Returns the order as written.

    Raises `LostRace` where somebody was faster, `DriverTaken`, `AlreadyDone` where the command was done meanwhile,
    `DatabaseUnavailable`. In each case nothing was written, except that after `DatabaseUnavailable` the outcome is
    unknown: load again, and the position tells. A change that answers a failure takes a transaction: its letter is in it.
    """
    if change.failure is None:
        await _write(db, sql.APPLY, (), change, done_command)
    else:
        async with transaction(db) as conn:
            await _write(conn, sql.APPLY, (), change, done_command)
            await record(conn, change)
    return change.order


async def place(db: Executor, change: Change, request: Request) -> Order:
    """Write an order's first change and the answer to the request that placed it. Returns the order as written.

    Raises `RequestUnderWay`, `RequestAnswered` (read its answer), `DatabaseUnavailable` as `apply` does.
    """
    new_key = request.new_key
    before = (
        request.customer_id, request.key, request.body_hash, request.answer,
        new_key.key_id if new_key else None, new_key.key if new_key else None,
    )  # fmt: skip
    await _write(db, sql.PLACE, before, change, None)
    return change.order


async def _write(
    db: Executor, statement: LiteralString, before: tuple[str | bytes | None, ...], change: Change, done_command: str | None
) -> None:
    events, rows = change.events, change.commands
    try:
        await db.execute(
            statement,
            *before,
            change.order, change.expected,
            [e.position for e in events], [e.event_id for e in events], [e.audit_id for e in events],
            [e.type.value for e in events], [e.action for e in events],
            [e.fact for e in events], [e.audit for e in events],
            facts.SCHEMA_VERSION, change.headers, change.order.updated_at,
            [r.event_id for r in rows], [r.type for r in rows], [r.position for r in rows], [r.body for r in rows],
            [r.priority for r in rows], commands.SCHEMA_VERSION,
            done_command, change.take_driver, change.free_driver,
        )  # fmt: skip
    except PostgresError as error:
        raise _meaning(error, change, done_command) from error
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the change may or may not be written: {error}") from error


def _meaning(error: PostgresError, change: Change, done_command: str | None) -> Exception:  # noqa: PLR0911  # one row per answer
    state, order_id = sqlstate(error), change.order.order_id
    constraint = str(getattr(error, "constraint_name", "") or "")
    if state == _LOST_DRIVER:
        return DriverTaken(f"driver {change.take_driver} is no longer reserved for {order_id}")
    if state == _KEY_BUSY:
        return RequestUnderWay("the first request with this key has not been answered yet")
    if state == _UNIQUE and constraint == "idempotency_keys_pkey":
        return RequestAnswered("a request with this key was answered meanwhile")
    if state == _UNIQUE and constraint == "inbox_pkey":
        return AlreadyDone(f"command {done_command} was done by another worker")
    if state == _LOST_RACE or (state == _UNIQUE and constraint == "orders_pkey"):
        return LostRace(f"order {order_id} is no longer at position {change.expected}")
    if isinstance(error, UNAVAILABLE):
        return DatabaseUnavailable(f"the change may or may not be written: {error}")
    return error


async def move(
    db: Executor,
    order_id: str,
    wish: Wish | Callable[[Order], Wish],
    cause: Cause,
    wait: Wait,
    *,
    clock: Clock = utc_now,
) -> Order:
    """Grant a wish on an order, from the load, again after a lost race. Returns the order as written.

    A wish that depends on the order (ownership, what is there to refund) is given as a function and is asked each time.
    Raises `NotFound`, `NotAllowed`, what the function raises, and `LostRace` after five lost races in a row.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(LostRace), stop=stop_after_attempt(_ATTEMPTS), wait=wait_random(0, 0.02), reraise=True
    ):
        with attempt:
            order, _ = await load(db, order_id)
            wanted = wish(order) if callable(wish) else wish
            return await apply(db, decide(order, wanted, cause, clock(), wait))
    raise AssertionError("unreachable: the last attempt raises")


async def finish(db: Executor, order_id: str, message_id: str, at: datetime) -> None:
    """Remember that a command is done which changed nothing. Idempotent."""
    try:
        await db.execute(sql.FINISH, order_id, message_id, at)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the command may or may not be remembered: {error}") from error


async def enqueue(db: Executor, rows: list[OutboxRow]) -> None:
    """Write messages that are no step of an order, in the caller's transaction if it has one."""
    if not rows:
        return
    columns: list[list[Any]] = [
        [r.event_id for r in rows], [r.aggregate_type for r in rows], [r.aggregate_id for r in rows],
        [r.position for r in rows], [r.type for r in rows], [r.schema_version for r in rows], [r.body for r in rows],
        [r.headers for r in rows], [r.broker.value for r in rows], [r.destination for r in rows],
        [r.priority for r in rows], [r.occurred_at for r in rows],
    ]  # fmt: skip
    await db.execute(sql.ENQUEUE, *columns)
