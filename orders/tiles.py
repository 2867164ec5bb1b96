"""The only place that knows how a Merkle tree is cut into tiles (C2SP tlog-tiles, height 8), and how tiles are named and grow.

A tile of level 0 holds up to 256 leaf hashes; one of a higher level holds the roots of full tiles of the level below. A tile
only ever grows at its end, so that a narrower one is a prefix of a wider one. Standard library only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orders.errors import CallAnOperator, Invalid
from orders.merkle import HASH_BYTES, Frontier, node_hash

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
ENTRIES: Final = -1  # the level under which bundles of entries are named
MAX_ENTRY_BYTES: Final = 0xFFFF
_LEVELS: Final = 64
_LENGTH_BYTES: Final = 2
_PATH: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile, and how many hashes (or entries) of it."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def key(self) -> tuple[int, int]:
        return self.level, self.index

    @property
    def path(self) -> str:
        return tile_path(self.level, self.index, self.width)


class TileUnusable(CallAnOperator):
    """A tile that a tree of this size must have is missing or too short: the store does not hold what it should."""

    slug = "tile-unusable"

    def __init__(self, level: int, index: int, problem: str) -> None:
        super().__init__(f"tile {index} of level {level} {problem}")
        self.level, self.index = level, index


def tile_path(level: int, index: int, width: int | None = None) -> str:
    """Where a tile is served below the log's prefix: `tile/0/x001/x234/067`, a partial one with `.p/<width>` behind it."""
    rest, last = divmod(index, 1000)
    groups = [f"{last:03}"]
    while rest:
        rest, group = divmod(rest, 1000)
        groups.append(f"x{group:03}")
    name = "entries" if level == ENTRIES else str(level)
    partial = "" if width in {None, WIDTH} else f".p/{width}"
    return f"tile/{name}/{'/'.join(reversed(groups))}{partial}"


def parse_tile_path(path: str) -> Tile:
    """The tile that is served there; bundles of entries have the level `ENTRIES`. One spelling only; raises `Invalid`."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise Invalid("path", "a tile is at tile/<level>/<index>, with .p/<width> where partial: tile/0/x001/x234/067.p/12")
    level = ENTRIES if match[1] == "entries" else int(match[1])
    if level >= _LEVELS:
        raise Invalid("path", f"level {level} is above {_LEVELS - 1}")
    width = int(match[3] or WIDTH)
    if match[3] and width >= WIDTH:
        raise Invalid("path", f"a partial tile is 1 to {WIDTH - 1} wide, not {width}")
    tile = Tile(level, int(match[2].replace("/", "").replace("x", "")), width)
    if tile.path != path:
        raise Invalid("path", f"the index {tile.index} has a group of zeros too many in front")
    return tile


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """The tiles of a tree of this size with their widths; with `since`, those which the tree did not have so at that size."""
    level = 0
    while size:
        for index in range(since // WIDTH, -(-size // WIDTH)):
            width = min(WIDTH, size - index * WIDTH)
            if index * WIDTH + width > since:
                yield Tile(level, index, width)
        level, size, since = level + 1, size // WIDTH, since // WIDTH


def partial_tiles(size: int) -> set[tuple[int, int]]:
    """The tiles, each (level, index), that such a tree has begun and not filled: all that `grow` and its root need of the past."""
    counts = ((level, size >> HEIGHT * level) for level in range(-(-size.bit_length() // HEIGHT)))
    return {(level, count // WIDTH) for level, count in counts if count % WIDTH}


def grow(size: int, tiles: Mapping[tuple[int, int], bytes], leaves: Iterable[bytes]) -> dict[tuple[int, int], bytes]:
    """The tiles, by (level, index), that are new or wider after these leaf hashes, whole: each replaces what was there.

    `tiles` holds at least `partial_tiles(size)`. Raises `TileUnusable` where one is missing or too short.
    """
    changed: dict[tuple[int, int], bytes] = {}
    row, level = b"".join(leaves), 0
    while row:
        index, begun = divmod(size, WIDTH)
        if begun:
            row = _begun(tiles, level, index, begun) + row
        full = len(row) // (WIDTH * HASH_BYTES)
        cut = [row[at : at + WIDTH * HASH_BYTES] for at in range(0, len(row), WIDTH * HASH_BYTES)]
        changed.update(((level, index + step), tile) for step, tile in enumerate(cut))
        row = b"".join(tile_root(tile) for tile in cut[:full])
        level, size = level + 1, size // WIDTH
    return changed


def _begun(tiles: Mapping[tuple[int, int], bytes], level: int, index: int, width: int) -> bytes:
    tile = tiles.get((level, index))
    if tile is None:
        raise TileUnusable(level, index, "is missing")
    if len(tile) < width * HASH_BYTES:
        raise TileUnusable(level, index, f"has {len(tile)} bytes, a tree of this size needs {width * HASH_BYTES}")
    return tile[: width * HASH_BYTES]


def tile_root(hashes: bytes) -> bytes:
    """The root over a whole subtree's hashes, a power of two of them, one behind the other."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        pairs = iter(row)
        row = [node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)]
    return row[0]


def nodes_of(low: int, high: int) -> list[tuple[int, int]]:
    """The complete subtrees, each (height, index), that make up the tree's part from leaf `low` to before `high`, in order."""
    nodes = []
    while low < high:
        height = (high - low).bit_length() - 1
        nodes.append((height, low >> height))
        low += 1 << height
    return nodes


def tile_holding(height: int, index: int) -> Tile:
    """The tile from which a complete subtree's root is made; as wide as it must be for that."""
    level, above = divmod(height, HEIGHT)
    first = index << above
    return Tile(level, first // WIDTH, first % WIDTH + (1 << above))


def node_from(tiles: Mapping[tuple[int, int], bytes], height: int, index: int) -> bytes:
    """The root of a complete subtree. Raises `TileUnusable`."""
    tile = tile_holding(height, index)
    start = (tile.width - (1 << height % HEIGHT)) * HASH_BYTES
    return tile_root(_begun(tiles, tile.level, tile.index, tile.width)[start:])


def frontier_of(size: int, tiles: Mapping[tuple[int, int], bytes]) -> Frontier:
    """The frontier of a tree, from its `partial_tiles`. Raises `TileUnusable`."""
    return Frontier(size, [node_from(tiles, *node) for node in nodes_of(0, size)])


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries as they are served beside the tiles: each behind its length. Raises `Invalid` for one that is too long."""
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise Invalid("entry", f"an entry of the log may have {MAX_ENTRY_BYTES} bytes, this one has {len(entry)}")
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries)


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises `Invalid` where it ends within one."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise Invalid("bundle", f"it ends within entry {len(entries)}")
        entries.append(data[start:at])
    return entries
