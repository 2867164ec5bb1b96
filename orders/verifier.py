"""Verifies an export of the audit log alone: without the system, with the standard library and one signature check.

    python -m orders.verifier EXPORT.jsonl [--proofs FILE] [--checkpoint FILE] [--key VKEY]

Take the folder `orders/` along and nothing else. Where the package `cryptography` is missing, everything but the signatures is
checked, and said so. It ends with 0 where the record is whole, 1 where it breaks, 2 where it cannot be read at all.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from orders.checkpoints import Checkpoint, open_checkpoint
from orders.errors import NoteRefused, ProofError
from orders.export_check import Break, Check
from orders.exported import Exported
from orders.merkle import Frontier, leaf_hash
from orders.notes import Verifier, parse_note
from orders.proofs import verify_inclusion
from orders.tlog_proof import HEADER, TlogProof

_DESCRIPTION: Final = (
    "Verify an export of the audit log alone, without the system it came from. Names where the record breaks first."
)
_NO_KEY: Final = (
    "Signatures were not checked: no --key was given. Roots and proofs are only as good as whoever gave the checkpoint."
)
_NO_CRYPTOGRAPHY: Final = "Signatures were not checked: the package `cryptography` is not here."


@dataclass(slots=True)
class Result:
    """What was checked, and what breaks. `not_checked`: sentences."""

    events: int = 0
    chains: int = 0
    proofs: int = 0
    checkpoints: list[str] = field(default_factory=list)
    root: str | None = None
    breaks: list[Break] = field(default_factory=list)
    more: int = 0
    not_checked: list[str] = field(default_factory=list)


class Trust:
    """Reads checkpoints; believes them where a known key signed them. A note that many proofs carry is opened once."""

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        self._verifiers = verifiers
        self._known: dict[str, Checkpoint] = {}

    def read(self, note: str) -> Checkpoint:
        """Raises `NoteRefused`."""
        if note not in self._known:
            if self._verifiers:
                self._known[note] = open_checkpoint(note, self._verifiers).checkpoint
            else:
                self._known[note] = Checkpoint.parse(parse_note(note).text)
        return self._known[note]


def verify_export(
    lines: Iterable[bytes], now: datetime, trust: Trust, *, first_leaf: int | None = None, proofs: Iterable[str] = (),
    checkpoints: Iterable[str] = (),
) -> Result:  # fmt: skip
    """Check an export. `first_leaf`: where it is a part of the whole log, the index of its first line; None: chains of an order."""
    check, tree, result = Check(now, from_start=not first_leaf), Frontier(), Result()
    signed = _signed(check, trust, checkpoints, result)
    waiting = iter(proofs)
    leaf_of: dict[str, int] = {}
    for number, event in enumerate(check.lines(lines)):
        proof = next(waiting, None)
        if event is not None and proof is not None:
            _prove(check, trust, event, proof, (first_leaf, number), leaf_of)
            result.proofs += 1
        if first_leaf == 0 and event is not None:
            tree.append(leaf_hash(event.body))
            _hold(check, signed, tree)
    _left_over(check, waiting, signed, tree, first_leaf, result)
    result.events, result.chains, result.more = check.events, check.chains, check.more
    result.breaks = sorted(check.breaks, key=lambda each: (each.line is None, each.line or 0))
    if first_leaf == 0:
        result.root = tree.root().hex()
    if check.taken_on_trust:
        result.not_checked.append(f"What {check.taken_on_trust} chains continue lies before this part of the log.")
    return result


def _signed(check: Check, trust: Trust, notes: Iterable[str], result: Result) -> dict[int, bytes]:
    signed: dict[int, bytes] = {}
    for note in notes:
        try:
            checkpoint = trust.read(note)
        except NoteRefused as error:
            check.add("signature", f"A checkpoint cannot be believed: {error}.")
            continue
        result.checkpoints.append(f"{checkpoint.origin}, {checkpoint.size} leaves")
        if signed.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
            check.add(
                "fork", f"Two checkpoints of {checkpoint.origin} name different roots for {checkpoint.size} leaves: it has two histories.",
                said=signed[checkpoint.size].hex(), found=checkpoint.root.hex(),
            )  # fmt: skip
    return signed


def _hold(check: Check, signed: dict[int, bytes], tree: Frontier) -> None:
    root = signed.pop(tree.size, None)
    if root is not None and root != tree.root():
        sentence = f"Lines 1 to {tree.size} are not the {tree.size} leaves that the checkpoint was signed for."
        check.add("root", sentence, line=tree.size, said=root.hex(), found=tree.root().hex())


def _prove(
    check: Check, trust: Trust, event: Exported, text: str, at: tuple[int | None, int], leaf_of: dict[str, int]
) -> None:  # fmt: skip
    where: dict[str, Any] = {
        "line": event.line, "chain": event.chain, "position": event.position, "event_id": event.event_id,
    }  # fmt: skip
    first, number = at
    try:
        proof = TlogProof.parse(text)
        checkpoint = trust.read(proof.checkpoint)
        verify_inclusion(leaf_hash(event.body), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    except (NoteRefused, ProofError) as error:
        kind = "signature" if isinstance(error, NoteRefused) else "proof"
        check.add(kind, f"The proof of line {event.line} does not hold: {error}.", **where)
        return
    if first is not None and proof.index != first + number:
        sentence = f"The proof of line {event.line} is for leaf {proof.index}, and this is leaf {first + number}."
        check.add("proof", sentence, **where)
    if proof.index <= leaf_of.get(event.chain, -1):
        check.add("proof", f"Line {event.line} is leaf {proof.index}: before the event that it follows.", **where)
    leaf_of[event.chain] = proof.index


def _left_over(
    check: Check, waiting: Iterable[str], signed: dict[int, bytes], tree: Frontier, first_leaf: int | None, result: Result
) -> None:
    """What proofs and checkpoints say of events that are not there."""
    if left := sum(1 for _ in waiting):
        check.add("truncated", f"The tail is gone: there are proofs for {left} more events than lines.")
    if result.proofs and result.proofs + left < check.events:
        result.not_checked.append(f"The last {check.events - result.proofs} events have no proof.")
    if first_leaf == 0:
        for size in sorted(each for each in signed if each > tree.size):
            sentence = f"The tail is gone: the checkpoint was signed for {size} leaves, and there are {tree.size}."
            check.add("truncated", sentence, said=str(size), found=str(tree.size))
    elif signed:
        result.not_checked.append("A checkpoint says nothing of a part of the log without proofs, or without --leaves 0.")


def split_proofs(text: str) -> list[str]:
    """Proofs one behind the other."""
    parts = text.split(HEADER + "\n")
    return [HEADER + "\n" + part for part in parts[1:]] if not parts[0] else [text]


def split_notes(text: str) -> list[str]:
    """Notes one behind the other, each followed by an empty line; the last need not be."""
    blocks = text.rstrip("\n").split("\n\n")
    return [f"{blocks[at]}\n\n{blocks[at + 1] if at + 1 < len(blocks) else ''}\n" for at in range(0, len(blocks), 2)]


def _verifiers(keys: Sequence[str], result: list[str]) -> list[Verifier]:
    if not keys:
        result.append(_NO_KEY)
        return []
    try:
        from orders.signing import verifier  # noqa: PLC0415 - the one need of a package, and it can be done without
    except ImportError:
        result.append(_NO_CRYPTOGRAPHY)
        return []
    return [verifier(key) for key in keys]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orders.verifier", description=_DESCRIPTION)
    parser.add_argument("export", type=Path, help="events, one canonical JSON object a line")
    parser.add_argument("--proofs", type=Path, help="a tlog-proof for each line, one behind the other")
    parser.add_argument(
        "--checkpoint", type=Path, action="append", default=[], help="signed checkpoints, each followed by an empty line"
    )
    parser.add_argument(
        "--key", action="append", default=[], help="a verifier key of the log, or a file with some; may be given again"
    )
    parser.add_argument(
        "--leaves", type=int, metavar="FIRST", help="the export is a part of the log, and its first line is this leaf"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Verify, and say so."""
    asked = _arguments(given)
    not_checked: list[str] = []
    try:
        keys = [key for each in asked.key for key in _keys(each)]
        trust = Trust(_verifiers(keys, not_checked))
        proofs = split_proofs(asked.proofs.read_text()) if asked.proofs else []
        checkpoints = [note for path in asked.checkpoint for note in split_notes(path.read_text())]
        with asked.export.open("rb") as lines:
            result = verify_export(
                lines, datetime.now(UTC), trust, first_leaf=asked.leaves, proofs=proofs, checkpoints=checkpoints
            )
    except (OSError, UnicodeError, NoteRefused) as error:
        print(f"It cannot be read: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return 2
    if proofs or checkpoints:
        result.not_checked = not_checked + result.not_checked
    else:
        result.not_checked.append("Without --proofs or --checkpoint, the tail may be gone, or everything written anew.")
    print(json.dumps(asdict(result), indent=2) if asked.json else told(result))  # noqa: T201
    return 1 if result.breaks else 0


def _keys(text: str) -> list[str]:
    """Keys have a plus sign, and files that have one are few; a file has a key a line."""
    path = Path(text)
    return path.read_text().split() if path.is_file() else [text]


def told(result: Result) -> str:
    """In words, the first break first."""
    counted = f"{result.events} events of {result.chains} chains, {result.proofs} proofs, {len(result.checkpoints)} checkpoints"
    lines = (
        [f"The record breaks. First: {result.breaks[0].sentence}"] if result.breaks else [f"The record is whole: {counted}."]
    )
    lines += [f"  {each.sentence}" for each in result.breaks[1:20]]
    if (left := len(result.breaks[20:]) + result.more) > 0:
        lines.append(f"  … and {left} more.")
    if result.breaks:
        lines.append(f"Checked: {counted}.")
    return "\n".join([*lines, *(f"Not checked: {each}" for each in result.not_checked)])


if __name__ == "__main__":
    sys.exit(main())
