"""
The bare webhook: uvicorn, an HMAC over the body, one SQLite commit, 200.

``python -m load.floor DATABASE SECRET`` prints its port. It parses nothing, checks for no
repetition and hands nothing on: nobody who answers only for what is durable can do less.
"""

import hashlib
import hmac
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from load import durable


class Floor:
    """The ASGI application."""

    def __init__(self, database: Path, secret: bytes) -> None:
        self._db = durable.connect(database)
        self._secret = secret

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        body = b""
        more = True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        status = 401
        if self._signed(dict(scope["headers"]), body):
            durable.insert(self._db, body)
            status = 200
        length = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body", "body": b"ok"})

    def _signed(self, headers: dict[bytes, bytes], body: bytes) -> bool:
        given = headers.get(b"x-hub-signature-256", b"")
        wanted = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(given, wanted.encode())


def main() -> None:
    """Serve until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Floor(Path(sys.argv[1]), sys.argv[2].encode())
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
