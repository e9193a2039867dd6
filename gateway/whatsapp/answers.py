"""
What the Graph API's answers mean for the caller; the table of codes is `gateway.whatsapp.codes`.

- *Busy*: Graph says that it did nothing and that a later call may work.
- *Account*: Graph refuses the operator's account, token or settings; so it does nothing either.
- *Refused*: the same call will never work.
- *Unknown*: the request left and nothing says what became of it. Graph's "unknown error"
  (1, 131000) and any 5xx without a code count here: WhatsApp has no idempotency key, so a
  resend on a guess is a second message to a person.

Graph's messages and details may quote the number or the text, so they are never read. The
``fbtrace_id``, which Meta's support asks for, travels as a note on the exception.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx2

from gateway.errors import (
    AccountFaultError,
    ChannelBusyError,
    ChannelError,
    ChannelRefusedError,
    ChannelUnknownError,
    PayloadError,
)
from gateway.whatsapp import codes, strict
from gateway.whatsapp.codes import Means
from gateway.whatsapp.connection import RefusedAddressError

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
    code, subcode = (_number(detail.get(name)) for name in ("code", "error_subcode"))
    made = _classify(status, code, subcode, headers)
    trace = detail.get("fbtrace_id")
    if isinstance(trace, str) and _TRACE.fullmatch(trace):
        made.add_note(f"fbtrace_id={trace}")
    return made


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _classify(
    status: int, code: int | None, subcode: int | None, headers: Mapping[str, str]
) -> ChannelError:
    told = f"http.{status}" if code is None else str(code)
    meaning = codes.meaning(status, code, subcode)
    match meaning.means:
        case Means.ACCOUNT:
            return AccountFaultError(told, word=meaning.word)
        case Means.BUSY:
            return ChannelBusyError(told, retry_after=_pause(code, headers))
        case Means.REFUSED:
            return ChannelRefusedError(told)
        case Means.UNKNOWN:
            return ChannelUnknownError(told)


def _pause(code: int | None, headers: Mapping[str, str]) -> float:
    asked = headers.get("retry-after", "")
    if _WHOLE_SECONDS.fullmatch(asked):
        return min(float(asked), MAX_RETRY_AFTER_S)
    return PAIR_PAUSE_S if code == codes.PAIR_LIMIT else 0.0


@contextmanager
def translated() -> Iterator[None]:
    """Turn httpx2's errors into ours: Busy when nothing left, else Unknown."""
    try:
        yield
    except RefusedAddressError:  # no setting or row of the registry lets us out to there
        raise AccountFaultError("egress.refused", word="account.egress") from None
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
