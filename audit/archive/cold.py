"""The only place that reads events out of the archive: of some chains, at some leaves, or found by what they say.

Only files that can hold what is asked for are opened: manifests say between what each lies, Parquet's own statistics which of its
row groups do. Whatever is handed on was held against the log's tree first: bytes that are not those of the log are never an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import duckdb
from pyarrow import dataset

from adapters.archive_store import ArchiveStore
from adapters.postgres import Executor
from audit.archive import parquet, sql
from audit.archive.manifest import ArchiveBroken, FileAltered, Manifest, Part, check_size, of_file, recorded
from audit.archive.parquet import Stored
from audit.archive.reading_back import manifest_of
from audit.archive.tie import unlike
from audit.events import LOOKS
from orders.merkle import leaf_hash

Answer = TypeVar("Answer")
Lost = list[ArchiveBroken]

BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, tzinfo=UTC)
MOST_LEAVES: Final = 2**62
_TOP: Final = "SELECT occurred_at, leaf_index FROM events ORDER BY occurred_at DESC, leaf_index DESC LIMIT $most"
_EQUAL: Final = {"actor": "actor_id", "action": "action", "state": "new_state"}
_FEW: Final = 10


class Hit(NamedTuple):
    """Where something that was looked for is. Sorted as pages are."""

    occurred_at: datetime
    leaf_index: int


class Cold:
    """The archives of one question. What is broken is raised, or put into `lost` where the rest of the answer is wanted all the same."""

    def __init__(self, db: Executor, store: ArchiveStore, lost: Lost | None = None) -> None:
        self._db, self._store, self._lost = db, store, lost
        self._checked: dict[str, Manifest | None] = {}

    async def archives(
        self, *, first: int = 0, end: int = MOST_LEAVES, since: datetime = BEGINNING, before: datetime = END
    ) -> list[Manifest]:
        """Those that may hold such events, in the log's order, as the ledger remembers them."""
        rows = await self._db.fetch(sql.COLD, first, end, since, before)
        return [recorded(row["name"], row["manifest"]) for row in rows]

    async def of_chains(self, manifest: Manifest, chains: Sequence[str]) -> list[Stored]:
        """The events of these chains in an archive."""
        found: list[Stored] = []
        for part in manifest.parts:
            wanted = [chain for chain in chains if part.first_chain <= chain <= part.last_chain]
            if wanted:
                found += await self._read(manifest, part, partial(parquet.of_chains, chains=wanted))
        return found

    async def of_leaves(self, manifest: Manifest, part: Part, first: int, end: int) -> list[Stored]:
        """The events of one file from a leaf to before another, in the log's order."""
        return await self._read(manifest, part, partial(parquet.of_leaves, first=first, end=end))

    async def at(self, manifest: Manifest, leaves: Iterable[int]) -> list[Stored]:
        """The events at these leaves of an archive."""
        found: list[Stored] = []
        for part in manifest.parts:
            here = sorted(leaf for leaf in leaves if part.first_leaf <= leaf < part.end_leaf)
            if here:
                found += await self._read(manifest, part, partial(parquet.at_leaves, leaves=here))
        return found

    async def page(self, manifest: Manifest, wanted: Mapping[str, Any]) -> list[Hit]:
        """The newest events of an archive that match: `actor`, `action` (or `actions`), `state`, `order`, `from`, `at`
        and `leaf`, `most`.
        """
        parts = [p for p in manifest.parts if p.last_occurred_at >= wanted["from"] and p.first_occurred_at <= wanted["at"]]
        return await self._hits(manifest, parts, _condition(wanted), wanted["most"])

    async def named(self, manifest: Manifest, event_id: str) -> list[Hit]:
        """Where the event with this id is in an archive."""
        return await self._hits(manifest, manifest.parts, dataset.field("event_id") == event_id, _FEW)

    async def _hits(self, manifest: Manifest, parts: Sequence[Part], condition: Any, most: int) -> list[Hit]:
        whole = [p for p in parts if await self._guarded(self._sized(manifest, p)) is not None]
        paths = [manifest.path(part.file) for part in whole]
        if not paths:
            return []
        try:
            return await self._ask(paths, condition, most)
        except ArchiveBroken:  # one by one, so that it is named which
            found: list[Hit] = []
            for path in paths:
                found += await self._guarded(self._ask([path], condition, most)) or []
            return found

    async def _ask(self, paths: Sequence[str], condition: Any, most: int) -> list[Hit]:
        """Arrow leaves out the row groups and rows that cannot match or do not; of the rest, DuckDB keeps the newest."""
        where, filesystem = [self._store.path(path) for path in paths], self._store.filesystem

        def ask() -> list[Hit]:
            with of_file(paths[0]), duckdb.connect(config={"threads": 1}) as db:
                events = dataset.dataset(where, schema=parquet.SCHEMA, format="parquet", filesystem=filesystem)
                db.register("events", events.scanner(columns=["occurred_at", "leaf_index"], filter=condition).to_reader())
                try:
                    rows = db.execute("SET TimeZone = 'UTC'").execute(_TOP, {"most": most}).fetchall()
                except duckdb.Error as error:
                    raise FileAltered(paths[0], f"it cannot be searched: {error}") from error
            return [Hit(at.astimezone(UTC), leaf) for at, leaf in rows]

        return await asyncio.to_thread(ask)

    async def _sized(self, manifest: Manifest, part: Part) -> bool:
        await self._check(manifest)
        path = manifest.path(part.file)
        with of_file(path):
            check_size(path, await self._store.size(path), part.bytes)
        return True

    async def _read(self, manifest: Manifest, part: Part, ask: Callable[[Any], list[Stored]]) -> list[Stored]:
        return await self._guarded(self._proven(manifest, part, ask)) or []

    async def _proven(self, manifest: Manifest, part: Part, ask: Callable[[Any], list[Stored]]) -> list[Stored]:
        await self._sized(manifest, part)
        path = manifest.path(part.file)

        def read(source: Any) -> list[Stored]:
            with of_file(path), source:
                return ask(parquet.open_file(source))

        with of_file(path):
            source = await self._store.open_input(path)
        found = await asyncio.to_thread(read, source)
        for leaf in await unlike(self._db, [(each.leaf_index, leaf_hash(each.body)) for each in found]):
            raise FileAltered(path, f"its event at leaf {leaf} is not the one that the log's tree has there")
        return found

    async def _check(self, known: Manifest) -> None:
        """Once for each archive of the question: its manifest is what was written."""
        if known.name not in self._checked:
            self._checked[known.name] = None
            self._checked[known.name] = await manifest_of(self._store, known.name, known)

    async def _guarded(self, asked: Awaitable[Answer]) -> Answer | None:
        try:
            return await asked
        except ArchiveBroken as error:
            if self._lost is None:
                raise
            if (error.file, error.problem) not in {(each.file, each.problem) for each in self._lost}:
                self._lost.append(error)
            return None


def _condition(wanted: Mapping[str, Any]) -> Any:
    """As in the ledger's own page (archive_sql.HOT_PAGE)."""
    at, leaf, order = dataset.field("occurred_at"), dataset.field("leaf_index"), wanted["order"]
    found = (at >= wanted["from"]) & ((at < wanted["at"]) | ((at == wanted["at"]) & (leaf < wanted["leaf"])))
    for name, column in _EQUAL.items():
        if wanted[name] is not None:
            found &= dataset.field(column) == wanted[name]
    if wanted.get("actions") is not None:
        found &= dataset.field("action").isin(wanted["actions"])
    return found if order is None else found & dataset.field("chain").isin([order, f"{order}{LOOKS}"])
