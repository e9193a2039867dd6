"""
Which kind of audio file the bytes are: by their first bytes, never by the MIME type.

What WhatsApp's own clients record is Ogg/Opus; people also forward files, in the formats that
phones and recorders write. Each is named with what opens it, so that nothing is ever probed for.
Sources: RFC 3533 (Ogg), ISO/IEC 14496-12 (MP4), ISO/IEC 13818-7 (ADTS), ISO/IEC 11172-3 and
ID3v2 (MP3), RFC 4867 section 5 (AMR), RFC 8794 (EBML, of WebM), RFC 9639 (FLAC), and Microsoft's
RIFF (WAVE).
"""

from enum import StrEnum

from gateway.errors import AudioRefusedError

MOST_BYTES = 16 * 1024 * 1024
"""WhatsApp's own limit for audio."""


class Format(StrEnum):
    """An audio file that we open, by the name of FFmpeg's demuxer; kept sorted."""

    ADTS = "aac"
    AMR = "amr"
    FLAC = "flac"
    MP3 = "mp3"
    MP4 = "mov"
    OGG = "ogg"
    WAV = "wav"
    WEBM = "matroska"


FORMATS = tuple(Format)

CODECS = {
    Format.ADTS: frozenset({"aac"}),
    Format.AMR: frozenset({"amrnb", "amrwb"}),
    Format.FLAC: frozenset({"flac"}),
    Format.MP3: frozenset({"mp3", "mp3float"}),
    Format.MP4: frozenset({"aac", "alac", "amrnb", "amrwb", "mp3", "mp3float", "opus"}),
    Format.OGG: frozenset({"opus", "libopus"}),
    Format.WAV: frozenset({"pcm_alaw", "pcm_f32le", "pcm_mulaw", "pcm_s16le", "pcm_s24le"}),
    Format.WEBM: frozenset({"opus", "libopus", "vorbis"}),
}
"""The decoders that a file of each format may ask for."""

_STARTS = {
    b"OggS": Format.OGG,
    b"fLaC": Format.FLAC,
    b"ID3": Format.MP3,
    b"#!AMR\n": Format.AMR,
    b"#!AMR-WB\n": Format.AMR,
    b"\x1a\x45\xdf\xa3": Format.WEBM,
}
_SYNC = 0xFFE  # eleven bits that begin an MPEG audio frame
_LAYER = 0b110  # of the second byte
_LAYERS = {0b000: Format.ADTS, 0b010: Format.MP3}  # MP3 is layer III, written as 01


def recognise(content: bytes, *, max_bytes: int = MOST_BYTES) -> Format:
    """
    Return what *content* begins as.

    Raises:
        AudioRefusedError: ``audio.empty``, ``audio.too_large`` or ``audio.unknown_format``.

    """
    if not content:
        raise AudioRefusedError("audio.empty")
    if len(content) > max_bytes:
        raise AudioRefusedError("audio.too_large")
    for start, found in _STARTS.items():
        if content.startswith(start):
            return found
    if content[4:8] == b"ftyp":
        return Format.MP4
    if content.startswith(b"RIFF") and content[8:12] == b"WAVE":
        return Format.WAV
    return _mpeg(content[:2])


def _mpeg(start: bytes) -> Format:
    if len(start) == 2 and int.from_bytes(start) >> 5 == _SYNC >> 1:  # noqa: PLR2004 - two bytes
        found = _LAYERS.get(start[1] & _LAYER)
        if found is not None:
            return found
    raise AudioRefusedError("audio.unknown_format")
