"""The only place where the ledger's events enter the Merkle tree: in the log's order, in batches, one at a time.

Whoever holds the tree's row does it; others stand by. The tiles it writes can be computed again from the events by anybody; what
proves that nobody did so behind our back are the checkpoints that are signed over them and kept elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Record
from audit import checkpoint_sql as sql
from orders.errors import CallAnOperator
from orders.merkle import leaf_hash
from orders.proofs import (
    consistency_proof,
    inclusion_proof,
    root_of,
    tiles_for_consistency,
    tiles_for_inclusion,
    tiles_for_root,
)
from orders.tiles import frontier_of, grow, partial_tiles

AT_ONCE: Final = 5_000
Tiles = Mapping[tuple[int, int], bytes]


class LogBroken(CallAnOperator):
    """A leaf that the log has given out is missing from the ledger: nothing is signed over a gap."""

    slug = "log-broken"


class TreeHead(msgspec.Struct, frozen=True):
    """How far the tree is, and its root."""

    size: int
    root: bytes


async def step(db: Connection, most: int = AT_ONCE) -> int:
    """Let the next events enter the tree; how many did. Nothing while somebody else is at it.

    Raises `LogBroken`, `TileUnusable`, `DatabaseUnavailable`; nothing has changed then.
    """
    try:
        async with db.transaction():
            held = await db.fetchrow(sql.HOLD_TREE)
            if held is None:
                return 0
            size = int(held["size"])
            rows = await db.fetch(sql.NEW_LEAVES, size, most)
            if rows:
                await _enter(db, size, rows)
            return len(rows)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the tree cannot grow: {error}") from error


async def _enter(db: Connection, size: int, rows: Sequence[Record]) -> None:
    for expected, row in enumerate(rows, size):
        if row["leaf_index"] != expected:
            raise LogBroken(f"leaf {expected} is missing: the ledger goes on with leaf {row['leaf_index']}")
    begun = await tiles(db, partial_tiles(size))
    changed = grow(size, begun, [leaf_hash(row["body"]) for row in rows])
    size += len(rows)
    root = frontier_of(size, {**begun, **changed}).root()
    await db.execute(sql.PUT_TILES, [k[0] for k in changed], [k[1] for k in changed], list(changed.values()))
    await db.execute(sql.GROW, size, root)


async def head(db: Connection) -> TreeHead:
    """How far the tree is. Raises `DatabaseUnavailable`."""
    try:
        row = await db.fetchrow(sql.TREE)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the tree cannot be read: {error}") from error
    assert row is not None
    return TreeHead(int(row["size"]), bytes(row["root"]))


async def tiles(db: Connection, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """These tiles, as wide as they are by now; those that do not exist are left out. Raises `DatabaseUnavailable`."""
    keys = sorted(wanted)
    try:
        rows = await db.fetch(sql.TILES, [level for level, _ in keys], [index for _, index in keys])
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the tiles cannot be read: {error}") from error
    return {(row["level"], row["index"]): bytes(row["hashes"]) for row in rows}


async def root_at(db: Connection, size: int) -> bytes:
    """The root that the tree had at that size, from its tiles. Raises `TileUnusable`, `DatabaseUnavailable`."""
    return root_of(size, await tiles(db, tiles_for_root(size)))


async def consistency(db: Connection, old: int, new: int) -> list[bytes]:
    """What shows that the tree of size `old` is the beginning of that of size `new`. Raises as `root_at`, and `WrongIndex`."""
    return consistency_proof(old, new, await tiles(db, tiles_for_consistency(old, new)))


async def inclusion(db: Connection, index: int, size: int) -> list[bytes]:
    """What shows that leaf `index` is in the tree of that size. Raises as `root_at`, and `WrongIndex`."""
    return inclusion_proof(index, size, await tiles(db, tiles_for_inclusion(index, size)))
