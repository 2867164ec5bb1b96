"""A checkpoint and a proof that stands alone say what they prove, or where they cannot be read."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders import signing
from orders.checkpoints import Checkpoint, CheckpointMalformed, open_checkpoint
from orders.errors import NoteRefused, ProofError
from orders.merkle import EMPTY_ROOT
from orders.note_keys import Kind
from orders.notes import SignatureWrong, UnknownSigners, sign
from orders.proofs import ProofIndexError, ProofLengthError, ProofRootError
from orders.tlog_proof import ProofMalformed, TlogProof, verify_proof
from tests.making import REPOSITORY
from tests.trees import Naive, entries

ORIGIN = "rushline.example/audit"
SIZE, INDEX = 21, 17
NOW = datetime(2025, 3, 14, 18, 30, tzinfo=UTC)
TREE = Naive(entries(SIZE + 1))
SKEY, OTHER = signing.new_skey(ORIGIN), signing.new_skey(ORIGIN)
VERIFIER = signing.verifier(signing.vkey_of(SKEY))
WITNESS = signing.new_skey("witness.example/w", Kind.COSIGNATURE)
CHECKPOINT = Checkpoint(ORIGIN, SIZE, TREE.root(SIZE))
NOTE = sign(CHECKPOINT.text(), signing.signer(SKEY))
PROOF = TlogProof(INDEX, tuple(TREE.path(INDEX, 0, SIZE)), NOTE)
LEAF = TREE.entries[INDEX]


def test_a_checkpoint_is_three_lines() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"  # the specification's
    checkpoint = Checkpoint.parse(text)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root.hex()[:8]) == (
        "example.com/behind-the-sofa",
        20_852_163,
        "0ac5186a",
    )
    assert checkpoint.text() == text


def test_extension_lines_are_carried_along() -> None:
    text = f"{CHECKPOINT.text()}one more\nand another\n"
    assert Checkpoint.parse(text).extensions == ("one more", "and another")
    assert Checkpoint.parse(text).text() == text


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "a line each"),
        ([ORIGIN, "5"], "a line each"),
        ([ORIGIN, "05", "{root}"], "line 2: .*without zeros"),
        ([ORIGIN, "-5", "{root}"], "line 2"),
        ([ORIGIN, "+5", "{root}"], "line 2"),
        ([ORIGIN, "5 ", "{root}"], "line 2"),
        ([ORIGIN, "", "{root}"], "line 2"),
        ([ORIGIN, "9223372036854775808", "{root}"], "line 2"),
        ([ORIGIN, "9" * 100, "{root}"], "line 2"),
        ([ORIGIN, "\u0665", "{root}"], "line 2"),
        ([ORIGIN, "5", "AAAA"], "line 3: .*32 bytes"),
        ([ORIGIN, "5", "{root}="], "line 3"),
        ([ORIGIN, "5", "?"], "line 3"),
        (["", "5", "{root}"], "line 1: .*empty"),
        ([ORIGIN, "5", "{root}", "", "extension"], "line 4: .*empty"),
    ],
)
def test_what_is_no_checkpoint_is_refused_and_the_line_named(lines: list[str], problem: str) -> None:
    root = CHECKPOINT.text().split("\n")[2]
    text = "".join(f"{line.replace('{root}', root)}\n" for line in lines)
    with pytest.raises(CheckpointMalformed, match=problem):
        Checkpoint.parse(text)
    if text:
        with pytest.raises(CheckpointMalformed, match=problem):
            open_checkpoint(sign(text, signing.signer(SKEY)), [VERIFIER])


@pytest.mark.parametrize(
    "checkpoint", [Checkpoint("", 1, EMPTY_ROOT), Checkpoint("two\nlines", 1, EMPTY_ROOT), Checkpoint("a", 1, b"")]
)
def test_what_would_not_be_a_checkpoint_is_not_written(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointMalformed):
        checkpoint.text()


def test_a_checkpoint_is_believed_with_the_witnesses_that_are_known() -> None:
    witness, other = signing.signer(WITNESS, lambda: NOW), signing.new_skey("witness.example/x", Kind.COSIGNATURE)
    note = sign(CHECKPOINT.text(), signing.signer(SKEY), witness, signing.signer(other, lambda: NOW))
    opened = open_checkpoint(note, [VERIFIER], witnesses=[signing.verifier(signing.vkey_of(WITNESS))])
    assert opened.checkpoint == CHECKPOINT
    assert [(each.name, signing.cosigned_at(each)) for each in opened.cosignatures] == [("witness.example/w", NOW)]


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    note = sign(CHECKPOINT.text(), signing.signer(WITNESS, lambda: NOW))
    with pytest.raises(UnknownSigners, match=f"no known key of {ORIGIN}"):
        open_checkpoint(note, [VERIFIER], witnesses=[signing.verifier(signing.vkey_of(WITNESS))])


def test_a_key_speaks_for_the_log_of_its_own_name_alone() -> None:
    other_log = Checkpoint("other.example/log", SIZE, TREE.root(SIZE))
    with pytest.raises(UnknownSigners, match=r"no known key of other\.example/log"):
        open_checkpoint(sign(other_log.text(), signing.signer(SKEY)), [VERIFIER])


def test_a_rotated_key_and_its_forerunner_are_known_side_by_side() -> None:
    both = [signing.verifier(signing.vkey_of(each)) for each in (OTHER, SKEY)]
    assert open_checkpoint(NOTE, both).checkpoint == CHECKPOINT


def test_a_proof_is_written_as_the_specification_says() -> None:
    lines = str(PROOF).split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", f"index {INDEX}"]
    assert str(PROOF).endswith("\n\n" + NOTE)
    assert lines.index("") == 2 + len(PROOF.hashes)
    with_extra = TlogProof(INDEX, PROOF.hashes, NOTE, b"extra data")
    assert str(with_extra).split("\n")[1] == "extra ZXh0cmEgZGF0YQ=="
    for each in (PROOF, with_extra):
        assert TlogProof.parse(str(each)) == each
        assert verify_proof(str(each).encode(), LEAF, [VERIFIER]).checkpoint == CHECKPOINT


@given(size=st.integers(1, SIZE), data=st.data())
def test_every_leaf_of_every_tree_is_proven(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    note = sign(Checkpoint(ORIGIN, size, TREE.root(size)).text(), signing.signer(SKEY))
    proof = TlogProof(index, tuple(TREE.path(index, 0, size)), note)
    assert verify_proof(str(proof), TREE.entries[index], [VERIFIER]).checkpoint.size == size


def test_another_key_another_leaf_and_another_tree_are_told_apart() -> None:
    with pytest.raises(UnknownSigners, match=r"signed by rushline\.example/audit"):
        verify_proof(str(PROOF), LEAF, [signing.verifier(signing.vkey_of(OTHER))])
    with pytest.raises(SignatureWrong):
        verify_proof(str(PROOF).replace(f"\n{SIZE}\n", f"\n{SIZE + 1}\n"), LEAF, [VERIFIER])
    with pytest.raises(ProofRootError, match="another tree or another leaf"):
        verify_proof(str(PROOF), LEAF + b" ", [VERIFIER])
    grown = sign(Checkpoint(ORIGIN, SIZE, TREE.root(SIZE + 1)).text(), signing.signer(SKEY))
    with pytest.raises(ProofRootError, match="another tree or another leaf"):
        verify_proof(str(TlogProof(INDEX, PROOF.hashes, grown)), LEAF, [VERIFIER])
    with pytest.raises(ProofRootError):
        verify_proof(str(TlogProof(INDEX - 1, PROOF.hashes, NOTE)), LEAF, [VERIFIER])
    with pytest.raises(ProofIndexError, match=f"no leaf {SIZE}"):
        verify_proof(str(TlogProof(SIZE, PROOF.hashes, NOTE)), LEAF, [VERIFIER])
    with pytest.raises(ProofLengthError, match=f"this one has {len(PROOF.hashes) - 1}"):
        verify_proof(str(TlogProof(INDEX, PROOF.hashes[1:], NOTE)), LEAF, [VERIFIER])


WAY = len(PROOF.hashes)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("@v1", "@v2", "line 1: a proof begins with"),
        (f"index {INDEX}\n", "", "line 2: 'index'"),
        (f"index {INDEX}", f"index 0{INDEX}", "line 2: 'index'"),
        (f"index {INDEX}", f"index  {INDEX}", "line 2: 'index'"),
        (f"index {INDEX}", f"extra ?\nindex {INDEX}", "line 2: the extra data"),
        (f"index {INDEX}", f"extra AA==\nindex {INDEX}\nindex {INDEX}", "line 4: a hash"),
        (f"index {INDEX}", f"extra AA==\nextra AA==\nindex {INDEX}", "line 3: 'index'"),
        (f"index {INDEX}\n", f"index {INDEX}\nAAAA\n", "line 3: a hash of the proof"),
        (f"index {INDEX}\n", f"index {INDEX}\n" + "A" * 43 + "=\n" * 1 + ("A" * 43 + "=\n") * 64, "line 66: .*at most 63"),
        ("\n\n", "\n", f"line {WAY + 3}: a hash of the proof"),
        (f"\n{ORIGIN}\n", "\n\n", "the signature of rushline.example/audit .* is not over this text"),
        ("\n— ", "\n- ", f"line {WAY + 8}: in the checkpoint: .*em dash"),
        ("\n— ", "\n\t— ", f"line {WAY + 8}: in the checkpoint: control character"),
    ],
)
def test_a_proof_that_cannot_be_read_names_the_line(old: str, new: str, problem: str) -> None:
    text = str(PROOF)
    assert old in text
    with pytest.raises(NoteRefused, match=problem):
        verify_proof(text.replace(old, new, 1), LEAF, [VERIFIER])


@pytest.mark.parametrize("text", ["", "\n", "c2sp.org/tlog-proof@v1", b"\xff\n\n", "\n\n" + NOTE, "x" * 3_000_000])
def test_what_is_no_proof_at_all_is_refused(text: str | bytes) -> None:
    with pytest.raises(ProofMalformed):
        verify_proof(text, LEAF, [VERIFIER])


@given(at=st.integers(0, len(str(PROOF).encode()) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_proof_can_be_turned_unseen(at: int, bit: int) -> None:
    data = bytearray(str(PROOF).encode())
    data[at] ^= 1 << bit
    with pytest.raises((NoteRefused, ProofError)):
        verify_proof(bytes(data), LEAF, [VERIFIER])


def test_all_but_the_signature_is_verified_with_the_standard_library_alone() -> None:
    without_packages = [
        sys.executable,
        "-S",
        "-c",
        "import orders.chain, orders.tlog_proof, sys; print('cryptography' in sys.modules)",
    ]
    done = subprocess.run(without_packages, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
