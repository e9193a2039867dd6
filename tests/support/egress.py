"""A broker over names of the test's choice, and a client that speaks CONNECT byte by byte."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from residency.model import Grant, Passage
from residency.proxy import Broker
from residency.tunnel import Ends

PUBLIC = "8.8.8.8"
HOST = "stt.vendor.example"
TARGET = f"{HOST}:443"


@dataclass(slots=True)
class World:
    """
    A vendor's server on loopback that stands for every address, and what was asked of it.

    *names* are the addresses of names, *asked* each lookup, *went* each connection; the server
    sends back what it *got*, byte for byte.
    """

    port: int = 0
    names: dict[str, Sequence[str]] = field(default_factory=lambda: {HOST: [PUBLIC]})
    asked: list[str] = field(default_factory=list)
    went: list[tuple[str, int]] = field(default_factory=list)
    got: bytearray = field(default_factory=bytearray)

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        """Return the addresses of *host*."""
        self.asked.append(host)
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]

    async def connect(self, address: str, port: int) -> Ends:
        """Connect to the one server, whatever the address."""
        self.went.append((address, port))
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo."""
        try:
            while part := await reader.read(65_536):
                self.got += part
                writer.write(part)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def vendor() -> AsyncIterator[World]:
    """Yield a world whose server runs."""
    world = World()
    server = await asyncio.start_server(world.answer, "127.0.0.1", 0)
    world.port = server.sockets[0].getsockname()[1]
    try:
        yield world
    finally:
        server.close()


@asynccontextmanager
async def brokering(
    world: World, *, development: bool = False, private: Sequence[str] = ()
) -> AsyncIterator[Broker]:
    """Yield a broker that sees *world*."""
    broker = Broker(
        development=development, private=private, resolve=world.resolve, connect=world.connect
    )
    await broker.start()
    try:
        yield broker
    finally:
        await broker.aclose()


def grant(*hosts: str, seconds: float = 20.0) -> Grant:
    """Return a grant for *hosts* (by default, the vendor's)."""
    return Grant(
        processor="stt.one",
        decision="d_1",
        touch="t_1",
        hosts=hosts or (TARGET,),
        seconds=seconds,
    )


def head(passage: Passage, target: str = TARGET, *more: str) -> bytes:
    """Return a CONNECT request for *target*."""
    credentials = base64.b64encode(f"{passage.ticket}:{passage.secret}".encode()).decode()
    lines = [f"CONNECT {target} HTTP/1.1", f"Proxy-Authorization: Basic {credentials}", *more]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


@dataclass(slots=True)
class Client:
    """One connection to the broker."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> str:
        """Send *request*; return ``200``, or the status and the broker's code."""
        self.writer.write(request)
        try:
            async with asyncio.timeout(15):
                answer = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return "cut"
        _, status, *_ = answer.split(" ")
        found = [line for line in answer.split("\r\n") if line.startswith("Vocustody-Refused: ")]
        return " ".join([status, *(line.partition(": ")[2] for line in found)])

    async def echo(self, content: bytes) -> bytes:
        """Send *content* through the tunnel and return what comes back; b"" when it is cut."""
        self.writer.write(content)
        try:
            async with asyncio.timeout(15):
                return await self.reader.readexactly(len(content))
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def gone(self) -> bool:
        """Tell whether the other side ended the connection."""
        try:
            async with asyncio.timeout(15):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def dialling(proxy: str) -> AsyncIterator[Client]:
    """Yield a connection to the broker at *proxy*."""
    host, _, port = proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def asked(broker: Broker, request: bytes) -> str:
    """Return what the broker answers to *request* on a connection of its own."""
    async with dialling(broker.proxy) as client:
        return await client.ask(request)


def hello(name: str | None) -> bytes:
    """Return a TLS ClientHello as OpenSSL writes it, asking for *name*."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    context.verify_mode = ssl.CERT_NONE if name is None else ssl.CERT_REQUIRED
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()
