"""Merkle trees."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import merkle

# The reference leaves and roots of the Certificate Transparency tests (RFC 6962).
_INPUTS = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]  # fmt: skip
_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
_LEAVES = [merkle.leaf_hash(bytes.fromhex(data)) for data in _INPUTS]
_sizes = st.integers(1, 200)


def _hashes(size: int) -> list[bytes]:
    return [sha256(bytes([n])).digest() for n in range(size)]


def _naive(leaves: list[bytes]) -> bytes:
    """Return MTH as RFC 6962 section 2.1 writes it down."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return merkle.node_hash(_naive(leaves[:k]), _naive(leaves[k:]))


def _ranges(leaves: list[bytes]) -> merkle.RangeHash:
    return lambda begin, end: _naive(leaves[begin:end])


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    """Another hash, order or prefix would make every proof worthless to a stranger."""
    expected = _ROOTS[size - 1] if size else sha256(b"").hexdigest()

    assert merkle.root(_LEAVES[:size]).hex() == expected


def test_inclusion_proof_is_the_published_one() -> None:
    """PATH(5, D[8]) of the Certificate Transparency vectors, sibling first."""
    path = merkle.inclusion_proof(5, 8, _ranges(_LEAVES))

    assert [step.hex() for step in path] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_consistency_proof_is_the_published_one() -> None:
    """PROOF(6, D[8]) of the Certificate Transparency vectors."""
    path = merkle.consistency_proof(6, 8, _ranges(_LEAVES))

    assert [step.hex() for step in path] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(_sizes)
def test_the_frontier_grows_the_same_tree(size: int) -> None:
    """The writer never re-hashes the log, so its shortcut must equal the definition."""
    leaves = _hashes(size)

    assert merkle.root(leaves) == _naive(leaves)


@given(_sizes, st.data())
def test_every_leaf_is_provable_and_nothing_else_is(size: int, data: st.DataObject) -> None:
    """A proof must hold for its leaf, place, size and root, and for no other."""
    leaves = _hashes(size)
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size).filter(lambda n: n != index))
    root, proof = _naive(leaves), merkle.inclusion_proof(index, size, _ranges(leaves))

    assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
    assert not merkle.verify_inclusion(leaves[index], other, size, proof, root)
    assert not merkle.verify_inclusion(b"\0" * 32, index, size, proof, root)
    assert not merkle.verify_inclusion(leaves[index], index, size, proof, b"\0" * 32)
    assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not proof or not merkle.verify_inclusion(leaves[index], index, size, proof[:-1], root)


@given(_sizes, st.data())
def test_growth_is_provable_and_rewriting_is_not(size: int, data: st.DataObject) -> None:
    """An old checkpoint and a new one are of one history exactly if the proof holds."""
    leaves = _hashes(size)
    old = data.draw(st.integers(0, size))
    proof = merkle.consistency_proof(old, size, _ranges(leaves))
    before, after = _naive(leaves[:old]), _naive(leaves)

    assert merkle.verify_consistency(old, size, proof, before, after)
    assert not merkle.verify_consistency(old, size, proof, b"\0" * 32, after)
    assert not merkle.verify_consistency(old, size, [*proof, after], before, after)
    assert old == 0 or not merkle.verify_consistency(old, size, proof, before, b"\0" * 32)
    assert not proof or not merkle.verify_consistency(old, size, proof[:-1], before, after)


def test_backwards_is_never_consistent() -> None:
    """A log that shrank has lost something, whatever proof comes with it."""
    assert not merkle.verify_consistency(2, 1, [], _LEAVES[0], _LEAVES[0])
    assert not merkle.verify_consistency(-1, 1, [], merkle.EMPTY, _LEAVES[0])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_proof_for_what_is_not_there(index: int, size: int) -> None:
    """A wrong index must fail loudly instead of proving another leaf."""
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(index, size, _ranges(_LEAVES))


def test_a_frontier_knows_how_many_peaks_it_needs() -> None:
    """Recovering with a peak missing would grow another tree."""
    with pytest.raises(ValueError, match="peaks"):
        merkle.Frontier(3, [_LEAVES[0]])


def test_a_proof_does_not_hold_for_a_larger_tree() -> None:
    """A size that the proof does not reach to would let a log claim leaves it never had."""
    left, right = _LEAVES[:2]
    root = merkle.root([left, right])

    assert merkle.verify_inclusion(left, 0, 2, [right], root)
    assert not merkle.verify_inclusion(left, 0, 3, [right], root)
    assert merkle.verify_consistency(1, 2, [right], left, root)
    assert not merkle.verify_consistency(1, 3, [right], left, root)
