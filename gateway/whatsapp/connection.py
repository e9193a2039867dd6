"""
The HTTP client for WhatsApp: each request leaves by its passage, through the egress broker.

- One request, one tunnel: a tunnel belongs to the ticket of one touch, so none is kept for the
  next. TLS is ours, end to end, and verifies the name; the broker sees ciphertext.
- Which hosts and addresses may be reached is the broker's to say (`residency.proxy`); a
  request without a passage goes nowhere, but for a development client.
- Redirects, proxies of the environment and cookies are off.
"""

import base64
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

from residency.model import INSIDE, Passage

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 8.0
MAX_HEAD_BYTES = 4_096

_PASSAGE = "vocustody.passage"
_OK = f"HTTP/1.1 {HTTPStatus.OK} ".encode()
_FORBIDDEN = f"HTTP/1.1 {HTTPStatus.FORBIDDEN} ".encode()


class RefusedAddressError(httpx2.ConnectError):
    """The broker lets nothing out to this host or address, now or later; nothing was sent."""


def by(passage: Passage) -> dict[str, Any]:
    """Return the request extensions that send a request out by *passage*."""
    return {_PASSAGE: passage}


class Tunnels(httpcore2.AsyncNetworkBackend):
    """Opens connections by CONNECT (RFC 9110, 9.3.6) through the proxy of *passage*."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the base class's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See the base class; raise `RefusedAddressError` where the broker says never."""
        proxy, _, proxy_port = self._passage.proxy.rpartition(":")
        stream = await self._sockets.connect_tcp(
            proxy.strip("[]"), int(proxy_port), timeout, local_address, socket_options
        )
        try:
            await stream.write(self._request(host, port), timeout)
            _check(await _head(stream, timeout))
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _request(self, host: str, port: int) -> bytes:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        credentials = f"{self._passage.ticket}:{self._passage.secret}".encode()
        return (
            f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
            f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}\r\n\r\n"
        ).encode()


async def _head(stream: httpcore2.AsyncNetworkStream, timeout: float | None) -> bytes:  # noqa: ASYNC109 - same
    # Byte for byte: what follows the head belongs to the tunnel.
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = await stream.read(1 if head else len(_OK), timeout)
        head += part
        if not part or len(head) > MAX_HEAD_BYTES:
            raise httpcore2.ConnectError("egress.lost")
    return head


def _check(head: bytes) -> None:
    if head.startswith(_FORBIDDEN):
        raise RefusedAddressError("egress.refused")
    if not head.startswith(_OK):
        raise httpcore2.ConnectError("egress.closed")


class TunnelTransport(httpx2.AsyncBaseTransport):
    """HTTP over one tunnel per request; *direct* admits requests without a passage."""

    def __init__(self, *, direct: bool = False) -> None:
        self._direct = direct

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send *request*; raise httpx2's errors, as its own transports do."""
        passage = request.extensions.get(_PASSAGE, INSIDE)
        if not passage.proxy and not self._direct:
            raise httpx2.ConnectError("no passage")
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls(),
            network_backend=Tunnels(passage) if passage.proxy else httpcore2.AnyIOBackend(),
        )
        try:
            with _translated():
                answer = await pool.handle_async_request(_core(request))
        except BaseException:
            await pool.aclose()
            raise
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer, pool),
            extensions=answer.extensions,
        )


def _core(request: httpx2.Request) -> httpcore2.Request:
    url = request.url
    return httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


class _Body(httpx2.AsyncByteStream):
    """An answer's body; closing it closes the tunnel."""

    def __init__(self, answer: httpcore2.Response, pool: httpcore2.AsyncConnectionPool) -> None:
        self._answer = answer
        self._pool = pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()
        await self._pool.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    # httpcore2 and httpx2 name their transport errors alike.
    try:
        yield
    except (
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.TimeoutException,
        httpcore2.UnsupportedProtocol,
    ) as exc:
        raise getattr(httpx2, type(exc).__name__)(str(exc)) from exc


@cache
def _tls() -> ssl.SSLContext:
    # Certificates of the wheel, not of the environment; read once, for it takes 30 ms.
    return httpx2.create_ssl_context(trust_env=False)


def client(*, development: bool = False) -> httpx2.AsyncClient:
    """Return a client to share among accounts; *development* also sends without a passage."""
    return httpx2.AsyncClient(
        transport=TunnelTransport(direct=development),
        timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
