"""A tree is cut into tiles as tlog-tiles says, tiles have one name each, and a tile only grows at its end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.errors import Invalid
from orders.merkle import HASH_BYTES
from orders.tiles import (
    ENTRIES,
    MAX_ENTRY_BYTES,
    WIDTH,
    Tile,
    TileUnusable,
    bundle,
    frontier_of,
    grow,
    parse_tile_path,
    partial_tiles,
    tile_path,
    tiles_of,
    unbundle,
)
from tests.trees import Naive, Tiles, entries, stored

LARGE = 70_000  # the size for which tlog-tiles counts the tiles
TREE = Naive(entries(LARGE))


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    return stored(TREE.leaves, [1, 254, 1, 1, 300, 5_000, 60_000])


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(3, 1_234_067, 12), "tile/3/x001/x234/067.p/12"),
        (Tile(63, 1_000, 255), "tile/63/x001/000.p/255"),
        (Tile(ENTRIES, 5, 1), "tile/entries/005.p/1"),
        (Tile(ENTRIES, 999), "tile/entries/999"),
    ],
)
def test_a_tile_is_where_the_specification_puts_it(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


@given(level=st.integers(ENTRIES, 63), index=st.integers(0, 10**21 - 1), width=st.integers(1, WIDTH))
def test_every_tile_has_one_path_and_is_found_by_it(level: int, index: int, width: int) -> None:
    assert parse_tile_path(tile_path(level, index, width)) == Tile(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "", "tile", "tile/0", "tile/0/", "/tile/0/000", "tile/0/000/", "tile/0/00", "tile/0/0000", "tile/0/1", "tile/00/000", "tile/64/000",
        "tile/-1/000", "tile/+1/000", "tile/0/x000/001", "tile/0/001/002", "tile/0/x001", "tile/0/x001/x002", "tile/0/000.p/0",
        "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p/1/", "tile/0/000.p", "tile/data/000", "tile/0/\u0660\u0660\u0660",
        "tile/0/000\n", "tile/0/../000", "tile/8/0/000", "tile/0/" + "x001/" * 8 + "000",
    ],
)  # fmt: skip
def test_no_other_spelling_is_taken(path: str) -> None:
    with pytest.raises(Invalid):
        parse_tile_path(path)


def test_a_tree_has_the_tiles_that_the_specification_counts() -> None:
    found = list(tiles_of(LARGE))
    assert len([tile for tile in found if tile.level == 0 and tile.width == WIDTH]) == 273
    assert [tile for tile in found if tile.level or tile.width < WIDTH] == [
        Tile(0, 273, 112), Tile(1, 0, 256), Tile(1, 1, 17), Tile(2, 0, 1),
    ]  # fmt: skip
    assert list(tiles_of(256)) == [Tile(0, 0, 256), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []


def test_a_grown_store_holds_the_tiles_of_its_size_and_no_others(tiles: Tiles) -> None:
    assert {key: len(data) for key, data in tiles.items()} == {tile.key: tile.width * HASH_BYTES for tile in tiles_of(LARGE)}
    leaves = b"".join(tiles[0, index] for index in range(274))
    assert leaves == b"".join(TREE.leaves)


@given(steps=st.lists(st.integers(0, 700), max_size=6))
def test_each_step_changes_only_what_it_must_and_never_what_was_there(steps: list[int]) -> None:
    tiles: Tiles = {}
    for before, after in itertools.pairwise(itertools.accumulate(steps, initial=0)):
        changed = grow(before, {key: tiles[key] for key in partial_tiles(before)}, TREE.leaves[before:after])
        assert {key: len(data) for key, data in changed.items()} == {
            tile.key: tile.width * HASH_BYTES for tile in tiles_of(after, since=before)
        }
        assert all(data.startswith(tiles.get(key, b"")) for key, data in changed.items())
        tiles.update(changed)
        frontier = frontier_of(after, {key: tiles[key] for key in partial_tiles(after)})
        assert (frontier.size, frontier.root()) == (after, TREE.root(after))


@given(size=st.integers(0, LARGE))
def test_a_larger_trees_tiles_do_for_a_smaller_one(tiles: Tiles, size: int) -> None:
    assert frontier_of(size, tiles).root() == TREE.root(size)


@pytest.mark.parametrize(("size", "key"), [(LARGE, (0, 273)), (LARGE, (1, 1)), (LARGE, (2, 0))])
def test_a_store_without_a_tile_or_with_too_short_a_one_is_named(tiles: Tiles, size: int, key: tuple[int, int]) -> None:
    level, index = key
    without = {each: data for each, data in tiles.items() if each != key}
    with pytest.raises(TileUnusable, match=f"tile {index} of level {level} is missing"):
        frontier_of(size, without)
    with pytest.raises(TileUnusable, match=f"tile {index} of level {level} has {len(tiles[key]) - HASH_BYTES} bytes"):
        frontier_of(size, {**without, key: tiles[key][:-HASH_BYTES]})
    with pytest.raises(TileUnusable, match=f"tile {index} of level {level} is missing"):
        grow(size, without, TREE.leaves)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_its_entries(bundled: list[bytes]) -> None:
    assert unbundle(bundle(bundled)) == bundled


def test_a_bundle_is_lengths_and_entries_and_nothing_else() -> None:
    assert bundle([b"", b"ab"]) == b"\x00\x00\x00\x02ab"
    assert len(bundle([b"x" * MAX_ENTRY_BYTES])) == MAX_ENTRY_BYTES + 2
    with pytest.raises(Invalid, match="65536"):
        bundle([b"x" * (MAX_ENTRY_BYTES + 1)])


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x01", b"\x00\x00\x00", b"\x00\x02a", b"\x00\x01a\x00\x03ab"])
def test_a_bundle_that_was_cut_is_named(data: bytes) -> None:
    with pytest.raises(Invalid, match="ends within entry"):
        unbundle(data)
