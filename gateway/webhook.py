"""
The door: verify, parse, commit, 200. It fetches no media and calls no vendor.

- Order: size cap, body deadline, signature over the raw bytes, strict JSON, one transaction.
- Updates for a number of another cell are sealed to it and kept no longer than it takes.
- 200 is said only of what is durable; when the database does not answer, 503 makes WhatsApp
  deliver again (for 7 days, per its webhook documentation).
- A refusal names its reason by a code and quotes nothing.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway import forwards, intake, log
from gateway.errors import (
    DoorError,
    EncodingError,
    PayloadError,
    SignatureError,
    SlowBodyError,
    TooLargeError,
    UnknownTenantError,
)
from gateway.forwards import Forwards
from gateway.inbox import Inbox
from gateway.metrics import Metrics
from gateway.whatsapp import signature

MAX_BODY = 3 * 1024 * 1024  # bytes; WhatsApp sends no more
BODY_DEADLINE_S = 5.0
_HOST = re.compile(rb"[A-Za-z0-9.\-\[\]:]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the webhook of one tenant needs to know."""

    tenant: str
    phone_number_ids: frozenset[str]
    app_secrets: tuple[bytes, ...] = field(repr=False)
    verify_token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Every tenant's door, and where accepted updates go."""

    tenants: Mapping[str, Door]
    inbox: Inbox
    forwards: Forwards
    metrics: Metrics


ROUTE = "/webhooks/whatsapp/{tenant}"


def routes() -> list[Route]:
    """Return the webhook's routes; they expect ``request.state.doors``."""
    return [
        Route(ROUTE, challenge, methods=["GET"]),
        Route(ROUTE, receive, methods=["POST"]),
    ]


async def challenge(request: Request) -> Response:
    """Answer WhatsApp's verification handshake."""
    door = _door(request)
    echo = signature.challenge(request.query_params.multi_items(), door.verify_token)
    return PlainTextResponse(echo)


async def receive(request: Request) -> Response:
    """Accept one delivery, and do no other work."""
    doors: Doors = request.state.doors
    door = _door(request)
    with doors.metrics.timed("webhook_ack", tenant=door.tenant):
        _check_headers(request)
        body = await _body(request)
        signature.verify(body, _header(request, b"x-hub-signature-256"), door.app_secrets)
        own, others = door.phone_number_ids, doors.forwards.numbers(door.tenant)
        parsed = intake.parse(body, phone_number_ids=own | others)
        ours, theirs = forwards.divided(parsed, own)
        fresh = await doors.inbox.accept(door.tenant, ours)
        handed = await doors.forwards.accept(door.tenant, theirs)
    doors.metrics.received(door.tenant, parsed)
    log.get().info("webhook.accepted", tenant=door.tenant, count=len(fresh) + handed)
    return PlainTextResponse("ok")


async def refused(_request: Request, exc: Exception) -> Response:
    """Answer a `DoorError`: its status, and its code in RFC 9457's form."""
    if not isinstance(exc, DoorError):
        raise exc
    log.get().info("webhook.refused", reason=exc.code)
    return JSONResponse(
        {"type": "about:blank", "status": exc.status, "title": exc.code},
        status_code=exc.status,
        media_type="application/problem+json",
    )


def _door(request: Request) -> Door:
    doors: Doors = request.state.doors
    try:
        return doors.tenants[request.path_params["tenant"]]
    except KeyError:
        raise UnknownTenantError("tenant.unknown") from None


def _check_headers(request: Request) -> None:
    if not _HOST.fullmatch(_header(request, b"host") or b""):
        raise PayloadError("host.malformed")
    if (_header(request, b"content-encoding") or b"identity") != b"identity":
        raise EncodingError("body.encoded")
    length = _header(request, b"content-length") or b"0"
    if not length.isdigit() or int(length) > MAX_BODY:
        raise TooLargeError("body.too_large")


def _header(request: Request, name: bytes) -> bytes | None:
    found = [value for key, value in request.scope["headers"] if key == name]
    if len(found) > 1:
        raise SignatureError("header.repeated")
    return found[0] if found else None


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise TooLargeError("body.too_large")
    except TimeoutError:
        raise SlowBodyError("body.slow") from None
    return bytes(body)
