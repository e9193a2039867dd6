"""
Where publications come from: a file, or an https address.

Nobody here is trusted: what comes is bytes, capped, until `archive.unpack` and the gate have
seen them. A redirect, a proxy of the environment or an answer other than 200 and 304 is refused.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx2

from policy import archive
from policy.errors import BundleError, FetchError

FILE = "bundle.tar.gz"  # what a directory is looked into for
TIMEOUT_S = 10.0

Way = Callable[[], httpx2.Proxy | None]
"""The proxy to go through now, or None to go straight; asked for each poll."""


def straight() -> None:
    """Go through no proxy: the source is on this machine."""


class Source(Protocol):
    """
    Gives the newest publication.

    Raises `FetchError` if the source cannot be reached or does not speak; does not retry.
    Calls follow one another.
    """

    async def newest(self) -> bytes | None:
        """Return the publication's bytes, or None if they are those returned before."""
        ...

    async def aclose(self) -> None:
        """Let go of what is open."""
        ...


class FileSource:
    """`Source` of the file at *path*, or of ``bundle.tar.gz`` in the directory *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    async def newest(self) -> bytes | None:
        """See `Source.newest`."""
        return await asyncio.to_thread(self._read)

    async def aclose(self) -> None:
        """See `Source.aclose`."""

    def _read(self) -> bytes | None:
        path = self._path / FILE if self._path.is_dir() else self._path
        try:
            status = path.stat()
            found = (status.st_ino, status.st_size, status.st_mtime_ns)
            if found == self._seen:
                return None
            raw = archive.load(path)
        except (OSError, BundleError) as exc:
            raise FetchError(f"{path.name}: cannot be read ({type(exc).__name__})") from None
        self._seen = found
        return raw


class HttpSource:
    """
    `Source` at *url*, reached by *way*; an unchanged publication costs a 304 (RFC 9110 13.1.2).

    Its certificate must lead to *trust* (default: the roots that the client ships with).
    """

    def __init__(
        self, url: str, *, way: Way = straight, trust: ssl.SSLContext | None = None
    ) -> None:
        self._url = url
        self._way = way
        self._etag: str | None = None
        self._trust = trust or httpx2.create_ssl_context(trust_env=False)

    async def newest(self) -> bytes | None:
        """See `Source.newest`."""
        headers = {"If-None-Match": self._etag} if self._etag else {}
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._client() as client,
                client.stream("GET", self._url, headers=headers) as answer,
            ):
                if answer.status_code == httpx2.codes.NOT_MODIFIED and self._etag:
                    return None
                if answer.status_code != httpx2.codes.OK:
                    raise FetchError(f"the source answered {answer.status_code}")
                raw = await _capped(answer)
        except (httpx2.HTTPError, TimeoutError) as exc:
            raise FetchError(f"the source is not reached ({type(exc).__name__})") from None
        self._etag = answer.headers.get("etag")
        return raw

    async def aclose(self) -> None:
        """See `Source.aclose`."""

    def _client(self) -> httpx2.AsyncClient:
        # One for each poll: leave to go through the broker is renewed in between.
        return httpx2.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=TIMEOUT_S,
            verify=self._trust,
            proxy=self._way(),
        )


async def _capped(answer: httpx2.Response) -> bytes:
    raw = bytearray()
    async for chunk in answer.aiter_raw():
        raw += chunk
        if len(raw) > archive.PACKED_LIMIT:
            raise FetchError(f"the source sends over {archive.PACKED_LIMIT} bytes")
    return bytes(raw)
