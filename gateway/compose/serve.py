"""Serve one cell: a socket, uvicorn, and an end that finishes what was begun."""

import socket
import sys

import uvicorn

from gateway import log
from gateway.compose.cell import app
from gateway.errors import MissingPartError
from gateway.settings import Settings

GRACEFUL_S = 10


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises `MissingPartError` if the address is taken."""
    human = not settings.production and sys.stdout.isatty()
    log.configure(human=human)
    listener = _listen(settings.cell.host, settings.cell.port)
    for note in settings.notes:
        print(f"vocustody: {note}", file=sys.stderr)
    print(f"vocustody: listening on port {listener.getsockname()[1]}", file=sys.stderr, flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app(settings),
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_S,
        )
    )
    server.run(sockets=[listener])
    if not server.started:
        raise MissingPartError("the cell did not start (see the log line above)")


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
