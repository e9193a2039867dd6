"""The sealed container, against an independent reading of the C2SP specification."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from vault import envelope
from vault.errors import TamperedError
from vault.model import Kind, Label

KEY = bytes(range(32))
CONTEXT = b"a context"
CHUNK = 16 * 1024
INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"

# Made by `reference` below with the salt 00 01 .. 17; they must open for ever.
VECTORS = {
    b"": (
        "000102030405060708090a0b0c0d0e0f1011121314151617"
        "ea69bde85e83bd02db3faedd01577d4a3edfa431e57e797d563616a7c65b587193687582671bc8f5"
        "6a20410db8de5943"
    ),
    b"where was this recording at 14:14": (
        "000102030405060708090a0b0c0d0e0f1011121314151617"
        "ea69bde85e83bd02db3faedd01577d4a3edfa431e57e797d563616a7c65b58711b128cff949d69b0"
        "ef239d2247b2f17061fdb0d1e6bffd8ec0d84daf02b08879a667207b723f5162d2601c44df87e0cb"
        "6c"
    ),
}


def reference(key: bytes, context: bytes, content: bytes, salt: bytes) -> bytes:
    """Seal *content* as the specification words it, chunk by chunk."""
    okm = HKDFExpand(algorithm=SHA512(), length=76, info=INFO + salt + context).derive(key)
    aead, base, commitment = AESGCM(okm[:32]), int.from_bytes(okm[32:44], "big"), okm[44:]
    chunks = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    if not chunks or len(chunks[-1]) == CHUNK:
        chunks.append(b"")
    sealed = [
        aead.encrypt((base ^ index).to_bytes(12, "big"), chunk, None)
        for index, chunk in enumerate(chunks)
    ]
    return salt + commitment + b"".join(sealed)


@pytest.mark.parametrize("length", [0, 1, 16383, 16384, 16385, 32768, 100_000])
def test_any_length_comes_back(length: int) -> None:
    """The last chunk is always short: lengths around 16 KiB are where a format breaks."""
    content = os.urandom(length)

    sealed = envelope.seal(KEY, CONTEXT, content)

    assert envelope.open_sealed(KEY, CONTEXT, sealed) == content
    assert len(sealed) == 56 + length + 16 * (length // CHUNK + 1)


@pytest.mark.parametrize("length", [0, 1, 16384, 16385])
def test_it_is_the_format_of_the_specification(length: int) -> None:
    """What we seal must be readable in ten years, by another program, from the specification."""
    content = os.urandom(length)

    ours = envelope.seal(KEY, CONTEXT, content)

    assert ours == reference(KEY, CONTEXT, content, ours[:24])


@pytest.mark.parametrize("content", VECTORS)
def test_containers_of_the_past_open(content: bytes) -> None:
    """An upgrade that changed the format would be a silent mass erasure."""
    sealed = bytes.fromhex(VECTORS[content])

    assert envelope.open_sealed(KEY, CONTEXT, sealed) == content


def test_sealing_twice_gives_two_containers() -> None:
    """Equal containers would tell that two notes are the same."""
    assert envelope.seal(KEY, CONTEXT, b"x") != envelope.seal(KEY, CONTEXT, b"x")


def test_every_truncation_is_refused() -> None:
    """A recording cut after the consent question would say something else."""
    sealed = envelope.seal(KEY, CONTEXT, b"not for sale")

    for length in range(len(sealed)):
        with pytest.raises(TamperedError):
            envelope.open_sealed(KEY, CONTEXT, sealed[:length])


@pytest.mark.parametrize("keep", [0, 1])
def test_a_cut_between_chunks_is_refused(keep: int) -> None:
    """Whole chunks authenticate by themselves: only the missing short one shows the cut."""
    sealed = envelope.seal(KEY, CONTEXT, bytes(2 * CHUNK))

    with pytest.raises(TamperedError):
        envelope.open_sealed(KEY, CONTEXT, sealed[: 56 + keep * (CHUNK + 16)])


def test_every_bit_flip_is_refused() -> None:
    """Salt, commitment, content or tag: no bit is free to change."""
    sealed = envelope.seal(KEY, CONTEXT, b"evidence")

    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TamperedError):
            envelope.open_sealed(KEY, CONTEXT, bytes(changed))


@pytest.mark.parametrize("length", [0, 5, CHUNK])
@pytest.mark.parametrize("tail", [b"\x00", b"x" * 16, b"x" * 17, bytes(CHUNK + 16)])
def test_trailing_data_is_refused(length: int, tail: bytes) -> None:
    """Bytes after the end would be a place to hide something in a sealed store."""
    sealed = envelope.seal(KEY, CONTEXT, bytes(length))

    with pytest.raises(TamperedError):
        envelope.open_sealed(KEY, CONTEXT, sealed + tail)


def test_swapped_chunks_are_refused() -> None:
    """Reordered speech is other speech."""
    sealed = envelope.seal(KEY, CONTEXT, os.urandom(2 * CHUNK))
    first, second = 56, 56 + CHUNK + 16
    swapped = sealed[:first] + sealed[second : second + CHUNK + 16] + sealed[first:second]

    with pytest.raises(TamperedError):
        envelope.open_sealed(KEY, CONTEXT, swapped + sealed[len(swapped) :])


def test_another_key_is_refused() -> None:
    """The commitment makes this sure: plain GCM can be made to open under two keys."""
    sealed = envelope.seal(KEY, CONTEXT, b"x")

    with pytest.raises(TamperedError):
        envelope.open_sealed(bytes(32), CONTEXT, sealed)


LABEL = Label(tenant="t", subject="s", artifact="a", kind=Kind.RAW_AUDIO, region="r")


@pytest.mark.parametrize("field", ["tenant", "subject", "artifact", "kind", "region"])
def test_every_field_of_the_label_is_bound(field: str) -> None:
    """A container moved under another person, tenant or region must not open there."""
    fields = {name: getattr(LABEL, name) for name in LABEL.__slots__}
    fields[field] = Kind.TRANSCRIPT if field == "kind" else "other"

    other = Label(**fields)

    assert envelope.context_of(other) != envelope.context_of(LABEL)
    sealed = envelope.seal(KEY, envelope.context_of(LABEL), b"x")
    with pytest.raises(TamperedError):
        envelope.open_sealed(KEY, envelope.context_of(other), sealed)


def test_parts_cannot_run_into_each_other() -> None:
    """Joined without lengths, tenant "ab" with subject "c" would be tenant "a" with "bc"."""
    assert envelope.bind("x", "ab", "c") != envelope.bind("x", "a", "bc")
    assert envelope.bind("x", "a") != envelope.bind("x", "a", "")


async def flowing(content: bytes, cuts: Sequence[int]) -> AsyncIterator[bytes]:
    """Yield *content* cut at *cuts*."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(content)), len(content)]
    for start, end in pairwise(edges):
        yield content[start:end]


async def gathered(pieces: AsyncIterator[bytes]) -> bytes:
    """Return *pieces* joined."""
    return b"".join([piece async for piece in pieces])


async def pour(pieces: AsyncIterator[bytes], into: bytearray) -> None:
    """Add *pieces* to *into*, as far as they come."""
    async for piece in pieces:
        into += piece


LENGTHS = st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, 50_000])
CUTS = st.lists(st.integers(0, 3 * CHUNK + 200), max_size=5)


@given(length=LENGTHS, cuts=CUTS)
def test_what_flows_is_sealed_to_the_same_bytes(length: int, cuts: list[int]) -> None:
    """One format: however a recording came in, the specification's program opens it."""
    content = os.urandom(length)

    sealed = asyncio.run(gathered(envelope.seal_chunks(KEY, CONTEXT, flowing(content, cuts))))

    assert sealed == reference(KEY, CONTEXT, content, sealed[:24])


@given(length=LENGTHS, cuts=CUTS)
def test_what_was_sealed_whole_opens_as_it_flows(length: int, cuts: list[int]) -> None:
    """What is stored comes back in pieces that a network chose, not in chunks of the format."""
    content = os.urandom(length)
    sealed = envelope.seal(KEY, CONTEXT, content)

    opened = asyncio.run(gathered(envelope.open_chunks(KEY, CONTEXT, flowing(sealed, cuts))))

    assert opened == content


def damaged(sealed: bytes) -> Iterator[bytes]:
    """Yield *sealed* cut, flipped, prolonged and reordered, each around every edge of a chunk."""
    full = CHUNK + 16
    edges = [0, 24, 56, *range(56 + full, len(sealed), full), len(sealed)]
    near = sorted({at for edge in edges for at in (edge - 1, edge, edge + 1)})
    yield from (sealed[:at] for at in near if 0 <= at < len(sealed))
    for at in (at for at in near if 0 <= at < len(sealed)):
        flipped = bytearray(sealed)
        flipped[at] ^= 1
        yield bytes(flipped)
    yield from (sealed + tail for tail in (b"\x00", bytes(16), bytes(17), bytes(full)))
    yield sealed[:56] + sealed[56 + full : 56 + 2 * full] + sealed[56 : 56 + full] + sealed[-20:]


@pytest.mark.anyio
@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 4])
async def test_a_flow_that_was_damaged_never_ends_well(length: int) -> None:
    """What came out before may be genuine; only a good end says that it is all of it."""
    content = os.urandom(length)
    tried = 0

    for broken in damaged(envelope.seal(KEY, CONTEXT, content)):
        released = bytearray()
        with pytest.raises(TamperedError):
            await pour(envelope.open_chunks(KEY, CONTEXT, flowing(broken, [100, 20_000])), released)
        assert content.startswith(released)
        assert len(released) <= length // CHUNK * CHUNK  # the last chunk never leaves a broken one
        tried += 1

    assert tried > 20
