"""
Fetching a voice note from WhatsApp, and having WhatsApp delete it.

- A media id is exchanged for a short-lived URL (5 minutes); the same token opens both.
- The URL comes from outside, so it is treated as hostile: https, a host that is listed exactly,
  no user name, no IP literal, no redirect. The token goes nowhere else.
- At most `MAX_BYTES` are read, within `DEADLINE_S` in all, and without content decoding.
- A host that no setting lists, and a token that is refused, are the operator's to mend
  (`AccountFaultError`): the recording has no fault.
- Length and SHA-256 must agree with what the metadata says, and SHA-256 with the webhook, where
  they say it; `Fetched.digest` tells who did.

Source: Meta, "Media" (WhatsApp Cloud API). Trusted for the bytes it hands out, not for how many.
"""

import asyncio
import ipaddress
import re
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO

import httpx2

from gateway.errors import (
    AccountFaultError,
    ChannelRefusedError,
    MediaGoneError,
    MediaRefusedError,
    PayloadError,
)
from gateway.whatsapp import answers, connection, fields
from gateway.whatsapp.account import Account
from gateway.whatsapp.connection import RefusedAddressError
from gateway.whatsapp.payload import VoiceNote
from residency.model import INSIDE, Observed, Passage

MAX_BYTES = 16 * 1024 * 1024
DEADLINE_S = 8.0
NO_SUCH_OBJECT = "100"
UNCHECKED = "unchecked"

_REQUEST_ID = re.compile(r"[A-Za-z0-9+/=_-]{1,64}")
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """
    The bytes of a note, the media type WhatsApp declares, and what its answer showed.

    *digest* is what the bytes agreed with: ``webhook``, ``metadata``, or ``unchecked``.
    """

    content: bytes = field(repr=False)
    mime: str
    observed: Observed
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    url: str = field(repr=False)
    mime: str
    sha256: bytes | None
    size: int | None


class Media:
    """
    The media of one number. Calls may overlap; nothing is retried but a lapsed URL, once.

    Each call leaves by its *passage* (`gateway.whatsapp.connection`).
    """

    def __init__(
        self, http: httpx2.AsyncClient, account: Account, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._http = http
        self._account = account
        self._deadline_s = deadline_s

    async def fetch(self, note: VoiceNote, *, passage: Passage = INSIDE) -> Fetched:
        """
        Return the content of *note*.

        Raises:
            MediaGoneError: WhatsApp has it no more, or not for this number.
            MediaRefusedError: the URL or the content is not what it must be.
            ChannelBusyError: throttled, slow or unreachable; the same call may work later.
            AccountFaultError: the token is not accepted, or the host not listed.
            ChannelRefusedError: Graph refuses the request itself.
        """
        try:
            with answers.repeatable(), answers.translated():
                async with asyncio.timeout(self._deadline_s):
                    return await self._fetch(note, passage)
        except (AccountFaultError, ChannelRefusedError) as exc:
            raise _media_error(exc) from None

    async def delete(self, media_id: str, *, passage: Passage = INSIDE) -> None:
        """Have WhatsApp delete its copy; raise as `fetch` does (`MediaGoneError`: it was gone)."""
        try:
            with answers.repeatable(), answers.translated():
                async with asyncio.timeout(self._deadline_s):
                    answers.read(await self._call("DELETE", media_id, passage))
        except (AccountFaultError, ChannelRefusedError) as exc:
            raise _media_error(exc) from None

    async def _fetch(self, note: VoiceNote, passage: Passage) -> Fetched:
        for _ in range(2):
            described = await self._describe(note.media_id, passage)
            if None not in (described.sha256, note.sha256) and described.sha256 != note.sha256:
                raise MediaRefusedError("media.digest")
            found = await self._download(described, note, passage)
            if found is not None:
                return found
        raise MediaGoneError("media.url")

    async def _describe(self, media_id: str, passage: Passage) -> _Description:
        found = answers.read(await self._call("GET", media_id, passage))
        try:
            return _Description(
                url=fields.text(found.get("url"), 2048),
                mime=fields.mime(found.get("mime_type")),
                sha256=fields.sha256(found.get("sha256")),
                size=fields.size(found.get("file_size")),
            )
        except PayloadError:
            raise MediaRefusedError("media.metadata") from None

    async def _call(self, method: str, media_id: str, passage: Passage) -> httpx2.Response:
        if not (path := fields.object_id(media_id)):
            raise MediaRefusedError("media.id")
        return await self._http.request(
            method,
            f"{self._account.graph}/{path}",
            params={"phone_number_id": self._account.phone_number_id},
            headers=self._account.headers,
            extensions=connection.by(passage),
        )

    async def _download(
        self, described: _Description, note: VoiceNote, passage: Passage
    ) -> Fetched | None:
        """Return the content, or None when the URL is gone."""
        url = checked(described.url, self._account)
        if (described.size or 0) > MAX_BYTES:
            raise MediaRefusedError("media.too_large")
        try:
            async with self._http.stream(
                "GET", url, headers=self._account.headers, extensions=connection.by(passage)
            ) as answer:
                if answer.status_code in _GONE:
                    return None
                _check_head(answer)
                content = await _read(answer)
                observed = _observe(answer)
        except RefusedAddressError:
            raise AccountFaultError("media.address", word="account.media_host") from None
        if described.size not in (None, len(content)):
            raise MediaRefusedError("media.length")
        return Fetched(
            content=content,
            mime=described.mime,
            observed=observed,
            digest=_agreed(content, note.sha256, described.sha256),
        )


def checked(url: str, account: Account) -> httpx2.URL:
    """
    Return *url* parsed once, for checks and request alike.

    Raises `MediaRefusedError` for what is no such URL, and `AccountFaultError` for a host that no
    setting lists: WhatsApp gives the same one out for every note.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise MediaRefusedError("media.url") from None
    if parsed.userinfo:
        raise MediaRefusedError("media.host")
    if parsed.netloc.decode() not in account.media_hosts:
        raise AccountFaultError("media.host", word="account.media_host")
    literal = _is_literal(parsed.host)
    simulated = account.development and literal and ipaddress.ip_address(parsed.host).is_loopback
    if not simulated and (parsed.scheme != "https" or literal):
        raise MediaRefusedError("media.scheme" if not literal else "media.host")
    return parsed


def _agreed(content: bytes, told: bytes | None, described: bytes | None) -> str:
    """Return who named the digest that *content* has; raise `MediaRefusedError` if it has not."""
    named = told or described
    if named is None:
        return UNCHECKED
    if sha256(content).digest() != named:
        raise MediaRefusedError("media.digest")
    return "webhook" if told else "metadata"


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_head(answer: httpx2.Response) -> None:
    if answer.is_redirect:
        raise MediaRefusedError("media.redirect")
    if answer.status_code != HTTPStatus.OK:
        raise answers.error(answer.status_code, {}, answer.headers)
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise MediaRefusedError("media.encoding")
    length = answer.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BYTES:
        raise MediaRefusedError("media.too_large")


async def _read(answer: httpx2.Response) -> bytes:
    content = BytesIO()  # its getvalue hands its buffer over: the note is in memory once
    async for part in answer.aiter_raw():
        if content.tell() + len(part) > MAX_BYTES:
            raise MediaRefusedError("media.too_large")
        content.write(part)
    return content.getvalue()


def _observe(answer: httpx2.Response) -> Observed:
    stream = answer.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream else None
    request_id = answer.headers.get("x-fb-request-id", "")
    return Observed(
        host=answer.url.host,
        tls=(tls.version() or "") if tls else "",
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else "",
    )


def _media_error(exc: AccountFaultError | ChannelRefusedError) -> Exception:
    # Graph says alike of an object that is gone, and of one that is another number's.
    gone = (NO_SUCH_OBJECT, *(f"http.{status}" for status in _GONE))
    return MediaGoneError(exc.code) if exc.code in gone else exc
