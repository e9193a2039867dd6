"""
One tunnel: bytes both ways, as they are, counted, until an end, a silence or a cut.

A byte counts from when it is handed to the system, which may send it or drop it at a cut: the
counts are upper bounds of what the peer got.

The first bytes from the client are held until its TLS ClientHello is whole, so that a tunnel
that asks for another name than its CONNECT request is cut before a byte of it leaves.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from residency import egress
from residency.errors import ConnectRefusedError
from residency.model import Contact

CHUNK = 64 * 1024
IDLE_S = 60.0

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Line:
    """What is known of one connection so far; `contact` is its record."""

    host: str = ""
    peer: str = ""
    refused: str = ""
    sent: int = 0
    received: int = 0
    moved_at: float = field(default_factory=time.monotonic)

    @property
    def contact(self) -> Contact:
        """Return the record of this connection."""
        return Contact(
            host=self.host,
            peer=self.peer,
            refused=self.refused,
            sent=self.sent,
            received=self.received,
        )

    def count_sent(self, size: int) -> None:
        """Count bytes towards the peer."""
        self.sent += size
        self.moved_at = time.monotonic()

    def count_received(self, size: int) -> None:
        """Count bytes from the peer."""
        self.received += size
        self.moved_at = time.monotonic()


async def first_flight(
    first: Awaitable[bytes], reader: asyncio.StreamReader, host: str, *, plain: bool
) -> bytes:
    """
    Return the client's first bytes, its whole first record if it speaks TLS.

    Raises `ConnectRefusedError` when its server name is not *host*, or when it does not speak
    TLS and *plain* is not admitted.
    """
    held = await first
    if not held or (plain and held[0] != egress.TLS_HANDSHAKE):
        return held
    if held[0] != egress.TLS_HANDSHAKE:
        raise ConnectRefusedError(HTTPStatus.FORBIDDEN, "tls.missing")
    while (length := egress.record_length(held)) is None or len(held) < length:
        more = await reader.read(CHUNK)
        if not more:
            return b""
        held += more
    asked = egress.server_name(held[:length])
    if asked is not None and asked != host:
        raise ConnectRefusedError(HTTPStatus.FORBIDDEN, "tls.other_name")
    return held


async def relay(
    first: Awaitable[bytes], client: Ends, upstream: Ends, line: Line, *, plain: bool
) -> None:
    """Carry bytes both ways until both sides end; raise `ConnectRefusedError` for a cut."""
    outward = asyncio.create_task(_outward(first, client, upstream, line, plain=plain))
    inward = asyncio.create_task(_pump(upstream[0], client[1], line.count_received))
    watch = asyncio.create_task(_silent(line))
    both = asyncio.gather(outward, inward)
    waited: list[asyncio.Future[Any]] = [both, watch]
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not both.done():
            raise ConnectRefusedError(HTTPStatus.GATEWAY_TIMEOUT, "tunnel.idle")
        with contextlib.suppress(OSError):
            both.result()
    finally:
        for task in (both, outward, inward, watch):
            task.cancel()
        await asyncio.gather(outward, inward, watch, both, return_exceptions=True)


async def _outward(
    first: Awaitable[bytes], client: Ends, upstream: Ends, line: Line, *, plain: bool
) -> None:
    host = line.host.rpartition(":")[0]
    held = await first_flight(first, client[0], host, plain=plain)
    await _write(upstream[1], held, line.count_sent)
    await _pump(client[0], upstream[1], line.count_sent)


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: Callable[[int], None]
) -> None:
    while chunk := await source.read(CHUNK):
        await _write(sink, chunk, count)
    if sink.can_write_eof():
        sink.write_eof()


async def _write(sink: asyncio.StreamWriter, chunk: bytes, count: Callable[[int], None]) -> None:
    count(len(chunk))  # before the wait: a cut in it leaves bytes that are on their way
    sink.write(chunk)
    await sink.drain()


async def _silent(line: Line) -> None:
    while (left := line.moved_at + IDLE_S - time.monotonic()) > 0:  # noqa: ASYNC110 - sleeps until a time, polls nothing
        await asyncio.sleep(left)
