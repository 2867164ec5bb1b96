"""The only place that follows every chain of the ledger at once, in constant memory: each piece must continue its chain.

The heads of chains that were not seen for long are forgotten, and looked up again by the page where they come back. Which chains
were forgotten is kept as bits (a Bloom filter): one that never was is new, and needs no look-up.
"""

import hashlib
import itertools
from typing import Any, Final, NamedTuple

import msgspec

from adapters.postgres import Connection
from audit import verify_sql as sql
from audit.findings import Findings, Kind
from audit.verify_page import Page, Piece, read
from orders import chain

_BITS: Final = 1 << 27  # 16 MiB: with ten million forgotten chains, one look-up in 300 is for nothing
_MOST_HEADS: Final = 100_000
_MOST_SET_ASIDE: Final = 100_000


class Head(NamedTuple):
    """Where a chain is."""

    position: int
    hash: str


START: Final = Head(0, chain.GENESIS)


class Chains:
    """Follows them, page after page, in the order of the log."""

    def __init__(self, findings: Findings, *, from_start: bool) -> None:
        self._findings, self._from_start = findings, from_start
        self._forgotten = _Bits()
        self._set_aside: dict[tuple[str, int], str] = {}
        self.heads: dict[str, Head] = {}  # of the chains that were seen last
        self.started = 0
        self.events = 0

    async def prepare(self, db: Connection) -> None:
        """Learn what was set aside: those places are known to be empty, and why."""
        for row in await db.fetch(sql.SET_ASIDE, _MOST_SET_ASIDE):
            name, position, reason = row["chain"], row["position"], row["reason"]
            claimed = _claimed(row["body"])
            if "is taken by" not in reason:
                self._set_aside[name, position] = claimed
            self._findings.add(
                Kind.SET_ASIDE, f"An event of {name} was set aside at position {position}: {reason}.", chain=name,
                position=position, said=claimed, source=f"audit.broken_events, {row['broken_at']:%Y-%m-%d %H:%M:%S} UTC",
            )  # fmt: skip

    @property
    def set_aside(self) -> int:
        """How many positions are known to be empty."""
        return len(self._set_aside)

    async def join(self, db: Connection, page: Page) -> None:
        """Put the pieces of this page behind what came before."""
        await self._recall(db, page)
        heads, self.events = self.heads, self.events + page.events
        for piece in page.pieces:
            head = heads.get(piece.chain, START)
            self.started += head.position == 0
            if head.hash != piece.prev_hash or head.position + 1 != piece.first:
                self._misfit(piece, head)
            if head.position < piece.last:
                heads[piece.chain] = Head(piece.last, piece.hash)
        if len(heads) > _MOST_HEADS:
            for name in list(itertools.islice(heads, _MOST_HEADS // 4)):
                self._forgotten.add(name)
                del heads[name]

    async def _recall(self, db: Connection, page: Page) -> None:
        """The heads of chains that may have been seen before this page, and are not at hand."""
        names = {each.chain for each in page.pieces if each.chain not in self.heads}
        if self._from_start:
            names = {name for name in names if name in self._forgotten}
        if names:
            for row in await db.fetch(sql.BEFORE, list(names), page.begin):
                self.heads[row["chain"]] = Head(row["position"], _claimed(row["body"]))

    def _misfit(self, piece: Piece, head: Head) -> None:
        """A piece that does not continue its chain, unless what is missing between was set aside: which, and where."""
        name, first = piece.chain, piece.first
        while head.position + 1 < first and (missing := self._set_aside.get((name, head.position + 1))) is not None:
            head = Head(head.position + 1, missing)
        where: dict[str, Any] = {"leaf": piece.leaf, "chain": name, "position": first, "event_id": piece.event_id}
        expected = head.position + 1
        if first > expected:
            gone = (
                f"event at position {expected} is"
                if first == expected + 1
                else f"events at positions {expected} to {first - 1} are"
            )
            sentence = f"{name}: the {gone} gone; leaf {piece.leaf} goes on with position {first}."
            where["position"], where["event_id"] = expected, None
            self._findings.add(Kind.GAP, sentence, **where, said=piece.prev_hash, found=head.hash)
        elif first < expected:
            sentence = f"{name} has position {first} once more, at leaf {piece.leaf}: it had come to {head.position} before."
            self._findings.add(Kind.REPEATED, sentence, **where)
        elif piece.prev_hash != head.hash:
            sentence = (
                f"{name} breaks at position {first} (leaf {piece.leaf}): it continues {piece.prev_hash[:16]}…, and the event before it "
                f"has {head.hash[:16]}…."
            )
            self._findings.add(Kind.LINK, sentence, **where, said=piece.prev_hash, found=head.hash)


class _Bits:
    """Which chains were forgotten. May say yes for one that was not; never no for one that was."""

    def __init__(self) -> None:
        self._bits: bytearray | None = None

    def add(self, name: str) -> None:
        if self._bits is None:
            self._bits = bytearray(_BITS // 8)
        for bit in _probes(name):
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, name: str) -> bool:
        bits = self._bits
        return bits is not None and all(bits[bit >> 3] >> (bit & 7) & 1 for bit in _probes(name))


def _probes(name: str) -> tuple[int, ...]:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return tuple(int.from_bytes(digest[at : at + 4], "big") % _BITS for at in (0, 4, 8, 12))


def _claimed(body: bytes) -> str:
    try:
        return read(body).hash
    except (msgspec.MsgspecError, ValueError):
        return ""
