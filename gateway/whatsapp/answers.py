"""
What the Graph API's answers mean for the caller, by Graph's error code.

- *Busy*: Graph says that it did nothing and that a later call may work.
- *Refused*: the same call will never work.
- *Unknown*: the request left and nothing says what became of it. Graph's "unknown error"
  (1, 131000) and any 5xx without a code count here: WhatsApp has no idempotency key, so a
  resend on a guess is a second message to a person.

Graph's messages and details may quote the number or the text, so they are never read. The
``fbtrace_id``, which Meta's support asks for, travels as a note on the exception.

Codes: Meta, "WhatsApp Cloud API error codes".
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx2

from gateway.errors import (
    ChannelBusyError,
    ChannelError,
    ChannelRefusedError,
    ChannelUnknownError,
    PayloadError,
)
from gateway.whatsapp import strict

BUSY = frozenset({2, 4, 80007, 130429, 131016, 131056, 131057})
UNKNOWN = frozenset({1, 131000})
PAIR_LIMIT = 131056
PAIR_PAUSE_S = 6.0  # one message each 6 s to one person
MAX_RETRY_AFTER_S = 3_600.0

_TRACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WHOLE_SECONDS = re.compile(r"[0-9]{1,6}")


def read(answer: httpx2.Response) -> dict[str, Any]:
    """Return the object of a 200; raise the `ChannelError` that any other answer stands for."""
    body = _object(answer.content)
    if answer.status_code == HTTPStatus.OK and body is not None and "error" not in body:
        return body
    raise error(answer.status_code, body or {}, answer.headers)


def error(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> ChannelError:
    """Return the error that an unsuccessful answer stands for."""
    found = body.get("error")
    detail = found if isinstance(found, dict) else {}
    code = detail.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        code = None
    made = _classify(status, code, headers)
    trace = detail.get("fbtrace_id")
    if isinstance(trace, str) and _TRACE.fullmatch(trace):
        made.add_note(f"fbtrace_id={trace}")
    return made


def _classify(status: int, code: int | None, headers: Mapping[str, str]) -> ChannelError:
    word = f"http.{status}" if code is None else str(code)
    if code in BUSY or (code is None and status == HTTPStatus.TOO_MANY_REQUESTS):
        return ChannelBusyError(word, retry_after=_pause(code, headers))
    if code in UNKNOWN or (code is None and not _is_refusal(status)):
        return ChannelUnknownError(word)
    return ChannelRefusedError(word)


def _is_refusal(status: int) -> bool:
    return (
        HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status != HTTPStatus.REQUEST_TIMEOUT
    )


def _pause(code: int | None, headers: Mapping[str, str]) -> float:
    asked = headers.get("retry-after", "")
    if _WHOLE_SECONDS.fullmatch(asked):
        return min(float(asked), MAX_RETRY_AFTER_S)
    return PAIR_PAUSE_S if code == PAIR_LIMIT else 0.0


@contextmanager
def translated() -> Iterator[None]:
    """Turn httpx2's errors into ours: Busy when nothing left, else Unknown."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
        raise ChannelBusyError("no_connection") from None
    except (httpx2.HTTPError, TimeoutError):
        raise ChannelUnknownError("no_answer") from None


@contextmanager
def repeatable() -> Iterator[None]:
    """Turn Unknown into Busy around calls that may be repeated without any harm."""
    try:
        yield
    except ChannelUnknownError as exc:
        raise ChannelBusyError(exc.code) from None


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = strict.loads(content)
    except PayloadError:
        return None
    return found if isinstance(found, dict) else None
