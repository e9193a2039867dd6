"""Applications on free loopback ports, and answers that break off half-way."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class HangUp(Response):
    """
    An answer that breaks off: with no content at all, before its first byte.

    Otherwise *content* is sent under a Content-Length of *announced* (None: in chunks), one
    byte each *pause_s* if that is set.
    """

    def __init__(
        self, content: bytes = b"", *, announced: int | None = None, pause_s: float = 0.0
    ) -> None:
        super().__init__()
        self.body = content
        self._announced = announced
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is, then close the connection."""
        if self.body:
            length = [] if self._announced is None else [_length(self._announced)]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            step = 1 if self._pause_s else len(self.body)
            for start in range(0, len(self.body), step):
                part = self.body[start : start + step]
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(self._pause_s)
        scope["hang_up"]()
        while (await receive())["type"] != "http.disconnect":
            pass


def _length(count: int) -> tuple[bytes, bytes]:
    return b"content-length", str(count).encode()


def _with_hang_up(app: ASGIApp) -> ASGIApp:
    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        # ASGI has no word for "hang up": take the transport from uvicorn's own send method.
        scope["hang_up"] = getattr(send, "__self__").transport.close  # noqa: B009
        await app(scope, receive, send)

    return outermost


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leave = asyncio.Event()

    async def main_loop(self) -> None:
        """Serve until told to leave (uvicorn's own loop looks only ten times a second)."""
        await self.leave.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals to whoever runs the world."""
        yield


@contextlib.asynccontextmanager
async def listen(app: ASGIApp) -> AsyncIterator[str]:
    """Serve *app* on a free loopback port; yield its address."""
    # The socket already listens: a request made before uvicorn is up waits in its backlog.
    listening = socket.create_server(("127.0.0.1", 0))
    # asyncio sets this only on sockets made with proto=TCP: else answers wait for an ACK, 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        _with_hang_up(app),
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.leave.set()
        await serving
