"""A proof is what RFC 6962 says, and nothing else passes for one."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.errors import ProofError
from orders.merkle import EMPTY_ROOT, leaf_hash
from orders.proofs import (
    ProofIndexError,
    ProofLengthError,
    ProofRootError,
    consistency_proof,
    inclusion_proof,
    root_of,
    tiles_for_consistency,
    tiles_for_inclusion,
    tiles_for_root,
    verify_consistency,
    verify_inclusion,
)
from tests.making import REPOSITORY
from tests.trees import PUBLISHED_LEAVES, PUBLISHED_ROOTS, Naive, entries, stored

SIZES = [*range(1, 68), *range(126, 131), *range(254, 260)]  # up to and across the edge of a tile, whole
LARGE = 66_000  # across the edge of a tile of level 1
TREE = Naive(entries(LARGE))
TILES = stored(TREE.leaves)
# The probes that transparency-dev/merkle publishes (Apache-2.0), one a line: right proofs, and every way to spoil them.
PROBES = [json.loads(line) for line in (REPOSITORY / "tests" / "vectors" / "merkle-proofs.jsonl").read_text().splitlines()]
# RFC 6962 has no proof from the empty tree; tlog-witness has an empty one, since that tree is the beginning of any.
FROM_NOTHING = "consistency/additional/size1-is-zero-and-size2-is-not-zero"


def _decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def _verify(probe: dict[str, Any]) -> None:
    proof = [_decoded(each) for each in probe["proof"] or ()]
    if probe["name"].startswith("inclusion"):
        leaf, root = _decoded(probe["leafHash"]), _decoded(probe["root"])
        verify_inclusion(leaf, probe["leafIdx"], probe["treeSize"], proof, root)
    else:
        old_root, new_root = _decoded(probe["root1"]), _decoded(probe["root2"])
        verify_consistency(probe["size1"], probe["size2"], proof, old_root, new_root)


@pytest.mark.parametrize("probe", [probe for probe in PROBES if not probe["wantErr"]], ids=lambda probe: str(probe["name"]))
def test_a_published_proof_holds(probe: dict[str, Any]) -> None:
    _verify(probe)


@pytest.mark.parametrize(
    "probe",
    [probe for probe in PROBES if probe["wantErr"] and probe["name"] != FROM_NOTHING],
    ids=lambda probe: str(probe["name"]),
)
def test_a_published_forgery_is_refused(probe: dict[str, Any]) -> None:
    with pytest.raises(ProofError):
        _verify(probe)


def test_the_published_probes_are_all_there() -> None:
    assert len(PROBES) == 196
    assert len([probe for probe in PROBES if not probe["wantErr"]]) == 12


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (0, 8, ["96a296d2", "5f083f0a", "6b47aaf2"]),
        (5, 8, ["bc1a0643", "ca854ea1", "d37ee418"]),
        (2, 3, ["fac54203"]),
        (1, 5, ["6e340b9c", "5f083f0a", "bc1a0643"]),
    ],
)
def test_a_published_leaf_has_the_published_way_up(index: int, size: int, proof: list[str]) -> None:
    leaves = [leaf_hash(each) for each in PUBLISHED_LEAVES]
    made = inclusion_proof(index, size, stored(leaves))
    assert [each.hex()[:8] for each in made] == proof
    verify_inclusion(leaves[index], index, size, made, PUBLISHED_ROOTS[size])


@pytest.mark.parametrize(
    ("old", "new", "proof"),
    [
        (1, 1, []),
        (1, 8, ["96a296d2", "5f083f0a", "6b47aaf2"]),
        (6, 8, ["0ebc5d34", "ca854ea1", "d37ee418"]),
        (2, 5, ["5f083f0a", "bc1a0643"]),
        (6, 7, ["0ebc5d34", "b08693ec", "d37ee418"]),
    ],
)
def test_two_published_trees_have_the_published_proof(old: int, new: int, proof: list[str]) -> None:
    made = consistency_proof(old, new, stored([leaf_hash(each) for each in PUBLISHED_LEAVES]))
    assert [each.hex()[:8] for each in made] == proof
    verify_consistency(old, new, made, PUBLISHED_ROOTS[old], PUBLISHED_ROOTS[new])


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_of_a_tree_has_the_proof_of_the_definition_and_it_holds(size: int) -> None:
    for index in range(size):
        made = inclusion_proof(index, size, TILES)
        assert made == TREE.path(index, 0, size)
        verify_inclusion(TREE.leaves[index], index, size, made, TREE.root(size))


@pytest.mark.parametrize("new", SIZES)
def test_every_smaller_tree_has_the_proof_of_the_definition_and_it_holds(new: int) -> None:
    for old in range(new + 1):
        made = consistency_proof(old, new, TILES)
        assert made == TREE.proof(old, new)
        verify_consistency(old, new, made, TREE.root(old), TREE.root(new))


@given(st.data())
def test_a_proof_needs_the_tiles_that_are_named_and_no_others(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LARGE))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    needed = {key: TILES[key] for key in tiles_for_inclusion(index, size)}
    verify_inclusion(TREE.leaves[index], index, size, inclusion_proof(index, size, needed), TREE.root(size))
    needed = {key: TILES[key] for key in tiles_for_consistency(old, size)}
    verify_consistency(old, size, consistency_proof(old, size, needed), TREE.root(old), TREE.root(size))
    assert root_of(size, {key: TILES[key] for key in tiles_for_root(size)}) == TREE.root(size)


def _spoiled(proof: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Every other proof that is near: a bit turned in each hash, one left out, doubled, put before, put behind, two swapped."""
    for at, each in enumerate(proof):
        yield [*proof[:at], bytes([each[0] ^ 1]) + each[1:], *proof[at + 1 :]]
        yield [*proof[:at], each[:-1] + bytes([each[-1] ^ 0x80]), *proof[at + 1 :]]
        yield [*proof[:at], *proof[at + 1 :]]
        yield [*proof[:at], each, *proof[at:]]
        yield [*proof[:at], each[:-1], *proof[at + 1 :]]
        if at and proof[at - 1] != each:
            yield [*proof[: at - 1], each, proof[at - 1], *proof[at + 1 :]]
    yield [EMPTY_ROOT, *proof]
    yield [*proof, EMPTY_ROOT]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 100, 257])
def test_no_spoiled_inclusion_proof_is_taken(size: int) -> None:
    root = TREE.root(size)
    for index in range(0, size, max(1, size // 12)):
        leaf, proof = TREE.leaves[index], TREE.path(index, 0, size)
        for spoiled in _spoiled(proof):
            with pytest.raises(ProofError):
                verify_inclusion(leaf, index, size, spoiled, root)
        for other in {index - 1, index + 1, index ^ 1, index ^ 2, size, -1} - {index}:
            with pytest.raises(ProofError):
                verify_inclusion(leaf, other, size, proof, root)
        with pytest.raises(ProofRootError):
            verify_inclusion(TREE.leaves[size], index, size, proof, root)
        with pytest.raises(ProofRootError):
            verify_inclusion(leaf, index, size, proof, TREE.root(size + 1))


@pytest.mark.parametrize("new", [2, 3, 5, 8, 13, 64, 100, 257])
def test_no_spoiled_consistency_proof_is_taken(new: int) -> None:
    for old in range(1, new, max(1, new // 12)):
        proof, before, after = TREE.proof(old, new), TREE.root(old), TREE.root(new)
        for spoiled in _spoiled(proof):
            with pytest.raises(ProofError):
                verify_consistency(old, new, spoiled, before, after)
        with pytest.raises(ProofRootError, match=f"tree of size {old} (with|has) root"):
            verify_consistency(old, new, proof, TREE.root(old + 1), after)
        with pytest.raises(ProofRootError, match=f"(the new tree|the one) of size {new} (has|with) root"):
            verify_consistency(old, new, proof, before, TREE.root(new + 1))


def test_a_refusal_says_what_is_wrong() -> None:
    proof = TREE.path(3, 0, 8)
    with pytest.raises(ProofIndexError, match="a tree of size 8 has no leaf 8"):
        verify_inclusion(TREE.leaves[3], 8, 8, proof, TREE.root(8))
    with pytest.raises(ProofLengthError, match="leaf 3 in a tree of size 8 has 3 hashes, this one has 2"):
        verify_inclusion(TREE.leaves[3], 3, 8, proof[:2], TREE.root(8))
    with pytest.raises(ProofLengthError, match=r"the 2\. hash of the proof has 31 bytes"):
        verify_inclusion(TREE.leaves[3], 3, 8, [proof[0], proof[1][1:], proof[2]], TREE.root(8))
    with pytest.raises(ProofRootError, match="another tree or another leaf"):
        verify_inclusion(TREE.leaves[4], 3, 8, proof, TREE.root(8))
    with pytest.raises(ProofIndexError, match="a tree of size 9 cannot be the beginning of one of size 8"):
        verify_consistency(9, 8, [], TREE.root(9), TREE.root(8))
    with pytest.raises(ProofIndexError, match="no leaf 8"):
        inclusion_proof(8, 8, TILES)
    with pytest.raises(ProofIndexError, match="size 9"):
        tiles_for_consistency(9, 8)


def test_trees_of_the_same_size_are_one_tree() -> None:
    verify_consistency(5, 5, [], TREE.root(5), TREE.root(5))
    with pytest.raises(ProofRootError):
        verify_consistency(5, 5, [], TREE.root(5), TREE.root(6))
    with pytest.raises(ProofLengthError):
        verify_consistency(5, 5, [EMPTY_ROOT], TREE.root(5), TREE.root(5))


def test_the_empty_tree_is_the_beginning_of_any_and_needs_no_proof() -> None:
    verify_consistency(0, 5, [], EMPTY_ROOT, TREE.root(5))
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(ProofRootError):
        verify_consistency(0, 5, [], TREE.root(1), TREE.root(5))
    with pytest.raises(ProofLengthError):
        verify_consistency(0, 5, [EMPTY_ROOT], EMPTY_ROOT, TREE.root(5))
