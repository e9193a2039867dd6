"""Serve one cell: a socket, uvicorn, and an end that finishes what was begun."""

import socket
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import log
from gateway.compose.cell import app
from gateway.errors import MissingPartError
from gateway.settings import Settings

GRACEFUL_S = 10
MOST_REQUESTS = 1024


def serve(settings: Settings) -> None:
    """
    Run until SIGTERM or SIGINT.

    Raises what kept the cell from starting: `MissingPartError` if the address is taken, or the
    error of the part that failed.
    """
    human = not settings.production and sys.stdout.isatty()
    log.configure(human=human)
    listener = _listen(settings.cell.host, settings.cell.port)
    for note in settings.notes:
        print(f"vocustody: {note}", file=sys.stderr)
    print(f"vocustody: listening on port {listener.getsockname()[1]}", file=sys.stderr, flush=True)
    watched = _Watched(app(settings))
    server = uvicorn.Server(configured(watched))
    try:
        server.run(sockets=[listener])
    except SystemExit:  # uvicorn's word for a lifespan that failed
        if watched.failure is None:
            raise
        raise watched.failure from None


def configured(app: ASGIApp, *, most: int = MOST_REQUESTS) -> uvicorn.Config:
    """Return how *app* is served; who comes beyond *most* gets 503, and WhatsApp comes again."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        limit_concurrency=most,
        timeout_graceful_shutdown=GRACEFUL_S,
    )


class _Watched:
    """*app*, and what ended its lifespan: uvicorn only says that something did."""

    def __init__(self, app: ASGIApp) -> None:
        self.failure: Exception | None = None
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as exc:
            if scope["type"] == "lifespan":
                self.failure = exc
            raise


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise MissingPartError(f"{host}:{port}: {exc.strerror} (set [cell] listen)") from None
    return listener
