"""What tests hold Merkle trees against: RFC 6962's own recursive definitions, written down as they stand there, slow and plain.

Nothing of ours is used here but to fill a store of tiles as a log would.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

from orders.tiles import grow, partial_tiles

Tiles = dict[tuple[int, int], bytes]

# The leaves, and the roots of the trees of size 0 to 8 over them, that certificate-transparency's tests have used from the start.
PUBLISHED_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
PUBLISHED_ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]


class Naive:
    """A tree over entries, by RFC 6962, section 2.1: MTH, PATH and PROOF."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = entries
        self.leaves = [hashlib.sha256(b"\x00" + each).digest() for each in entries]
        self._mth = cache(self._uncached)

    def root(self, size: int) -> bytes:
        return self._mth(0, size)

    def path(self, index: int, low: int, high: int) -> list[bytes]:
        if high - low == 1:
            return []
        k = _split(high - low)
        if index < k:
            return [*self.path(index, low, low + k), self._mth(low + k, high)]
        return [*self.path(index - k, low + k, high), self._mth(low, low + k)]

    def proof(self, old: int, size: int) -> list[bytes]:
        return self._subproof(old, 0, size, whole=True) if 0 < old < size else []

    def _subproof(self, m: int, low: int, high: int, *, whole: bool) -> list[bytes]:
        if m == high - low:
            return [] if whole else [self._mth(low, high)]
        k = _split(high - low)
        if m <= k:
            return [*self._subproof(m, low, low + k, whole=whole), self._mth(low + k, high)]
        return [*self._subproof(m - k, low + k, high, whole=False), self._mth(low, low + k)]

    def _uncached(self, low: int, high: int) -> bytes:
        if low == high:
            return hashlib.sha256(b"").digest()
        if high - low == 1:
            return self.leaves[low]
        k = _split(high - low)
        return hashlib.sha256(b"\x01" + self._mth(low, low + k) + self._mth(low + k, high)).digest()


def _split(n: int) -> int:
    """The largest power of two below n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def entries(count: int) -> list[bytes]:
    return [b'{"position":%d}' % number for number in range(count)]


def stored(leaves: Sequence[bytes], steps: Sequence[int] = ()) -> Tiles:
    """The tiles that a log has which took these leaf hashes in steps of these sizes, and what is left at once."""
    tiles: Tiles = {}
    size = 0
    for step in (*steps, len(leaves)):
        more = leaves[size : size + step]
        tiles.update(grow(size, {key: tiles[key] for key in partial_tiles(size)}, more))
        size += len(more)
    return tiles
