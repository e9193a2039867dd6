"""
The load generator: raw sockets that are kept alive, each sending its next request on an answer.

It takes part of the same cores as what it measures, and the same part for both sides.
"""

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

END = b"\r\n\r\n"
LENGTH = b"content-length:"


@dataclass(slots=True)
class Volley:
    """What came of one load: answers of 200 and others, and how long each 200 took."""

    ok: int = 0
    others: int = 0
    seconds: float = 0.0
    waits_ms: list[float] = field(default_factory=list)


def request(path: str, body: bytes, signature: str) -> bytes:
    """Return one signed delivery as it stands on the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def fire(port: int, requests: Sequence[bytes], *, connections: int, limit_s: float) -> Volley:
    """Send *requests* over so many *connections*, for at most *limit_s* seconds."""
    found = Volley()
    left = iter(requests)
    began = time.perf_counter()
    until = began + limit_s
    await asyncio.gather(*(_connection(port, left, until, found) for _ in range(connections)))
    found.seconds = time.perf_counter() - began
    return found


async def _connection(port: int, left: Iterator[bytes], until: float, found: Volley) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sent in left:
            began = time.perf_counter()
            await loop.sock_sendall(sock, sent)
            status = await _status(loop, sock)
            ended = time.perf_counter()
            if status == b"200":
                found.ok += 1
                found.waits_ms.append((ended - began) * 1000)
            else:
                found.others += 1
            if ended > until:
                return


async def _status(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    """Read one whole answer; return its status code."""
    got = b""
    while (end := got.find(END)) < 0 or len(got) < end + len(END) + _length(got[:end]):
        part = await loop.sock_recv(sock, 65_536)
        if not part:
            raise ConnectionError("the server hung up")
        got += part
    return got[9:12]


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(LENGTH)
    return int(lower[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
