"""The only place that closes letters whose command has nothing left to do: its order's compensation came first, or it was
done by a copy of itself.

Refunds and notices of a cancellation are still owed when their order has ended, and so are never superseded.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool, Record, transaction
from orders.errors import NotAllowed
from orders.failures import Category
from orders.lifecycle import Action, Deadline, row_for
from orders.names import Command, State
from orders.order import Pending
from orders.rerouting import REROUTED_AFTER
from outbox.letters import sql
from outbox.letters.model import LetterState
from outbox.letters.settling import DONE, DONE_BEFORE, settle

SUPERSEDED: Final = "superseded"
BY: Final = "keeper"
_FRAUD: Final = "fraud"  # found after the end of an order, it is still recorded
_AT_ONCE: Final = 500
_END: Final = (datetime(9999, 12, 31, tzinfo=UTC), "")

# What a command would do to its order, where it does one thing in one stage.
_ACTIONS: Final = {
    Command.PAYMENT_CHARGE: (Action.BEGIN_PAYMENT, Action.CONFIRM_PAYMENT),
    Command.RESTAURANT_NOTIFY: (Action.NOTIFY_RESTAURANT,),
    Command.DRIVER_DISPATCH: (Action.ASSIGN_DRIVER,),
}


class OrderNow(msgspec.Struct, frozen=True, kw_only=True):
    """What of an order decides whether a command for it comes too late."""

    state: State
    pending: dict[str, Pending]
    deadline: Deadline | None
    deadline_position: int | None


def is_superseded(kind: str, message_id: str, body: Mapping[str, Any], order: OrderNow) -> bool:
    """Whether the command would only be stale. Pure."""
    if message_id in order.pending:
        return False
    match kind:
        case Command.PAYMENT_CHARGE | Command.RESTAURANT_NOTIFY | Command.DRIVER_DISPATCH:
            issued_again = any(entry.type == kind for entry in order.pending.values())
            return issued_again or not any(_legal(action, order.state) for action in _ACTIONS[Command(kind)])
        case Command.ORDER_CANCEL:
            return body.get("reason") != _FRAUD and not _legal(_ending(body), order.state)
        case Command.ORDER_DEADLINE:
            return (order.deadline, order.deadline_position) != (body.get("kind"), body.get("position"))
        case _:
            return False


def _ending(body: Mapping[str, Any]) -> Action:
    return Action.REROUTE if body.get("reason") in REROUTED_AFTER else Action.CANCEL


def _legal(action: Action, state: State) -> bool:
    try:
        row_for(action, state)
    except NotAllowed:
        return False
    return True


async def step(pool: Pool, now: datetime) -> int:
    """A single round over the latest letters. Raises `DatabaseUnavailable`."""
    return await Superseding(pool).step(now)


class Superseding:
    """`step` looks at the latest letters each time, and at a part of the others: it comes round to each of them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._from = _END

    async def step(self, now: datetime) -> int:
        """One round. Returns how many letters were closed. Raises `DatabaseUnavailable`."""
        try:
            rows = await self._look(_END)
            if self._from != _END and len(rows) == _AT_ONCE:
                older = await self._look(self._from)
                rows += older
                self._from = _key(older[-1]) if len(older) == _AT_ONCE else _END
            else:
                self._from = _key(rows[-1]) if len(rows) == _AT_ONCE else _END
            return await self._close(rows, now)
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"letters of orders cannot be read: {error}") from error

    async def _look(self, before: tuple[datetime, str]) -> list[Record]:
        return list(await self._pool.fetch(sql.OF_ORDERS, *before, _AT_ONCE, [Command.ORDER_CANCEL, Command.ORDER_DEADLINE]))

    async def _close(self, rows: list[Record], now: datetime) -> int:
        done = [row for row in rows if row["done"]]
        for row in done:
            outcome = DONE if row["letter_state"] == LetterState.REPLAYING else DONE_BEFORE
            await settle(self._pool, row["letter_id"], outcome=outcome, now=now)
        late = {row["letter_id"]: row["order_id"] for row in rows if not row["done"] and _late(row)}
        return len(done) + (await self._supersede(late, now) if late else 0)

    async def _supersede(self, late: Mapping[str, str], now: datetime) -> int:
        async with transaction(self._pool) as conn:
            held = [row["letter_id"] for row in await conn.fetch(sql.HOLD_OPEN, list(late))]
            moved = {row["order_id"]: row for row in await conn.fetch(sql.MOVED_BY, list(late.values()))}
            details = [_told(moved.get(late[letter_id])) for letter_id in held]
            await conn.execute(sql.END, held, details, LetterState.RESOLVED.value, SUPERSEDED, BY, now)
        return len(held)


def _late(row: Record) -> bool:
    """Poison is left to people, whatever its headers say of an order; so is what is being sent again."""
    if row["order_id"] is None or row["category"] == Category.POISON or row["letter_state"] != LetterState.OPEN:
        return False
    try:
        body = msgspec.json.decode(row["body"], type=dict[str, Any]) if row["body"] else {}
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return False
    return is_superseded(row["type"], row["message_id"], body, msgspec.convert(dict(row), OrderNow))


def _told(event: Record | None) -> dict[str, Any]:
    if event is None:
        return {"outcome": SUPERSEDED}
    return {"outcome": SUPERSEDED, "by": event["type"], "position": event["position"], "event_id": event["event_id"]}


def _key(row: Record) -> tuple[datetime, str]:
    return row["parked_at"], row["letter_id"]
