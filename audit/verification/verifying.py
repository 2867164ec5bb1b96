"""The only place that verifies the live ledger: every event, chain, column, leaf and tile, against what was signed and kept elsewhere.

It reads the log once, in its order and in constant memory. What a database says of itself proves nothing against who owns it: the
checkpoints that count were kept elsewhere, and so were the orders' own heads.
"""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from adapters.postgres import Connection, Pool, one_connection
from audit.events import AHEAD
from audit.verification import sql
from audit.verification.chains import MOST_HEADS, Before, Chains
from audit.verification.copies import Copies
from audit.verification.findings import Findings, Kind, Report
from audit.verification.gaps import aligned
from audit.verification.heads import compare_heads, compare_orders
from audit.verification.originals import name_events
from audit.verification.pages import PAGE_LEAVES, asking, pages, processes_for, spanning
from audit.verification.tree import Signed, Tree, frontier_at
from orders.errors import Invalid

SETTLE: Final = timedelta(minutes=10)  # how long an event may take from its order into the ledger


class Range(msgspec.Struct, frozen=True):
    """What the ledger says of its own size."""

    last: int | None
    next: int
    size: int
    root: bytes
    cold: int
    dropped: int

    @property
    def end(self) -> int:
        """Up to where there must be leaves, or are some."""
        return max(self.next, self.size, -1 if self.last is None else self.last + 1)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be verified, and against what. `orders`: the orders' database, where their own heads are."""

    begin: int | None = None
    end: int | None = None
    settle: timedelta = SETTLE
    colder: Any = None  # `verify_pages.Colder`, where events have left the ledger
    most_heads: int = MOST_HEADS  # in memory at once
    page_leaves: int = PAGE_LEAVES


async def verify(db: Pool, dsn: str, orders: "Pool | None", copies: Copies | None, wanted: Wanted) -> Report:
    """Verify the log, or a range of leaves. What breaks is in the report; raises `Invalid` for a range that is not there."""
    began, found = time.monotonic(), Findings()
    async with one_connection(db) as conn:
        there = await _there(conn)
        begin, end = _range(wanted, there)
        settled = datetime.now(UTC) - wanted.settle
        frontier = await frontier_at(conn, begin)
        if frontier is None:
            raise Invalid("from", f"the stored tree does not reach leaf {begin}")
        tree, chains = Tree(found, frontier, min(there.size, end)), _chains(found, wanted, there, begin)
        signed = _Signed(copies.signed(found) if copies else (), begin)
        await chains.prepare(conn)
        latest = datetime.now(UTC) + AHEAD
        async with asking(db, dsn, latest, processes_for(end - begin)) as (ask, ahead):
            either = spanning(ask, wanted.colder, there.cold, latest)
            async for page in pages(either, begin, end, ahead, wanted.page_leaves):
                for finding in page.findings:
                    found.take(finding)
                await chains.join(conn, page)
                leaves = page.leaves if not page.numbers else await aligned(conn, page, found)
                await tree.page(conn, leaves, page.roots, signed.until(page.end))
        await tree.finish(conn)
        await _the_rest(conn, tree, signed, (end, there.end), found)
        tree.tell()
        whole = (begin, end) == (_first(wanted, there), there.end)
        _ends(there, tree, found)
        if whole and begin == 0:
            await compare_heads(conn, chains, found)
        on_their_way = await compare_orders(conn, orders, settled, found) if orders and whole else 0
        await name_events(conn, orders, found)
    return Report(
        first_leaf=begin, end_leaf=end, events=chains.events, chains=chains.started, checkpoints=tree.checkpoints,
        checkpoint_sources=copies.sources if copies else [], root=tree.root().hex(), seconds=round(time.monotonic() - began, 3),
        findings=found.in_order(), more=found.more, on_their_way=on_their_way,
        not_checked=_not_checked(copies, orders, whole=whole, first=begin),
    )  # fmt: skip


def _chains(found: Findings, wanted: Wanted, there: Range, begin: int) -> Chains:
    before = Before.NOTHING if begin == 0 else Before.ELSEWHERE if begin == _first(wanted, there) else Before.LEDGER
    return Chains(found, before, most_heads=wanted.most_heads)


def _first(wanted: Wanted, there: Range) -> int:
    """The first leaf that can be read: of those that were archived, only where there is somebody to ask."""
    return there.dropped if wanted.colder else there.cold


def _range(wanted: Wanted, there: Range) -> tuple[int, int]:
    first = _first(wanted, there)
    begin, until = first if wanted.begin is None else wanted.begin, there.end if wanted.end is None else wanted.end
    if not first <= begin <= until <= there.end:
        raise Invalid("from", f"the ledger has the leaves {first} to {there.end - 1}")
    return begin, until


def _not_checked(copies: Copies | None, orders: "Pool | None", *, whole: bool, first: int) -> list[str]:
    return [
        text
        for text, said in (
            ("No checkpoint that is kept outside the ledger was given: against who owns the database, this proves nothing.", not copies),
            ("The orders' own heads were not compared: an order that was removed before it was signed would not be noticed.", not (orders and whole)),
            (f"Leaves before {first} were not read; the tree begins with the stored hashes of them.", first > 0),
        )
        if said
    ]  # fmt: skip


class _Signed:
    """The checkpoints, taken as the log reaches their size. Those of a size that is past are kept for the end."""

    def __init__(self, signed: Iterable[Signed], begin: int) -> None:
        self._left, self._at = iter(signed), begin
        self._next = next(self._left, None)
        self.late: list[Signed] = []

    def until(self, end: int) -> Iterator[Signed]:
        """Those up to this size, by size."""
        while self._next is not None and self._next.size <= end:
            each, self._next = self._next, next(self._left, None)
            if each.size < self._at or not each.size:
                self.late.append(each)
                continue
            self._at = each.size
            yield each

    def beyond(self) -> Iterator[Signed]:
        """Those of sizes that the log does not have."""
        if self._next is not None:
            yield self._next
        yield from self._left


async def _the_rest(conn: Connection, tree: Tree, signed: _Signed, ends: tuple[int, int], found: Findings) -> None:
    """Checkpoints of sizes that were not reached, and those of sizes that were past when they came."""
    until, known = ends
    for each in signed.beyond():
        if until == known and each.size > known:
            known = until = (await _there(conn)).end  # the log has grown meanwhile
        if until >= known and each.size > known:
            sentence = f"The tail of the log is gone: the checkpoint of {each.source} was signed for {each.size} leaves, and there are {known}."
            found.add(Kind.TRUNCATED, sentence, leaf=known, source=each.source, said=str(each.size), found=str(known))
            break
    for each in signed.late:
        frontier = await frontier_at(conn, each.size)
        if frontier is not None and each.size <= tree.size:
            tree.hold(each, frontier.root())


async def _there(conn: Connection) -> Range:
    return msgspec.convert(dict((await conn.fetch(sql.RANGE))[0]), Range)


def _ends(there: Range, tree: Tree, found: Findings) -> None:
    if there.last is not None and there.last >= there.next:
        sentence = f"Leaves {there.next} to {there.last} are there, and the sequence has not given them to anybody."
        found.add(Kind.UNEXPECTED, sentence, leaf=there.next, said=str(there.next), found=str(there.last + 1))
    if there.size == tree.size and there.root != tree.root():
        sentence = f"The root that the ledger keeps for {there.size} leaves is not theirs."
        found.add(Kind.TILE, sentence, said=there.root.hex(), found=tree.root().hex())
