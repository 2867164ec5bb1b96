"""What we write, the packages behind Go's checksum database read and verify; what they sign, we open; what is forged, both refuse."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orders import signing
from orders.checkpoints import Checkpoint, open_checkpoint
from orders.merkle import EMPTY_ROOT
from orders.note_keys import encoded
from orders.notes import open_note, sign
from orders.proofs import consistency_proof, inclusion_proof, root_of
from orders.tiles import tile_path
from orders.tlog_proof import TlogProof, verify_proof
from tests.go import built, run
from tests.trees import PUBLISHED_LEAVES, PUBLISHED_ROOTS, Naive, entries, stored

pytestmark = pytest.mark.timeout(600)  # the first build on a machine fetches and compiles
ORIGIN = "rushline.example/audit"
LARGE = 66_000
SIZES = [1, 2, 3, 7, 8, 100, 255, 256, 257, 511, 512, 1_000, 65_535, 65_536, 65_537, LARGE]
TREE = Naive(entries(LARGE))
TILES = stored(TREE.leaves)
SKEY = signing.new_skey(ORIGIN)
VKEY = signing.vkey_of(SKEY)


@pytest.fixture(scope="module")
def verify() -> Path:
    return built("verify")


def _note(size: int, skey: str = SKEY, origin: str = ORIGIN) -> str:
    return sign(Checkpoint(origin, size, root_of(size, TILES)).text(), signing.signer(skey))


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _batch(verify: Path, questions: Sequence[dict[str, Any]]) -> list[str]:
    return run(verify, "batch", given="".join(json.dumps(each) + "\n" for each in questions)).splitlines()


def _inclusion(index: int, size: int) -> dict[str, Any]:
    proof = inclusion_proof(index, size, TILES)
    return _question(size, root_of(size, TILES), proof) | {"index": index, "leaf": encoded(TREE.leaves[index])}


def _consistency(old: int, size: int) -> dict[str, Any]:
    proof = consistency_proof(old, size, TILES)
    return _question(size, root_of(size, TILES), proof) | {"old": old, "old_root": encoded(root_of(old, TILES))}


def _question(size: int, root: bytes, proof: Sequence[bytes]) -> dict[str, Any]:
    return {"size": size, "root": encoded(root), "proof": [encoded(each) for each in proof]}


def _some(size: int) -> list[int]:
    return sorted({0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)))


def test_a_note_of_ours_opens_in_go(verify: Path, tmp_path: Path) -> None:
    text = "Ognuno sta solo\n\ned è subito sera.\n"
    assert run(verify, "note", VKEY, _file(tmp_path, "note", sign(text, signing.signer(SKEY)))) == text


def test_a_note_signed_in_go_opens_in_ours_and_with_its_own_key_in_go(verify: Path, tmp_path: Path) -> None:
    skey, vkey = run(verify, "key", ORIGIN).splitlines()
    assert signing.vkey_of(skey) == vkey
    text = Checkpoint(ORIGIN, 5, TREE.root(5)).text()
    theirs = run(verify, "sign", skey, _file(tmp_path, "text", text))
    assert open_checkpoint(theirs, [signing.verifier(vkey)]).checkpoint.size == 5
    assert theirs == sign(text, signing.signer(skey))  # Ed25519 leaves nothing to chance: the same note, byte by byte


def test_go_signs_with_a_key_of_ours(verify: Path, tmp_path: Path) -> None:
    theirs = run(verify, "sign", SKEY, _file(tmp_path, "text", "text\n"))
    assert open_note(theirs, [signing.verifier(VKEY)]).text == "text\n"


def test_go_refuses_a_note_of_ours_that_was_changed_or_signed_by_another_key(verify: Path, tmp_path: Path) -> None:
    note = _file(tmp_path, "note", sign("text\n", signing.signer(SKEY)).replace("text", "test"))
    assert "invalid signature" in run(verify, "note", VKEY, note, status=1)
    other = signing.vkey_of(signing.new_skey(ORIGIN))
    assert "no verifiable signatures" in run(verify, "note", other, note, status=1)


def test_a_line_of_an_export_is_proven_in_go(verify: Path, tmp_path: Path) -> None:
    leaf = _file(tmp_path, "leaf", TREE.entries[777])
    proof = TlogProof(777, tuple(inclusion_proof(777, 1_000, TILES)), _note(1_000), b"extra")
    assert verify_proof(str(proof), TREE.entries[777], [signing.verifier(VKEY)]).checkpoint.size == 1_000
    said = run(verify, "proof", VKEY, _file(tmp_path, "proof", str(proof)), leaf)
    assert said == f"leaf 777 of {ORIGIN}, tree of size 1000\n"


def test_go_says_what_is_wrong_with_a_proof(verify: Path, tmp_path: Path) -> None:
    hashes = tuple(inclusion_proof(777, 1_000, TILES))
    leaf, other = _file(tmp_path, "leaf", TREE.entries[777]), _file(tmp_path, "other", TREE.entries[778])
    right = _file(tmp_path, "right", str(TlogProof(777, hashes, _note(1_000))))
    assert "another tree or another leaf" in run(verify, "proof", VKEY, right, other, status=1)
    of_another_key = signing.vkey_of(signing.new_skey(ORIGIN))
    assert "signed by another key" in run(verify, "proof", of_another_key, right, leaf, status=1)
    for proof, problem in [
        (TlogProof(778, hashes, _note(1_000)), "another tree or another leaf"),
        (TlogProof(777, hashes, _note(1_001)), "another tree or another leaf"),
        (TlogProof(777, hashes[1:], _note(1_000)), "another tree or another leaf"),
        (TlogProof(777, hashes, _note(1_000, origin="other.example/log")), f"of other.example/log signed by {ORIGIN}"),
        (TlogProof(777, (b"short", *hashes[1:]), _note(1_000)), "line 3"),
    ]:
        assert problem in run(verify, "proof", VKEY, _file(tmp_path, "wrong", str(proof)), leaf, status=1)


def test_two_checkpoints_are_held_together_in_go(verify: Path, tmp_path: Path) -> None:
    old, new = _file(tmp_path, "old", _note(777)), _file(tmp_path, "new", _note(1_000))
    lines = "".join(f"{encoded(each)}\n" for each in consistency_proof(777, 1_000, TILES))
    said = run(verify, "consistency", VKEY, old, new, _file(tmp_path, "proof", lines))
    assert said == f"{ORIGIN}: the tree of size 777 is the beginning of that of size 1000\n"
    rewritten = Naive([*TREE.entries[:5], b"another past", *TREE.entries[6:1_000]])
    forged = sign(Checkpoint(ORIGIN, 1_000, rewritten.root(1_000)).text(), signing.signer(SKEY))
    its_lines = "".join(f"{encoded(each)}\n" for each in rewritten.proof(777, 1_000))
    wrong = (VKEY, old, _file(tmp_path, "forged", forged), _file(tmp_path, "its proof", its_lines))
    assert "not the beginning" in run(verify, "consistency", *wrong, status=1)


def test_go_takes_every_proof_of_ours(verify: Path) -> None:
    questions = [_inclusion(index, size) for size in SIZES for index in _some(size)]
    questions += [_inclusion(index, size) for size in range(1, 40) for index in range(size)]
    questions += [_consistency(old, size) for size in SIZES for old in {*_some(size), size} - {0}]
    questions += [_consistency(old, size) for size in range(1, 40) for old in range(1, size + 1)]
    answers = _batch(verify, questions)
    assert len(answers) == len(questions) > 1_500
    assert set(answers) == {"ok"}


def test_go_takes_no_proof_of_ours_that_was_tampered_with(verify: Path) -> None:
    right = [_inclusion(index, size) for size in SIZES for index in _some(size)]
    right += [_consistency(old, size) for size in SIZES for old in _some(size) if old]
    wrong = []
    for each in right:
        wrong.append(each | {"root": encoded(EMPTY_ROOT)})
        wrong.append(each | {"proof": [*each["proof"], encoded(EMPTY_ROOT)]})
        wrong.append(each | ({"leaf": encoded(EMPTY_ROOT)} if "leaf" in each else {"old_root": encoded(EMPTY_ROOT)}))
        for at in range(len(each["proof"])):
            wrong.append(each | {"proof": [*each["proof"][:at], encoded(EMPTY_ROOT), *each["proof"][at + 1 :]]})
            wrong.append(each | {"proof": each["proof"][:at] + each["proof"][at + 1 :]})
    answers = _batch(verify, wrong)
    assert len(answers) == len(wrong) > 1_000
    assert "ok" not in answers


def test_the_published_roots_are_what_go_checks_our_proofs_against(verify: Path) -> None:
    """So that no vector here rests on anybody's memory."""
    published = Naive(PUBLISHED_LEAVES)
    tiles = stored(published.leaves)
    questions = [
        _question(size, PUBLISHED_ROOTS[size], inclusion_proof(index, size, tiles))
        | {"index": index, "leaf": encoded(published.leaves[index])}
        for size in range(1, 9)
        for index in range(size)
    ]
    questions += [
        _question(size, PUBLISHED_ROOTS[size], consistency_proof(old, size, tiles))
        | {"old": old, "old_root": encoded(PUBLISHED_ROOTS[old])}
        for size in range(1, 9)
        for old in range(1, size + 1)
    ]
    assert _batch(verify, questions) == ["ok"] * 72


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1_000, 65_536, LARGE])
def test_our_tiles_are_gos_tiles_and_gos_client_reads_the_tree_out_of_them(verify: Path, tmp_path: Path, size: int) -> None:
    folder = _served(tmp_path / "log", size)
    exported = _file(tmp_path, "export", b"".join(each + b"\n" for each in TREE.entries[:size]))
    count, root = run(verify, "tiles", exported, folder).splitlines()
    assert count == f"{len(stored(TREE.leaves[:size]))} tiles"
    assert root == encoded(root_of(size, TILES))


def test_go_names_the_tile_that_differs(verify: Path, tmp_path: Path) -> None:
    folder = _served(tmp_path / "log", 600)
    exported = _file(tmp_path, "export", b"".join(each + b"\n" for each in TREE.entries[:600]))
    (folder / "tile" / "0" / "003").write_bytes(b"")
    assert "tile/0/003 is no tile of this tree" in run(verify, "tiles", exported, folder, status=1)
    (folder / "tile" / "0" / "003").unlink()
    tile = folder / "tile" / "0" / "001"
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    assert "tile/0/001 differs from Go's" in run(verify, "tiles", exported, folder, status=1)


def _served(folder: Path, size: int) -> Path:
    """A folder of tiles, each under the path where it is served."""
    for (level, index), data in stored(TREE.leaves[:size]).items():
        path = folder / tile_path(level, index, len(data) // 32)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
