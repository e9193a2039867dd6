"""
The HTTP client for WhatsApp: it connects only to public addresses, and only where it looked.

A listed name is no protection while its address is not: DNS may answer with a loopback or
private address, or with another one the second time. Here a name is resolved once per
connection, every address of the answer must be global (RFC 6890), and the socket opens to
that very address. TLS still verifies the name. Redirects, proxies of the environment and
cookies are off.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 8.0
MAX_CONNECTIONS = 50

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class RefusedAddressError(httpx2.ConnectError):
    """The name resolves to an address that is not global; nothing was sent."""


async def lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses of *host*, in the resolver's order."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise httpx2.ConnectError("lookup failed") from exc
    return [str(address[0]) for *_, address in found]


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Opens connections to global addresses only; each to an address it has checked."""

    def __init__(self, resolve: Resolve = lookup) -> None:
        self._resolve = resolve
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the base class's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See the base class; raise `RefusedAddressError` before any packet leaves."""
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(_is_public, addresses)):
            raise RefusedAddressError("address.not_public")
        *others, last = dict.fromkeys(addresses)
        for address in others:
            try:
                return await self._sockets.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._sockets.connect_tcp(last, port, timeout, local_address, socket_options)


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found.is_global and not found.is_multicast


class CheckedTransport(httpx2.AsyncBaseTransport):
    """HTTP over connections of `PublicOnly` (httpx2's own transport takes no backend)."""

    def __init__(self, backend: httpcore2.AsyncNetworkBackend) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=MAX_CONNECTIONS,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send *request*; raise httpx2's errors, as its own transports do."""
        url = request.url
        with _translated():
            answer = await self._pool.handle_async_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


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


def client(*, development: bool = False, resolve: Resolve = lookup) -> httpx2.AsyncClient:
    """Return a client to share among accounts; *development* lifts the address check only."""
    return httpx2.AsyncClient(
        transport=None if development else CheckedTransport(PublicOnly(resolve)),
        verify=_tls(),
        timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
