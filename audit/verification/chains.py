"""The only place that follows every chain of the ledger at once, in constant memory: each piece must continue its chain.

The heads of chains that were not seen for long are put into a file, and looked up by the page where they come back. Which chains
are there is kept as bits, too (a Bloom filter): one that never was put away is new, and needs no look-up.
"""

import hashlib
import itertools
import sqlite3
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from adapters.postgres import Connection
from audit.verification import sql
from audit.verification.findings import Findings, Kind
from audit.verification.page import Page, Piece, read
from orders import chain

_BITS: Final = 1 << 27  # 16 MiB: with ten million forgotten chains, one look-up in 300 is for nothing
MOST_HEADS: Final = 100_000
_MOST_SET_ASIDE: Final = 100_000


class Before(Enum):
    """Where the leaves before the first that is read are."""

    NOTHING = "there are none"
    LEDGER = "in the ledger"
    ELSEWHERE = "in an archive that is not read, or dropped"


class Head(NamedTuple):
    """Where a chain is."""

    position: int
    hash: str


START: Final = Head(0, chain.GENESIS)


class Chains:
    """Follows them, page after page, in the order of the log."""

    def __init__(self, findings: Findings, before: Before, *, most_heads: int = MOST_HEADS) -> None:
        self._findings, self._before, self._most_heads = findings, before, most_heads
        self._away = _Away()
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
            head = heads.get(piece.chain) or self._beginning(piece)
            self.started += head.position == 0
            if head.hash != piece.prev_hash or head.position + 1 != piece.first:
                self._misfit(piece, head)
            if head.position < piece.last:
                heads[piece.chain] = Head(piece.last, piece.hash)
        if len(heads) > self._most_heads:
            self._away.put({name: heads.pop(name) for name in list(itertools.islice(heads, self._most_heads // 4))})

    def _beginning(self, piece: Piece) -> Head:
        """Where a chain is that was never seen: at its start, unless that lies in leaves that cannot be read."""
        if self._before is Before.ELSEWHERE and piece.first > 1:
            return Head(piece.first - 1, piece.prev_hash)
        return START

    async def _recall(self, db: Connection, page: Page) -> None:
        """The heads of chains that may have been seen before this page, and are not at hand."""
        names = {each.chain for each in page.pieces if each.chain not in self.heads}
        found = self._away.take(names)
        if self._before is not Before.NOTHING and (unknown := names - found.keys()):
            for row in await db.fetch(sql.BEFORE, list(unknown), page.begin):
                found[row["chain"]] = Head(row["position"], _claimed(row["body"]))
        self.heads.update(found)

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


class _Away:
    """Heads that were put into a file. Whether one may be there is known without asking it."""

    def __init__(self) -> None:
        self._bits: bytearray | None = None
        self._file: sqlite3.Connection | None = None

    def put(self, heads: Mapping[str, Head]) -> None:
        if self._bits is None or self._file is None:
            self._bits = bytearray(_BITS // 8)
            self._file = sqlite3.connect("", isolation_level=None)  # a file of its own, gone with it
            self._file.execute("CREATE TABLE heads (chain TEXT PRIMARY KEY, position INTEGER, hash TEXT) WITHOUT ROWID")
            self._file.execute("PRAGMA journal_mode = OFF")
        for name in heads:
            for bit in _probes(name):
                self._bits[bit >> 3] |= 1 << (bit & 7)
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO heads VALUES (?, ?, ?)", [(name, *head) for name, head in heads.items()])
        self._file.execute("COMMIT")

    def take(self, names: Collection[str]) -> dict[str, Head]:
        """Those of them that are there."""
        bits, file = self._bits, self._file
        if bits is None or file is None:
            return {}
        likely = [name for name in names if all(bits[bit >> 3] >> (bit & 7) & 1 for bit in _probes(name))]
        rows = (file.execute("SELECT chain, position, hash FROM heads WHERE chain = ?", (name,)).fetchone() for name in likely)
        return {row[0]: Head(row[1], row[2]) for row in rows if row}


def _probes(name: str) -> tuple[int, ...]:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return tuple(int.from_bytes(digest[at : at + 4], "big") % _BITS for at in (0, 4, 8, 12))


def _claimed(body: bytes) -> str:
    try:
        return read(body).hash
    except (msgspec.MsgspecError, ValueError):
        return ""
