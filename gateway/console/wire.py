"""
What the admin API reads and writes: narrow JSON in, JSON or a problem (RFC 9457) out.

- A body is capped, has a deadline, is JSON without doubles, and holds the fields that its
  endpoint lists and no other: whoever sends ``legal_hold`` beside them is told so, not obeyed.
- A problem names a field and a code, and quotes nothing that was sent.
- No answer is kept by anything on the way.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import PayloadError, ProblemError
from gateway.whatsapp import strict

MAX_BODY = 64 * 1024
BODY_DEADLINE_S = 5.0
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
REQUIRED: Final = object()

_JSON = re.compile(rb'application/json(; ?charset="?utf-8"?)?', re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,9}")
_NAME = re.compile(r"[a-z_]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that may be sent: whether a value *fits*, and what is meant if it is left out."""

    fits: Callable[[Any], bool]
    default: Any = REQUIRED


Fields = Mapping[str, Field]


def shaped(pattern: str) -> Callable[[Any], bool]:
    """Return whether a value is a text of *pattern*, as a function."""
    expression = re.compile(pattern)
    return lambda value: isinstance(value, str) and expression.fullmatch(value) is not None


def one_of(*values: str) -> Callable[[Any], bool]:
    """Return whether a value is one of *values*, as a function."""
    return lambda value: isinstance(value, str) and value in values


def flag(value: Any) -> bool:
    """Return whether *value* is a JSON boolean; 0 and "true" are none."""
    return isinstance(value, bool)


def checked(given: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return *given* with its defaults; raise `ProblemError` (422) that names the first fault."""
    for name in given:
        if name not in fields:
            shown = name if _NAME.fullmatch(name) else "?"
            raise ProblemError(422, "field.unknown", field=shown)
    found = {}
    for name, field in fields.items():
        value = given.get(name, field.default)
        if value is REQUIRED:
            raise ProblemError(422, "field.missing", field=name)
        if name in given and not field.fits(value):
            raise ProblemError(422, "field.invalid", field=name)
        found[name] = value
    return found


def query(request: Request, fields: Fields) -> dict[str, Any]:
    """Return what the query of *request* says; a parameter that comes twice is a fault."""
    pairs = request.query_params.multi_items()
    for name, _ in pairs:
        if name in fields and sum(other == name for other, _ in pairs) > 1:
            raise ProblemError(422, "field.repeated", field=name)
    return checked(dict(pairs), fields)


async def body(request: Request, fields: Fields) -> dict[str, Any]:
    """Return what the body of *request* says."""
    _check_headers(request)
    try:
        value = strict.loads(await _read(request))
    except PayloadError as exc:
        raise ProblemError(400, exc.code) from None
    if not isinstance(value, dict):
        raise ProblemError(422, "body.no_object")
    return checked(value, fields)


def told(value: Any, status: int = 200, **headers: str) -> Response:
    """Return *value* as an answer."""
    return JSONResponse(value, status_code=status, headers=HEADERS | headers)


async def refused(_request: Request, exc: Exception) -> Response:
    """Answer a `ProblemError` in RFC 9457's form."""
    if not isinstance(exc, ProblemError):
        raise exc
    shown = {"type": "about:blank", "status": exc.status, "title": exc.code}
    shown |= {"field": exc.field} if exc.field else {}
    shown |= {"reasons": list(exc.reasons)} if exc.reasons else {}
    challenge = {"WWW-Authenticate": "Bearer"} if exc.status == 401 else {}  # noqa: PLR2004
    return JSONResponse(
        shown,
        status_code=exc.status,
        headers=HEADERS | challenge,
        media_type="application/problem+json",
    )


def _check_headers(request: Request) -> None:
    given = {
        name: [value for key, value in request.scope["headers"] if key == name]
        for name in (b"content-type", b"content-encoding", b"content-length")
    }
    kind = given[b"content-type"]
    if len(kind) != 1 or not _JSON.fullmatch(kind[0].strip()):
        raise ProblemError(415, "body.type")
    if any(value != b"identity" for value in given[b"content-encoding"]):
        raise ProblemError(415, "body.encoded")
    if any(not _LENGTH.fullmatch(v) or int(v) > MAX_BODY for v in given[b"content-length"]):
        raise ProblemError(413, "body.too_large")


async def _read(request: Request) -> bytes:
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for chunk in request.stream():
                found += chunk
                if len(found) > MAX_BODY:
                    raise ProblemError(413, "body.too_large")
    except TimeoutError:
        raise ProblemError(408, "body.slow") from None
    return bytes(found)
