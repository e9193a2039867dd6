"""
The egress broker: calls by ticket and tunnel, against connections without it, turn about.

The vendor is a process of its own (`vendor.py`). The broker runs in the caller's process and on
its loop, as in a cell that has no separate one.
"""

import asyncio
import os
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from load import bare_relay
from load.figures import Section, figure, percentile
from load.vendor import ANSWER
from support.egress import HOST, TARGET, grant, head
from support.pki import Authority

from residency.model import Passage
from residency.proxy import Broker
from residency.tunnel import Ends

BODY_BYTES = 10 * 1024  # a note of 5 s, as WhatsApp encodes it
MIB = 1024 * 1024
TESTS = Path(__file__).parents[1]
KEPT = "kept-alive connection (floor)"
DIRECT = "new connection"
BROKERED = "ticket, tunnel and new connection"
TICKET = "ticket alone: issued and ended"

Act = Callable[[], Awaitable[None]]
Waits = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """Where the vendor listens, and whom to trust (None = it speaks no TLS)."""

    port: int
    trust: ssl.SSLContext | None


@dataclass(slots=True)
class Caller:
    """Calls *vendor* in three ways."""

    vendor: Vendor
    broker: Broker

    async def direct(self) -> None:
        """Connect, call, disconnect."""
        ends = await self.dialled()
        await _call(ends, BODY_BYTES)
        ends[1].transport.abort()

    async def brokered(self) -> None:
        """Take a ticket, go through a tunnel, call, end the ticket."""
        passage = await self.broker.admit(grant())
        ends = await tunnelled(passage.proxy, head(passage), self.vendor.trust)
        await _call(ends, BODY_BYTES)
        ends[1].transport.abort()
        await self.broker.end(passage)

    async def dialled(self) -> Ends:
        """Return a connection to the vendor."""
        named = HOST if self.vendor.trust else None
        return await asyncio.open_connection(
            "127.0.0.1", self.vendor.port, ssl=self.vendor.trust, server_hostname=named
        )


async def measure(directory: Path, *, calls: int, mebibytes: int, rounds: int) -> list[Section]:
    """Return the sections: *calls* of each kind; *mebibytes* through a tunnel, so many *rounds*."""
    authority = authority_at(directory)
    waits: dict[str, Waits] = {}
    async with _vendor(authority) as (plain, tls):
        trust = ssl.create_default_context(cafile=authority.ca)
        for name, vendor in (
            ("HTTP", Vendor(port=plain, trust=None)),
            ("TLS", Vendor(port=tls, trust=trust)),
        ):
            async with _brokering(vendor.port) as broker:
                waits[name] = await _waits(Caller(vendor, broker), calls)
        rates = await _rates(plain, mebibytes, rounds)
    return [_calls(waits), _throughput(rates, mebibytes)]


def authority_at(directory: Path) -> Authority:
    """Return a certificate authority of its own, in the new *directory*."""
    directory.mkdir(parents=True)
    return Authority(directory)


async def _waits(caller: Caller, calls: int) -> Waits:
    kept = await caller.dialled()
    ways: dict[str, Act] = {
        KEPT: lambda: _call(kept, BODY_BYTES),
        DIRECT: caller.direct,
        BROKERED: caller.brokered,
        TICKET: lambda: _ticket(caller.broker),
    }
    found: Waits = {name: [] for name in ways}
    for number in range(-3, calls):  # the first three warm up
        for name, act in ways.items():
            took = await _timed(act)
            if number >= 0:
                found[name].append(took)
    kept[1].transport.abort()
    return found


async def _timed(act: Act) -> float:
    began = time.perf_counter()
    await act()
    return (time.perf_counter() - began) * 1000


async def _ticket(broker: Broker) -> None:
    await broker.end(await broker.admit(grant()))


async def _call(ends: Ends, size: int) -> None:
    reader, writer = ends
    writer.write(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
    for at in range(0, size, MIB):
        writer.write(bytes(min(MIB, size - at)))
        await writer.drain()
    if await reader.readexactly(len(ANSWER)) != ANSWER:
        writer.transport.abort()
        raise RuntimeError("the vendor did not answer as it should")


async def tunnelled(proxy: str, connect: bytes, trust: ssl.SSLContext | None) -> Ends:
    """Return a connection to the vendor through *proxy*, asked for with *connect*."""
    host, _, port = proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(connect)
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200 "):
        writer.close()
        raise RuntimeError(f"no tunnel: {answer[9:12].decode()}")
    if trust is not None:
        await writer.start_tls(trust, server_hostname=HOST)
    return reader, writer


async def _rates(port: int, mebibytes: int, rounds: int) -> dict[str, float]:
    """Return MiB per second by way: medians of *rounds*, turn about."""
    found: dict[str, list[float]] = {"direct": [], "bare relay": [], "broker": []}
    for _ in range(rounds):
        found["direct"].append(
            await _rate(await asyncio.open_connection("127.0.0.1", port), mebibytes)
        )
        async with bare_relay.relaying("127.0.0.1", port) as proxy:
            ends = await tunnelled(proxy, head(Passage(), TARGET), None)
            found["bare relay"].append(await _rate(ends, mebibytes))
        async with _brokering(port) as broker:
            passage = await broker.admit(grant(seconds=60))
            ends = await tunnelled(passage.proxy, head(passage), None)
            found["broker"].append(await _rate(ends, mebibytes))
            await broker.end(passage)
    return {name: statistics.median(rates) for name, rates in found.items()}


async def _rate(ends: Ends, mebibytes: int) -> float:
    began = time.perf_counter()
    await _call(ends, mebibytes * MIB)
    passed = time.perf_counter() - began
    ends[1].transport.abort()
    return mebibytes / passed


@asynccontextmanager
async def _brokering(port: int) -> AsyncIterator[Broker]:
    """Yield a broker that finds the vendor at *port*, whatever port is asked for."""

    async def resolve(_host: str, _port: int) -> tuple[str, ...]:
        return ("127.0.0.1",)

    async def connect(address: str, _port: int) -> Ends:
        return await asyncio.open_connection(address, port)

    # Development, because the vendor is on loopback and one of the two speaks no TLS.
    broker = Broker(development=True, resolve=resolve, connect=connect)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.aclose()


@asynccontextmanager
async def _vendor(authority: Authority) -> AsyncIterator[tuple[int, int]]:
    leaf = authority.leaf(HOST)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load.vendor", str(leaf.cert), str(leaf.key),
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe to the vendor")
        plain, tls = map(int, (await process.stdout.readline()).split())
        yield plain, tls
    finally:
        process.terminate()
        await process.wait()


def _calls(waits: dict[str, Waits]) -> Section:
    return Section(
        title="6. Calls through the egress broker",
        compared=(
            "one call by ticket and tunnel through the broker, against the same call over a new "
            "connection without it and over one that is kept open (the floor)."
        ),
        said=(
            f"A request of {BODY_BYTES // 1024} KiB, about a note of 5 s, and a short answer, from "
            "a server in a process of its own on loopback, so that the broker's share is as large "
            "as it can be: no network lies in between. Each brokered call has a ticket of its "
            "own, as in a cell. Broker, caller and its TLS share one event loop. The kinds take "
            "turns, call by call. Added is the difference to a new connection at the median."
        ),
        head=("Call", "calls", "p50 ms", "p95 ms", "p50 to a new connection", "added ms"),
        rows=tuple(
            _row(f"{name}, {way}", found, kinds[DIRECT])
            for name, kinds in waits.items()
            for way, found in kinds.items()
        ),
    )


def _row(name: str, found: list[float], direct: list[float]) -> tuple[str, ...]:
    half, yardstick = percentile(found, 0.5), percentile(direct, 0.5)
    more = figure(half - yardstick) if BROKERED in name else "-"
    return (
        name,
        str(len(found)),
        figure(half),
        figure(percentile(found, 0.95)),
        figure(half / yardstick),
        more,
    )


def _throughput(rates: dict[str, float], mebibytes: int) -> Section:
    return Section(
        title="6.1 Throughput of a tunnel",
        compared=(
            "bytes per second through one tunnel of the broker, against a plain asyncio relay "
            "that checks and counts nothing, and against no relay at all."
        ),
        said=(
            f"{mebibytes} MiB from the caller to the vendor, without TLS. Relay and caller share "
            "one event loop, as broker and caller do. Medians, turn about."
        ),
        head=("Way", "MiB/s", "to the bare relay"),
        rows=tuple(
            (name, figure(rate), figure(rate / rates["bare relay"])) for name, rate in rates.items()
        ),
    )
