"""The only place where the gateway reaches into the archive, for events that have left the ledger. Opened when somebody first asks.

Never within a transaction: the archive is the outside.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from adapters.postgres import Pool
from adapters.settings import Settings
from audit.investigation.material import Leaf
from audit.proving import Leaf as Place
from orders.errors import NotFound

if TYPE_CHECKING:  # Arrow and DuckDB: memory that no gateway owes whose support never asks for what is years old
    from adapters.archive_store import ArchiveStore
    from audit.reader import Filter, Page


class Archived:
    """What has left the ledger. All raise `ArchiveUnavailable`, `BadArchive`, `ArchiveBroken`, `DatabaseUnavailable`."""

    def __init__(self, settings: Settings, ledger: Pool) -> None:
        self._settings, self._ledger = settings, ledger
        self._store: ArchiveStore | None = None
        self._opening = asyncio.Lock()

    async def chains(self, chains: Sequence[str]) -> list[Leaf]:
        """All events of these chains, wherever they are."""
        from audit.reader import events_of_chains  # noqa: PLC0415  # see above

        found = await events_of_chains(self._ledger, await self._opened(), chains)
        return [Leaf(chain=e.chain, position=e.position, leaf_index=e.leaf_index, body=e.body) for e in found]

    async def leaves(self, first: int, end: int) -> dict[int, bytes]:
        """The events from one leaf to before another, wherever they are."""
        from audit.reader import events_in  # noqa: PLC0415  # see above

        return {event.leaf_index: event.body async for event in events_in(self._ledger, await self._opened(), first, end)}

    async def place(self, event_id: str, chains: Sequence[str]) -> Place | None:
        """Where an event of one of these chains is in the log."""
        from audit.reader import find  # noqa: PLC0415  # see above

        store = await self._opened()
        for chain in chains:
            try:
                event = await find(self._ledger, store, event_id, chain)
            except NotFound:
                continue
            return Place(event.leaf_index, event.body)
        return None

    async def older(self, wanted: "Filter", after: tuple[datetime, int], limit: int) -> "Page":
        """A page of archived events alone, the newest first, from this time and leaf on."""
        from audit.reader import search_archive  # noqa: PLC0415  # see above

        return await search_archive(self._ledger, await self._opened(), wanted, after=after, limit=limit)

    async def _opened(self) -> "ArchiveStore":
        from adapters.archive_store import ArchiveStore  # noqa: PLC0415  # see above

        async with self._opening:
            if self._store is None:
                self._store = await ArchiveStore.open(self._settings.archive_url)
            return self._store


def archived(settings: Settings, ledger: Pool) -> Archived | None:
    """None where nothing is archived."""
    return Archived(settings, ledger) if settings.archive_url else None
