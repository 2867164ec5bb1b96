"""The only place that keeps signed checkpoints as files: one for each day, appended to and synced before anybody else sees them.

Each note is followed by an empty line. A torn end, left by a crash in the middle of a write, was never published: it is cut
off by the next append and passed over by a reader.
"""

import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

COPIED: Final = "checkpoints"  # the archive's folder with a copy of each
_END: Final = b"\n\n"
_TAIL_BYTES: Final = 65_536  # more than the largest note has


class CheckpointFiles:
    """A folder of checkpoints, oldest first by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, note: str, at: datetime) -> None:
        """Keep one more. On return it is on the disk. Raises `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{at:%Y-%m-%d}.txt"
        is_new = not path.exists()
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(_whole(file.seek(0, os.SEEK_END), path))
            file.write(note.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            self._sync_folder()

    def last(self) -> str | None:
        """The newest note, or None where there is none."""
        for path in reversed(self._paths()):
            notes = list(notes_in(path))
            if notes:
                return notes[-1]
        return None

    def notes(self) -> Iterator[str]:
        """All of them, oldest first, in constant memory but for one day."""
        for path in self._paths():
            yield from notes_in(path)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.txt")) if self._folder.is_dir() else []

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def notes_in(path: Path) -> Iterator[str]:
    """The notes of a file."""
    return notes_of(path.read_bytes())


def notes_of(data: bytes) -> Iterator[str]:
    """A note is two blocks, its text and its signatures, each ended by an empty line."""
    blocks = data.split(_END)[:-1]  # what follows the last empty line is nothing, or torn
    for text, signatures in zip(blocks[::2], blocks[1::2], strict=False):
        yield f"{text.decode()}\n\n{signatures.decode()}\n"


def _whole(size: int, path: Path) -> int:
    """How much of the file is whole notes."""
    start = max(0, size - _TAIL_BYTES)
    with path.open("rb") as file:
        file.seek(start)
        tail = file.read()
    if not tail:
        return 0
    blocks = tail.split(_END)
    torn = len(blocks[-1])
    # Signatures begin with a dash; a text whose signatures were never written is torn, too.
    if len(blocks) > 1 and not blocks[-2].lstrip(b"\n").startswith("— ".encode()):
        torn += len(blocks[-2]) + len(_END)
    return size - torn
