"""The only place that reads events wherever they are: in the ledger, or in its archive where they have left it.

The ledger is asked first, and then which archives are cold: what leaves it in between is seen twice, and never missed.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from adapters.archive_store import ArchiveStore
from adapters.postgres import Executor, transaction
from audit.archive import sql
from audit.archive.cold import BEGINNING, END, MOST_LEAVES, Cold, Lost
from audit.archive.manifest import LedgerDiffers, Manifest
from audit.archive.parquet import Stored
from audit.events import AHEAD
from orders.errors import Invalid, NotFound

__all__ = ["Filter", "Page", "Stored", "events_in", "events_of_chains", "find", "search", "search_archive"]

_AT_ONCE: Final = 4_096
_MOST: Final = 1_000
_ID_PREFIX: Final = 4  # `ord_`
_ORDER: Final = "ord_"


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What events must be. None: whatever."""

    actor_id: str | None = None
    action: str | None = None
    new_state: str | None = None
    order_id: str | None = None
    actions: list[str] | None = None  # of the archive's events, any of these
    since: datetime | None = None
    before: datetime | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Events, the newest first. `after`: the next page begins behind this time and leaf; None at the end. `missing`: what of the
    archive cannot be read, so that events may be missing here.
    """

    events: list[Stored]
    after: tuple[datetime, int] | None = None
    missing: list[str] = []


async def events_of_chains(
    db: Executor, store: ArchiveStore | None, chains: Sequence[str], lost: Lost | None = None
) -> list[Stored]:
    """All events of these chains, each chain's in the order of its positions. `store` is None where nothing is archived.

    Archives are opened only until every position is there that the chain's head counts, those from the order's own time on first.
    Raises `ArchiveBroken`, unless `lost` takes what is broken and the rest is wanted.
    """
    found = {(row["chain"], row["position"]): Stored(**row) for row in await db.fetch(sql.HOT_CHAINS, list(chains))}
    missing = await _missing(db, chains, found)
    if store is not None and any(missing.values()):
        cold, born = Cold(db, store, lost), min(_born(chain) for chain, left in missing.items() if left)
        for manifest in sorted(await cold.archives(), key=lambda each: each.last_occurred_at < born):
            for each in await cold.of_chains(manifest, [chain for chain, left in missing.items() if left]):
                found[each.chain, each.position] = each
                missing[each.chain].discard(each.position)
            if not any(missing.values()):
                break
    return [found[key] for key in sorted(found)]


async def _missing(db: Executor, chains: Sequence[str], found: dict[tuple[str, int], Stored]) -> dict[str, set[int]]:
    missing = {}
    for row in await db.fetch(sql.HEADS, list(chains)):
        positions = range(1, row["position"] + 1)
        missing[row["chain"]] = {p for p in positions if (row["chain"], p) not in found}.difference(row["aside"])
    return missing


def _born(chain: str) -> datetime:
    """From when on a chain can have events: an order's id tells its time (UUIDv7)."""
    if not chain.startswith(_ORDER):
        return BEGINNING
    digits = chain[_ID_PREFIX:].replace("-", "")[:12]
    try:
        return datetime.fromtimestamp(int(digits, 16) / 1000, UTC) - AHEAD
    except (ValueError, OverflowError, OSError):
        return BEGINNING


async def events_in(db: Executor, store: ArchiveStore | None, first: int, end: int) -> AsyncIterator[Stored]:
    """The events from one leaf to before another, in the log's order, in bounded memory.

    Raises `ArchiveBroken` at a file that is not what it was, `LedgerDiffers` at a leaf that is nowhere.
    """
    at = first
    while at < end:
        found = [Stored(**row) for row in await db.fetch(sql.HOT_LEAVES, at, end, _AT_ONCE)]
        if not found or found[0].leaf_index != at:
            until = found[0].leaf_index if found else end
            async for each in _cold_leaves(db, store, at, until):
                if each.leaf_index != at:
                    break
                yield each
                at += 1
            if at < until and not await _moved_on(db, at, found):
                raise LedgerDiffers(f"leaf {at} is neither in the ledger nor in an archive")
            continue
        for each in found:
            if each.leaf_index != at:
                break  # the rest is colder: look for it in the archive
            yield each
            at += 1


async def _moved_on(db: Executor, at: int, found: Sequence[Stored]) -> bool:
    """Whether this leaf is in the ledger after all: it was written between two questions."""
    rows = await db.fetch(sql.HOT_LEAVES, at, at + 1, 1)
    return bool(rows) and not any(each.leaf_index == at for each in found)


async def _cold_leaves(db: Executor, store: ArchiveStore | None, first: int, end: int) -> AsyncIterator[Stored]:
    if store is None:
        return
    cold = Cold(db, store)
    for manifest in await cold.archives(first=first, end=end):
        for part in manifest.parts:
            if part.first_leaf < end and first < part.end_leaf:
                for each in await cold.of_leaves(manifest, part, first, end):
                    yield each


async def find(db: Executor, store: ArchiveStore | None, event_id: str, chain: str | None = None) -> Stored:
    """The event with this id. With its chain that is quick; without, the ids of every archived event may be read, newest first.

    Raises `NotFound`, `ArchiveBroken`.
    """
    for row in await db.fetch(sql.HOT_EVENT, event_id):
        return Stored(**row)
    if chain is not None:
        for each in await events_of_chains(db, store, [chain]):
            if msgspec.json.decode(each.body)["event_id"] == event_id:
                return each
    elif store is not None:
        cold = Cold(db, store)
        for manifest in reversed(await cold.archives()):
            for hit in await cold.named(manifest, event_id):
                for each in await cold.at(manifest, [hit.leaf_index]):
                    return each
    raise NotFound(f"there is no audit event {event_id}")


async def search(
    db: Executor, store: ArchiveStore | None, wanted: Filter, *, after: tuple[datetime, int] | None = None, limit: int = 50
) -> Page:
    """A page of the events that match, the newest first, of the ledger and the archive together. Raises `Invalid`.

    What of the archive is broken is named in `missing`; the rest is there all the same.
    """
    if not 1 <= limit <= _MOST:
        raise Invalid("limit", f"give a number from 1 to {_MOST}")
    values = _values(wanted, after, limit)
    found = {each[0]: each for each in await _hot(db, values)}
    lost: Lost = []
    if store is not None:
        cold = Cold(db, store, lost)
        await _colder(cold, values, found, limit)
    page = sorted(found.values(), key=lambda each: (each[1], each[0]), reverse=True)[:limit]
    rows = [each[2] for each in page]
    last = (page[-1][1], page[-1][0]) if len(page) == limit else None
    return Page(events=rows, after=last, missing=[str(error) for error in lost])


async def search_archive(
    db: Executor, store: ArchiveStore, wanted: Filter, *, after: tuple[datetime, int], limit: int = 50
) -> Page:
    """The same of the archive alone, for whoever has asked the ledger in another way. `events` come with no page behind them."""
    found: dict[int, _Found] = {}
    lost: Lost = []
    await _colder(Cold(db, store, lost), {**_values(wanted, after, limit), "actions": wanted.actions}, found, limit)
    page = sorted(found.values(), key=lambda each: (each[1], each[0]), reverse=True)[:limit]
    return Page(events=[each[2] for each in page], missing=[str(error) for error in lost])


_Found = tuple[int, datetime, Stored]


async def _hot(db: Executor, values: dict[str, Any]) -> list[_Found]:
    async with transaction(db) as conn:
        await conn.execute(sql.PLAN_FOR_VALUES)
        rows = await conn.fetch(sql.HOT_PAGE, *values.values())
    return [
        (row["leaf_index"], row["occurred_at"], Stored(row["leaf_index"], row["chain"], row["position"], row["body"]))
        for row in rows
    ]


async def _colder(cold: Cold, values: dict[str, Any], found: dict[int, _Found], limit: int) -> None:
    """Archives from the newest on, until none that is left can have an event as new as the page's last."""
    manifests = await cold.archives(since=values["from"], before=values["at"] + timedelta(microseconds=1))
    for manifest in sorted(manifests, key=_newest, reverse=True):
        times = sorted((each[1] for each in found.values()), reverse=True)[:limit]
        if len(times) == limit and manifest.last_occurred_at < times[-1]:
            break
        hits = sorted(await cold.page(manifest, values), reverse=True)[:limit]
        at = {hit.leaf_index: hit.occurred_at for hit in hits if hit.leaf_index not in found}
        for each in await cold.at(manifest, at):
            found[each.leaf_index] = (each.leaf_index, at[each.leaf_index], each)


def _newest(manifest: Manifest) -> datetime:
    return manifest.last_occurred_at


def _values(wanted: Filter, after: tuple[datetime, int] | None, limit: int) -> dict[str, Any]:
    """In the order of `HOT_PAGE`'s parameters."""
    before = (wanted.before, 0) if wanted.before else (END - timedelta(days=1), MOST_LEAVES)
    at, leaf = min(after, before) if after else before
    return {
        "actor": wanted.actor_id, "action": wanted.action, "state": wanted.new_state, "order": wanted.order_id,
        "from": wanted.since or BEGINNING, "at": at, "leaf": leaf, "most": limit,
    }  # fmt: skip
