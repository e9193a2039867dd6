"""
Ogg/Opus notes made to order: good ones, and every bad one of the media corpus.

The packets are Opus DTX frames (one byte, no sound), so that notes of any length are easy to
make. `RECIPES` names each bad note and makes its bytes; ``tests/corpus/media/manifest.json``
says what each is refused with.
"""

import struct
from collections.abc import Callable, Sequence

from gateway.audio import ogg

CONTINUED, FIRST, LAST = 1, 2, 4
SERIAL = 0x5EED
DTX_20_MS = b"\x48"  # SILK wideband, 20 ms, one frame without a single byte
DTX_60_MS = b"\x58"
HEAD = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 312, 16_000, 0, 0)
TAGS = b"OpusTags" + struct.pack("<I", 4) + b"test" + struct.pack("<I", 0)


def page(
    body: bytes,
    *,
    sequence: int,
    granule: int = 0,
    flags: int = 0,
    serial: int = SERIAL,
    lacing: bytes | None = None,
    version: int = 0,
) -> bytes:
    """Return one page with a right checksum; *lacing* defaults to one packet of all of *body*."""
    lacing = lace(len(body)) if lacing is None else lacing
    fields = (b"OggS", version, flags, granule, serial, sequence, 0, len(lacing))
    bare = struct.pack("<4sBBqIIIB", *fields) + lacing + body
    return bare[:22] + struct.pack("<I", ogg.checksum(bare)) + bare[26:]


def lace(length: int) -> bytes:
    """Return the lacing values of one whole packet of *length* bytes."""
    return b"\xff" * (length // 255) + bytes([length % 255])


def headers(head: bytes = HEAD, tags: bytes = TAGS) -> list[bytes]:
    """Return the two header pages."""
    return [page(head, sequence=0, flags=FIRST), page(tags, sequence=1)]


def audio_pages(
    packets: Sequence[bytes], samples: int, *, first: int = 2, granule: int | None = None
) -> list[bytes]:
    """Return *packets* of *samples* each, up to 255 (of one byte) a page, the last page the end."""
    pages = []
    for at in range(0, len(packets), 255):
        some = packets[at : at + 255]
        pages.append(
            page(
                b"".join(some),
                sequence=first + at // 255,
                granule=(at + len(some)) * samples if granule is None else granule,
                flags=LAST if at + 255 >= len(packets) else 0,
                lacing=bytes(map(len, some)),
            )
        )
    return pages


def note(seconds: float = 1.0, *, head: bytes = HEAD, tags: bytes = TAGS) -> bytes:
    """Return a whole, silent note of 20 ms packets."""
    packets = [DTX_20_MS] * round(seconds * 50)
    return b"".join(headers(head, tags) + audio_pages(packets, 960))


def with_audio(*pages: bytes) -> bytes:
    """Return the header pages and *pages* behind them."""
    return b"".join([*headers(), *pages])


def head(**wild: int) -> bytes:
    """Return an identification header with the *wild* fields in place of the good ones."""
    fields = {"version": 1, "channels": 1, "pre_skip": 312, "rate": 16_000, "gain": 0, "family": 0}
    return struct.pack("<8sBBHIhB", b"OpusHead", *(fields | wild).values())


def tags(*comments: bytes, tail: bytes = b"") -> bytes:
    """Return a comment header that says *comments*."""
    said = b"".join(struct.pack("<I", len(comment)) + comment for comment in comments)
    return TAGS[:-4] + struct.pack("<I", len(comments)) + said + tail


def bomb(size: int) -> bytes:
    """Return a file of about *size* bytes whose packets are 60 ms of nothing in one byte each."""
    count = size * 255 // (255 + 255 + 27)
    return b"".join(headers() + audio_pages([DTX_60_MS] * count, 2880))


def lying(*, said_seconds: int, held_seconds: int) -> bytes:
    """Return a note whose pages all say one length while its packets hold another."""
    pages = audio_pages([DTX_60_MS] * (held_seconds * 50 // 3), 2880, granule=said_seconds * 48_000)
    return with_audio(*pages)


def paged_tags(size: int) -> bytes:
    """Return a note whose comment header is *size* bytes of text with terminal escapes in it."""
    text = tags(b"TITLE=" + (b"\x1b[2J" * size)[:size])
    parts = [text[at : at + 255 * 255] for at in range(0, len(text), 255 * 255)]
    pages = [page(HEAD, sequence=0, flags=FIRST)]
    for number, part in enumerate(parts, start=1):
        whole = number == len(parts)
        pages.append(
            page(
                part,
                sequence=number,
                granule=0 if whole else -1,
                flags=CONTINUED if number > 1 else 0,
                lacing=lace(len(part)) if whole else b"\xff" * 255,
            )
        )
    audio = audio_pages([DTX_20_MS] * 50, 960, first=1 + len(parts))
    return b"".join(pages + audio)


def flipped(content: bytes, at: int) -> bytes:
    """Return *content* with one bit of byte *at* flipped."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def other_stream(body: bytes, *, sequence: int = 0, flags: int = FIRST) -> bytes:
    """Return a page of a second logical stream."""
    return page(body, sequence=sequence, flags=flags, serial=SERIAL + 1)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


_M3U8 = (
    b"#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a\n#EXTINF:1,\nfile:///etc/passwd\n"
    b"#EXTINF:1,\nconcat:http://192.0.2.1/b|file:///etc/passwd\n#EXT-X-ENDLIST\n"
)
_MP4 = _box(b"ftyp", b"isom\0\0\2\0isommp42") + _box(
    b"moov", _box(b"sinf", _box(b"schm", b"\0\0\0\0cenc\0\1\0\0"))
)
_ZIP_END = b"PK\x05\x06" + bytes(18)


def later(content: bytes, *, seconds: int) -> bytes:
    """Return *content* with the granule positions of its audio pages moved by *seconds*."""
    out, at = bytearray(), 0
    while at < len(content):
        segments = content[at + 26]
        end = at + 27 + segments + sum(content[at + 27 : at + 27 + segments])
        moved = bytearray(content[at:end])
        granule = int.from_bytes(moved[6:14], "little", signed=True)
        if granule > 0:
            moved[6:14] = (granule + seconds * 48_000).to_bytes(8, "little", signed=True)
        moved[22:26] = bytes(4)
        moved[22:26] = ogg.checksum(moved).to_bytes(4, "little")
        out += moved
        at = end
    return bytes(out)


_DATA = page(DTX_20_MS, sequence=2, granule=960, flags=LAST)

RECIPES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "dtx-bomb-200k": lambda: bomb(200_000),
    "dtx-bomb-16m": lambda: bomb(16 * 1024 * 1024 - 4096),
    "over-16m": lambda: b"OggS".ljust(16 * 1024 * 1024 + 1, b"\0"),
    "lying-granule": lambda: lying(said_seconds=5, held_seconds=600),
    "boasting-granule": lambda: with_audio(
        page(DTX_20_MS, sequence=2, granule=960),
        page(DTX_20_MS, sequence=3, granule=600 * 48_000, flags=LAST),
    ),
    "backward-granule": lambda: with_audio(
        page(DTX_20_MS * 2, sequence=2, granule=1920, lacing=b"\1\1"),
        page(DTX_20_MS, sequence=3, granule=1919),
    ),
    "missing-granule": lambda: with_audio(page(DTX_20_MS, sequence=2, granule=-1, flags=LAST)),
    "granule-without-packet": lambda: with_audio(
        page(b"\x4b" + bytes(254), sequence=2, granule=0, lacing=b"\xff")
    ),
    "header-granule": lambda: page(HEAD, sequence=0, flags=FIRST, granule=1),
    "headers-only": with_audio,
    "first-header-only": lambda: page(HEAD, sequence=0, flags=FIRST),
    "only-pre-skip": lambda: b"".join([*headers(head(pre_skip=960)), _DATA]),
    "cut-page": lambda: note()[:-1],
    "cut-page-header": lambda: note() + b"OggS" + bytes(22),
    "cut-packet": lambda: with_audio(
        page(b"\x4b" + bytes(254), sequence=2, granule=-1, lacing=b"\xff")
    ),
    "bad-checksum": lambda: flipped(note(), 27 + 1 + 19 + 22),
    "bad-body": lambda: flipped(note(), -1 + len(note())),
    "chained": lambda: note() + other_stream(HEAD),
    "chained-10000": lambda: note(0.02) * 10_000,
    "multiplexed-video": lambda: b"".join(
        [
            page(HEAD, sequence=0, flags=FIRST),
            other_stream(b"\x80theora\3\2\1"),
            page(TAGS, sequence=1),
        ]
    ),
    "multiplexed-later": lambda: with_audio(
        page(DTX_20_MS, sequence=2, granule=960),
        other_stream(DTX_20_MS, sequence=3, flags=0),
    ),
    "page-after-end": lambda: with_audio(_DATA, page(DTX_20_MS, sequence=3, granule=1920)),
    "m3u8": lambda: _M3U8,
    "html-tail": lambda: note() + b"<script>alert(1)</script>",
    "html-lead": lambda: b"<html>" + note(),
    "junk-between-pages": lambda: with_audio(b"\0" * 64, _DATA),
    "zip-tail": lambda: note() + b"PK\x03\x04" + bytes(26) + _ZIP_END,
    "zip-in-padding": lambda: with_audio(
        page(
            b"\x4b\x41" + bytes([len(_ZIP_END)]) + _ZIP_END,
            sequence=2,
            granule=960,
            lacing=bytes([3 + len(_ZIP_END)]),
        )
    ),
    "pdf-in-tags": lambda: note(tags=tags(b"TITLE=%PDF-1.7")),
    "gif": lambda: b"GIF89a" + note(),
    "mp4-cenc": lambda: _MP4,
    "tags-15m": lambda: paged_tags(15_000_000),
    "tags-not-utf8": lambda: note(tags=tags(b"TITLE=\xff\xfe")),
    "tags-cut-comment": lambda: note(tags=tags(b"TITLE=a")[:-1]),
    "tags-count": lambda: note(tags=TAGS[:-4] + struct.pack("<I", 0xFFFFFFFF)),
    "tags-binary-tail": lambda: note(tags=tags(tail=b"\0\1")),
    "tags-missing": lambda: note(tags=b"OpusTaxs" + TAGS[8:]),
    "amr": lambda: b"#!AMR\n" + b"\x3c" * 320,
    "vorbis": lambda: note(head=b"\x01vorbis" + bytes(23)),
    "head-version": lambda: note(head=head(version=16)),
    "head-no-channels": lambda: note(head=head(channels=0)),
    "head-255-channels": lambda: note(head=head(channels=255)),
    "head-pre-skip": lambda: note(head=head(pre_skip=65_535)),
    "head-rate": lambda: note(head=head(rate=4_000_000_000)),
    "head-gain": lambda: note(head=head(gain=-32_768)),
    "head-mapping": lambda: note(head=head(family=255)),
    "head-length": lambda: note(head=HEAD + b"\0"),
    "page-version": lambda: page(HEAD, sequence=0, flags=FIRST, version=1),
    "page-flags": lambda: page(HEAD, sequence=0, flags=FIRST | 8),
    "no-first-page": lambda: page(HEAD, sequence=0),
    "lost-page": lambda: with_audio(page(DTX_20_MS, sequence=3, granule=960)),
    "repeated-page": lambda: with_audio(*[page(DTX_20_MS, sequence=2, granule=960)] * 2),
    "continued-without-start": lambda: with_audio(
        page(DTX_20_MS, sequence=2, granule=960, flags=CONTINUED)
    ),
    "start-without-continued": lambda: with_audio(
        page(b"\x4b" + bytes(254), sequence=2, granule=-1, lacing=b"\xff"),
        page(DTX_20_MS, sequence=3, granule=960),
    ),
    "empty-page": lambda: with_audio(page(b"", sequence=2, lacing=b"", granule=-1), _DATA),
    "two-headers-a-page": lambda: page(
        HEAD + TAGS, sequence=0, flags=FIRST, lacing=bytes([len(HEAD), len(TAGS)])
    ),
    "packet-of-no-bytes": lambda: with_audio(page(b"", sequence=2, granule=960)),
    "packet-odd-pair": lambda: with_audio(page(b"\x49\0", sequence=2, granule=1920)),
    "packet-cut-pair": lambda: with_audio(page(b"\x4a\x05\0", sequence=2, granule=1920)),
    "packet-of-140-ms": lambda: with_audio(page(b"\x4b\x07", sequence=2, granule=6720)),
    "packet-no-frames": lambda: with_audio(page(b"\x4b\x00", sequence=2, granule=0)),
    "packet-no-count": lambda: with_audio(page(b"\x4b", sequence=2, granule=0)),
    "packet-all-padding": lambda: with_audio(page(b"\x4b\x41\xff\xff", sequence=2, granule=960)),
    "packet-uneven-frames": lambda: with_audio(page(b"\x4b\x02\0", sequence=2, granule=1920)),
    "packet-cut-frames": lambda: with_audio(page(b"\x4b\x82\xfc", sequence=2, granule=1920)),
    "packet-long-frame": lambda: with_audio(page(b"\x48" + bytes(1276), sequence=2, granule=960)),
    "packet-crowd": lambda: b"".join(headers() + audio_pages([b"\x80"] * 90_001, 120)),
    "packet-of-70k": lambda: with_audio(
        page(b"\x4b" + bytes(255 * 255 - 1), sequence=2, granule=-1, lacing=b"\xff" * 255),
    ),
}
