"""
Bytes that flow: cut, regrouped, measured and gathered, a piece at a time.

Whoever handles a flow holds one piece of it, or two; only `gathered` holds the whole, once.
"""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from io import BytesIO

PIECE = 1024 * 1024


async def pieces(content: bytes | AsyncIterable[bytes], size: int = PIECE) -> AsyncIterator[bytes]:
    """Yield *content*: bytes are cut into pieces of *size*, what flows already flows on."""
    if isinstance(content, bytes):
        for start in range(0, len(content), size):
            yield content[start : start + size]
        return
    async for piece in content:
        yield piece


async def blocks(content: AsyncIterable[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield *content* regrouped: every block has *size* bytes, but the last, which may be less."""
    waiting = bytearray()
    async for piece in content:
        waiting += piece
        while len(waiting) > size:
            with memoryview(waiting) as seen:
                block = bytes(seen[:size])
            del waiting[:size]
            yield block
    if waiting:
        yield bytes(waiting)


async def chained(first: Iterable[bytes], rest: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield *first*, then *rest*."""
    for piece in first:
        yield piece
    async for piece in rest:
        yield piece


async def gathered(content: AsyncIterable[bytes]) -> bytes:
    """Return *content* as a whole, which is never there twice."""
    whole = BytesIO()  # its getvalue hands its buffer over, where a join would copy it
    async for piece in content:
        whole.write(piece)
    return whole.getvalue()


async def digest(content: AsyncIterable[bytes]) -> str:
    """Return the SHA-256 of *content*, in hexadecimal."""
    meter = Meter()
    async for _ in meter.through(content):
        pass
    return meter.digest


class Meter:
    """Counts what flows through it, and hashes it after *start*."""

    def __init__(self, start: bytes = b"") -> None:
        self.size = 0
        self._hash = hashlib.sha256(start)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what came through so far, in hexadecimal."""
        return self._hash.hexdigest()

    async def through(self, content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield *content* as it is."""
        async for piece in content:
            self.size += len(piece)
            self._hash.update(piece)
            yield piece
