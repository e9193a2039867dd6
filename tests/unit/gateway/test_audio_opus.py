"""Opus packets: how long they last, without decoding them."""

import av
import pytest
from support import oggs

from gateway.audio import opus
from gateway.errors import AudioRefusedError


@pytest.mark.parametrize("config", range(32))
def test_every_configuration_lasts_what_the_codec_says(config: int) -> None:
    """The bound on a note rests on this table: the decoder itself is the judge of it."""
    packet = bytes([config << 3])
    codec = av.CodecContext.create("libopus", "r")
    codec.extradata = oggs.head(pre_skip=0)

    decoded = sum(frame.samples for frame in codec.decode(av.Packet(packet)))

    assert opus.duration(packet) == decoded


@pytest.mark.parametrize(
    ("packet", "frames"),
    [
        (b"\x48", 1),
        (b"\x48" + bytes(1275), 1),
        (b"\x49", 2),
        (b"\x49" + bytes(1275 * 2), 2),
        (b"\x4a\x01\0\0\0", 2),
        (b"\x4a\xfc\0" + bytes(252 + 1275), 2),
        (b"\x4b\x06", 6),
        (b"\x4b\x03" + bytes(30), 3),
        (b"\x4b\x43\x04" + bytes(30 + 4), 3),
        (b"\x4b\x43\xff\x01" + bytes(30 + 255), 3),
        (b"\x4b\x83\x01\x02" + bytes(3), 3),
    ],
)
def test_every_framing_counts_its_frames(packet: bytes, frames: int) -> None:
    """A packet holds up to 48 frames: counting packets would miss most of a bomb."""
    assert opus.duration(packet) == frames * 960


def test_comments_are_checked_and_dropped() -> None:
    """Comments may hold names or terminal escapes: nothing of them is kept."""
    said = opus.check_tags(oggs.tags(b"ARTIST=\x1b[2J", b"TITLE=x", tail=bytes(64)))

    assert said is None


def test_stereo_is_a_note_too() -> None:
    """Forwarded audio files may be stereo; they are mixed down, not refused."""
    assert opus.head(oggs.head(channels=2)) == opus.Head(2, 312)


def test_a_malformed_packet_has_one_code() -> None:
    """Reason codes are shown to people and counted: they must be stable."""
    with pytest.raises(AudioRefusedError, match=r"^opus\.packet$"):
        opus.duration(b"")
