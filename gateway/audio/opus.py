"""
Opus packets and the two Opus headers, read strictly and without decoding.

- A packet's length in time follows from its first byte and frame count (RFC 6716, section 3.1
  and 3.2); a packet that breaks rules R1 to R7 of section 3.4 is refused.
- ``OpusHead`` holds only what a voice note needs (RFC 7845, section 5.1): version 1, mono or
  stereo, mapping family 0.
- ``OpusTags`` is checked and dropped: nothing it says is kept (RFC 7845, section 5.2).

Lengths are in samples at 48 kHz, the clock of Opus.
"""

import struct
from dataclasses import dataclass

from gateway.errors import AudioRefusedError

CLOCK = 48_000
MOST_TAG_BYTES = 64 * 1024
MOST_PACKET_BYTES = 61_440  # RFC 7845, section 6: the most a decoder has to expect

_FRAME_SAMPLES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_MOST_SAMPLES = 5760  # 120 ms, rule R5
_MOST_FRAME_BYTES = 1275  # rule R2
_LONG_LENGTH = 252  # frame lengths from here on take two bytes (RFC 6716, section 3.2.1)

_HEAD = struct.Struct("<8sBBHIhB")
_COUNT = struct.Struct("<I")
_MOST_PRE_SKIP = CLOCK // 2
_MOST_RATE = 192_000
_MOST_GAIN = 24 * 256  # Q7.8 dB


@dataclass(frozen=True, slots=True)
class Head:
    """What ``OpusHead`` says of the stream; *pre_skip* in samples at 48 kHz."""

    channels: int
    pre_skip: int


def duration(packet: bytes) -> int:
    """
    Return how many samples *packet* decodes to.

    Raises:
        AudioRefusedError: ``opus.packet``, the packet is malformed.
    """
    if not packet:
        raise AudioRefusedError("opus.packet")
    frames, sound = _FRAMINGS[packet[0] & 3](packet)
    samples = frames * _FRAME_SAMPLES[packet[0] >> 3]
    if not sound or not 0 < samples <= _MOST_SAMPLES:
        raise AudioRefusedError("opus.packet")
    return samples


def _one_frame(packet: bytes) -> tuple[int, bool]:
    return 1, len(packet) - 1 <= _MOST_FRAME_BYTES


def _two_equal_frames(packet: bytes) -> tuple[int, bool]:
    length, odd = divmod(len(packet) - 1, 2)
    return 2, not odd and length <= _MOST_FRAME_BYTES


def _two_frames(packet: bytes) -> tuple[int, bool]:
    length, start = _frame_length(packet, 1)
    return 2, 0 <= len(packet) - start - length <= _MOST_FRAME_BYTES


def _counted_frames(packet: bytes) -> tuple[int, bool]:
    if len(packet) < 2:  # noqa: PLR2004 - the frame count stands in the second byte
        return 0, False
    frames, padded, varying = packet[1] & 0x3F, packet[1] & 0x40, packet[1] & 0x80
    padding, start = _padding(packet) if padded else (0, 2)
    end = len(packet) - padding
    if not varying:
        length, rest = divmod(end - start, max(frames, 1))
        return frames, end >= start and not rest and length <= _MOST_FRAME_BYTES
    for _ in range(frames - 1):
        length, start = _frame_length(packet, start)
        end -= length
    return frames, 0 <= end - start <= _MOST_FRAME_BYTES


_FRAMINGS = (_one_frame, _two_equal_frames, _two_frames, _counted_frames)


def _frame_length(packet: bytes, at: int) -> tuple[int, int]:
    """Return the frame length written at *at*, and where the next field begins."""
    first = packet[at : at + 1]
    if not first or first[0] < _LONG_LENGTH:
        return (first[0], at + 1) if first else (len(packet), at)
    second = packet[at + 1 : at + 2]
    return (second[0] * 4 + first[0], at + 2) if second else (len(packet), at)


def _padding(packet: bytes) -> tuple[int, int]:
    """Return the padding's length in bytes, and where the next field begins."""
    total = 0
    for at in range(2, len(packet)):
        total += min(packet[at], 254)
        if packet[at] != 255:  # noqa: PLR2004 - 255 means 254 more, and another byte
            return total, at + 1
    return len(packet), len(packet)


def head(packet: bytes) -> Head:
    """
    Return what the identification header *packet* says.

    Raises:
        AudioRefusedError: ``ogg.not_opus`` or an ``opus.head_*`` code naming the wild field.
    """
    if not packet.startswith(b"OpusHead"):
        raise AudioRefusedError("ogg.not_opus")
    if len(packet) != _HEAD.size:
        raise AudioRefusedError("opus.head_length")
    _, version, channels, pre_skip, rate, gain, family = _HEAD.unpack(packet)
    faults = {
        "version": version != 1,
        "channels": channels not in {1, 2},
        "pre_skip": pre_skip > _MOST_PRE_SKIP,
        "rate": rate > _MOST_RATE,
        "gain": abs(gain) > _MOST_GAIN,
        "mapping": family != 0,
    }
    for field, wild in faults.items():
        if wild:
            raise AudioRefusedError(f"opus.head_{field}")
    return Head(channels, pre_skip)


def check_tags(packet: bytes) -> None:
    """
    Return if the comment header *packet* is well formed; its text goes no further.

    Raises:
        AudioRefusedError: ``opus.tags``.
    """
    if not packet.startswith(b"OpusTags"):
        raise AudioRefusedError("opus.tags")
    try:
        end = _skip_text(packet, 8)
        (count,) = _COUNT.unpack_from(packet, end)
        end += _COUNT.size
        for _ in range(count):
            end = _skip_text(packet, end)
    except (struct.error, UnicodeDecodeError):
        raise AudioRefusedError("opus.tags") from None
    if packet[end:].strip(b"\0"):
        raise AudioRefusedError("opus.tags")


def _skip_text(packet: bytes, at: int) -> int:
    """Return where the length-prefixed UTF-8 text at *at* ends."""
    length: int = _COUNT.unpack_from(packet, at)[0]
    start = at + _COUNT.size
    text = packet[start : start + length]
    if len(text) != length:
        raise struct.error
    text.decode("utf-8")
    return start + length
