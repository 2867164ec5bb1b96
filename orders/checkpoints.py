"""The only place that reads and writes checkpoints (C2SP tlog-checkpoint): which tree a log says it has.

Standard library only.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from orders.merkle import HASH_BYTES
from orders.note_keys import decoded, encoded
from orders.notes import NoteMalformed, Opened, Signature, UnknownSigners, Verifier, named, open_note

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LARGEST: Final = 2**63 - 1
_LEAST_LINES: Final = 3
_SHOWN: Final = 80


class CheckpointMalformed(NoteMalformed):
    """The text of a note is no checkpoint."""

    slug = "checkpoint-malformed"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's name for itself, how many leaves its tree has, and their root. Extension lines are carried, and mean nothing here."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """What is signed. Raises `CheckpointMalformed` where a line would not be one."""
        text = "".join(f"{line}\n" for line in (self.origin, str(self.size), encoded(self.root), *self.extensions))
        if Checkpoint.parse(text) != self:
            raise CheckpointMalformed("an origin or an extension is one line, and not empty")
        return text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a note's text. Raises `CheckpointMalformed`."""
        lines = text.split("\n")
        if lines.pop() or len(lines) < _LEAST_LINES:
            raise CheckpointMalformed("a checkpoint has a line each for origin, size and root, and ends in a newline")
        origin, size, root, *extensions = lines
        number = parse_size(size)
        if number is None:
            raise CheckpointMalformed("the size of a tree is a decimal number without zeros in front", 2)
        data = decoded(root)
        if data is None or len(data) != HASH_BYTES:
            raise CheckpointMalformed(f"the root of a tree is the base64 of {HASH_BYTES} bytes", 3)
        for at, line in enumerate(lines, 1):
            if not line:
                raise CheckpointMalformed("a checkpoint has no empty lines", at)
        return cls(origin, number, data, tuple(extensions))


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint that may be believed, and the note that it came in."""

    checkpoint: Checkpoint
    note: Opened
    cosignatures: tuple[Signature, ...]  # one for each known witness that gave one


def parse_size(text: str) -> int | None:
    """A size or an index in its one spelling, or None."""
    number = int(text) if _SIZE.fullmatch(text) else -1
    return number if 0 <= number <= _LARGEST else None


def open_checkpoint(
    note: str | bytes, verifiers: Iterable[Verifier], *, witnesses: Iterable[Verifier] = ()
) -> OpenedCheckpoint:
    """The checkpoint, where its own log signed it: a known key with the origin's name. Cosignatures of known witnesses must hold.

    Raises what `open_note` raises, and `CheckpointMalformed`.
    """
    logs, others = list(verifiers), list(witnesses)
    opened = open_note(note, [*logs, *others])
    checkpoint = Checkpoint.parse(opened.text)
    if not any(opened.by(each) for each in logs if each.name == checkpoint.origin):
        raise UnknownSigners(f"no known key of {checkpoint.origin[:_SHOWN]} signed its checkpoint: known are {named(logs)}")
    cosigned = (opened.by(each) for each in others)
    return OpenedCheckpoint(checkpoint, opened, tuple(each for each in cosigned if each is not None))
