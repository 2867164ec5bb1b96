"""The only place that holds archived leaves against the log's tree: its tiles, its frontier before them, a checkpoint after them."""

import base64
from collections.abc import Iterable, Sequence

from adapters.postgres import Executor
from audit.archive import sql
from audit.archive.manifest import MANIFEST, LedgerDiffers, Manifest, ManifestAltered, Tree
from orders.errors import ProofError
from orders.merkle import HASH_BYTES, Frontier
from orders.proofs import consistency_proof, tiles_for_consistency, verify_consistency
from orders.tiles import WIDTH, TileUnusable, frontier_of, partial_tiles

Tiles = dict[tuple[int, int], bytes]


class Growing:
    """The root of some leaves alone, and the log's tree as they make it grow."""

    def __init__(self, before: Frontier) -> None:
        self.before = before.hashes
        self._alone, self._tree = Frontier(), before.copy()
        self.end = before.size

    def extend(self, hashes: Sequence[bytes]) -> None:
        self._alone.extend(hashes)
        if self.before:  # without leaves before these, the two are one tree
            self._tree.extend(hashes)
        self.end += len(hashes)

    def root(self) -> bytes:
        """Of these leaves alone."""
        return self._alone.root()

    def tree_root(self) -> bytes:
        """Of the whole tree up to here."""
        return self._tree.root() if self.before else self._alone.root()


async def tiles_of(db: Executor, wanted: Iterable[tuple[int, int]]) -> Tiles:
    """These tiles, as far as the ledger has them."""
    keys = sorted(wanted)
    rows = await db.fetch(sql.TILES, [level for level, _ in keys], [index for _, index in keys])
    return {(row["level"], row["index"]): row["hashes"] for row in rows}


async def frontier(db: Executor, size: int) -> Frontier:
    """The log's tree at this size. Raises `LedgerDiffers` where the tiles do not make one."""
    try:
        return frontier_of(size, await tiles_of(db, partial_tiles(size)))
    except TileUnusable as error:
        raise LedgerDiffers(f"the tree has no frontier at size {size}: {error}") from error


async def first_unlike(db: Executor, first: int, hashes: Sequence[bytes]) -> int | None:
    """The first leaf from `first` on whose hash in the log's tree is another, or None."""
    low, high = first // WIDTH, (first + len(hashes) - 1) // WIDTH
    tiles = await tiles_of(db, ((0, index) for index in range(low, high + 1)))
    logged = b"".join(tiles.get((0, index), b"").ljust(WIDTH * HASH_BYTES, b"\0") for index in range(low, high + 1))
    start = (first - low * WIDTH) * HASH_BYTES
    ours = b"".join(hashes)
    if logged[start : start + len(ours)] == ours:
        return None
    for number, each in enumerate(hashes):
        at = start + number * HASH_BYTES
        if logged[at : at + HASH_BYTES] != each:
            return first + number
    return None


async def unlike(db: Executor, leaves: Sequence[tuple[int, bytes]]) -> list[int]:
    """Which of these leaves, each with its hash, the log's tree has otherwise."""
    tiles = await tiles_of(db, {(0, leaf // WIDTH) for leaf, _ in leaves})
    found = []
    for leaf, digest in leaves:
        at = leaf % WIDTH * HASH_BYTES
        if tiles.get((0, leaf // WIDTH), b"")[at : at + HASH_BYTES] != digest:
            found.append(leaf)
    return found


async def tie(db: Executor, grown: Growing) -> Tree:
    """What ties the leaves to the first checkpoint after them. Raises `LedgerDiffers` where its tree has not begun with them."""
    row = await db.fetchrow(sql.COVERING, grown.end)
    if row is None:
        raise LedgerDiffers(f"no checkpoint covers the {grown.end} leaves yet")
    size = int(row["size"])
    try:
        proof = consistency_proof(grown.end, size, await tiles_of(db, tiles_for_consistency(grown.end, size)))
        verify_consistency(grown.end, size, proof, grown.tree_root(), row["root"])
    except (TileUnusable, ProofError) as error:
        raise LedgerDiffers(
            f"the leaves before {grown.end} are not the beginning of the checkpoint of size {size}: {error}"
        ) from error
    return Tree(
        before=[each.hex() for each in grown.before], size=size, root=row["root"].hex(), note=row["note"],
        consistency=[each.hex() for each in proof],
    )  # fmt: skip


def start(manifest: Manifest) -> Growing:
    """The tree as the manifest says it was before its leaves. Raises `ManifestAltered`."""
    try:
        return Growing(Frontier(manifest.first_leaf, [bytes.fromhex(each) for each in manifest.tree.before]))
    except ValueError as error:
        raise ManifestAltered(
            manifest.path(MANIFEST), f"its tree before leaf {manifest.first_leaf} is none: {error}"
        ) from error


def check_tie(manifest: Manifest, grown: Growing) -> None:
    """That the leaves make the root that the manifest says, and lead to its checkpoint. Raises `ManifestAltered`."""
    path, tree = manifest.path(MANIFEST), manifest.tree
    if grown.root().hex() != manifest.root:
        raise ManifestAltered(path, f"its root is {manifest.root}, and its leaves make {grown.root().hex()}")
    named = tree.note.split("\n")[1:3]
    try:
        hashes = [bytes.fromhex(each) for each in tree.consistency]
        root = bytes.fromhex(tree.root)
        verify_consistency(manifest.end_leaf, tree.size, hashes, grown.tree_root(), root)
    except (ValueError, ProofError) as error:
        raise ManifestAltered(path, f"its leaves do not lead to its checkpoint of size {tree.size}: {error}") from error
    if named != [str(tree.size), base64.b64encode(root).decode()]:
        raise ManifestAltered(path, f"its checkpoint's note says {named}, not size {tree.size} with that root")
