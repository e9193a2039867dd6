"""
A broker in a process of its own: its control socket, and the gateway's side of it.

- The socket is a Unix one that only its owner may open (mode 0600). Each request and each
  answer is one line of JSON, answered in order.
- What a connection was granted ends when that connection does: a dead gateway leaves no way
  out behind.
- The broker speaks first, and says its mode: a gateway in production takes no ticket of one that
  was started in development.
- `RemoteEgress` connects when it is asked, so that either side may start or restart first. What
  a lost broker saw is lost: `end` says so instead of reporting that nothing was seen.
"""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from residency.egress import KEPT_S, UNKNOWN
from residency.errors import EgressError
from residency.model import Contact, Grant, Passage
from residency.ports import Egress
from residency.tunnel import Ends

LOST = "egress.lost"
DEVELOPMENT = 'broker: it runs in development (start it with cell.mode = "production")'
MAX_LINE = 1024 * 1024
PATIENCE_S = 5.0


class Greeting(msgspec.Struct, frozen=True):
    """What a broker says first: *development* is how it was started."""

    development: bool


class Admit(msgspec.Struct, frozen=True, tag="admit"):
    """Asks for a ticket."""

    grant: Grant


class End(msgspec.Struct, frozen=True, tag="end"):
    """Gives a ticket back."""

    ticket: str


class Answer(msgspec.Struct, frozen=True):
    """What became of a request; *error* is a code, empty where all is well."""

    passage: Passage | None = None
    contacts: tuple[Contact, ...] = ()
    error: str = ""


_greeting = msgspec.json.Decoder(Greeting)
_request = msgspec.json.Decoder(Admit | End)
_answer = msgspec.json.Decoder(Answer)


@dataclass(slots=True)
class Control:
    """Serves *broker* to gateways on this machine; *development* is how it was started."""

    broker: Egress
    development: bool = field(kw_only=True)
    _server: asyncio.Server | None = None
    _clients: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, path: Path) -> None:
        """Listen on *path*; raise `OSError` where that is not possible."""
        listener = _listener(path)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=MAX_LINE)

    async def aclose(self) -> None:
        """End every grant and stop."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        granted: dict[str, Passage] = {}
        try:
            writer.write(msgspec.json.encode(Greeting(self.development)) + b"\n")
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._handled(line, granted)) + b"\n")
                await writer.drain()
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # a gateway that is gone, or not one of ours
        finally:
            writer.transport.abort()
            for passage in granted.values():
                with contextlib.suppress(EgressError):  # expired, and forgotten
                    await self.broker.end(passage)

    async def _handled(self, line: bytes, granted: dict[str, Passage]) -> Answer:
        request = _request.decode(line)
        try:
            if isinstance(request, End):
                return Answer(contacts=await self._ended(request.ticket, granted))
            passage = await self.broker.admit(request.grant)
        except EgressError as exc:
            return Answer(error=str(exc))
        granted[passage.ticket] = passage
        return Answer(passage=passage)

    async def _ended(self, ticket: str, granted: dict[str, Passage]) -> tuple[Contact, ...]:
        if ticket not in granted:
            raise EgressError(UNKNOWN)
        return await self.broker.end(granted.pop(ticket))


def _listener(path: Path) -> socket.socket:
    if path.is_socket():  # left by a broker that was killed
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


class RemoteEgress:
    """
    See `residency.ports.Egress`; *path* is the control socket of a broker.

    *development* also takes tickets of a broker that was started in development.
    """

    def __init__(self, path: Path, *, development: bool = False) -> None:
        self._path = path
        self._development = development
        self._line: Ends | None = None
        self._one = asyncio.Lock()
        self._ended: dict[str, tuple[Contact, ...]] = {}

    async def admit(self, grant: Grant) -> Passage:
        """See `Egress.admit`."""
        answer = await asyncio.shield(self._admit(grant))
        if answer.passage is None:
            raise EgressError(answer.error or "egress.answer")
        return answer.passage

    async def end(self, passage: Passage) -> tuple[Contact, ...]:
        """See `Egress.end`; the error is ``egress.lost``, also where the broker itself is."""
        return await asyncio.shield(self._end(passage.ticket))

    async def aclose(self) -> None:
        """See `Egress.aclose`: the broker ends what this connection was granted."""
        async with self._one:
            self._drop()

    async def _admit(self, grant: Grant) -> Answer:
        async with self._one:
            return await self._ask(Admit(grant))

    async def _end(self, ticket: str) -> tuple[Contact, ...]:
        async with self._one:
            if ticket not in self._ended:
                self._ended[ticket] = await self._told(ticket)
                asyncio.get_running_loop().call_later(KEPT_S, self._ended.pop, ticket, None)
            return self._ended[ticket]

    async def _told(self, ticket: str) -> tuple[Contact, ...]:
        if self._line is None:  # the line is gone, and every ticket with it
            raise EgressError(LOST)
        try:
            answer = await self._ask(End(ticket))
        except EgressError:
            raise EgressError(LOST) from None
        if answer.error:  # another line than the ticket's: the broker was lost in between
            raise EgressError(LOST)
        return answer.contacts

    async def _ask(self, request: Admit | End) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._exchange(request)
        except (OSError, ValueError, TimeoutError, msgspec.DecodeError) as exc:
            self._drop()  # a late answer would be taken for the next one's
            raise EgressError(f"broker: {type(exc).__name__}") from None
        except EgressError:
            self._drop()
            raise

    async def _connected(self) -> Ends:
        if self._line is None:
            self._line = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
            greeting = _greeting.decode(await self._line[0].readline())
            if greeting.development and not self._development:
                raise EgressError(DEVELOPMENT)
        return self._line

    async def _exchange(self, request: Admit | End) -> Answer:
        reader, writer = await self._connected()
        writer.write(msgspec.json.encode(request) + b"\n")
        await writer.drain()
        return _answer.decode(await reader.readline())

    def _drop(self) -> None:
        if self._line is not None:
            self._line[1].transport.abort()
            self._line = None
