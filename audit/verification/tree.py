"""The only place that grows the log's tree again from its events, and holds it against stored tiles and signed checkpoints."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from adapters.postgres import Connection
from audit.tree import tiles
from audit.verification import sql
from audit.verification.differing import Difference, explain
from audit.verification.findings import Findings, Kind
from orders.merkle import HASH_BYTES, Frontier, fold
from orders.tiles import WIDTH as TILE
from orders.tiles import TileUnusable, frontier_of, partial_tiles, tile_root

_TILE_BYTES: Final = TILE * HASH_BYTES
_MOST_DIFFERENCES: Final = 4_096


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint whose signature holds: what somebody promised about the first `size` leaves. `source`: where it is kept."""

    size: int
    root: bytes
    source: str


class _Wrong(msgspec.Struct):
    """Checkpoints of one source that do not hold: the first, and the root that the events have there."""

    first: Signed
    root: bytes
    times: int = 0
    last: int = 0


class Tree:
    """Grows with every page. Tiles of level 0 are compared leaf by leaf, those above hash by hash."""

    def __init__(self, findings: Findings, frontier: Frontier, stored_size: int) -> None:
        self._findings, self._stored_size = findings, stored_size
        self.size = frontier.size
        tiles = frontier.size // TILE
        kept = tiles.bit_count()
        self._upper = Frontier(tiles, frontier.hashes[:kept])
        self._tile = Frontier(frontier.size % TILE, frontier.hashes[kept:])
        self._first = frontier.size
        self._roots: list[bytes] = []  # of whole tiles, not yet compared with level 1
        self._levels: dict[int, bytearray] = {}
        self._differences: list[Difference] = []
        self._higher: list[tuple[int, Difference]] = []
        self.checkpoints = 0
        self._wrong: dict[str, _Wrong] = {}
        self._good = self._matched = 0

    def root(self) -> bytes:
        return fold((*self._upper.hashes, *self._tile.hashes))

    async def page(self, db: Connection, leaves: bytes, roots: Mapping[int, bytes], signed: Iterator[Signed]) -> None:
        """Add the next leaf hashes. `roots`: those of whole tiles, as far as they are known. `signed`: up to here, by size."""
        begin, end = self.size, self.size + len(leaves) // HASH_BYTES
        await self._compare(db, 0, begin, leaves)
        for checkpoint in signed:
            self._extend(leaves, begin, checkpoint.size, roots)
            self.hold(checkpoint, self.root())
        self._extend(leaves, begin, end, roots)
        if self._roots:
            new, self._roots = self._roots, []
            await self._compare(db, 1, self._upper.size - len(new), b"".join(new))

    def hold(self, checkpoint: Signed, root: bytes) -> None:
        """Compare a checkpoint with the root that the events have."""
        self.checkpoints += 1
        if root == checkpoint.root:
            self._matched = max(self._matched, checkpoint.size)
            if not self._wrong:
                self._good = self._matched
        else:
            wrong = self._wrong.setdefault(checkpoint.source, _Wrong(checkpoint, root))
            wrong.times, wrong.last = wrong.times + 1, checkpoint.size

    def tell(self) -> None:
        """What the checkpoints that do not hold mean: where the events were changed, or that another history was signed, too."""
        for source, wrong in self._wrong.items():
            first = wrong.first
            where = {"leaf": first.size - 1, "source": source, "said": first.root.hex(), "found": wrong.root.hex()}
            more = f" The same for {wrong.times - 1} later ones, to size {wrong.last}." if wrong.times > 1 else ""
            if first.size <= self._matched:
                sentence = (
                    f"Two histories were signed: the checkpoint of {source} for {first.size} leaves is not of the history that was signed "
                    f"for {self._matched}, which these events are.{more}"
                )
                self._findings.add(Kind.FORK, sentence, **where)
                continue
            before = f"; the first {self._good} are as they were signed" if self._good else ""
            sentence = (
                f"Something in the leaves {self._good} to {first.size - 1} is not what the checkpoint of {source} was signed for{before}."
                f"{more}"
            )
            self._findings.add(Kind.ROOT, sentence, **where)

    def _extend(self, leaves: bytes, begin: int, end: int, roots: Mapping[int, bytes]) -> None:
        """Up to leaf `end`, tile by tile. `leaves` begin at leaf `begin`."""
        while self.size < end:
            index = self.size // TILE
            until = min((index + 1) * TILE, end)
            root = roots.get(index) if until - self.size == TILE else None
            if root is None:
                at = range((self.size - begin) * HASH_BYTES, (until - begin) * HASH_BYTES, HASH_BYTES)
                self._tile.extend(leaves[each : each + HASH_BYTES] for each in at)
                if self._tile.size == TILE:
                    root, self._tile = self._tile.root(), Frontier()
            if root is not None:
                self._upper.append(root)
                self._roots.append(root)
            self.size = until

    async def _compare(self, db: Connection, level: int, begin: int, hashes: bytes) -> None:
        """Compare these hashes, which begin at index `begin` of their level, with the stored tiles."""
        count = len(hashes) // HASH_BYTES
        first, last = begin // TILE, (begin + count - 1) // TILE
        rows = await db.fetch(sql.TILES, level, first, last + 1) if count else []
        stored = {row["index"]: row["hashes"] for row in rows}
        due = min((self._stored_size >> 8 * level) - begin, count)  # how many of these hashes the stored tree has
        for index in range(first, last + 1):
            at, until = max(index * TILE - begin, 0), min((index + 1) * TILE - begin, due)
            if at >= until:
                break
            mine = hashes[at * HASH_BYTES : until * HASH_BYTES]
            offset = (begin + at) % TILE * HASH_BYTES
            theirs = stored.get(index, b"")[offset : offset + len(mine)]
            if theirs != mine:
                self._differ(level, begin + at, mine, theirs)
        if level:
            self._above(level, begin, hashes)

    def _above(self, level: int, begin: int, hashes: bytes) -> None:
        """Whole tiles of this level are hashes of the next."""
        pending = self._levels.get(level)
        if pending is None:  # what began in the middle of a tile cannot be known of that one
            pending = self._levels[level] = bytearray()
            hashes = hashes[-begin % TILE * HASH_BYTES :]
        pending += hashes

    async def finish(self, db: Connection) -> None:
        """Compare the levels above, and say what the differences between leaves and tiles are."""
        level = 1
        while (pending := self._levels.pop(level, None)) is not None:
            roots = [
                tile_root(bytes(pending[at : at + _TILE_BYTES])) for at in range(0, len(pending) - _TILE_BYTES + 1, _TILE_BYTES)
            ]
            if roots:
                await self._compare(db, level + 1, -(-(self._first >> 8 * level) // TILE), b"".join(roots))
            level += 1
        explain(self._differences, self._findings)
        self._tell_higher()

    def _differ(self, level: int, begin: int, mine: bytes, theirs: bytes) -> None:
        pairs = [(mine[at : at + HASH_BYTES], theirs[at : at + HASH_BYTES]) for at in range(0, len(mine), HASH_BYTES)]
        wrong = [Difference(begin + n, said, found) for n, (found, said) in enumerate(pairs) if found != said]
        if level == 0 and len(self._differences) < _MOST_DIFFERENCES:
            self._differences += wrong
        elif level and len(self._higher) < _MOST_DIFFERENCES:
            self._higher += [(level, each) for each in wrong]

    def _tell_higher(self) -> None:
        """Hashes above the leaves that are wrong by themselves, not because a leaf below them is."""
        leaves = [each.leaf for each in self._differences]
        for level, each in self._higher:
            first, last = each.leaf * TILE**level, (each.leaf + 1) * TILE**level
            if not any(first <= leaf < last for leaf in leaves):
                sentence = (
                    f"The stored tree is not that of the events: level {level} differs for the leaves {first} to {last - 1}."
                )
                self._findings.add(Kind.TILE, sentence, leaf=last - 1, said=each.said.hex(), found=each.found.hex())
                leaves.append(first)


async def frontier_at(db: Connection, size: int) -> Frontier | None:
    """The frontier of the first `size` leaves as the stored tiles have it, or None where they do not reach so far."""
    try:
        return frontier_of(size, await tiles(db, partial_tiles(size)))
    except TileUnusable:
        return None
