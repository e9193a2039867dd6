"""gRPC through the broker: one call is one connection and one copy of the content."""

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
from support.pki import Authority

from residency.model import Grant
from residency.processors import grpc_tunnel
from residency.proxy import Broker

pytestmark = pytest.mark.anyio

HOST = "europe-west4-speech.googleapis.com"
PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
HEADERS, SETTINGS, GOAWAY = 1, 4, 7  # frame types (RFC 9113, section 6)
NONE_PROCESSED = bytes(8)  # of a GOAWAY: last stream 0, no error (section 6.8)


def frame(kind: int, body: bytes = b"", stream: int = 0) -> bytes:
    """Return one HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, 0, stream) + body


@dataclass(slots=True)
class Refuser:
    """An HTTP/2 server that goes away at every call, having processed none."""

    streams: list[int] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read frames until the client goes."""
        self.connections += 1
        try:
            await reader.readexactly(PREFACE)
            writer.write(frame(SETTINGS))
            while True:
                await self._frame(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()

    async def _frame(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == HEADERS:
            self.streams.append(int.from_bytes(head[5:], "big"))
            writer.write(frame(GOAWAY, NONE_PROCESSED))


@dataclass(slots=True)
class Way:
    """A broker in front of the refuser."""

    broker: Broker
    refuser: Refuser
    roots: bytes

    async def call(self, passage: Any) -> grpc.StatusCode:
        """Return the code of one call."""
        async with grpc_tunnel.channel(HOST, passage, self.roots) as channel:
            try:
                await channel.unary_unary("/x.Y/Z")(b"content", timeout=10)
            except grpc.aio.AioRpcError as exc:
                return exc.code()
        return grpc.StatusCode.OK

    async def admit(self) -> Any:
        """Return a passage."""
        return await self.broker.admit(
            Grant(processor="p", decision="d", touch="t", hosts=(f"{HOST}:443",), seconds=30)
        )


@pytest.fixture
async def way(authority: Authority) -> Any:
    """Yield a way to a server that processes nothing."""
    refuser = Refuser()
    tls = authority.leaf(HOST).context()
    tls.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(refuser.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]

    async def resolve(_name: str, _port: int) -> tuple[str, ...]:
        return ("127.0.0.1",)

    async def connect(address: str, _port: int) -> Any:
        return await asyncio.open_connection(address, port)

    broker = Broker(development=True, resolve=resolve, connect=connect)
    await broker.start()
    yield Way(broker, refuser, authority.ca.read_bytes())
    await broker.aclose()
    server.close()


async def test_what_the_server_did_not_process_is_not_sent_again(way: Way) -> None:
    """The library resends such a call by itself: a second copy of the note under one touch."""
    code = await way.call(await way.admit())

    assert code is grpc.StatusCode.UNAVAILABLE
    assert way.refuser.streams == [1]
    assert way.refuser.connections == 1
