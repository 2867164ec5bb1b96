"""The only place that gathers the signed checkpoints that are kept outside the ledger, from whatever keeps them, by size.

Each is opened with the log's keys: what nobody we know signed is a finding, and so are two that name different histories.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from adapters.archive_store import ArchiveStore
from adapters.postgres import Connection
from audit.checkpoint_files import COPIED, CheckpointFiles, notes_in, notes_of
from audit.verification import sql
from audit.verification.findings import Findings, Kind
from audit.verification.tree import Signed
from orders.checkpoints import open_checkpoint
from orders.errors import NoteRefused
from orders.notes import Verifier

_SORTED_AT_ONCE: Final = 20_000  # more than half a day's
_REMEMBERED: Final = 4_096
_PAGE: Final = 5_000
Source = tuple[str, Iterable[str]]


class Copies:
    """Checkpoints of one log. `sources` says where they come from."""

    def __init__(self, verifiers: Sequence[Verifier], sources: Sequence[Source]) -> None:
        self._verifiers, self._sources = verifiers, sources
        self._opened: OrderedDict[str, Signed] = OrderedDict()

    @property
    def sources(self) -> list[str]:
        return [name for name, _ in self._sources]

    def signed(self, findings: Findings) -> Iterator[Signed]:
        """All that are validly signed, by size (as far as each source has them so)."""
        before: Signed | None = None
        for each in heapq.merge(*(self._of(name, notes, findings) for name, notes in self._sources), key=lambda one: one.size):
            if before is None or before.size != each.size or before.root == each.root:
                before = each
                yield each
                continue
            sentence = (
                f"Two histories were signed: for {each.size} leaves, {before.source} has another root than {each.source}."
            )
            findings.add(
                Kind.FORK, sentence, leaf=each.size - 1, source=each.source, said=before.root.hex(), found=each.root.hex()
            )

    def _of(self, name: str, notes: Iterable[str], findings: Findings) -> Iterator[Signed]:
        waiting = iter(notes)
        while some := list(itertools.islice(waiting, _SORTED_AT_ONCE)):
            found = [each for note in some if (each := self._open(name, note, findings)) is not None]
            yield from sorted(found, key=lambda one: one.size)

    def _open(self, name: str, note: str, findings: Findings) -> Signed | None:
        """What several keep is opened once."""
        text = note.partition("\n\n")[0]
        known = self._opened.get(note)
        if known is not None:
            return Signed(known.size, known.root, name)
        try:
            checkpoint = open_checkpoint(note, self._verifiers).checkpoint
        except NoteRefused as error:
            size = text.split("\n")[1] if text.count("\n") else "?"
            sentence = f"A checkpoint in {name}, for {size[:20]} leaves, cannot be believed: {error}."
            findings.add(Kind.SIGNATURE, sentence, source=name)
            return None
        signed = Signed(checkpoint.size, checkpoint.root, name)
        self._opened[note] = signed
        if len(self._opened) > _REMEMBERED:
            self._opened.popitem(last=False)
        return signed


def from_path(path: Path) -> Source:
    """A folder with a file for each day, or one file."""
    return str(path), CheckpointFiles(path).notes() if path.is_dir() else notes_in(path)


async def spooled(notes: AsyncIterator[str], file: IO[bytes]) -> Iterable[str]:
    """Notes that come over a network, in a file meanwhile: however many they are, memory stays small."""
    async for note in notes:
        file.write(note.encode() + b"\n")
    file.flush()
    return notes_in(Path(file.name))


async def served(db: Connection) -> AsyncIterator[str]:
    """Those that the ledger itself serves. They prove nothing alone; one that others do not have is a second history."""
    last = -1
    while rows := await db.fetch(sql.CHECKPOINTS, last, _PAGE):
        for row in rows:
            yield row["note"]
        last = rows[-1]["size"]


async def archived(store: ArchiveStore) -> AsyncIterator[str]:
    """Those that were copied into the archive. Raises `ArchiveUnavailable`."""
    for name in await store.list(COPIED):
        for note in notes_of(await store.get(name)):
            yield note
