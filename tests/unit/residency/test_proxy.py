"""The broker at the socket: what it lets out, what it refuses, what it counts."""

import asyncio
import base64
import socket
import ssl
from dataclasses import replace

import pytest
from support.egress import (
    HOST,
    PUBLIC,
    TARGET,
    asked,
    brokering,
    dialling,
    grant,
    head,
    hello,
    vendor,
)
from support.pki import Authority

from residency import egress, proxy, tunnel
from residency.errors import EgressError
from residency.model import Contact, Passage
from residency.proxy import Broker

pytestmark = pytest.mark.anyio

NOBODY = Passage(ticket="nobody", secret="nothing")


async def test_a_live_ticket_opens_a_tunnel_and_every_byte_is_counted() -> None:
    """What the broker counts is held against what vendors bill and simulators received."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        start, more = hello(HOST), bytes(300_000)

        async with dialling(broker.proxy) as client:
            assert await client.ask(head(passage)) == "200"
            assert await client.echo(start + more) == start + more
        contacts = await broker.end(passage)

    size = len(start + more)
    assert contacts == (
        Contact(host=TARGET, peer="127.0.0.1", refused="", sent=size, received=size),
    )
    assert (bytes(world.got), world.went) == (start + more, [(PUBLIC, 443)])


async def test_bytes_that_wait_for_a_slow_peer_are_counted() -> None:
    """A count is an upper bound: of what was handed to the system, some has left."""
    (near, far), (here, there) = socket.socketpair(), socket.socketpair()
    with far, there:
        far.setblocking(False)
        upstream = await asyncio.open_unix_connection(sock=near)
        client = await asyncio.open_unix_connection(sock=here)
        first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        first.set_result(bytes(4_000_000))
        line = tunnel.Line(host=TARGET)
        relaying = asyncio.create_task(tunnel.relay(first, client, upstream, line, plain=True))

        left = await asyncio.get_running_loop().sock_recv(far, tunnel.CHUNK)
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)

        assert line.contact.sent >= len(left) > 0
        for _, writer in (upstream, client):
            writer.transport.abort()


async def test_tls_is_end_to_end(authority: Authority) -> None:
    """The broker must not be a place where a voice can be read: the certificate is the vendor's."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    async with vendor() as world:
        server = await asyncio.start_server(
            world.answer, "127.0.0.1", 0, ssl=authority.leaf(HOST).context()
        )
        world.port = server.sockets[0].getsockname()[1]
        async with brokering(world) as broker:
            passage = await broker.admit(grant())
            async with dialling(broker.proxy) as client:
                assert await client.ask(head(passage)) == "200"
                await client.writer.start_tls(context, server_hostname=HOST)
                found = await client.echo(b"a voice")
            contacts = await broker.end(passage)
        server.close()

    assert (found, bytes(world.got)) == (b"a voice", b"a voice")
    assert contacts[0].sent > len(hello(HOST))


@pytest.mark.parametrize(
    "target",
    [TARGET.upper(), "Stt.Vendor.Example:443"],
)
async def test_names_are_compared_without_case(target: str) -> None:
    """DNS does not tell case apart (RFC 4343), so neither may the list."""
    async with vendor() as world, brokering(world) as broker:
        assert await asked(broker, head(await broker.admit(grant()), target)) == "200"


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("other.vendor.example:443", "403 host.not_granted"),
        ("vendor.example:443", "403 host.not_granted"),
        ("xn--stt-0ra.vendor.example:443", "403 host.not_granted"),
        (f"{HOST}:80", "403 host.not_granted"),
        (f"{HOST}.:443", "400 target.malformed"),
        (f"user@{HOST}:443", "400 target.malformed"),
        (f"{HOST}@evil.example:443", "400 target.malformed"),
        (f"http://{HOST}:443/", "400 target.malformed"),
        (f"{HOST}:0", "400 target.malformed"),
        (f"{HOST}:65536", "400 target.malformed"),
        (f"{HOST}:0443", "400 target.malformed"),
        (f"{HOST}:", "400 target.malformed"),
        (HOST, "400 target.malformed"),
        (":443", "400 target.malformed"),
        (f"{HOST}%00:443", "400 target.malformed"),
        ("stt_vendor.example:443", "400 target.malformed"),
        ("8.8.8.8:443", "403 host.literal"),
        ("127.0.0.1:443", "403 host.literal"),
        ("134744072:443", "403 host.literal"),
        ("0x08080808:443", "403 host.literal"),
        ("010.8.8.8:443", "403 host.literal"),
        ("8.8.2056:443", "403 host.literal"),
        ("0x8.0x8.8.8:443", "403 host.literal"),
        ("[2001:4860:4860::8888]:443", "403 host.literal"),
        ("[::ffff:8.8.8.8]:443", "403 host.literal"),
        ("[::1%25eth0]:443", "403 host.literal"),
        ("::1:443", "403 host.literal"),
    ],
)
async def test_only_what_the_grant_names_gets_out(target: str, answer: str) -> None:
    """A default endpoint, a failover or a redirect names another host, or hides it in a form."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())

        assert await asked(broker, head(passage, target)) == answer
        [contact] = await broker.end(passage)

    assert (contact.peer, contact.refused) == ("", answer.partition(" ")[2])
    assert broker.refusals == {contact.refused: 1}
    assert (world.asked, world.went) == ([], [])


def _basic(credentials: str) -> str:
    return f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("Accept: */*", "ticket.missing"),
        ("Proxy-Authorization: Basic Og==", "ticket.missing"),
        ("Proxy-Authorization: Basic !", "ticket.missing"),
        ("other scheme", "ticket.missing"),
        (_basic("nobody:nothing"), "ticket.unknown"),
        ("other secret", "ticket.unknown"),
        ("other ticket", "ticket.unknown"),
    ],
)
async def test_without_a_live_ticket_nothing_gets_out(line: str, code: str) -> None:
    """The Azure SDK sends empty credentials where it was given none."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        whole = _basic(f"{passage.ticket}:{passage.secret}")
        nearly = {
            "other scheme": whole.replace("Basic", "Bearer"),
            "other secret": _basic(f"{passage.ticket}:{passage.secret[:-1]}"),
            "other ticket": _basic(f"{passage.ticket[:-1]}:{passage.secret}"),
        }
        line = nearly.get(line, line)

        answer = await asked(broker, f"CONNECT {TARGET} HTTP/1.1\r\n{line}\r\n\r\n".encode())

        assert answer == f"407 {code}"
        assert broker.refusals == {code: 1}
        assert await broker.end(passage) == ()
    assert (world.asked, world.went) == ([], [])


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET http://stt.vendor.example/ HTTP/1.1\r\n\r\n", "405 method.not_connect"),
        (b"POST stt.vendor.example:443 HTTP/1.1\r\n\r\n", "405 method.not_connect"),
        (b"connect stt.vendor.example:443 HTTP/1.1\r\n\r\n", "400 head.malformed"),
        (b"CONNECT stt.vendor.example:443 HTTP/2.0\r\n\r\n", "400 head.malformed"),
        (b"CONNECT stt.vendor\r\n.example:443 HTTP/1.1\r\n\r\n", "400 head.malformed"),
        (b"CONNECT stt.vendor.example:443\tHTTP/1.1\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 b:2 HTTP/1.1\r\n\r\n", "400 head.malformed"),
        (b"CONNECT st\xc3\xbc.example:443 HTTP/1.1\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost : a\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\x00b\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "400 head.has_body"),
        (b"CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 head.has_body"),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", "400 head.malformed"),
        (b"CONNECT a:1 HTTP/1.1\r\nX: " + b"x" * 8_200 + b"\r\n\r\n", "431 head.too_large"),
        (b"x" * 100_000, "431 head.too_large"),
    ],
)
async def test_a_head_that_could_be_read_in_two_ways_is_refused(
    request_: bytes, answer: str
) -> None:
    """What one reader skips another obeys: that is how requests are smuggled (RFC 9112, 11.2)."""
    async with vendor() as world, brokering(world) as broker:
        assert await asked(broker, request_) == answer

    assert (world.asked, world.went) == ([], [])


async def test_credentials_given_twice_are_refused() -> None:
    """Which of them counts would be a guess."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())

        again = _basic(f"{passage.ticket}:{passage.secret}")

        assert await asked(broker, head(passage, TARGET, again)) == "400 head.malformed"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_both_versions_of_http_1_are_heard(version: str) -> None:
    """The gRPC core asks in HTTP/1.0, with its own idea of the Host field."""
    async with vendor() as world, brokering(world) as broker:
        request = head(await broker.admit(grant()), TARGET, "Host: ipv4:127.0.0.1:1")
        request = request.replace(b"HTTP/1.1", f"HTTP/{version}".encode())

        assert await asked(broker, request) == "200"


async def test_a_slow_head_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request must not hold a place for ever."""
    monkeypatch.setattr(proxy, "HEAD_S", 0.1)
    async with vendor() as world, brokering(world) as broker:
        assert await asked(broker, b"CONNECT stt.vendor.example:443 HT") == "408 head.late"


async def test_bytes_before_the_200_are_refused() -> None:
    """They were meant for nobody that was admitted yet."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())

        assert await asked(broker, head(passage) + hello(HOST)) == "400 bytes.early"
        [contact] = await broker.end(passage)

    assert (contact.refused, bytes(world.got)) == ("bytes.early", b"")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["169.254.169.254"], ["10.0.0.8"], ["192.168.0.9"], ["172.16.0.1"],
        ["100.64.0.1"], ["0.0.0.0"], ["224.0.0.1"], ["::1"], ["fe80::1%eth0"], ["fd00::1"],
        ["ff02::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"],
        [PUBLIC, "10.0.0.8"],
    ],
)  # fmt: skip
async def test_a_name_that_leads_inside_leads_nowhere(addresses: list[str]) -> None:
    """Poisoned DNS would turn the way out into a way to our neighbours and metadata."""
    async with vendor() as world, brokering(world) as broker:
        world.names[HOST] = addresses

        answer = await asked(broker, head(await broker.admit(grant())))

    assert (answer, world.went) == ("403 address.not_global", [])


@pytest.mark.parametrize(
    ("addresses", "answer"),
    [
        ([PUBLIC], "200"),
        (["2001:4860::1"], "200"),
        (["9.9.9.9"], "403 address.elsewhere"),
        ([PUBLIC, "9.9.9.9"], "403 address.elsewhere"),
        (["2620:fe::fe"], "403 address.elsewhere"),
    ],
)
async def test_a_name_that_leads_outside_its_blocks_leads_nowhere(
    addresses: list[str], answer: str
) -> None:
    """A vendor that moves its own name abroad has a certificate that is right."""
    async with vendor() as world, brokering(world) as broker:
        world.names[HOST] = addresses
        held = replace(grant(), blocks=("8.8.8.0/24", "2001:4860::/32"))

        assert await asked(broker, head(await broker.admit(held))) == answer
        assert bool(world.went) is (answer == "200")


@pytest.mark.parametrize(
    ("address", "answer"), [("127.0.0.1", "200"), ("10.0.0.8", "403 address.not_global")]
)
async def test_development_admits_this_machine_and_no_neighbour(address: str, answer: str) -> None:
    """Simulators stand on loopback; what stands elsewhere is real."""
    async with vendor() as world, brokering(world, development=True) as broker:
        world.names[HOST] = [address]

        assert await asked(broker, head(await broker.admit(grant()))) == answer


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("10.0.0.8", "200"),
        ("fd00::1", "200"),
        ("127.0.0.1", "403 address.not_global"),
        ("169.254.169.254", "403 address.not_global"),
        ("64:ff9b::a9fe:a9fe", "403 address.not_global"),
    ],
)
async def test_a_host_of_our_own_may_stand_on_a_private_network(address: str, answer: str) -> None:
    """A vault does; a cloud's metadata service must stay out of reach even then."""
    async with vendor() as world, brokering(world, private=[TARGET]) as broker:
        world.names[HOST] = [address]

        assert await asked(broker, head(await broker.admit(grant()))) == answer


async def test_a_loopback_literal_needs_development_and_the_grant() -> None:
    """The simulator of WhatsApp is reached by address; nothing else is."""
    async with vendor() as world, brokering(world, development=True) as broker:
        passage = await broker.admit(grant("127.0.0.1:8080", "[::1]:8080"))

        assert await asked(broker, head(passage, "127.0.0.1:8080")) == "200"
        assert await asked(broker, head(passage, "[::1]:8080")) == "200"
        assert await asked(broker, head(passage, "127.0.0.1:8081")) == "403 host.literal"
        with pytest.raises(EgressError, match=r"host\.literal"):
            await broker.admit(grant("8.8.8.8:443"))


async def test_a_name_is_resolved_once_per_grant() -> None:
    """DNS rebinding: the second answer leads elsewhere."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        assert await asked(broker, head(passage)) == "200"
        world.names[HOST] = ["9.9.9.9"]

        assert await asked(broker, head(passage)) == "200"
        await broker.end(passage)
        assert await asked(broker, head(await broker.admit(grant()))) == "200"

    assert world.asked == [HOST, HOST]
    assert world.went == [(PUBLIC, 443), (PUBLIC, 443), ("9.9.9.9", 443)]


async def test_at_once_is_once() -> None:
    """Two tunnels that open together must not look up two answers."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())

        await asyncio.gather(*(asked(broker, head(passage)) for _ in range(5)))

    assert world.asked == [HOST]


async def test_dead_dns_is_said() -> None:
    """N-04: no call leaves, and the code tells the operator why."""
    async with vendor() as world, brokering(world) as broker:
        world.names.clear()
        passage = await broker.admit(grant())

        assert await asked(broker, head(passage)) == "502 name.unresolved"
        [contact] = await broker.end(passage)

    assert contact.refused == "name.unresolved"


async def test_slow_dns_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """N-04: a person waits."""
    monkeypatch.setattr(proxy, "CONNECT_S", 0.1)

    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    broker = Broker(resolve=never)
    await broker.start()
    try:
        assert await asked(broker, head(await broker.admit(grant()))) == "502 name.late"
    finally:
        await broker.aclose()


async def test_the_next_address_is_tried_and_a_dead_vendor_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host without a route to IPv6 still gets an IPv6 address first."""
    monkeypatch.setattr(proxy, "CONNECT_S", 0.2)
    async with vendor() as world:
        went: list[str] = []

        async def connect(address: str, port: int) -> tunnel.Ends:
            went.append(address)
            if address == PUBLIC:
                return await world.connect(address, port)
            if address == "1.1.1.1":
                await asyncio.sleep(60)
            raise ConnectionRefusedError

        broker = Broker(resolve=world.resolve, connect=connect)
        await broker.start()
        world.names = {HOST: ["2001:4860:4860::8888", "1.1.1.1", PUBLIC]}
        assert await asked(broker, head(await broker.admit(grant()))) == "200"
        world.names = {HOST: ["1.1.1.1", "9.9.9.9"]}
        assert await asked(broker, head(await broker.admit(grant()))) == "502 connect.failed"
        world.names = {HOST: ["9.9.9.9", "1.1.1.1"]}
        assert await asked(broker, head(await broker.admit(grant()))) == "502 connect.late"
        await broker.aclose()

    assert went[:3] == ["2001:4860:4860::8888", "1.1.1.1", PUBLIC]


async def test_the_end_of_a_grant_cuts_its_tunnels() -> None:
    """An SDK that reconnects or lingers must not outlive the touch it belongs to."""
    async with vendor() as world, brokering(world) as broker:
        mine, other = await broker.admit(grant()), await broker.admit(grant())
        async with dialling(broker.proxy) as cut, dialling(broker.proxy) as kept:
            await cut.ask(head(mine))
            await kept.ask(head(other))
            assert await cut.echo(start := hello(HOST)) == start
            seen = await broker.end(mine)

            assert await cut.gone()
            assert await kept.echo(start) == start
        assert await asked(broker, head(mine)) == "407 ticket.unknown"
        assert len(seen) == 1
        assert await broker.end(mine) == seen


async def test_what_was_seen_of_a_grant_that_nobody_ended_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is kept for a while only; "nothing was seen" would be a lie on the record."""
    monkeypatch.setattr(egress, "KEPT_S", 0.1)
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant(seconds=0.1))
        while passage.ticket in broker._ways:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)

        with pytest.raises(EgressError, match=r"ticket\.unknown"):
            await broker.end(passage)


async def test_an_expired_grant_is_cut_and_still_tells_what_it_saw() -> None:
    """A gateway that hangs must not keep the way open."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant(seconds=0.2))
        async with dialling(broker.proxy) as client:
            assert await client.ask(head(passage)) == "200"

            assert await client.gone()
        assert await asked(broker, head(passage)) == "403 grant.expired"
        cut, late = await broker.end(passage)

    assert (cut.peer, cut.refused) == ("127.0.0.1", "grant.expired")
    assert (late.peer, late.refused) == ("", "grant.expired")


async def test_a_silent_tunnel_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open connection would hold a place until the grant ends."""
    monkeypatch.setattr(tunnel, "IDLE_S", 0.2)
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        async with dialling(broker.proxy) as client:
            assert await client.ask(head(passage)) == "200"

            assert await client.gone()
        [contact] = await broker.end(passage)

    assert contact.refused == "tunnel.idle"


async def test_the_tunnels_of_a_grant_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconnect loop in an SDK must not become a flood."""
    monkeypatch.setattr(proxy, "MAX_PER_GRANT", 2)
    monkeypatch.setattr(proxy, "MAX_ATTEMPTS", 4)
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        async with dialling(broker.proxy) as one, dialling(broker.proxy) as two:
            assert await one.ask(head(passage)) == "200"
            assert await two.ask(head(passage)) == "200"
            assert await asked(broker, head(passage)) == "429 limit.grant"
            assert await asked(broker, head(await broker.admit(grant()))) == "200"
        await asked(broker, head(passage))

        assert await asked(broker, head(passage)) == "429 limit.attempts"

        assert len(await broker.end(passage)) == 4


async def test_the_connections_of_all_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker's own sockets are finite, and asking for one needs no ticket."""
    monkeypatch.setattr(proxy, "MAX_OPEN", 1)
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        async with dialling(broker.proxy) as one:
            assert await one.ask(head(passage)) == "200"

            assert await asked(broker, head(passage)) == "503 limit.broker"


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (hello("other.vendor.example"), "tls.other_name"),
        (hello(HOST)[:5] + bytes(len(hello(HOST)) - 5), "tls.malformed"),
        (b"\x16\x03\x01\x00\x04\x01\x00\xff\xff", "tls.malformed"),
        (b"GET / HTTP/1.1\r\n\r\n", "tls.missing"),
    ],
)
async def test_a_tunnel_that_asks_for_another_name_is_cut(first: bytes, code: str) -> None:
    """Domain fronting: the CONNECT names one host, the server behind its address is another."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        async with dialling(broker.proxy) as client:
            assert await client.ask(head(passage)) == "200"

            assert await client.echo(first) == b""
        [contact] = await broker.end(passage)

    assert (contact.refused, contact.sent, bytes(world.got)) == (code, 0, b"")
    assert broker.refusals == {code: 1}


async def test_a_client_hello_in_pieces_is_held_until_it_is_whole() -> None:
    """A name split over two segments is a name all the same, and no byte of it is changed."""
    start = hello(HOST)
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        async with dialling(broker.proxy) as client:
            await client.ask(head(passage))
            for at in (2, 40):
                client.writer.write(start[:at] if at == 2 else start[2:at])
                await client.writer.drain()
                await asyncio.sleep(0.05)
            held = bytes(world.got)

            client.writer.write(start[40:])
            found = await client.reader.readexactly(len(start))

    assert (held, found) == (b"", start)


@pytest.mark.parametrize("first", [hello(None), hello(HOST)])
async def test_a_hello_without_a_name_or_with_the_right_one_passes(first: bytes) -> None:
    """Only a name that differs is evidence of anything."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        async with dialling(broker.proxy) as client:
            await client.ask(head(passage))

            assert await client.echo(first) == first


async def test_plain_text_passes_in_development_only() -> None:
    """The simulator of WhatsApp speaks http; production's speech must be unreadable on the way."""
    async with vendor() as world, brokering(world, development=True) as broker:
        world.names[HOST] = ["127.0.0.1"]
        async with dialling(broker.proxy) as client:
            await client.ask(head(await broker.admit(grant())))

            assert await client.echo(b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable must not reroute people's voices."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with vendor() as world, brokering(world) as broker:
        assert await asked(broker, head(await broker.admit(grant()))) == "200"

    assert world.went == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "bad",
    [grant("no-port"), grant("a b:1"), grant("8.8.8.8:443"), grant(seconds=0), grant(seconds=601)],
)
async def test_a_grant_that_cannot_be_kept_is_refused(bad: object) -> None:
    """Better no ticket than one that means something else."""
    async with vendor() as world, brokering(world) as broker:
        with pytest.raises(EgressError):
            await broker.admit(bad)  # type: ignore[arg-type]


async def test_a_closed_broker_gives_no_ticket_and_no_way_out() -> None:
    """It dies closed."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())
        where = broker.proxy
        async with dialling(where) as client:
            await client.ask(head(passage))
            await broker.aclose()

            assert await client.gone()
        with pytest.raises(EgressError):
            await broker.admit(grant())
        with pytest.raises(ConnectionRefusedError):
            await dialling(where).__aenter__()


async def test_a_secret_never_shows() -> None:
    """Passages travel through code that may be logged."""
    async with vendor() as world, brokering(world) as broker:
        passage = await broker.admit(grant())

        assert passage.secret not in repr(passage)
        assert passage.secret not in repr(vars(broker))
