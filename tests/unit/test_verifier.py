"""The program that verifies an export alone names where the record breaks first, and how."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orders import chain, signing
from orders.checkpoints import Checkpoint
from orders.exported import LineRefused, read_line
from orders.merkle import leaf_hash
from orders.notes import sign
from orders.proofs import inclusion_proof, root_of
from orders.tiles import grow
from orders.tlog_proof import TlogProof
from orders.verifier import Result, Trust, main, split_notes, verify_export
from tests.making import REPOSITORY

NOW = datetime(2026, 3, 14, 18, 30, tzinfo=UTC)
ORIGIN = "rushline.example/audit"
SKEY = signing.new_skey(ORIGIN)
VKEY = signing.vkey_of(SKEY)
TRUST = Trust([signing.verifier(VKEY)])
STEPS = 6


def _event(of_chain: str, position: int, **fields: Any) -> dict[str, Any]:
    own = {"chain": of_chain} if of_chain.endswith(".looks") else {}
    return {
        "v": 1, "event_id": f"aud_{of_chain}_{position}", "order_id": of_chain.removesuffix(".looks"), "position": position,
        "action": "order.placed", "actor": {"type": "system", "id": "tests"}, "details": {"n": position},
        "service": "tests", "occurred_at": NOW.isoformat(), **own, **fields,
    }  # fmt: skip


def _chain(of_chain: str, length: int = STEPS, **fields: Any) -> list[bytes]:
    head, bodies = chain.GENESIS, []
    for position in range(1, length + 1):
        head, body = chain.seal(_event(of_chain, position, **fields), head)
        bodies.append(body)
    return bodies


ORDER = [*_chain("ord_a"), *_chain("ord_a.looks", 2)]
LOG = [body for pair in zip(_chain("ord_a"), _chain("ord_b"), strict=True) for body in pair]
TILES = grow(0, {}, map(leaf_hash, LOG))


def _note(size: int, skey: str = SKEY, root: bytes | None = None) -> str:
    return sign(Checkpoint(ORIGIN, size, root or root_of(size, TILES)).text(), signing.signer(skey))


def _proof(leaf: int, size: int = len(LOG), note: str = "") -> str:
    return str(TlogProof(leaf, tuple(inclusion_proof(leaf, size, TILES)), note or _note(size)))


def _lines(bodies: Sequence[bytes]) -> list[bytes]:
    return [body + b"\n" for body in bodies]


def _verified(bodies: Sequence[bytes], **given: Any) -> Result:
    return verify_export(_lines(bodies), NOW, TRUST, **given)


def _first(bodies: Sequence[bytes], **given: Any) -> tuple[str, int | None, str]:
    (found, *_) = _verified(bodies, **given).breaks
    return found.kind, found.line, found.sentence


def test_an_export_that_nobody_touched_is_whole() -> None:
    result = _verified(ORDER)
    assert (result.breaks, result.events, result.chains) == ([], STEPS + 2, 2)


def test_the_whole_log_with_its_checkpoints_and_proofs_is_whole() -> None:
    notes = [_note(size) for size in range(1, len(LOG) + 1)]
    result = _verified(LOG, first_leaf=0, checkpoints=notes, proofs=[_proof(leaf) for leaf in range(len(LOG))])
    assert (result.breaks, result.proofs, result.root) == ([], len(LOG), root_of(len(LOG), TILES).hex())


def test_a_part_of_the_log_takes_what_lies_before_it_on_trust_and_says_so() -> None:
    result = _verified(LOG[4:], first_leaf=4, proofs=[_proof(leaf) for leaf in range(4, len(LOG))])
    assert result.breaks == []
    assert any("2 chains" in each for each in result.not_checked)
    assert _first(LOG[4:], first_leaf=3, proofs=[_proof(leaf) for leaf in range(4, len(LOG))])[0] == "proof"


def _edited(bodies: list[bytes]) -> None:
    bodies[2] = bodies[2].replace(b'"n":3', b'"n":4')


def _deleted(bodies: list[bytes]) -> None:
    del bodies[2]


def _two_deleted(bodies: list[bytes]) -> None:
    del bodies[2:4]


def _swapped(bodies: list[bytes]) -> None:
    bodies[2], bodies[3] = bodies[3], bodies[2]


def _doubled(bodies: list[bytes]) -> None:
    bodies.insert(3, bodies[1])


def _forged(bodies: list[bytes]) -> None:
    bodies[2] = chain.seal(_event("ord_a", 3, reason="forged"), json.loads(bodies[2])["prev_hash"])[1]


def _linked_elsewhere(bodies: list[bytes]) -> None:
    bodies[2] = chain.seal(_event("ord_a", 3), "ab" * 32)[1]


def _first_deleted(bodies: list[bytes]) -> None:
    del bodies[0]


TAMPERED: dict[Callable[[list[bytes]], None], tuple[str, int, str]] = {
    _edited: ("edited", 3, "position 3"),
    _deleted: ("gap", 3, "event at position 3 is gone"),
    _two_deleted: ("gap", 3, "positions 3 to 4 are gone"),
    _swapped: ("swapped", 3, "position 3 is in line 4"),
    _doubled: ("inserted", 4, "was put in"),
    _forged: ("link", 4, "position 4"),
    _linked_elsewhere: ("link", 3, "continues abababababababab"),
    _first_deleted: ("gap", 1, "event at position 1 is gone"),
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda each: each.__name__)
def test_tampering_is_named_at_its_line(tamper: Callable[[list[bytes]], None]) -> None:
    bodies = list(ORDER)
    tamper(bodies)
    kind, line, words = TAMPERED[tamper]
    found = _first(bodies)
    assert found[:2] == (kind, line)
    assert words in found[2]


def test_one_edited_event_is_one_finding() -> None:
    bodies = list(ORDER)
    _edited(bodies)
    assert [each.kind for each in _verified(bodies).breaks] == ["edited"]


def test_a_tail_that_was_cut_is_seen_by_a_checkpoint_or_by_a_proof_alone() -> None:
    assert _verified(LOG[:-1], first_leaf=0).breaks == []
    kind, line, sentence = _first(LOG[:-1], first_leaf=0, checkpoints=[_note(12)])
    assert (kind, line) == ("truncated", None)
    assert "signed for 12 leaves, and there are 11" in sentence
    mine = [leaf for leaf in range(len(LOG)) if leaf % 2 == 0]
    assert _verified([LOG[leaf] for leaf in mine], proofs=map(_proof, mine)).breaks == []
    kind, _, sentence = _first([LOG[leaf] for leaf in mine[:-2]], proofs=map(_proof, mine))
    assert (kind, "2 more events" in sentence) == ("truncated", True)


def test_everything_rewritten_with_fresh_hashes_is_seen_by_the_checkpoint_alone() -> None:
    other = [body for pair in zip(_chain("ord_a", reason="x"), _chain("ord_b"), strict=True) for body in pair]
    assert _verified(other, first_leaf=0).breaks == []
    assert _first(other, first_leaf=0, checkpoints=[_note(12)])[:2] == ("root", 12)


def test_a_proof_for_another_tree_or_another_leaf_is_named() -> None:
    other = grow(0, {}, [leaf_hash(b"other"), *map(leaf_hash, LOG[1:])])
    note = sign(Checkpoint(ORIGIN, 12, root_of(12, other)).text(), signing.signer(SKEY))
    kind, line, sentence = _first(LOG[2:3], proofs=[_proof(2, note=note)], first_leaf=2)
    assert (kind, line) == ("proof", 1)
    assert "another tree" in sentence
    assert _first(LOG[:1], proofs=[_proof(1)])[0] == "proof"


def test_proofs_whose_leaves_go_backwards_are_named() -> None:
    again = [LOG[0], LOG[2], LOG[4]]
    tiles = grow(0, {}, map(leaf_hash, [LOG[0], LOG[4], LOG[2]]))
    note = sign(Checkpoint(ORIGIN, 3, root_of(3, tiles)).text(), signing.signer(SKEY))
    proofs = [str(TlogProof(leaf, tuple(inclusion_proof(leaf, 3, tiles)), note)) for leaf in (0, 2, 1)]
    assert _first(again, proofs=proofs) == ("proof", 3, "Line 3 is leaf 1: before the event that it follows.")


def test_a_checkpoint_signed_by_another_key_is_named() -> None:
    stranger = signing.new_skey(ORIGIN)
    kind, _, sentence = _first(LOG, first_leaf=0, checkpoints=[_note(12, stranger)])
    assert kind == "signature"
    assert signing.vkey_of(stranger).split("+")[1] in sentence
    assert _first(LOG[:1], proofs=[_proof(0, note=_note(12, stranger))])[0] == "signature"


def test_two_histories_of_one_size_are_a_fork() -> None:
    assert _first(LOG, first_leaf=0, checkpoints=[_note(12), _note(12, root=b"\1" * 32)])[0] == "fork"


def test_an_event_from_the_future_is_named() -> None:
    later = _chain("ord_a", occurred_at=(NOW + timedelta(minutes=6)).isoformat())
    assert _first(later)[:2] == ("future", 1)
    assert _verified(_chain("ord_a", occurred_at=(NOW + timedelta(minutes=4)).isoformat())).breaks == []


def test_a_file_that_was_cut_within_a_line_is_named() -> None:
    lines = _lines(ORDER)
    lines[-1] = lines[-1][:-20]
    assert verify_export(lines, NOW, TRUST).breaks[0].kind == "truncated"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda body: body.replace(b'"n":1', b'"n":"' + b"x" * 62_000 + b'"'), "too-large", "may have 61440 bytes"),
        (lambda body: body.replace(b'"n":1', b'"n":1.0'), "not-canonical", "the number 1.0"),
        (lambda body: body.replace(b'"n":1', b'"n":NaN'), "not-canonical", "the number NaN"),
        (lambda body: body.replace(b'"n":1', b'"n":9007199254740992'), "not-canonical", "beyond 2^53-1"),
        (lambda body: body.replace(b'"n":1', b'"n":1,"n":1'), "not-canonical", "'n' is there twice"),
        (lambda body: body.replace(b'"n":1', b'"n":1,"a":1'), "not-canonical", "not sorted: 'a' comes after 'n'"),
        (lambda body: body.replace(b'"n":1', '"é":1'.encode()), "not-canonical", "not ASCII"),
        (lambda body: body.replace(b'"n":1', b'"n": 1'), "not-canonical", "no blanks"),
        (lambda body: body.replace(b'"tests"', b'"\\u0074ests"'), "not-canonical", "no escape"),
        (lambda body: body.replace(b'"tests"', b'"\\ud800"'), "not-canonical", "surrogate"),
        (lambda body: body.replace(b'"tests"', b'"\xff"'), "not-canonical", "no UTF-8"),
        (lambda body: body[:-1], "not-canonical", "no JSON"),
        (lambda _: b"[" * 100_000, "too-large", "bytes"),
        (lambda _: b"[" * 50_000, "not-canonical", "deep"),
        (lambda _: b"[]", "not-canonical", "an event is a JSON object"),
        (lambda body: body.replace(b'"v":1', b'"v":2'), "version", "version 1"),
        (lambda body: body.replace(b'"v":1', b'"v":true'), "version", "version 1"),
        (lambda body: body.replace(b'"position":1', b'"position":0'), "field", "position is 0"),
        (lambda body: body.replace(b'"position":1', b'"position":true'), "field", "position is True"),
        (lambda body: body.replace(b'+00:00"', b'"'), "field", "occurred_at"),
        (lambda body: body.replace(b'"order_id":"ord_a",', b""), "field", "no chain"),
        (lambda body: body.replace(b'"prev_hash":"', b'"prev_hash":"x'), "field", "64 hexadecimal"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_event_in_its_one_spelling_says_which_rule_it_breaks(
    change: Callable[[bytes], bytes], kind: str, words: str
) -> None:
    bodies = list(ORDER)
    bodies[0] = change(bodies[0])
    assert bodies[0] != ORDER[0]
    found = _first(bodies)
    assert found[:2] == (kind, 1)
    assert words in found[2]


def test_a_line_is_read_as_it_was_sealed() -> None:
    found = read_line(1, ORDER[1])
    assert (found.chain, found.position, found.hash, found.computed) == ("ord_a", 2, found.hash, found.hash)
    with pytest.raises(LineRefused):
        read_line(1, ORDER[1] + b" ")


def _files(folder: Path, bodies: Sequence[bytes], proofs: Sequence[str] = ()) -> tuple[Path, Path]:
    export, proof = folder / "order.jsonl", folder / "order.tlog-proof"
    export.write_bytes(b"".join(_lines(bodies)))
    proof.write_text("".join(proofs))
    return export, proof


def test_the_program_says_what_it_checked_and_ends_with_0_or_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = range(0, len(LOG), 2)
    export, proof = _files(tmp_path, [LOG[leaf] for leaf in mine], [_proof(leaf) for leaf in mine])
    assert main([str(export), "--proofs", str(proof), "--key", VKEY]) == 0
    assert "The record is whole: 6 events of 1 chains, 6 proofs" in capsys.readouterr().out
    assert main([str(export)]) == 0
    assert "the tail may be gone" in capsys.readouterr().out
    export.write_bytes(export.read_bytes().replace(b'"n":3', b'"n":9'))
    assert main([str(export), "--proofs", str(proof), "--key", VKEY, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [(each["kind"], each["line"]) for each in said["breaks"]] == [("edited", 3), ("proof", 3)]
    assert main([str(tmp_path / "none.jsonl")]) == 2
    assert main([str(export), "--key", "nonsense"]) == 2


def test_it_runs_with_the_standard_library_alone_and_says_that_no_signature_was_checked(tmp_path: Path) -> None:
    export, proof = _files(tmp_path, LOG[:1], [_proof(0)])
    alone = tmp_path / "alone"
    (alone / "orders").mkdir(parents=True)
    for path in (REPOSITORY / "orders").glob("*.py"):
        (alone / "orders" / path.name).write_bytes(path.read_bytes())
    code = f"import sys; sys.path.insert(0, {str(alone)!r}); import orders.verifier as v; sys.exit(v.main(sys.argv[1:]))"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run([*command, export, "--proofs", proof, "--key", VKEY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The record is whole" in done.stdout
    assert "`cryptography` is not here" in done.stdout


def test_notes_one_behind_the_other_are_told_apart() -> None:
    notes = [_note(size) for size in (3, 5, 12)]
    assert split_notes("".join(note + "\n" for note in notes)) == notes
    assert split_notes(notes[0]) == notes[:1]
