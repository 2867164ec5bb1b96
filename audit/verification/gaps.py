"""The only place that says which leaves of a page are gone, and which are there twice."""

from collections.abc import Iterator, Sequence

from adapters.postgres import Connection
from audit.verification import sql
from audit.verification.findings import Findings, Kind
from audit.verification.page import Page, leaf_hashes
from orders.merkle import HASH_BYTES, leaf_hash
from orders.tiles import WIDTH


async def aligned(db: Connection, page: Page, found: Findings) -> bytes:
    """One hash for each leaf of the page: where its event is gone, the one that the stored tree has, so that the rest is checked."""
    stored: dict[int, bytes] = {}
    for row in await db.fetch(sql.TILES, 0, page.begin // WIDTH, (page.end - 1) // WIDTH + 1):
        for at in range(0, len(row["hashes"]), HASH_BYTES):
            stored[row["index"] * WIDTH + at // HASH_BYTES] = row["hashes"][at : at + HASH_BYTES]
    here: dict[int, bytes] = {}
    twice: set[int] = set()
    for leaf, digest in zip(page.numbers, leaf_hashes(page), strict=True):
        twice |= {leaf} & here.keys()
        if here.setdefault(leaf, digest) != stored.get(leaf) == digest:
            here[leaf] = digest  # of two at one leaf, the one that was hashed into the tree
    for row in await db.fetch(sql.LEAVES, sorted(twice)) if twice else []:
        if leaf_hash(row["body"]) != here[row["leaf_index"]]:
            found.add(
                Kind.INSERTED, f"An event was put in at leaf {row['leaf_index']}, where there is another: {row['event_id']}.",
                leaf=row["leaf_index"], chain=row["chain"], position=row["position"], event_id=row["event_id"],
            )  # fmt: skip
    for begin, end in _runs([leaf for leaf in range(page.begin, page.end) if leaf not in here]):
        what = (
            f"Leaf {begin} is gone: its event was"
            if end == begin + 1
            else f"Leaves {begin} to {end - 1} are gone: their events were"
        )
        known = f" The tree has {stored[begin].hex()} for leaf {begin}." if begin in stored else " They were in no tree yet."
        found.add(
            Kind.MISSING_LEAF, f"{what} deleted.{known}", leaf=begin, said=stored[begin].hex() if begin in stored else None
        )
    return b"".join(here.get(leaf) or stored.get(leaf, bytes(HASH_BYTES)) for leaf in range(page.begin, page.end))


def _runs(leaves: Sequence[int]) -> Iterator[tuple[int, int]]:
    begin = None
    for number, leaf in enumerate(leaves):
        begin = leaf if begin is None else begin
        if number + 1 == len(leaves) or leaves[number + 1] != leaf + 1:
            yield begin, leaf + 1
            begin = None
