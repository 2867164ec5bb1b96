"""The only place where Merkle proofs (RFC 6962, sections 2.1.1 and 2.1.2) are made from tiles, and where they are checked.

`tiles` maps (level, index) to a tile's hashes, which may be more than the tree of that size has. Standard library only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orders.errors import ProofError
from orders.merkle import EMPTY_ROOT, HASH_BYTES, fold, node_hash
from orders.tiles import node_from, nodes_of, partial_tiles, tile_holding

Tiles = Mapping[tuple[int, int], bytes]
Range = tuple[int, int]
_SHOWN: Final = 16


class ProofIndexError(ProofError):
    """The tree of this size has no such leaf, or no such smaller tree."""

    slug = "proof-index"


class ProofLengthError(ProofError):
    """The proof has not the hashes that this index and size need: it is for another leaf or another size, or was cut."""

    slug = "proof-length"


class ProofRootError(ProofError):
    """The proof leads to another root: it is for another tree, or for another leaf, or something in it was changed."""

    slug = "proof-of-another-tree"


def tiles_for_root(size: int) -> set[tuple[int, int]]:
    return partial_tiles(size)


def tiles_for_inclusion(index: int, size: int) -> set[tuple[int, int]]:
    """The tiles, each (level, index), that `inclusion_proof` needs."""
    return _tiles_for(_inclusion(index, size))


def tiles_for_consistency(old: int, new: int) -> set[tuple[int, int]]:
    """The tiles, each (level, index), that `consistency_proof` needs."""
    return _tiles_for(_consistency(old, new))


def root_of(size: int, tiles: Tiles) -> bytes:
    """The root of the tree of this size. Raises `TileUnusable`, like all that is made from tiles."""
    return _root(tiles, (0, size))


def inclusion_proof(index: int, size: int, tiles: Tiles) -> list[bytes]:
    """The hashes beside the way from a leaf up to the root. Raises `ProofIndexError`."""
    return [_root(tiles, part) for part in _inclusion(index, size)]


def consistency_proof(old: int, new: int, tiles: Tiles) -> list[bytes]:
    """What shows that the tree of size `old` is the beginning of the one of size `new`. Raises `ProofIndexError`."""
    return [_root(tiles, part) for part in _consistency(old, new)]


def _tiles_for(parts: Iterable[Range]) -> set[tuple[int, int]]:
    return {tile_holding(*node).key for part in parts for node in nodes_of(*part)}


def _root(tiles: Tiles, part: Range) -> bytes:
    return fold([node_from(tiles, *node) for node in nodes_of(*part)])


def _inclusion(index: int, size: int) -> list[Range]:
    """The parts of the tree, each from one leaf to before another, whose roots are the proof: PATH of RFC 6962."""
    _within(index, size)
    parts, low, high = [], 0, size
    while high - low > 1:
        middle = low + _half(high - low)
        if index < middle:
            parts.append((middle, high))
            high = middle
        else:
            parts.append((low, middle))
            low = middle
    return parts[::-1]


def _consistency(old: int, new: int) -> list[Range]:
    """The same for PROOF of RFC 6962; nothing where the old tree is empty or the new one."""
    _not_shrunk(old, new)
    parts: list[Range] = []
    low, high = 0, new
    while 0 < old < high:
        middle = low + _half(high - low)
        if old <= middle:
            parts.append((middle, high))
            high = middle
        else:
            parts.append((low, middle))
            low = middle
    if low:  # the old tree's last part; where it begins at the first leaf it is the old root, which the other side knows
        parts.append((low, high))
    return parts[::-1]


def _half(width: int) -> int:
    """The largest power of two below `width`: where RFC 6962 splits a tree."""
    return 1 << (width - 1).bit_length() - 1


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """That this leaf hash is at `index` of the tree with this size and root. Raises `ProofError`."""
    _within(index, size)
    _hashes(("leaf", leaf), ("root", root))
    turns = (index ^ (size - 1)).bit_length()  # from there on the way up keeps to the tree's right edge
    _length(proof, turns + (index >> turns).bit_count(), f"leaf {index} in a tree of size {size}")
    found = leaf
    for height, other in enumerate(proof):
        on_the_right = height >= turns or index >> height & 1
        found = node_hash(other, found) if on_the_right else node_hash(found, other)
    if found != root:
        raise ProofRootError(
            f"leaf {index} with this proof belongs to the tree of size {size} with root {_shown(found)}, not to the one with root"
            f" {_shown(root)}: the proof is for another tree or another leaf"
        )


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """That the tree of size `old` is the beginning of the tree of size `new`. Raises `ProofError`."""
    _not_shrunk(old, new)
    what = f"sizes {old} and {new}"
    if old in {0, new}:
        _length(proof, 0, what)
        _same("old", old, EMPTY_ROOT if old == 0 else new_root, old_root)
        _same("new", new, EMPTY_ROOT if new == 0 else new_root, new_root)
        return
    shared = (old & -old).bit_length() - 1  # the old tree's last complete subtree has this height
    turns = ((old - 1) ^ (new - 1)).bit_length() - shared
    way = (old - 1) >> shared
    known = way == 0  # the old tree is one complete subtree: the proof leaves out its root
    _length(proof, (not known) + turns + (way >> turns).bit_count(), what)
    before = after = old_root if known else proof[0]
    for height, other in enumerate(proof if known else proof[1:]):
        if height >= turns or way >> height & 1:
            before, after = node_hash(other, before), node_hash(other, after)
        else:
            after = node_hash(after, other)
    if known and after != new_root:
        raise ProofRootError(
            f"by this proof the tree of size {old} with root {_shown(old_root)} is not the beginning of the one of size {new} with"
            f" root {_shown(new_root)}: one of the two, or the proof, is of another tree"
        )
    _same("old", old, before, old_root)
    _same("new", new, after, new_root)


def _within(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise ProofIndexError(f"a tree of size {size} has no leaf {index}")


def _not_shrunk(old: int, new: int) -> None:
    if not 0 <= old <= new:
        raise ProofIndexError(f"a tree of size {old} cannot be the beginning of one of size {new}")


def _length(proof: Sequence[bytes], needed: int, what: str) -> None:
    if len(proof) != needed:
        raise ProofLengthError(f"a proof for {what} has {needed} hashes, this one has {len(proof)}")
    _hashes(*((f"{number}. hash of the proof", each) for number, each in enumerate(proof, 1)))


def _hashes(*named: tuple[str, bytes]) -> None:
    for name, each in named:
        if len(each) != HASH_BYTES:
            raise ProofLengthError(f"the {name} has {len(each)} bytes instead of {HASH_BYTES}")


def _same(which: str, size: int, found: bytes, root: bytes) -> None:
    if found != root:
        raise ProofRootError(
            f"the {which} tree of size {size} has root {_shown(root)}, the proof is for one with root {_shown(found)}"
        )


def _shown(root: bytes) -> str:
    return f"{root.hex()[:_SHOWN]}…"
