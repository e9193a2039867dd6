"""
The release that this cell has verified, for the OPA server beside it.

An OPA that takes its bundle from here cannot be ahead of the gate, and a rollback of the cell is
one of the server. What is given are the bytes that were published: the server checks the
signature itself.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

PATH = "/policy/bundle.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """*archive* gives the bundle, or None if it may not be given; *token* admits (None: nobody)."""

    archive: Callable[[], bytes | None]
    token: bytes | None = field(repr=False)


async def serve(request: Request) -> Response:
    """Answer with the bundle, or 304 if the server has it (RFC 9110 13.1.2)."""
    offer: Offer = request.state.offer
    if offer.token is None:
        return PlainTextResponse("no [policy] opa_token_file is set", status_code=404)
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, b"Bearer " + offer.token):
        return PlainTextResponse("unauthorized", status_code=401)
    raw = offer.archive()
    if raw is None:
        return PlainTextResponse("not signed (set [policy] sign_key_file)", status_code=404)
    etag = f'"{sha256(raw).hexdigest()}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(raw, media_type="application/gzip", headers={"ETag": etag})
