"""Tiles."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import merkle, tiles
from audit.tiles import Tile, Tree

_LEAVES = [sha256(n.to_bytes(4)).digest() for n in range(66_000)]


def _grown(size: int) -> tuple[Tree, dict[Tile, bytes]]:
    tree = Tree(merkle.Frontier(), [])
    for leaf in _LEAVES[:size]:
        tree.append(leaf)
    return tree, tree.changed()


_TREE, _TILES = _grown(66_000)


def test_widths_are_those_of_the_specification_s_example() -> None:
    """C2SP tlog-tiles gives the tiles of a tree of 70,000 and of 256 in words."""
    edge = {tile: tiles.width(tile, 70_000) for tile in tiles.right_edge(70_000)}

    assert edge == {Tile(0, 273): 112, Tile(1, 1): 17, Tile(2, 0): 1}
    assert {t: tiles.width(t, 256) for t in tiles.right_edge(256)} == {
        Tile(0, 0): 256, Tile(1, 0): 1,
    }  # fmt: skip
    assert tiles.right_edge(0) == []


@pytest.mark.parametrize(
    ("place", "width", "path"),
    [
        (Tile(0, 0), 256, "tile/0/000"),
        (Tile(3, 1_234_067), 256, "tile/3/x001/x234/067"),
        (Tile(1, 1000), 7, "tile/1/x001/000.p/7"),
        (12, 256, "tile/entries/012"),
        (999_999, 1, "tile/entries/x999/999.p/1"),
    ],
)
def test_paths_are_those_of_the_specification(place: Tile | int, width: int, path: str) -> None:
    """Any C2SP client must find our files."""
    assert tiles.path(place, width) == path


@settings(max_examples=60)
@given(st.integers(0, 66_000))
def test_the_right_edge_is_enough_to_go_on(size: int) -> None:
    """Recovery reads a handful of tiles; the tree it grows must be the one that was."""
    tree = Tree.load(size, {tile: _TILES[tile] for tile in tiles.right_edge(size)})
    expected = merkle.fold([
        merkle.root(_LEAVES[i << h : (i + 1) << h]) for h, i in merkle.perfect(0, size)
    ])  # fmt: skip

    assert (tree.size, tree.root()) == (size, expected)
    tree.append(_LEAVES[0])
    assert tree.size == size + 1


@settings(max_examples=60)
@given(st.data())
def test_proofs_need_only_the_tiles_named(data: st.DataObject) -> None:
    """A proof is made from a few tiles, never by reading the log."""
    size = data.draw(st.integers(1, 66_000))
    index = data.draw(st.integers(0, size - 1))
    some = {tile: _TILES[tile] for tile in tiles.above(index, size)}
    root = Tree.load(size, _TILES).root()

    path = merkle.inclusion_proof(index, size, tiles.range_hash(some))
    growth = merkle.consistency_proof(index + 1, size, tiles.range_hash(some))

    before = Tree.load(index + 1, _TILES).root()
    assert merkle.verify_inclusion(_LEAVES[index], index, size, path, root)
    assert merkle.verify_consistency(index + 1, size, growth, before, root)


def test_a_short_tile_is_not_a_tree() -> None:
    """A truncated tile must stop recovery, not yield another root."""
    with pytest.raises(ValueError, match="too short"):
        Tree.load(5, {Tile(0, 0): _TILES[Tile(0, 0)][:64]})


def test_only_what_grew_is_written_again() -> None:
    """A commit must cost what is new, not the whole edge of the tree."""
    tree = _TREE.copy()

    tree.append(_LEAVES[0])

    assert set(tree.changed()) == {Tile(0, 66_000 >> 8)}
