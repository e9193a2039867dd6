"""
Merkle trees as RFC 6962 section 2.1 (RFC 9162 section 2.1) defines them, over SHA-256.

- ``leaf = H(0x00 || data)``, ``node = H(0x01 || left || right)``; the empty tree is ``H("")``.
- A `Frontier` holds the perfect subtrees of a growing tree, largest first: appending costs
  one hash on average, and the root at most one per level.
- Proofs are generated from any source of range hashes and verified with nothing but hashes.
- Hashes are 32 raw bytes; ranges are half-open.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY = sha256(b"").digest()

RangeHash = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf holding *data*."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over *left* and *right*."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The perfect subtrees of a tree of *size* leaves: all that is needed to grow it."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} has {size.bit_count()} peaks, not {len(peaks)}")
        self.size = size
        self._peaks = list(peaks)

    def copy(self) -> "Frontier":
        """Return an independent copy."""
        return Frontier(self.size, self._peaks)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf *hash*; return the subtrees it completed, by height from 0 up."""
        done = [leaf]
        for _ in range(_trailing_ones(self.size)):
            done.append(node_hash(self._peaks.pop(), done[-1]))
        self._peaks.append(done[-1])
        self.size += 1
        return done

    def root(self) -> bytes:
        """Return the tree's root."""
        return fold(self._peaks)


def fold(peaks: Sequence[bytes]) -> bytes:
    """Return the root over perfect subtrees, given largest (leftmost) first."""
    if not peaks:
        return EMPTY
    acc = peaks[-1]
    for peak in reversed(peaks[:-1]):
        acc = node_hash(peak, acc)
    return acc


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf *hashes*."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def perfect(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the (height, index) of the perfect subtrees of *begin..end*, left to right."""
    found = []
    while begin < end:
        height = (end - begin).bit_length() - 1
        if begin:
            height = min(height, (begin & -begin).bit_length() - 1)
        found.append((height, begin >> height))
        begin += 1 << height
    return found


def inclusion_proof(index: int, size: int, hashes: RangeHash) -> list[bytes]:
    """Return PATH(*index*, D[*size*]) of RFC 6962 section 2.1.1, the leaf's sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(hashes(middle, end))
            end = middle
        else:
            path.append(hashes(begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, new: int, hashes: RangeHash) -> list[bytes]:
    """Return PROOF(*old*, D[*new*]) of RFC 6962 section 2.1.2; empty when there is nothing to."""
    if not 0 <= old <= new:
        raise ValueError(f"no proof from {old} to {new}")
    if old in (0, new):
        return []
    begin, end, path = 0, new, []
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(hashes(middle, end))
            end = middle
        else:
            path.append(hashes(begin, middle))
            begin = middle
    if begin:
        path.append(hashes(begin, end))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes
) -> bool:
    """Return whether *leaf* (a hash) is at *index* of the tree of *size* (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, acc = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            acc = node_hash(sibling, acc)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            acc = node_hash(acc, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and acc == expected


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Return whether the tree of *new* extends the tree of *old* (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and old_root == (new_root if old else EMPTY)
    if not proof:
        return False
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(sibling, fr), node_hash(sibling, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def _split(size: int) -> int:
    """Return the largest power of two smaller than *size*."""
    return 1 << (size - 1).bit_length() - 1


def _trailing_ones(number: int) -> int:
    return (~number & (number + 1)).bit_length() - 1
