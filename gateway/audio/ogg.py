"""
The Ogg container of a voice note, walked strictly from the first byte to the last.

- The bytes decide, never the MIME type: page after page up to the end, nothing before, between
  or behind (RFC 3533, section 6); every page's checksum holds.
- One logical stream after the other, and each is Opus: two header packets on pages of their own,
  then audio (RFC 7845, section 3). Up to `MOST_LINKS` may be chained, as recorders do that were
  paused; multiplexed streams are refused.
- Time is counted from the packets themselves, before anything is decoded: a 200 KB file can
  hold two hours. A stream may begin at a later granule position (section 4.5); from there on, one
  over a second off the count is a lie.
- A note may lack the end-of-stream flag (Android's own muxer leaves it out); a page that is cut
  short, or a packet that never ends, is refused.

The walk does bounded work: it stops at the first packet over the time or packet limit.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.audio import formats, opus
from gateway.errors import AudioRefusedError

MOST_SECONDS = 900
MOST_BYTES = formats.MOST_BYTES
MOST_LINKS = 16

_PAGE = struct.Struct("<4sBBqIIIB")
_CRC_AT = slice(22, 26)
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_GOES_ON = 255  # a lacing value: the packet has more segments (RFC 3533, section 5)
_NO_GRANULE = -1
_GRANULE_TOLERANCE = opus.CLOCK
_PACKETS_PER_SECOND = 100  # on average, over the longest note: WhatsApp's packets last 20 to 60 ms

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PDF_WINDOW = 1024
_ZIP_WINDOW = 65_557  # an end-of-central-directory record and the longest comment
_ZIP_END = b"PK\x05\x06\0\0\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """
    What the container of one voice note holds.

    *seconds* is what all packets decode to at most; *pre_skip* is in samples at 48 kHz and is
    part of it. *links* are where each chained stream begins and ends; *shifted* tells that one
    of them began at a later granule position. *channels* and *pre_skip* are the first one's.
    """

    seconds: float
    channels: int
    pre_skip: int
    packets: int
    links: tuple[tuple[int, int], ...] = ()
    shifted: bool = False

    @property
    def plain(self) -> bool:
        """Whether every player and vendor reads it as it is."""
        return len(self.links) == 1 and not self.shifted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes
    body: bytes


def inspect(
    content: bytes, *, max_seconds: int = MOST_SECONDS, max_bytes: int = MOST_BYTES
) -> Note:
    """
    Return what *content* holds if it is one whole Ogg/Opus voice note.

    Raises:
        AudioRefusedError: its code says what is wrong: ``audio.*`` for what is no Ogg note at
            all or is over a limit, ``ogg.*`` for the container, ``opus.*`` for what it carries.
    """
    if len(content) > max_bytes:
        raise AudioRefusedError("audio.too_large")
    if not content.startswith(b"OggS"):
        raise AudioRefusedError("audio.not_ogg" if content else "audio.empty")
    if b"%PDF-" in content[:_PDF_WINDOW] or _ZIP_END in content[-_ZIP_WINDOW:]:
        raise AudioRefusedError("audio.polyglot")
    chain = _Chain(max_seconds)
    for page, at in _pages(content):
        chain.take(page, at)
    return chain.note(len(content))


def checksum(page: bytes | bytearray) -> int:
    """
    Return Ogg's CRC of *page*, whose checksum field is zero (RFC 3533, section 6).

    Ogg's polynomial is zlib's with the bits in the other order, so reversing them on the way in
    and out lets zlib do the work at C speed.
    """
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


def _pages(content: bytes) -> Iterator[tuple[_Page, int]]:
    """Yield each page and where it begins."""
    at = 0
    while at < len(content):
        if not content.startswith(b"OggS", at):
            raise AudioRefusedError("ogg.stray_bytes")
        start = at
        page, at = _page(content, at)
        yield page, start


def _page(content: bytes, at: int) -> tuple[_Page, int]:
    """Return the page at *at*, and where the next one begins."""
    body_at = at + _PAGE.size
    if body_at > len(content):
        raise AudioRefusedError("ogg.truncated")
    _, version, flags, granule, serial, sequence, crc, segments = _PAGE.unpack_from(content, at)
    if version != 0 or flags > _CONTINUED | _FIRST | _LAST:
        raise AudioRefusedError("ogg.page_header")
    lacing = content[body_at : body_at + segments]
    body_at += segments
    end = body_at + sum(lacing)
    if end > len(content):
        raise AudioRefusedError("ogg.truncated")
    whole = bytearray(content[at:end])
    whole[_CRC_AT] = bytes(4)
    if checksum(whole) != crc:
        raise AudioRefusedError("ogg.checksum")
    body = content[body_at:end]
    page = _Page(
        flags=flags, granule=granule, serial=serial, sequence=sequence, lacing=lacing, body=body
    )
    return page, end


class _Chain:
    """The streams that follow one another; what is left of the limits goes from one to the next."""

    def __init__(self, max_seconds: int) -> None:
        self._samples = max_seconds * opus.CLOCK
        self._packets = max_seconds * _PACKETS_PER_SECOND
        self._walks = [_Walk(self._samples, self._packets)]
        self._starts = [0]

    def take(self, page: _Page, at: int) -> None:
        """Give *page*, which begins at *at*, to its stream: a first page behind audio opens one."""
        if page.flags & _FIRST and self._walks[-1].whole:
            if len(self._walks) == MOST_LINKS:
                raise AudioRefusedError("ogg.chained")
            self._samples -= self._walks[-1].samples
            self._packets -= self._walks[-1].packets
            self._walks.append(_Walk(self._samples, self._packets))
            self._starts.append(at)
        self._walks[-1].take(page)

    def note(self, end: int) -> Note:
        """Return the sum of all streams; the last one ends at *end*."""
        notes = [walk.note() for walk in self._walks]
        return Note(
            seconds=sum(note.seconds for note in notes),
            channels=notes[0].channels,
            pre_skip=notes[0].pre_skip,
            packets=sum(note.packets for note in notes),
            links=tuple(zip(self._starts, [*self._starts[1:], end], strict=True)),
            shifted=any(note.shifted for note in notes),
        )


class _Walk:
    """The state of one logical stream while its pages go by."""

    def __init__(self, most_samples: int, most_packets: int) -> None:
        self._most_samples = most_samples
        self._most_packets = most_packets
        self._head: opus.Head | None = None
        self._tagged = False
        self._serial = 0
        self._pages = 0
        self.packets = 0
        self.samples = 0
        self._granule = 0
        self._shift: int | None = None
        self._open: bytes | None = None
        self._ended = False

    @property
    def whole(self) -> bool:
        """Whether there is audio and no packet is open: another stream may follow."""
        return self.samples > 0 and self._open is None

    def take(self, page: _Page) -> None:
        """Check *page* against all that came before it, and count its packets."""
        self._check_place(page)
        packets = self._complete(page)
        if not self._tagged:
            self._take_header(page, packets)
        else:
            for packet in packets:
                self._take_audio(packet)
            self._check_granule(page, completed=bool(packets))
        self._pages += 1
        self._ended = bool(page.flags & _LAST)

    def note(self) -> Note:
        """Return the sum of the walk, once every page has been taken."""
        if self._open is not None:
            raise AudioRefusedError("ogg.truncated")
        if self._head is None or self.samples <= self._head.pre_skip:
            raise AudioRefusedError("opus.no_audio")
        return Note(
            seconds=self.samples / opus.CLOCK,
            channels=self._head.channels,
            pre_skip=self._head.pre_skip,
            packets=self.packets,
            shifted=bool(self._shift),
        )

    def _check_place(self, page: _Page) -> None:
        if self._pages == 0:
            if page.flags != _FIRST:
                raise AudioRefusedError("ogg.first_page")
            self._serial = page.serial
        elif page.flags & _FIRST:
            raise AudioRefusedError("ogg.multiplexed")
        if page.serial != self._serial:
            raise AudioRefusedError("ogg.multiplexed")
        if self._ended:
            raise AudioRefusedError("ogg.after_end")
        if page.sequence != self._pages:
            raise AudioRefusedError("ogg.sequence")
        if bool(page.flags & _CONTINUED) != (self._open is not None):
            raise AudioRefusedError("ogg.continued")
        if not page.lacing and not page.flags & _LAST:
            raise AudioRefusedError("ogg.empty_page")

    def _complete(self, page: _Page) -> list[bytes]:
        """Return the packets that end on *page*; keep the rest for the next one."""
        packets = []
        start = end = 0
        for length in page.lacing:
            end += length
            if length < _GOES_ON:
                packets.append((self._open or b"") + page.body[start:end])
                self._open = None
                start = end
        if start < end:
            self._open = (self._open or b"") + page.body[start:]
        self._check_sizes([*packets, self._open or b""])
        return packets

    def _check_sizes(self, packets: list[bytes]) -> None:
        if self._head is not None and not self._tagged:
            if len(packets[0]) > opus.MOST_TAG_BYTES:
                raise AudioRefusedError("opus.tags_too_large")
        elif max(map(len, packets)) > opus.MOST_PACKET_BYTES:
            raise AudioRefusedError("opus.packet")

    def _take_header(self, page: _Page, packets: list[bytes]) -> None:
        if page.granule not in {0, _NO_GRANULE}:
            raise AudioRefusedError("ogg.granule")
        if len(packets) > 1 or (packets and self._open is not None):
            raise AudioRefusedError("ogg.header_page")
        if self._head is None:
            self._head = opus.head(packets[0] if packets else self._open or b"")
        elif packets:
            opus.check_tags(packets[0])
            self._tagged = True

    def _take_audio(self, packet: bytes) -> None:
        self.samples += opus.duration(packet)
        self.packets += 1
        if self.samples > self._most_samples:
            raise AudioRefusedError("audio.too_long")
        if self.packets > self._most_packets:
            raise AudioRefusedError("opus.too_many_packets")

    def _check_granule(self, page: _Page, *, completed: bool) -> None:
        if not completed and page.granule == _NO_GRANULE:
            return
        if self._shift is None:
            later = page.granule - self.samples
            self._shift = later if later > _GRANULE_TOLERANCE else 0
        off = abs(page.granule - self._shift - self.samples) > _GRANULE_TOLERANCE
        if off or page.granule < self._granule or (page.lacing and not completed):
            raise AudioRefusedError("ogg.granule")
        self._granule = page.granule
