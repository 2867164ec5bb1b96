"""The only place that erases a customer: keys, addresses, coordinates, in one transaction, with one event that says so.

The chains and the log stay as they are and still verify: what was personal in them is ciphertext that nobody can read any more.
What is not erased here, and for how long it stays, is in docs/support.md.
"""

from datetime import datetime
from typing import Final

import msgspec

from adapters.postgres import Connection, Executor
from orders.decide import Cause
from orders.errors import Invalid, NotFound, Refuse
from orders.facts import Actor
from orders.names import Act, Role
from outbox import deeds, personal_keys
from outbox import erasure_sql as sql
from outbox.deeds import Deed, desk_of
from outbox.letters.sending import writing

SERVICE: Final = "erasure"
_LONGEST: Final = 500


class StillNeeded(Refuse):
    """Orders under way and letters to be sent need the address, open disputes what was said. Nothing was erased."""

    slug = "still-needed"


class NoSuchCustomer(NotFound):
    """There is nothing of such a customer."""

    slug = "customer-not-found"


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, or would be. `keys`: the ids of those that were destroyed."""

    customer_id: str
    keys: list[str]
    orders: int
    places: int
    letters: int
    dry_run: bool
    erased_at: datetime


async def erase(
    db: Executor, customer_id: str, *, reason: str, actor: str, cause: str, now: datetime, dry_run: bool = False
) -> Erasure:
    """Erase a customer whose orders have all come to their end.

    Raises `StillNeeded`, `NoSuchCustomer`, `Invalid`, `DatabaseUnavailable`; nothing is erased then. Once more does no harm: what
    has come since is erased.
    """
    if not reason.strip() or len(reason) > _LONGEST or not reason.isprintable():
        raise Invalid("reason", f"give 1 to {_LONGEST} printable characters")
    async with writing(db, dry_run=dry_run) as conn:
        orders = await _orders(conn, customer_id)
        keys = await personal_keys.destroy(conn, customer_id, now)
        if not orders and not keys:
            raise NoSuchCustomer(f"there are no orders and no keys of {customer_id}")
        await conn.execute(sql.BLANK, customer_id)
        await conn.execute(sql.BLANK_FOUND, customer_id)
        places = int((await conn.execute(sql.FORGET_PLACES, customer_id)).rpartition(" ")[2])
        letters = int(await conn.fetchval(sql.ERASE_LETTERS, customer_id))
        deed = Deed(
            act=Act.CUSTOMER_ERASED, chain=desk_of(f"{Role.OPERATOR.value}:{actor}"), reason=reason.strip(),
            details={"customer_id": customer_id, "keys": keys, "orders": orders, "places": places, "letters": letters},
        )  # fmt: skip
        await deeds.record(conn, [deed], Cause(id=cause, actor=Actor(Role.OPERATOR, actor), service=SERVICE), now)
    return Erasure(
        customer_id=customer_id, keys=keys, orders=orders, places=places, letters=letters, dry_run=dry_run, erased_at=now
    )  # fmt: skip


async def _orders(conn: Connection, customer_id: str) -> int:
    """How many orders the customer has. Raises `StillNeeded`."""
    orders = await conn.fetch(sql.ORDERS, customer_id)
    if under_way := [row["order_id"] for row in orders if not row["final"]]:
        raise StillNeeded(
            f"{len(under_way)} orders are under way and need the address, like {under_way[0]}: erase when they ended"
        )
    disputes = await conn.fetch(sql.OPEN_DISPUTES, customer_id)
    if disputes:
        raise StillNeeded(f"{disputes[0]['dispute_id']} is open and needs what was said in it: resolve it first")
    if to_send := await conn.fetchval(sql.STILL_TO_SEND, customer_id):
        raise StillNeeded(f"{to_send} is still to be sent, and the address with it: replay or discard it first")
    return len(orders)
