"""The only place that reads and writes signed notes (C2SP signed-note).

A note is text, an empty line, and lines with signatures. Its text means nothing until a key that the reader already knows has
signed it. Standard library only: what signs and verifies comes from `orders.signing`, or from wherever the reader trusts.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from orders.errors import NoteRefused
from orders.note_keys import ID_BYTES, KeyMalformed, checked_name, decoded, encoded, is_name

MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
_MOST_NAMED: Final = 5
_SHOWN: Final = 80
_DASH: Final = "— "
_BREAK: Final = "\n\n"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteMalformed(NoteRefused):
    """What was given is no signed note. `line` is the first that cannot be read, counted from 1, where one line is to blame."""

    slug = "note-malformed"

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line}: {problem}")
        self.problem, self.line = problem, line


class UnknownSigners(NoteRefused):
    """No key that the reader knows has signed the note: it was signed by another key."""

    slug = "note-of-another-key"


class SignatureWrong(NoteRefused):
    """A key that the reader knows is said to have signed this text, and has not: text or signature were changed."""

    slug = "note-signature-wrong"


class Verifier(Protocol):
    """A key that the reader knows."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def verify(self, text: bytes, signature: bytes) -> bool: ...


class Signer(Protocol):
    """A key that signs. Its signature is what `Verifier.verify` is given."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def sign(self, text: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: whose key is said to have made it, and the bytes behind the key's id."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        return f"{_DASH}{self.name} {encoded(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart, nothing in it verified yet. `text` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(each.line() for each in self.signatures)}"


@dataclass(frozen=True, slots=True)
class Opened:
    """A note whose text may be believed, as far as its verified signers are. Unknown signatures are only carried along."""

    text: str
    verified: tuple[Signature, ...]
    unknown: tuple[Signature, ...]

    def by(self, verifier: Verifier) -> Signature | None:
        """The signature of this key, where it is among the verified ones."""
        key = (verifier.name, verifier.key_id)
        return next((each for each in self.verified if (each.name, each.key_id) == key), None)


def parse_note(note: str | bytes) -> Note:
    """Take a note apart, believing nothing. Raises `NoteMalformed`."""
    text, signatures = _split(_plain(note))
    lines = signatures.split("\n")[:-1]
    if len(lines) > MAX_SIGNATURES:
        raise NoteMalformed(f"a note may have {MAX_SIGNATURES} signatures, this one has {len(lines)}")
    first = text.count("\n") + 2
    return Note(text, tuple(_signature(line, number) for number, line in enumerate(lines, first)))


def parse_signatures(lines: str) -> tuple[Signature, ...]:
    """Signature lines alone, as a witness answers with. Raises `NoteMalformed`."""
    return tuple(_signature(line, number) for number, line in enumerate(_ended(_plain(lines)).split("\n")[:-1], 1))


def _plain(note: str | bytes) -> str:
    try:
        data = note.encode() if isinstance(note, str) else note
        text = data.decode()
    except UnicodeError as error:
        raise NoteMalformed("it is not UTF-8") from error
    if len(data) > MAX_NOTE_BYTES:
        raise NoteMalformed(f"a note may have {MAX_NOTE_BYTES} bytes, this one has {len(data)}")
    control = _CONTROL.search(text)
    if control:
        raise NoteMalformed(f"control character U+{ord(control[0]):04X}", text.count("\n", 0, control.start()) + 1)
    return text


def _split(note: str) -> tuple[str, str]:
    """At the last empty line, which belongs to neither side."""
    at = note.rfind(_BREAK)
    if at < 0:
        raise NoteMalformed("there is no empty line between a text and signatures")
    return note[: at + 1], _ended(note[at + len(_BREAK) :])


def _ended(lines: str) -> str:
    if not lines.endswith("\n"):
        raise NoteMalformed("no signatures, or the last line of signatures does not end in a newline")
    return lines


def _signature(line: str, number: int) -> Signature:
    if not line.startswith(_DASH):
        raise NoteMalformed("a signature line begins with an em dash and a blank", number)
    name, _, value = line.removeprefix(_DASH).partition(" ")
    data = decoded(value)
    if not is_name(name):
        raise NoteMalformed("a signature's key name must not be empty nor have blanks or '+'", number)
    if data is None or len(data) <= ID_BYTES:
        raise NoteMalformed("a signature is the base64 of a key's id and at least one byte", number)
    return Signature(name, data[:ID_BYTES], data[ID_BYTES:])


def open_note(note: str | bytes, verifiers: Iterable[Verifier]) -> Opened:
    """The text, where a known key signed it. Raises `NoteMalformed`, `SignatureWrong`, `UnknownSigners`, `KeyMalformed`."""
    parsed, known = parse_note(note), _by_key(verifiers)
    verified, unknown = [], []
    for each in parsed.signatures:
        verifier = known.get((each.name, each.key_id))
        if verifier is None:
            unknown.append(each)
        elif verifier.verify(parsed.text.encode(), each.value):
            verified.append(each)
        else:
            raise SignatureWrong(f"the signature of {each.name[:_SHOWN]} ({each.key_id.hex()}) is not over this text")
    if not verified:
        raise UnknownSigners(f"signed by {named(unknown)}; known here: {named(known.values())}")
    return Opened(parsed.text, tuple(verified), tuple(unknown))


def _by_key(verifiers: Iterable[Verifier]) -> dict[tuple[str, bytes], Verifier]:
    known: dict[tuple[str, bytes], Verifier] = {}
    for each in verifiers:
        if known.setdefault((each.name, each.key_id), each) != each:
            raise KeyMalformed(
                f"two keys named {each.name} have the id {each.key_id.hex()}: their signatures cannot be told apart"
            )
    return known


def named(keys: Iterable[Verifier | Signature]) -> str:
    """For a message, which stays short whatever a stranger's note is full of."""
    shown = [f"{each.name[:_SHOWN]} ({each.key_id.hex()})" for each in keys]
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return (", ".join(shown[:_MOST_NAMED]) or "nobody") + more


def sign(text: str, *signers: Signer, existing: Sequence[Signature] = ()) -> str:
    """The note with a line for each signer behind the existing ones. Raises `NoteMalformed` for what cannot be a note's text."""
    if not text.endswith("\n") or _plain(text) != text:
        raise NoteMalformed("the text of a note ends in a newline")
    data = text.encode()
    made = (Signature(checked_name(each.name), each.key_id, each.sign(data)) for each in signers)
    return str(Note(text, (*existing, *made)))
