"""The only place that hands events out as they were hashed: one canonical JSON object a line, in the order of a chain or of the log."""

from collections.abc import AsyncIterator
from typing import Final

from adapters.postgres import Connection
from audit import proving_sql as sql
from audit.events import LOOKS
from audit.proving import Leaf

_PAGE: Final = 2_000


async def of_order(db: Connection, order_id: str, *, looks: bool = True) -> AsyncIterator[Leaf]:
    """An order's steps, then what was read of it: two chains, each from its first event on."""
    for chain in (order_id, order_id + LOOKS) if looks else (order_id,):
        async for leaf in of_chain(db, chain):
            yield leaf


async def of_chain(db: Connection, chain: str) -> AsyncIterator[Leaf]:
    """A chain's events, by position."""
    last = 0
    while rows := await db.fetch(sql.CHAIN_AFTER, chain, last, _PAGE):
        for row in rows:
            yield Leaf(row["leaf_index"], row["body"])
        last = rows[-1]["position"]


async def of_log(db: Connection, begin: int, end: int) -> AsyncIterator[Leaf]:
    """A range of leaves, in the log's order."""
    while rows := await db.fetch(sql.LOG_AFTER, begin, end, _PAGE):
        for row in rows:
            yield Leaf(row["leaf_index"], row["body"])
        begin = rows[-1]["leaf_index"] + 1
