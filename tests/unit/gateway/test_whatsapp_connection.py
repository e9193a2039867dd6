"""The client for WhatsApp: out through the broker, by a passage, or not at all."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from support.egress import World, brokering, grant, vendor
from support.pki import Authority

from gateway.demo.graph import listen
from gateway.whatsapp import connection
from gateway.whatsapp.connection import RefusedAddressError, by
from residency.model import INSIDE, Passage
from residency.proxy import Broker

pytestmark = pytest.mark.anyio


async def _hello(_request: Request) -> Response:
    return PlainTextResponse("hello", headers={"set-cookie": "a=b"})


async def _elsewhere(_request: Request) -> Response:
    return RedirectResponse("https://elsewhere.example/x", status_code=307)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the address of a plain http server on loopback."""
    async with listen(Starlette(routes=[Route("/", _hello), Route("/moved", _elsewhere)])) as url:
        yield url


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """Yield a development broker."""
    broker = Broker(development=True)
    await broker.start()
    yield broker
    await broker.aclose()


@asynccontextmanager
async def impostor(answer: bytes) -> AsyncIterator[str]:
    """Yield the address of a server that says *answer* and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@asynccontextmanager
async def listen_tls(world: World, context: ssl.SSLContext) -> AsyncIterator[None]:
    """Have *world* lead to a server that presents *context*'s certificate and says hello."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    world.port = server.sockets[0].getsockname()[1]
    yield
    server.close()


async def leave(broker: Broker, url: str) -> Passage:
    """Return leave to reach the server at *url*."""
    return await broker.admit(grant(url.removeprefix("http://")))


async def test_a_request_leaves_by_its_passage(broker: Broker, url: str) -> None:
    """One request, one tunnel: the contacts of a touch are its own."""
    passage = await leave(broker, url)
    async with connection.client() as http:
        for _ in range(2):
            answer = await http.get(url, extensions=by(passage))

            assert (answer.status_code, answer.text) == (200, "hello")

    contacts = await broker.end(passage)
    assert [(each.peer, each.refused) for each in contacts] == [("127.0.0.1", "")] * 2


async def test_tls_verifies_the_name_through_the_tunnel(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is on the path and must not be able to stand in for WhatsApp."""
    trust = ssl.create_default_context(cafile=str(authority.ca))
    monkeypatch.setattr(connection, "_tls", lambda: trust)
    found = []
    for name in ("graph.facebook.com", "other.example"):
        async with (
            vendor() as world,
            brokering(world) as broker,
            listen_tls(world, authority.leaf(name).context()),
            connection.client() as http,
        ):
            world.names = {"graph.facebook.com": ["8.8.8.8"]}
            passage = await broker.admit(grant("graph.facebook.com:443"))
            try:
                answer = await http.get("https://graph.facebook.com/", extensions=by(passage))
                found.append(answer.status_code)
            except httpx2.ConnectError:
                found.append(0)

    assert found == [200, 0]


async def test_without_a_passage_nothing_leaves(url: str) -> None:
    """A call that was not decided has nowhere to go."""
    async with connection.client() as http:
        for extensions in ({}, by(INSIDE)):
            with pytest.raises(httpx2.ConnectError):
                await http.get(url, extensions=extensions)


async def test_a_host_outside_the_grant_is_refused(broker: Broker, url: str) -> None:
    """A media URL comes from outside: what it names is the broker's to judge."""
    passage = await broker.admit(grant("graph.vendor.example:443"))
    async with connection.client() as http:
        with pytest.raises(RefusedAddressError):
            await http.get(url, extensions=by(passage))

    [contact] = await broker.end(passage)
    assert contact.refused == "host.literal"


async def test_a_redirect_leads_nowhere(broker: Broker, url: str) -> None:
    """Not followed by the client; and had it been, the broker knows no such host."""
    passage = await leave(broker, url)
    async with connection.client() as http:
        answer = await http.get(f"{url}/moved", extensions=by(passage))
        assert answer.status_code == 307
        with pytest.raises(RefusedAddressError):
            await http.get(answer.headers["location"], extensions=by(passage))

    assert [each.refused for each in await broker.end(passage)] == ["", "host.not_granted"]


async def test_a_ticket_that_ended_is_no_connection(broker: Broker, url: str) -> None:
    """Nothing was sent, so the call may be made again: with another ticket."""
    passage = await leave(broker, url)
    await broker.end(passage)
    async with connection.client() as http:
        with pytest.raises(httpx2.ConnectError) as caught:
            await http.get(url, extensions=by(passage))

    assert not isinstance(caught.value, RefusedAddressError)


async def test_a_dead_broker_is_no_connection(broker: Broker, url: str) -> None:
    """It dies closed."""
    passage = await leave(broker, url)
    await broker.aclose()
    async with connection.client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(url, extensions=by(passage))


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n" + b"x" * 9_000 + b"\r\n\r\n", b"nonsense\r\n\r\n"]
)
async def test_an_answer_that_is_no_broker_s_is_no_tunnel(answer: bytes) -> None:
    """What listens there may be anything after a restart."""
    async with impostor(answer) as proxy, connection.client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("http://127.0.0.1:1/", extensions=by(Passage(proxy=proxy, ticket="t")))


async def test_the_environment_s_proxy_is_ignored(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A proxy variable must not reroute people's voices."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async with connection.client(development=True) as http:
        answer = await http.get(url)

    assert answer.status_code == 200


async def test_no_cookie_is_kept(url: str) -> None:
    """A cookie would link the calls of all tenants that share the client."""
    async with connection.client(development=True) as http:
        await http.get(url)

        assert list(http.cookies.jar) == []
        assert isinstance(http.cookies.jar._policy, DefaultCookiePolicy)  # type: ignore[attr-defined]
