"""The only place that holds the heads of chains against each other: the ledger's own, and those that the orders' database keeps."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import Connection, Executor, Pool, Record
from audit.events import LOOKS
from audit.verification import sql
from audit.verification.chains import Chains
from audit.verification.findings import MOST, Findings, Kind

_PAGE: Final = 5_000


async def compare_heads(db: Connection, chains: Chains, findings: Findings) -> None:
    """The ledger's heads against the events: as many, as far, and those seen last with the same hash. Named where they differ."""
    (total,) = await db.fetch(sql.HEADS_SUM)
    expected = (chains.started, chains.events + chains.set_aside)
    if (total["chains"], total["positions"]) != expected and Kind.GAP not in findings:
        for row in await db.fetch(sql.HEADS_THAT_DIFFER, MOST):
            said = "no head" if row["said"] is None else f"its head at {row['said']}"
            there = "no event" if row["found"] is None else f"{row['events']} events, the last at {row['found']}"
            findings.add(
                Kind.HEAD, f"{row['chain']} has {there} in the ledger, and {said}.", chain=row["chain"],
                position=(row["found"] or 0) + 1, said=str(row["said"] or 0), found=str(row["found"] or 0), source="audit.heads",
            )  # fmt: skip
    known = chains.heads
    names = list(known)
    for at in range(0, len(names), _PAGE):
        for row in await db.fetch(sql.HEADS, names[at : at + _PAGE]):
            head = known[row["chain"]]
            if row["position"] == head.position and row["hash"] != head.hash:
                sentence = f"The head of {row['chain']} is not the hash of its last event."
                findings.add(
                    Kind.HEAD, sentence, chain=row["chain"], position=head.position, said=row["hash"], found=head.hash,
                    source="audit.heads",
                )  # fmt: skip


async def compare_orders(db: Connection, orders: Pool, settled: datetime, findings: Findings) -> int:
    """Every chain that the orders' database knows against the ledger's; how many events are still on their way."""
    coming = 0
    for statement, source in ((sql.ORDERS_AFTER, "orders"), (sql.CHAINS_AFTER, "audit_chains")):
        async for page in _pages(orders, statement):
            names = [row["chain"] for row in page]
            heads = {row["chain"]: row for row in await db.fetch(sql.HEADS, names)}
            waiting = {row["aggregate_id"] for row in await orders.fetch(sql.WAITING, names)} if _behind(page, heads) else set()
            for row in page:
                coming += await _compare(db, row, heads.get(row["chain"]), source, row["chain"] in waiting, settled, findings)
    async for page in _pages(db, sql.HEADS_AFTER):
        names = [row["chain"] for row in page if row["chain"].startswith("ord_") and not row["chain"].endswith(LOOKS)]
        known = {row["chain"] for row in await orders.fetch(sql.ORDERS, names)}
        for name in names:
            if name not in known:
                findings.add(
                    Kind.ORDER,
                    f"The ledger has {name}, and the orders' database has no such order.",
                    chain=name,
                    source="orders",
                )
    return coming


def _behind(page: list[Record], heads: Mapping[str, Record]) -> bool:
    return any(row["chain"] not in heads or heads[row["chain"]]["position"] < row["position"] for row in page)


async def _compare(
    db: Connection, row: Record, head: Record | None, source: str, waiting: bool, settled: datetime, findings: Findings,  # noqa: FBT001
) -> int:  # fmt: skip
    """Whether an event of this chain is on its way."""
    name, position = row["chain"], row["position"]
    there = head["position"] if head else 0
    where: dict[str, Any] = {"chain": name, "source": source}
    if there < position:
        if waiting or (row["at"] is not None and row["at"] > settled):
            return 1
        what = f"ends at {there}" if head else "is not there at all"
        sentence = f"{name} is at position {position} in the orders' database; in the ledger it {what}."
        findings.add(Kind.ORDER, sentence, **where, position=there + 1, said=str(position), found=str(there))
        return 0
    found = head["hash"] if head and there == position else await _hash_at(db, name, position)
    if found is not None and found != row["hash"]:
        sentence = f"{name} at position {position}: the orders' database has another hash for it than the ledger."
        findings.add(Kind.ORDER, sentence, **where, position=position, said=row["hash"], found=found)
    return 0


async def _hash_at(db: Connection, name: str, position: int) -> str | None:
    rows = await db.fetch(sql.AT, name, position)
    return str(msgspec.json.decode(rows[0]["body"])["hash"]) if rows else None


async def _pages(db: Executor, statement: str) -> AsyncIterator[list[Record]]:
    last = ""
    while page := await db.fetch(statement, last, _PAGE):
        yield page
        last = page[-1]["chain"]
