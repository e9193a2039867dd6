"""
Where a log stands: what is needed to go on from the newest checkpoint.

Recovery refuses to go on (`ForkError`), so that no second history is ever signed, when

- the checkpoint is not signed by this log's key for this origin,
- the root recomputed from the right edge of the tiles is not the signed one,
- the entries of the last bundle are not those of the last tile,
- the log is smaller than the high-water mark, is not an extension of it, or has lost it.

Inner tiles are covered by the tiles over them; `verify` re-reads every entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audit import leaf, merkle, note, tiles
from audit.errors import EventError, ForkError, NoteError
from audit.merkle import HASH_BYTES
from audit.model import Leaf
from audit.note import Checkpoint, Key
from audit.ports import LogReads, Query
from audit.tiles import WIDTH, Tile, Tree


@dataclass(slots=True)
class State:
    """A tree, its newest *ts* (microseconds), and what each open touch is about."""

    tree: Tree = field(default_factory=lambda: Tree(merkle.Frontier(), []))
    ts: int = 0
    touches: dict[str, dict[str, str | None]] = field(default_factory=dict)


async def recover(store: LogReads, key: Key, mark: str | None) -> tuple[State, str | None]:
    """Return the state and note that *store* holds, or raise `ForkError`."""
    text = await store.checkpoint()
    head = _trusted(text, key) if text else Checkpoint(key.name, 0, merkle.EMPTY)
    tree = await _tree(store, head.size)
    if tree.root() != head.root:
        raise ForkError(f"{key.name}: the stored tree of {head.size} is not the one signed")
    await _check_mark(store, key, head, mark)
    last = await _last_bundle(store, head)
    began = await store.entries(Query(open_touches=True))
    touches = [_leaf(index, data).event for index, data in began]
    state = State(
        tree=tree,
        ts=leaf.micros(last[-1].event.at) if last else 0,
        touches={event.touch: leaf.touch_facts(event) for event in touches if event.touch},
    )
    return state, text


async def _tree(store: LogReads, size: int) -> Tree:
    try:
        return Tree.load(size, await store.tiles(tiles.right_edge(size)))
    except (KeyError, ValueError):
        raise ForkError(f"tiles of the tree of {size} are missing or short") from None


async def _check_mark(store: LogReads, key: Key, head: Checkpoint, mark: str | None) -> None:
    if mark is None:
        if head.size:
            raise ForkError(f"{key.name}: the high-water mark of this log is missing")
        return
    highest = _trusted(mark, key)
    if highest.size > head.size:
        raise ForkError(
            f"{key.name}: holds {head.size} leaves but had signed {highest.size}: an older copy?"
        )
    if (await _tree(store, highest.size)).root() != highest.root:
        raise ForkError(f"{key.name}: not an extension of the tree of {highest.size} signed before")


async def _last_bundle(store: LogReads, head: Checkpoint) -> Sequence[Leaf]:
    if not head.size:
        return []
    place = Tile(0, (head.size - 1) // WIDTH)
    hashes = (await store.tiles([place]))[place]
    found = await store.entries(Query(span=(place.n * WIDTH, head.size)))
    stored = b"".join(merkle.leaf_hash(data) for _, data in found)
    if stored != hashes[: tiles.width(place, head.size) * HASH_BYTES]:
        raise ForkError(f"{head.origin}: the last entries are not those of their tile")
    return [_leaf(index, data) for index, data in found]


def _leaf(index: int, data: bytes) -> Leaf:
    try:
        return leaf.decode(index, data)
    except EventError as exc:
        raise ForkError(str(exc)) from None


def _trusted(text: str, key: Key) -> Checkpoint:
    try:
        return note.verify(text, key)
    except NoteError as exc:
        raise ForkError(f"the checkpoint is not this log's: {exc}") from None
