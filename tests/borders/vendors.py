"""
Vendors in their regions: TLS servers under names of their own, each with its mood.

A name is ``REGION.vN.example``. What it resolves to depends on its mood: ``refused`` is an
address where nobody listens, ``silent`` one where nobody answers, ``faulty`` a line with faults.
The words they speak are these: ``HEAR`` and a body; ``OK``, ``BUSY`` or ``MOVED host:port``.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from borders.namespace import Net
from support.pki import Authority

COUNT = 12
OPEN, REFUSED, SILENT, FAULTY, GOOGLE = 10, 100, 150, 200, 9
GOOGLE_HOST = "europe-west4-speech.googleapis.com"
GOOGLE_PLACE = "eu-west"
BODY = 2_000  # bytes of a note
DEAF_S = 1.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Vendors:
    """
    All vendors of *places*. *moods* are by host name; *lies* give a name another's address.

    *heard* is the host that got each note; *asked* every name that was looked up. *mark* starts
    the count anew.
    """

    net: Net
    places: Sequence[str]
    authority: Authority
    moods: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    servers: list[asyncio.Server] = field(default_factory=list)
    google: tuple[str, int] = ("", 0)
    mark: Callable[[], Awaitable[None]] | None = None
    _behind: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    _turns: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    async def open(cls, places: Sequence[str], home: Path) -> "Vendors":
        """Return the vendors of *places* in fresh namespaces, listening."""
        vendors = cls(Net(places), places, Authority(home))
        for place in places:
            await vendors._serve(place)
        await vendors._listen(GOOGLE_PLACE, GOOGLE, vendors._google)
        return vendors

    async def _serve(self, place: str) -> None:
        leaf = self.authority.leaf(*(f"{place}.v{n}.example" for n in range(COUNT)))
        for number in range(COUNT):
            name = f"{place}.v{number}.example"
            tls = leaf.context()
            listener = self.net.listen(place, self.net.address(place, OPEN + number), 443)

            async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                           name: str = name) -> None:  # fmt: skip
                await self._hear(name, reader, writer)

            self.servers.append(await asyncio.start_server(hear, sock=listener, ssl=tls))
            behind = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=tls)
            self.servers.append(behind)
            self._behind[place, number] = behind.sockets[0].getsockname()

            async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                            number: int = number) -> None:  # fmt: skip
                await self._faulty(place, number, (reader, writer))

            await self._listen(place, FAULTY + number, carry)
            await self._listen(place, SILENT + number, _silent)

    async def _listen(self, place: str, last: int, serve: object) -> None:
        listener = self.net.listen(place, self.net.address(place, last), 443)
        self.servers.append(await asyncio.start_server(serve, sock=listener))  # type: ignore[arg-type]

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        """Return where *host* is to be found: the broker's resolver."""
        self.asked.append(host)
        return (self.address(host),)

    def address(self, host: str) -> str:
        """Return the address of *host*, by its mood, or of the host it is said to be."""
        said = self.lies.get(host, host)
        if said == GOOGLE_HOST:
            return self.net.address(GOOGLE_PLACE, GOOGLE)
        place, _, rest = said.partition(".")
        number = int(rest.removeprefix("v").partition(".")[0])
        base = {"refused": REFUSED, "silent": SILENT, "faulty": FAULTY}
        return self.net.address(place, base.get(self.moods.get(host, "ok"), OPEN) + number)

    async def _hear(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(len(b"HEAR\n") + BODY)
            self.heard.append(name)
            mood = self.moods.get(name, "ok")
            word, _, where = mood.partition(" ")
            said = {"busy": "BUSY", "redirect": f"MOVED {where}"}.get(word, "OK")
            writer.write(f"{said}\n".encode())
            await writer.drain()
            await reader.read()
        writer.transport.abort()

    async def _faulty(self, place: str, number: int, near: Streams) -> None:
        """Be a line with one fault after another: cut, one way only, deaf; then a good one."""
        fault = ("reset", "stall", "deaf", "none")[next(self._turns) % 4]
        with contextlib.suppress(OSError):
            if fault == "reset":
                await near[0].read(64)
            elif fault == "stall":
                await _drain(near[0])  # what we say arrives, what it says does not
            elif fault == "deaf":
                near[1].transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(DEAF_S)
            else:
                await _carried(near, self._behind[place, number])
        near[1].transport.abort()

    async def _google(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection to the simulator, which listens on the loopback."""
        with contextlib.suppress(OSError):
            await _carried((reader, writer), self.google)
        writer.transport.abort()


async def _carried(near: Streams, address: tuple[str, int]) -> None:
    far = await asyncio.open_connection(*address)
    ways = [asyncio.create_task(_pump(*way)) for way in ((near[0], far[1]), (far[0], near[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far[1].transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(65_536):
        sink.write(chunk)
        await sink.drain()


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await _drain(reader)
    writer.transport.abort()
