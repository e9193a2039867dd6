"""
The egress broker: an HTTP CONNECT proxy that lets out what a live ticket names.

- Nothing is admitted without a live ticket: when this dies, nothing gets out.
- A name is resolved once per ticket and its addresses stay for the ticket's life, so that an
  answer that changes (DNS rebinding) moves no tunnel.
- When a ticket ends or expires, all its tunnels are cut.
- It forwards bytes and reads none but a TLS ClientHello's server name (`residency.tunnel`).
- Proxies of the environment are not asked: this is the last hop.

Trusted for addresses and byte counts, the ground truth beside what vendors and SDKs say.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from residency import egress, tunnel
from residency.egress import Host, Ticket
from residency.errors import ConnectRefusedError, EgressError
from residency.model import Contact, Grant, Passage
from residency.tunnel import Ends, Line

HEAD_BYTES = 8 * 1024
HEAD_S = 5.0
CONNECT_S = 3.0
LINGER_S = 0.5
MAX_PER_GRANT = 16
MAX_ATTEMPTS = 256
MAX_OPEN = 512

Connect = Callable[[str, int], Awaitable[Ends]]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses of *host*, in the resolver's order; `OSError` where there are none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(slots=True)
class _Way:
    """A live ticket and what goes on under it."""

    ticket: Ticket
    timer: asyncio.TimerHandle
    lines: list[Line] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    pins: dict[Host, asyncio.Task[tuple[str, ...]]] = field(default_factory=dict)


class Broker:
    """
    See `residency.ports.Egress`.

    *development* also admits loopback addresses, and plain text inside a tunnel. *private* are
    hosts (``name:port``) of our own whose addresses may be private. *refusals* counts by code.
    """

    def __init__(
        self,
        *,
        development: bool = False,
        private: Sequence[str] = (),
        resolve: Resolve = lookup,
        connect: Connect = asyncio.open_connection,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refusals: Counter[str] = Counter()
        self._development = development
        self._private = frozenset(map(egress.split, private))
        self._resolve = resolve
        self._connect = connect
        self._now = monotonic
        self._ways: dict[str, _Way] = {}
        self._ended: dict[str, _Way] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._decoy = Ticket.issue(
            Grant(processor="-", decision="-", touch="-", hosts=("none.invalid:1",), seconds=1),
            now=0.0,
        )

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; raise `OSError` where that is not possible."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES)

    @property
    def proxy(self) -> str:
        """Where it listens, as ``host:port``; raise `EgressError` when it does not."""
        if self._server is None or not self._server.sockets:
            raise EgressError("the broker does not listen")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def admit(self, grant: Grant) -> Passage:
        """See `Egress.admit`."""
        proxy = self.proxy
        ticket = Ticket.issue(grant, now=self._now(), development=self._development)
        timer = asyncio.get_running_loop().call_later(grant.seconds, self._expire, ticket.id)
        self._ways[ticket.id] = _Way(ticket, timer)
        return ticket.passage(proxy)

    async def end(self, passage: Passage) -> tuple[Contact, ...]:
        """See `Egress.end`; the error is ``ticket.unknown``."""
        way = self._ways.pop(passage.ticket, None)
        if way is not None:
            way.timer.cancel()
            self._ended[passage.ticket] = way
            asyncio.get_running_loop().call_later(
                egress.KEPT_S, self._ended.pop, passage.ticket, None
            )
        else:
            way = self._ended.get(passage.ticket)
        if way is None:
            raise EgressError(egress.UNKNOWN)
        await _cut([*way.tasks, *way.pins.values()])
        return tuple(line.contact for line in way.lines)

    async def aclose(self) -> None:
        """See `Egress.aclose`."""
        if self._server is not None:
            self._server.close()
        for way in list(self._ways.values()):
            await self.end(way.ticket.passage(""))
        await _cut(self._tasks)

    def _expire(self, ticket: str) -> None:
        way = self._ways[ticket]
        for task in way.tasks:
            task.cancel("grant.expired")
        loop = asyncio.get_running_loop()
        way.timer = loop.call_later(egress.KEPT_S, self._ways.pop, ticket, None)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: Ends) -> None:
        try:
            await self._answer(client)
        except ConnectRefusedError as exc:
            self.refusals[exc.code] += 1
            await _refuse(client, exc)
        except OSError:
            self.refusals["client.gone"] += 1
        finally:
            client[1].transport.abort()

    async def _answer(self, client: Ends) -> None:
        if len(self._tasks) > MAX_OPEN:
            raise ConnectRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "limit.broker")
        request = egress.parse(await _head(client[0]))
        way = self._way(request)
        if len(way.lines) >= MAX_ATTEMPTS:
            raise ConnectRefusedError(HTTPStatus.TOO_MANY_REQUESTS, "limit.attempts")
        line = Line()
        way.lines.append(line)
        try:
            await self._through(request.target, way, line, client)
        except ConnectRefusedError as exc:
            line.refused = exc.code
            raise
        except asyncio.CancelledError as exc:
            line.refused = str(*exc.args)  # "" where the call is over
            raise

    def _way(self, request: egress.Request) -> _Way:
        way = self._ways.get(request.ticket)
        ticket = way.ticket if way else self._decoy  # an unknown one takes as long
        if not ticket.opened_by(request.secret) or way is None:
            code = egress.UNKNOWN if request.ticket else "ticket.missing"
            raise ConnectRefusedError(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, code)
        return way

    async def _through(self, target: str, way: _Way, line: Line, client: Ends) -> None:
        host = egress.split(target)
        line.host = f"{host[0]}:{host[1]}"
        way.ticket.admit(host, now=self._now())
        if len(way.tasks) >= MAX_PER_GRANT:
            raise ConnectRefusedError(HTTPStatus.TOO_MANY_REQUESTS, "limit.grant")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: `_accept` made it
        way.tasks.add(task)
        try:
            await self._tunnel(host, way, line, client)
        finally:
            way.tasks.discard(task)

    async def _tunnel(self, host: Host, way: _Way, line: Line, client: Ends) -> None:
        first = asyncio.create_task(client[0].read(tunnel.CHUNK))
        upstream: Ends | None = None
        try:
            upstream = await self._open(host, await self._pinned(host, way))
            line.peer = str(upstream[1].get_extra_info("peername")[0])
            if first.done():
                raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, _early(first))
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._relay(first, client, upstream, line)
        finally:
            if upstream is not None:
                upstream[1].transport.abort()
            await _cut([first])

    async def _relay(
        self, first: asyncio.Task[bytes], client: Ends, upstream: Ends, line: Line
    ) -> None:
        try:
            await tunnel.relay(first, client, upstream, line, plain=self._development)
        except ConnectRefusedError as exc:  # too late for an answer: the 200 is out
            line.refused = exc.code
            self.refusals[exc.code] += 1

    async def _pinned(self, host: Host, way: _Way) -> tuple[str, ...]:
        if host not in way.pins:
            way.pins[host] = asyncio.create_task(self._addresses(host, way.ticket.grant.blocks))
        return await asyncio.shield(way.pins[host])

    async def _addresses(self, host: Host, blocks: Sequence[str]) -> tuple[str, ...]:
        if egress.is_literal(host[0]):
            return (host[0],)
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await self._resolve(*host)
        except TimeoutError:
            raise ConnectRefusedError(HTTPStatus.BAD_GATEWAY, "name.late") from None
        except OSError:
            raise ConnectRefusedError(HTTPStatus.BAD_GATEWAY, "name.unresolved") from None
        return egress.check_peers(
            found,
            blocks=blocks,
            loopback=self._development,
            private=host in self._private,
        )

    async def _open(self, host: Host, addresses: Sequence[str]) -> Ends:
        code = "connect.failed"
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_S / len(addresses)):
                    return await self._connect(address, host[1])
            except TimeoutError:
                code = "connect.late"
            except OSError:
                code = "connect.failed"
        raise ConnectRefusedError(HTTPStatus.BAD_GATEWAY, code)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(HEAD_S):
            return await reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        raise ConnectRefusedError(HTTPStatus.REQUEST_TIMEOUT, "head.late") from None
    except asyncio.LimitOverrunError:
        raise ConnectRefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head.too_large"
        ) from None
    except asyncio.IncompleteReadError:
        raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "head.malformed") from None


async def _refuse(client: Ends, refusal: ConnectRefusedError) -> None:
    """Say why, and let the client read it: an abort with bytes unread would drop the answer."""
    reader, writer = client
    status = HTTPStatus(refusal.status)
    answer = f"HTTP/1.1 {status.value} {status.phrase}\r\nVocustody-Refused: {refusal.code}\r\n"
    if status is HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        answer += 'Proxy-Authenticate: Basic realm="vocustody"\r\n'
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer += "Allow: CONNECT\r\n"
    with contextlib.suppress(OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            writer.write(f"{answer}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
            writer.write_eof()
            while await reader.read(tunnel.CHUNK):
                pass


def _early(first: asyncio.Task[bytes]) -> str:
    # A client that speaks before the 200 is not one of ours: it may smuggle.
    return "client.gone" if first.exception() or not first.result() else "bytes.early"


async def _cut(tasks: Iterable[asyncio.Task[Any]]) -> None:
    doomed = list(tasks)
    for task in doomed:
        task.cancel()
    await asyncio.gather(*doomed, return_exceptions=True)
