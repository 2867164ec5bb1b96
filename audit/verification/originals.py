"""The only place that says what an altered event said before: the orders' database keeps a copy of each step of an order."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from adapters.postgres import Connection, Pool
from audit.verification import sql
from audit.verification.findings import Findings, Kind

_LOOKED_UP: Final = 50
_KINDS: Final = frozenset({Kind.EDITED, Kind.REPLACED, Kind.LINK, Kind.COLUMN, Kind.UNREADABLE, Kind.ORDER})
_OF_NO_EVENT: Final = frozenset({Kind.ROOT, Kind.TRUNCATED, Kind.MISSING_LEAF, Kind.FORK, Kind.TILE})
_HASHES: Final = frozenset({"hash", "prev_hash"})


async def name_events(db: Connection, orders: "Pool | None", findings: Findings) -> None:
    """Say which event stands at a leaf, and what it said before where a copy of it is still there."""
    first = findings.in_order()[:_LOOKED_UP]
    unnamed = [each.leaf for each in first if each.leaf is not None and each.chain is None and each.kind not in _OF_NO_EVENT]
    at = {row["leaf_index"]: row for row in await db.fetch(sql.LEAVES, unnamed)} if unnamed else {}
    for finding in first:
        row, named = at.get(finding.leaf), finding
        if row is not None and finding.chain is None:
            which = f" There is now {row['event_id']} of {row['chain']}, position {row['position']}."
            named = findings.say(finding, which, chain=row["chain"], position=row["position"], event_id=row["event_id"])
        if orders is not None and named.kind in _KINDS and named.chain and named.position:
            more = await _changed(db, orders, named.chain, named.position, whole=named.kind is Kind.ORDER)
            if more:
                findings.say(named, f" The copy in order_events {more}")


async def _changed(db: Connection, orders: Pool, chain: str, position: int, *, whole: bool) -> str | None:
    """How the ledger's event differs from the copy; with `whole`, how the first of its chain does that differs."""
    first = 1 if whole else position
    copies = {row["position"]: row["body"] for row in await orders.fetch(sql.COPIES, chain, first, position)}
    here = {row["position"]: row["body"] for row in await db.fetch(sql.BETWEEN, chain, first, position)}
    for at in sorted(copies):
        if at not in here:
            return f"still has the event at position {at}."
        if here[at] != copies[at]:
            return f"differs at position {at}: {_difference(copies[at], here[at])}."
    return None


def _difference(copy: bytes, body: bytes) -> str:
    try:
        changes = list(fields_that_differ(msgspec.json.decode(copy), msgspec.json.decode(body)))
    except msgspec.DecodeError:
        return "only one of the two can be read"
    contents = [change for change in changes if change.partition(":")[0] not in _HASHES]
    return "; ".join(contents or changes)


def fields_that_differ(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """`details.total: 3200 became 1200`, one for each field."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            inner = f"{path}.{name}" if path else str(name)
            if name not in after:
                yield f"{inner}: {_short(before[name])} was removed"
            elif name not in before:
                yield f"{inner}: {_short(after[name])} was added"
            else:
                yield from fields_that_differ(before[name], after[name], inner)
    elif before != after:
        yield f"{path}: {_short(before)} became {_short(after)}"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004
