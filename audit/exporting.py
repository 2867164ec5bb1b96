"""The only place that hands events out as they were hashed, wherever they are: in the order of a chain, or of the log."""

from collections.abc import AsyncIterator

from adapters.archive_store import ArchiveStore
from adapters.postgres import Connection
from audit.events import LOOKS
from audit.proving import Leaf
from audit.reader import events_in, events_of_chains


async def of_order(db: Connection, store: ArchiveStore | None, order_id: str, *, looks: bool = True) -> AsyncIterator[Leaf]:
    """An order's steps, then what was read of it: two chains, each from its first event on. Raises `ArchiveBroken`."""
    chains = (order_id, order_id + LOOKS) if looks else (order_id,)
    found = await events_of_chains(db, store, chains)
    for chain in chains:
        for event in found:
            if event.chain == chain:
                yield Leaf(event.leaf_index, event.body)


async def of_log(db: Connection, store: ArchiveStore | None, begin: int, end: int) -> AsyncIterator[Leaf]:
    """A range of leaves, in the log's order. Raises `ArchiveBroken`, and `LedgerDiffers` at a leaf that is nowhere."""
    async for event in events_in(db, store, begin, end):
        yield Leaf(event.leaf_index, event.body)
