"""A tree hashes as RFC 6962 says, however it grew."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.merkle import EMPTY_ROOT, Frontier, fold, leaf_hash, node_hash
from tests.trees import PUBLISHED_LEAVES, PUBLISHED_ROOTS, Naive, entries

SIZES = 600
TREE = Naive(entries(SIZES))


def test_the_published_trees_have_the_published_roots() -> None:
    frontier = Frontier()
    roots = [frontier.root()]
    for leaf in PUBLISHED_LEAVES:
        frontier.append(leaf_hash(leaf))
        roots.append(frontier.root())
    assert roots == PUBLISHED_ROOTS
    assert roots[0] == EMPTY_ROOT


def test_a_leaf_and_a_node_are_hashed_apart() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert leaf_hash(b"left") == hashlib.sha256(b"\x00left").digest()
    assert node_hash(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert leaf_hash(left + right) != node_hash(left, right)


def test_a_tree_that_grows_leaf_by_leaf_has_the_root_of_the_definition_at_every_size() -> None:
    frontier = Frontier()
    for size, leaf in enumerate(TREE.leaves, 1):
        frontier.append(leaf)
        assert (frontier.size, frontier.root()) == (size, TREE.root(size))


@given(steps=st.lists(st.integers(0, 300), max_size=8))
def test_a_tree_that_grows_in_batches_is_the_same_tree(steps: list[int]) -> None:
    batched, size = Frontier(), 0
    for step in steps:
        batch = TREE.leaves[size : size + step]
        batched.extend(iter(batch))
        size += len(batch)
        assert (batched.size, batched.root()) == (size, TREE.root(size))
    one_by_one = Frontier()
    for leaf in TREE.leaves[:size]:
        one_by_one.append(leaf)
    assert batched.hashes == one_by_one.hashes


def test_a_copy_grows_by_itself() -> None:
    frontier = Frontier()
    frontier.extend(TREE.leaves[:5])
    copy = frontier.copy()
    copy.append(TREE.leaves[5])
    assert (frontier.size, frontier.root()) == (5, TREE.root(5))
    assert (copy.size, copy.root()) == (6, TREE.root(6))


@given(size=st.integers(0, SIZES))
def test_a_tree_goes_on_from_what_was_kept_of_it(size: int) -> None:
    kept = Frontier()
    kept.extend(TREE.leaves[:size])
    assert fold(kept.hashes) == TREE.root(size)
    resumed = Frontier(kept.size, kept.hashes)
    resumed.extend(TREE.leaves[size:])
    assert resumed.root() == TREE.root(SIZES)


@pytest.mark.parametrize(
    ("size", "hashes"), [(1, []), (0, [EMPTY_ROOT]), (2, [EMPTY_ROOT] * 2), (1, [b"short"]), (-1, [EMPTY_ROOT])]
)
def test_what_cannot_be_a_trees_past_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match=f"size {size}"):
        Frontier(size, hashes)
