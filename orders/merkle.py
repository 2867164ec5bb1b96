"""The only place where a Merkle tree is hashed (RFC 6962, SHA-256), and where one grows in constant memory.

A leaf and a node are hashed with a different first byte, so that no node can be passed off as a leaf. Standard library only.
"""

import hashlib
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Self

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def _for_short_input() -> Callable[[bytes], Any]:
    """SHA-256 for 65 bytes: the interpreter's own takes half the time of OpenSSL's, whose set-up costs more than the hash."""
    for name in ("_sha2", "_sha256"):  # from Python 3.12 on, and before
        try:
            found: Callable[[bytes], Any] = importlib.import_module(name).sha256
        except ImportError:
            continue
        return found
    return hashlib.sha256


_sha256: Final = _for_short_input()


def leaf_hash(data: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees beside each other."""
    digest: bytes = _sha256(_NODE + left + right).digest()
    return digest


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that stand side by side, the largest first: what lies to the right is joined first."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


class Frontier:
    """All that a growing tree needs to know of its past: its size and the roots of its complete subtrees, the largest first."""

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """`hashes` has one hash for each bit that is set in `size`, that of the highest bit first. Raises `ValueError`."""
        self.size, self._hashes = size, list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count() or any(len(each) != HASH_BYTES for each in self._hashes):
            raise ValueError(f"{len(self._hashes)} hashes cannot be the frontier of a tree of size {size}")

    @property
    def hashes(self) -> tuple[bytes, ...]:
        return tuple(self._hashes)

    def copy(self) -> Self:
        return type(self)(self.size, self._hashes)

    def root(self) -> bytes:
        return fold(self._hashes)

    def append(self, leaf: bytes) -> None:
        """One more leaf hash: one node hash on average, at most one for each level."""
        hashes, left = self._hashes, self.size
        while left & 1:
            leaf = _sha256(_NODE + hashes.pop() + leaf).digest()
            left >>= 1
        hashes.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Many leaf hashes, level by level: the same tree as by `append`, with less of Python between two hashes."""
        row, waiting = list(leaves), self.size
        self.size += len(row)
        new: list[bytes] = []  # the subtrees that end the tree now, the smallest first
        while row or waiting:
            if waiting & 1:  # the subtree of this level that waits for its right half
                row.insert(0, self._hashes.pop())
            if len(row) & 1:
                new.append(row.pop())
            pairs = iter(row)
            row = [_sha256(_NODE + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            waiting >>= 1
        self._hashes = new[::-1]
