"""The only place that writes what was done to a letter into the audit trail of its order.

In the transaction of the deed itself: neither is ever there without the other.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from adapters.postgres import Connection, transaction
from orders.decide import Cause, Wish, decide
from orders.errors import LostRace, NotFound
from orders.lifecycle import Action, Deadline
from outbox.letters.desk import actor_of
from outbox.transition import Executor, apply, load

_SERVICE: Final = "letters"
_ATTEMPTS: Final = 6
_T = TypeVar("_T")


async def in_one_transaction(db: Executor, deed: Callable[[Connection], Awaitable[_T]]) -> _T:
    """The deed, all or nothing, once more from its beginning where somebody moved the order meanwhile.

    Raises what the deed raises, `LostRace` after several lost races in a row, `DatabaseUnavailable`.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(LostRace), stop=stop_after_attempt(_ATTEMPTS), wait=wait_random(0, 0.02), reraise=True
    ):
        with attempt:
            async with transaction(db) as conn:
                return await deed(conn)
    raise AssertionError("unreachable: the last attempt raises")


async def record(
    conn: Connection, order_id: str | None, *, actor: str, reason: str, data: dict[str, Any], cause: str, now: datetime
) -> bool:
    """An intervention on the order, in the caller's transaction. False where there is no such order.

    Where it is false, the caller tells the desk (`desk.tell`), last. Call it before anything else of the transaction takes a letter: orders are locked first, everywhere. Raises `LostRace`.
    """
    if order_id is None:
        return False
    try:
        order, _ = await load(conn, order_id)
    except NotFound:
        return False
    wish = Wish(action=Action.INTERVENE, reason=reason, data=data)
    why = Cause(id=cause, actor=actor_of(actor), service=_SERVICE, traceparent=order.traceparent)
    await apply(conn, decide(order, wish, why, now, _as_before))
    return True


def _as_before(_: Deadline) -> timedelta:
    """An intervention leaves the order's deadline as it is; this is for an order that waits for something without one."""
    return timedelta(minutes=30)
