"""The only place that gathers what an investigation is made of: a few queries on the orders' database, and two on the ledger's.

The ledger may be away: then everything but the log is there, and it is said what could not be checked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Pool, PostgresError, one_connection
from audit.events import LOOKS
from audit.investigation import sql
from audit.investigation.material import Leaf, Ledger, Material
from orders.errors import NotFound, RushlineError
from orders.order import Order

_CLOCKS: Final = timedelta(hours=1)  # how far clocks of ours may be apart; an event is sequenced after it happened
_PATIENCE_S: Final = 2.0
_READS: Final = 3
_ORDER: Final = msgspec.json.Decoder(Order)
_PERSONAL: Final = b'"personal":{'
Older = Callable[[Sequence[str]], Awaitable[Sequence[Leaf]]]


class _Keyed(msgspec.Struct):
    personal: dict[str, str] | None = None


_KEYED: Final = msgspec.json.Decoder(_Keyed)


async def gather(orders: Pool, ledger: "Pool | None", order_id: str, older: Older | None = None) -> Material:
    """What is known about an order. Raises `NotFound`, `DatabaseUnavailable` where the orders' own database is away.

    `older`: fetches all leaves of some chains where the log alone has not all of them. What happens between two of the queries is
    seen by the later one only: then all of it is read once more, so that no step of a minute ago looks like one too many.
    """
    for _ in range(_READS):
        material = await _gathered(orders, ledger, order_id, older)
        if not _ahead(material):
            break
    return material


def _ahead(material: Material) -> bool:
    """Whether events are there that the heads, which were read before, do not know."""
    heads = {material.order.order_id: material.order.position}
    heads[material.order.order_id + LOOKS] = material.looks_head[0] if material.looks_head else 0
    leaves = [*material.own, *(material.ledger.leaves if material.ledger else ())]
    return any(leaf.position > heads.get(leaf.chain, leaf.position) for leaf in leaves)


async def _gathered(orders: Pool, ledger: "Pool | None", order_id: str, older: Older | None) -> Material:
    try:
        row = await orders.fetchrow(sql.ORDER, order_id)
        if row is None:
            raise NotFound("there is no such order")
        order: Order = _ORDER.decode(row["order_row"])
        own, (log, away) = await asyncio.gather(_own(orders, order), _log(ledger, order, older))
        keys = await _keys(orders, [*own, *(log.leaves if log else ())])
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the order cannot be read: {error}") from error
    looks = row["looks"]
    return Material(
        order=order, own=own, looks_head=(looks["position"], looks["head"]) if looks else None, failures=row["failures"],
        held=[*row["held"], *(log.held if log else ())], disputes=row["disputes"], keys=keys, ledger=log, away=away,
    )  # fmt: skip


async def _own(orders: Pool, order: Order) -> list[Leaf]:
    rows = await orders.fetch(sql.OWN_EVENTS, order.order_id, order.placed_at - _CLOCKS, order.updated_at + _CLOCKS)
    return [Leaf(chain=order.order_id, position=row["position"], leaf_index=None, body=row["audit"]) for row in rows]


async def _log(ledger: "Pool | None", order: Order, older: Older | None) -> tuple[Ledger | None, str]:
    if ledger is None:
        return None, "it is not configured here"
    try:
        async with asyncio.timeout(_PATIENCE_S), one_connection(ledger) as conn:
            found = await _read_log(conn, order)
    except (PostgresError, *UNAVAILABLE) as error:
        return None, f"it cannot be reached: {type(error).__name__}"
    if not found.archived or older is None:
        return found, ""
    try:
        leaves = list(await older([order.order_id, order.order_id + LOOKS]))
    except RushlineError as error:
        return found, str(error)
    return msgspec.structs.replace(found, leaves=leaves, archived=False), ""


async def _read_log(conn: Connection, order: Order) -> Ledger:
    chains = [order.order_id, order.order_id + LOOKS]
    rows = await conn.fetch(sql.LEAVES, chains, order.placed_at - _CLOCKS)
    leaves = [
        Leaf(chain=row["chain"], position=row["position"], leaf_index=row["leaf_index"], body=row["body"]) for row in rows
    ]
    last = max((row["leaf_index"] for row in rows if row["chain"] == order.order_id), default=-1)
    log = await conn.fetchrow(sql.LOG, chains, last, order.placed_at, order.updated_at)
    assert log is not None
    covered = (log["covered_size"], log["covered_at"]) if leaves and log["covered_size"] is not None else None
    return Ledger(
        leaves=leaves, set_aside=[(each[0], each[1], each[2]) for each in log["set_aside"]], log_size=log["log_size"],
        covered=covered, archived=bool(log["archived"]), held=log["held"],
    )  # fmt: skip


async def _keys(orders: Pool, leaves: Sequence[Leaf]) -> dict[str, bytes | None]:
    """The keys that these events name. One that there never was is not among them; a destroyed one is None."""
    wanted: set[str] = set()
    for leaf in leaves:
        if _PERSONAL in leaf.body:
            wanted |= _named(leaf.body)
    if not wanted:
        return {}
    return {row["key_id"]: row["key"] for row in await orders.fetch(sql.KEYS, sorted(wanted))}


def _named(body: bytes) -> set[str]:
    try:
        personal = _KEYED.decode(body).personal
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return set()
    return {personal["key_id"]} if personal and "key_id" in personal else set()
