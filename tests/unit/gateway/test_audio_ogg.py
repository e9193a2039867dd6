"""The walk over the container: what is a voice note, and the many things that are not."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oggs

from gateway.audio import child, ogg
from gateway.errors import AudioRefusedError

MEDIA = Path(__file__).parents[2] / "corpus" / "media"
MANIFEST = json.loads((MEDIA / "manifest.json").read_text())
GOOD = {row["file"]: (MEDIA / row["file"]).read_bytes() for row in MANIFEST["good"]}


def verdict(content: bytes) -> str:
    """Return the code *content* is refused with, or "accepted"."""
    try:
        ogg.inspect(content)
    except AudioRefusedError as refused:
        return refused.code
    return "accepted"


@pytest.mark.parametrize("name", GOOD)
def test_real_recordings_are_accepted(name: str) -> None:
    """A walker that refuses people's notes protects nobody."""
    note = ogg.inspect(GOOD[name])
    heard = len(child.to_pcm(GOOD[name], max_seconds=60)) / (child.RATE * child.SAMPLE_BYTES)

    assert note.channels == 1
    assert heard <= note.seconds < heard + 0.1


@pytest.mark.parametrize("bad", MANIFEST["bad"], ids=lambda bad: bad["recipe"])
def test_every_bad_note_is_refused_with_its_own_code(bad: dict[str, str]) -> None:
    """Each row is a known attack or fault; its code tells the DPO which one arrived."""
    content = oggs.RECIPES[bad["recipe"]]()

    code = verdict(content)

    assert code == bad["code"]
    assert hashlib.sha256(content).hexdigest() == bad["sha256"]
    assert "file" not in bad or (MEDIA / bad["file"]).read_bytes() == content


def test_every_recipe_has_a_row() -> None:
    """A bad note without an expectation would be tested by nothing."""
    assert {bad["recipe"] for bad in MANIFEST["bad"]} == set(oggs.RECIPES)


def test_checksum_is_the_one_of_the_standard() -> None:
    """Ours goes through zlib backwards: this one goes bit by bit, as RFC 3533 describes it."""
    page = GOOD["good/psphinx_cards_en_003.ogg"][:47]
    register = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
        register &= 0xFFFFFFFF

    assert ogg.checksum(page[:22] + bytes(4) + page[26:]) == register
    assert register == int.from_bytes(page[22:26], "little")


def test_a_note_without_the_end_flag_is_accepted() -> None:
    """Android's own muxer never sets it; every page is whole all the same."""
    content = oggs.with_audio(oggs.page(oggs.DTX_20_MS, sequence=2, granule=960))

    assert ogg.inspect(content).seconds == 0.02


def test_an_empty_last_page_is_accepted() -> None:
    """RFC 3533 lets a writer end the stream with a page of nothing."""
    pages = oggs.audio_pages([oggs.DTX_20_MS] * 50, 960)
    end = oggs.page(b"", sequence=3, granule=48_000, flags=oggs.LAST, lacing=b"")
    pages[0] = oggs.page(oggs.DTX_20_MS * 50, sequence=2, granule=48_000, lacing=b"\1" * 50)

    assert ogg.inspect(oggs.with_audio(*pages, end)).seconds == 1.0


def test_a_packet_over_two_pages_is_counted_once() -> None:
    """Long packets go over page ends: counted twice or not at all, the bound would be wrong."""
    packet = b"\x4b\x03" + bytes(600)
    first = oggs.page(packet[:510], sequence=2, granule=-1, lacing=b"\xff\xff")
    rest = oggs.page(packet[510:], sequence=3, granule=2880, flags=oggs.CONTINUED)

    assert ogg.inspect(oggs.with_audio(first, rest)).packets == 1


def test_a_long_honest_note_is_accepted_up_to_the_limit() -> None:
    """Fifteen minutes is the promise: neither a packet less nor one more."""
    assert ogg.inspect(oggs.note(900)).seconds == 900
    assert verdict(oggs.note(900.02)) == "audio.too_long"


def test_limits_can_be_set_lower() -> None:
    """A tenant may allow less than we can bear."""
    with pytest.raises(AudioRefusedError, match="too_long"):
        ogg.inspect(oggs.note(2), max_seconds=1)
    with pytest.raises(AudioRefusedError, match="too_large"):
        ogg.inspect(oggs.note(2), max_bytes=100)


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"OggS", b"OpusHead", oggs.HEAD, oggs.TAGS, b"\xff" * 16]),
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Draw a good note with a few pieces of it replaced, dropped or doubled."""
    content = draw(st.sampled_from([*GOOD.values(), oggs.note(3)]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 64)))
        content = content[:start] + draw(PIECES) + content[end:]
    return content


@st.composite
def stranger_pages(draw: st.DrawFn) -> bytes:
    """Draw pages whose checksums hold, so that what lies behind that check is reached."""
    pages = oggs.headers() if draw(st.booleans()) else []
    for sequence in range(len(pages), len(pages) + draw(st.integers(1, 6))):
        packets = draw(st.lists(PIECES, max_size=4))
        cut = draw(st.booleans())
        laced = b"".join(oggs.lace(len(packet)) for packet in packets) + b"\xff" * cut
        page = oggs.page(
            b"".join(packets) + bytes(255 * cut),
            sequence=sequence,
            granule=draw(st.sampled_from([-1, 0, 960, 48_000, 2**62])),
            flags=draw(st.integers(0, 7)),
            lacing=laced,
        )
        pages.append(page)
    return b"".join(pages)


@settings(max_examples=400, deadline=None)
@given(mutations() | stranger_pages() | st.binary(max_size=200).map(b"OggS".__add__))
def test_no_bytes_break_the_walk(content: bytes) -> None:
    """Whatever arrives ends as a note within the limits or as a refusal, never as a crash."""
    with suppress(AudioRefusedError):
        note = ogg.inspect(content, max_seconds=5)

        assert 0 < note.seconds <= 5
        assert note.packets <= 500
