"""Connections to public addresses only, pinned to the address that was checked."""

import socket
from collections.abc import Sequence
from http.cookiejar import DefaultCookiePolicy

import httpcore2
import httpx2
import pytest

from gateway.demo.graph import listen
from gateway.whatsapp import connection
from gateway.whatsapp.connection import PublicOnly, RefusedAddressError

pytestmark = pytest.mark.anyio


class Sockets(httpcore2.AsyncMockBackend):
    """Notes where a connection would have gone; the first *failing* ones are refused."""

    def __init__(self, failing: int = 0) -> None:
        super().__init__([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
        self.went: list[str] = []
        self._failing = failing

    async def connect_tcp(self, host: str, *rest: object) -> httpcore2.AsyncNetworkStream:
        """Remember *host* in place of connecting."""
        self.went.append(host)
        if len(self.went) <= self._failing:
            raise httpcore2.ConnectError("refused")
        return await super().connect_tcp(host, *rest)  # type: ignore[arg-type]


def backend(addresses: Sequence[str], sockets: Sockets) -> PublicOnly:
    """Return the backend under test over *sockets*; every name has *addresses*."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    made = PublicOnly(resolve)
    made._sockets = sockets  # type: ignore[assignment]
    return made


async def test_the_socket_opens_to_the_address_that_was_checked() -> None:
    """A second lookup could give another answer: DNS rebinding."""
    sockets = Sockets()
    transport = connection.CheckedTransport(backend(["8.8.8.8"], sockets))

    async with httpx2.AsyncClient(transport=transport) as http:
        answer = await http.get("http://media.example/x")

    assert (answer.text, sockets.went) == ("ok", ["8.8.8.8"])


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """Hosts without a route to IPv6 still get an IPv6 address first."""
    sockets = Sockets(failing=1)

    await backend(["2001:4860:4860::8888", "8.8.8.8"], sockets).connect_tcp("media.example", 443)

    assert sockets.went == ["2001:4860:4860::8888", "8.8.8.8"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
     "fe80::1", "fd00::1", "::ffff:127.0.0.1", "224.0.0.1", "ff02::1"],
)  # fmt: skip
async def test_no_socket_opens_to_an_address_that_is_not_public(address: str) -> None:
    """Instance metadata, neighbours and ourselves must be out of a stranger's reach."""
    sockets = Sockets()

    with pytest.raises(RefusedAddressError):
        await backend(["8.8.8.8", address], sockets).connect_tcp("media.example", 443)

    assert sockets.went == []


async def test_the_client_refuses_loopback_by_name_and_by_address() -> None:
    """The rule must hold in the client that production uses, with the real resolver."""
    async with listen(_hello) as url, connection.client() as http:
        port = url.rpartition(":")[2]

        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(RefusedAddressError):
                await http.get(f"http://{host}:{port}/")


async def test_a_name_without_address_is_no_connection() -> None:
    """A resolver's failure must look like any other connection that was not made."""
    async with connection.client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("https://nowhere.invalid/")


async def test_transport_errors_are_httpx2_s() -> None:
    """Callers tell "nothing left" from "no answer" by these classes."""
    transport = connection.CheckedTransport(backend(["8.8.8.8"], Sockets(failing=9)))

    async with httpx2.AsyncClient(transport=transport) as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("http://media.example/x")


async def test_the_environment_s_proxy_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable must not reroute people's voices."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async with listen(_hello) as url, connection.client(development=True) as http:
        answer = await http.get(url)

    assert answer.status_code == 200


async def test_no_cookie_is_kept() -> None:
    """A cookie would link the calls of all tenants that share the client."""
    async with listen(_hello) as url, connection.client(development=True) as http:
        await http.get(url)

        assert list(http.cookies.jar) == []
        assert isinstance(http.cookies.jar._policy, DefaultCookiePolicy)  # type: ignore[attr-defined]


async def _hello(scope: object, receive: object, send: object) -> None:
    headers = [(b"set-cookie", b"a=b"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


def test_this_machine_resolves_localhost_to_loopback() -> None:
    """The test above means nothing where the name leads elsewhere."""
    assert socket.gethostbyname("localhost").startswith("127.")
