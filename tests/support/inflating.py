"""Compressed members inside any bytes, inflated: gzip, zlib, zip (deflate) and zstd."""

import contextlib
import ctypes
import ctypes.util
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

MOST = 8 << 20  # bytes of one member
DEPTH = 3  # a member within a member within a member
KINDS = ("gzip", "zip", "zlib", "zstd")  # what `members` and `packed` know

_GZIP = re.compile(rb"\x1f\x8b\x08")
_ZIP = re.compile(rb"PK\x03\x04.{4}\x08\0", re.DOTALL)
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")


def members(text: bytes, depth: int = DEPTH) -> dict[str, bytes]:
    """Return what inflates in *text*, all members of one kind joined, by kind."""
    kinds: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], bytes]]] = {
        "gzip": (_GZIP, lambda rest: _inflated(rest, 31)),
        "zip": (_ZIP, _zipped),
        "zlib": (_ZLIB, lambda rest: _inflated(rest, 15)),
        "zstd": (_ZSTD, _unzstd),
    }
    found: dict[str, bytes] = {}
    for kind, (magic, open_it) in kinds.items():
        parts = [open_it(text[match.start() :]) for match in magic.finditer(text)]
        if whole := b"\n".join(part for part in parts if len(part) > 3):
            found[kind] = whole
            deeper = members(whole, depth - 1) if depth else {}
            found |= {f"{inner} in {kind}": each for inner, each in deeper.items()}
    return found


def packed(text: bytes) -> dict[str, bytes]:
    """Return *text* compressed in each way that `members` knows."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writing:
        writing.writestr("control", text)
    return {
        "gzip": gzip.compress(text),
        "zip": archive.getvalue(),
        "zlib": zlib.compress(text),
        "zstd": _zstd(text),
    }


def _inflated(rest: bytes, wbits: int) -> bytes:
    """Return what can be inflated from the beginning of *rest*: a cut member leaks as well."""
    inflater, out = zlib.decompressobj(wbits), bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(0, len(rest), 4096):
            out += inflater.decompress(rest[at : at + 4096], MOST - len(out))
            if inflater.eof or len(out) >= MOST:
                break
    return bytes(out)


def _zipped(rest: bytes) -> bytes:
    name, extra = struct.unpack_from("<HH", rest, 26) if len(rest) > 30 else (0, 0)
    return _inflated(rest[30 + name + extra :], -15)


def _library() -> ctypes.CDLL:
    """Return libzstd, which every Debian has: dpkg needs it."""
    name = ctypes.util.find_library("zstd")
    if name is None:
        raise RuntimeError("no libzstd: what is compressed with it would be taken for clean")
    library = ctypes.CDLL(name)
    for function in ("ZSTD_compress", "ZSTD_compressBound"):
        getattr(library, function).restype = ctypes.c_size_t
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    return library


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


def _zstd(text: bytes) -> bytes:
    library = _library()
    room = library.ZSTD_compressBound(ctypes.c_size_t(len(text)))
    out = ctypes.create_string_buffer(room)
    size = library.ZSTD_compress(
        out, ctypes.c_size_t(room), text, ctypes.c_size_t(len(text)), ctypes.c_int(3)
    )
    return out.raw[:size]


def _unzstd(rest: bytes) -> bytes:
    library = _library()
    stream = ctypes.c_void_p(library.ZSTD_createDStream())
    room = ctypes.create_string_buffer(MOST)
    out = _Buffer(ctypes.cast(room, ctypes.c_char_p), MOST, 0)
    given = _Buffer(rest, len(rest), 0)
    try:
        while given.pos < given.size and out.pos < out.size:
            before = (given.pos, out.pos)
            left = library.ZSTD_decompressStream(stream, ctypes.byref(out), ctypes.byref(given))
            # Zero ends a frame, a number beyond all sizes is an error.
            if left == 0 or left > 1 << 62 or (given.pos, out.pos) == before:
                break
    finally:
        library.ZSTD_freeDStream(stream)
    return room.raw[: out.pos]
