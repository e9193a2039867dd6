"""
The tree cut into tiles of 256 hashes: C2SP tlog-tiles.

- Tile *n* of level *l* holds the roots of 256 consecutive subtrees of ``256**l`` leaves.
- A tile only ever grows to the right, so a partial tile is a prefix of the full one.
- The right edge (the last tile of each level) is enough to grow the tree and to know its root.
"""

from collections.abc import Mapping
from typing import NamedTuple

from audit import merkle
from audit.merkle import HASH_BYTES

WIDTH = 256
HEIGHT = 8
FULL_BYTES = WIDTH * HASH_BYTES


class Tile(NamedTuple):
    """The place of a tile."""

    level: int
    n: int


class Tree:
    """A growing tree that remembers which tiles it touched."""

    __slots__ = ("_edge", "_filled", "_frontier", "_grown")

    def __init__(self, frontier: merkle.Frontier, edge: list[bytearray]) -> None:
        self._frontier = frontier
        self._edge = edge
        self._filled: dict[Tile, bytes] = {}
        self._grown: set[int] = set()

    @classmethod
    def load(cls, size: int, tiles: Mapping[Tile, bytes]) -> "Tree":
        """Return the tree of *size* from the tiles of its right edge; `ValueError` if short."""
        peaks = [_node(tiles, height, index) for height, index in merkle.perfect(0, size)]
        edge = [bytearray(tiles[t][: width(t, size) * HASH_BYTES]) for t in right_edge(size)]
        kept = [part if len(part) < FULL_BYTES else bytearray() for part in edge]
        return cls(merkle.Frontier(size, peaks), kept)

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self._frontier.size

    def root(self) -> bytes:
        """Return the root."""
        return self._frontier.root()

    def copy(self) -> "Tree":
        """Return an independent copy with nothing marked as changed."""
        return Tree(self._frontier.copy(), [bytearray(part) for part in self._edge])

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        index = self._frontier.size
        for level, node in enumerate(self._frontier.append(leaf)[::HEIGHT]):
            if level == len(self._edge):
                self._edge.append(bytearray())
            part = self._edge[level]
            part += node
            self._grown.add(level)
            if len(part) == FULL_BYTES:
                self._filled[Tile(level, index >> HEIGHT * (level + 1))] = bytes(part)
                part.clear()

    def changed(self) -> dict[Tile, bytes]:
        """Return every tile touched since the copy, as it is now (full or partial)."""
        partial = {
            Tile(level, self.size >> HEIGHT * (level + 1)): bytes(self._edge[level])
            for level in self._grown
            if self._edge[level]
        }
        return self._filled | partial


def width(tile: Tile, size: int) -> int:
    """Return how many hashes *tile* holds in a tree of *size* (0 to 256)."""
    return max(0, min(WIDTH, (size >> HEIGHT * tile.level) - tile.n * WIDTH))


def levels(size: int) -> int:
    """Return how many levels of tiles a tree of *size* has."""
    return max(1, -(-size.bit_length() // HEIGHT)) if size else 0


def right_edge(size: int) -> list[Tile]:
    """Return the last tile of each level, lowest level first."""
    return [Tile(level, ((size >> HEIGHT * level) - 1) >> HEIGHT) for level in range(levels(size))]


def above(index: int, size: int) -> list[Tile]:
    """Return the tiles over leaf *index* and the right edge: all that its proofs need."""
    over = [
        Tile(level, index >> HEIGHT * (level + 1))
        for level in range(levels(size))
        if index >> HEIGHT * level < size >> HEIGHT * level
    ]
    return sorted({*over, *right_edge(size)})


def range_hash(tiles: Mapping[Tile, bytes]) -> merkle.RangeHash:
    """Return the source of range hashes that *tiles* amount to; absent tiles are `KeyError`."""

    def of(begin: int, end: int) -> bytes:
        return merkle.fold([_node(tiles, h, i) for h, i in merkle.perfect(begin, end)])

    return of


def path(tile: Tile | int, width: int = WIDTH) -> str:
    """Return the C2SP path of *tile*, or of the entry bundle of that number."""
    level, n = ("entries", tile) if isinstance(tile, int) else (str(tile.level), tile.n)
    digits = f"{n:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    number = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{number}" + (f".p/{width}" if width < WIDTH else "")


def _node(tiles: Mapping[Tile, bytes], height: int, index: int) -> bytes:
    level, inner = divmod(height, HEIGHT)
    first = index << inner
    hashes = tiles[Tile(level, first >> HEIGHT)]
    begin = (first % WIDTH) * HASH_BYTES
    part = hashes[begin : begin + (HASH_BYTES << inner)]
    if len(part) != HASH_BYTES << inner:
        raise ValueError(f"tile {level}/{first >> HEIGHT} is too short")
    return merkle.root([part[i : i + HASH_BYTES] for i in range(0, len(part), HASH_BYTES)])
