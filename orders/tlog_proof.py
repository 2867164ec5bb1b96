"""The only place that reads and writes proofs which stand alone (C2SP tlog-proof): a leaf's place and a checkpoint in one text.

Standard library only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from orders.checkpoints import OpenedCheckpoint, open_checkpoint, parse_size
from orders.merkle import HASH_BYTES, leaf_hash
from orders.note_keys import decoded, encoded
from orders.notes import MAX_NOTE_BYTES, NoteMalformed, Verifier
from orders.proofs import verify_inclusion

HEADER: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
_INDEX: Final = "index "
_MOST_HASHES: Final = 63
_MOST_BYTES: Final = 2 * MAX_NOTE_BYTES


class ProofMalformed(NoteMalformed):
    """The text is no tlog-proof. `line` is the first that cannot be read."""

    slug = "proof-malformed"


@dataclass(frozen=True, slots=True)
class TlogProof:
    """Where a leaf is, the hashes beside its way up, and the note with the checkpoint. `extra` is signed by nobody."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def __str__(self) -> str:
        extra = () if self.extra is None else (_EXTRA + encoded(self.extra),)
        lines = (HEADER, *extra, f"{_INDEX}{self.index}", *map(encoded, self.hashes))
        return "\n".join((*lines, "", self.checkpoint))

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Take a proof apart, believing nothing; the checkpoint's note is not yet looked into. Raises `ProofMalformed`."""
        head, empty, checkpoint = _plain(text).partition("\n\n")
        if not empty:
            raise ProofMalformed("there is no empty line between the proof and its checkpoint")
        lines = head.split("\n")
        if lines[0] != HEADER:
            raise ProofMalformed(f"a proof begins with {HEADER}", 1)
        at = 1
        extra = None
        if lines[at:] and lines[at].startswith(_EXTRA):
            extra = decoded(lines[at].removeprefix(_EXTRA))
            if extra is None:
                raise ProofMalformed("the extra data is not base64", at + 1)
            at += 1
        line = lines[at] if lines[at:] else ""
        index = parse_size(line.removeprefix(_INDEX)) if line.startswith(_INDEX) else None
        if index is None:
            raise ProofMalformed("'index' and a decimal number without zeros in front belong here", at + 1)
        return cls(index, _hashes(lines[at + 1 :], at + 2), checkpoint, extra)


def _hashes(lines: list[str], first: int) -> tuple[bytes, ...]:
    if len(lines) > _MOST_HASHES:
        raise ProofMalformed(f"a proof has at most {_MOST_HASHES} hashes, this one has {len(lines)}", first + _MOST_HASHES)
    hashes = []
    for number, line in enumerate(lines, first):
        data = decoded(line)
        if data is None or len(data) != HASH_BYTES:
            raise ProofMalformed(f"a hash of the proof is the base64 of {HASH_BYTES} bytes", number)
        hashes.append(data)
    return tuple(hashes)


def _plain(text: str | bytes) -> str:
    if len(text) > _MOST_BYTES:
        raise ProofMalformed(f"a proof may have {_MOST_BYTES} bytes, this one has {len(text)}")
    try:
        return text.decode() if isinstance(text, bytes) else text
    except UnicodeError as error:
        raise ProofMalformed("it is not UTF-8") from error


def verify_proof(
    text: str | bytes, leaf: bytes, verifiers: Iterable[Verifier], *, witnesses: Iterable[Verifier] = ()
) -> OpenedCheckpoint:
    """The checkpoint of the log that holds this leaf. How many witnesses are enough is for the caller to say.

    Raises `ProofMalformed`, what `open_checkpoint` raises where the log's key is another, its signature wrong or its lines
    malformed (counted within the whole text), and `ProofError` where the leaf is not in that tree at that index.
    """
    proof = TlogProof.parse(text)
    try:
        opened = open_checkpoint(proof.checkpoint, verifiers, witnesses=witnesses)
    except NoteMalformed as error:
        before = 3 + (proof.extra is not None) + len(proof.hashes)
        raise ProofMalformed(f"in the checkpoint: {error.problem}", error.line and error.line + before) from error
    checkpoint = opened.checkpoint
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return opened
