"""What every egress broker promises, inside the gateway's process or beside it."""

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from support.egress import Client, dialling, grant, head, vendor

from residency.control import Control, RemoteEgress
from residency.errors import EgressError
from residency.model import Passage
from residency.ports import Egress
from residency.proxy import Broker

pytestmark = pytest.mark.anyio

SERVE = """
import asyncio, sys
from pathlib import Path
from residency.control import Control
from residency.proxy import Broker

async def main():
    broker = Broker(development=True)
    await broker.start()
    await Control(broker, development=True).start(Path(sys.argv[1]))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(slots=True)
class Way:
    """An egress under test, and the vendor's address behind it."""

    egress: Egress
    target: str


@asynccontextmanager
async def separate(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a broker in a process of its own, its control socket at *path*."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture(params=["in-process", "separate"])
async def way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Way]:
    """Yield each adapter in turn, with a vendor that echoes."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(vendor())
        egress: Egress
        if request.param == "in-process":
            broker = Broker(development=True)
            await broker.start()
            egress = broker
        else:
            await stack.enter_async_context(separate(tmp_path / "control"))
            egress = RemoteEgress(tmp_path / "control", development=True)
        stack.push_async_callback(egress.aclose)
        yield Way(egress, f"127.0.0.1:{world.port}")


async def opened(passage: Passage, client: Client, target: str) -> bool:
    """Whether *client* gets a tunnel to *target*."""
    return await client.ask(head(passage, target)) == "200"


async def test_a_ticket_opens_the_way_and_its_end_closes_it(way: Way) -> None:
    """The touch ends when the call does, and says what was seen."""
    passage = await way.egress.admit(grant(way.target))
    async with dialling(passage.proxy) as client:
        assert await opened(passage, client, way.target)
        assert await client.echo(b"hello") == b"hello"

        [contact] = await way.egress.end(passage)

        assert await client.gone()
    assert (contact.host, contact.peer) == (way.target, "127.0.0.1")
    assert (contact.sent, contact.received, contact.refused) == (5, 5, "")


async def test_what_was_refused_is_told(way: Way) -> None:
    """An attempt to leave elsewhere is the finding, even though nothing left."""
    passage = await way.egress.admit(grant(way.target))
    async with dialling(passage.proxy) as client:
        assert await client.ask(head(passage, "other.example:443")) == "403 host.not_granted"

    [contact] = await way.egress.end(passage)

    assert (contact.host, contact.refused) == ("other.example:443", "host.not_granted")


@pytest.mark.parametrize(
    ("block", "answer"), [("127.0.0.0/8", "200"), ("192.0.2.0/24", "403 address.elsewhere")]
)
async def test_a_name_is_held_to_the_blocks_of_its_grant(way: Way, block: str, answer: str) -> None:
    """Whoever's resolver it is: outside the region's addresses nothing is dialled."""
    target = f"localhost:{way.target.rpartition(':')[2]}"
    passage = await way.egress.admit(replace(grant(target), blocks=(block, "::1/128")))
    async with dialling(passage.proxy) as client:
        assert await client.ask(head(passage, target)) == answer

    await way.egress.end(passage)


async def test_ending_twice_is_safe(way: Way) -> None:
    """A cancelled call ends in more than one place."""
    passage = await way.egress.admit(grant(way.target))

    assert await way.egress.end(passage) == ()
    assert await way.egress.end(passage) == ()
    async with dialling(passage.proxy) as client:
        assert await client.ask(head(passage, way.target)) == "407 ticket.unknown"


async def test_ends_at_once_tell_the_same(way: Way) -> None:
    """A cancelled call's end may still be under way: the second must not say "nothing"."""
    passage = await way.egress.admit(grant(way.target))
    async with dialling(passage.proxy) as client:
        assert await opened(passage, client, way.target)

        first, second = await asyncio.gather(*map(way.egress.end, [passage, passage]))

    assert first == second
    assert [contact.peer for contact in first] == ["127.0.0.1"]


async def test_a_ticket_that_is_not_known_was_not_unused(way: Way) -> None:
    """What went through it is unknown; "no contacts" on record would mean that nothing did."""
    passage = await way.egress.admit(grant(way.target))

    with pytest.raises(EgressError):
        await way.egress.end(replace(passage, ticket="0" * len(passage.ticket)))
    assert await way.egress.end(passage) == ()


async def test_a_grant_that_cannot_be_kept_is_refused(way: Way) -> None:
    """The same error wherever the broker runs."""
    with pytest.raises(EgressError, match=r"host\.literal"):
        await way.egress.admit(grant("8.8.8.8:443"))


async def test_tickets_may_be_asked_for_at_once(way: Way) -> None:
    """Many jobs leave at a time; each must get its own way and its own contacts."""
    passages = await asyncio.gather(*(way.egress.admit(grant(way.target)) for _ in range(20)))

    assert len({passage.ticket for passage in passages}) == 20
    assert await asyncio.gather(*map(way.egress.end, passages)) == [()] * 20


async def test_closing_cuts_everything(way: Way) -> None:
    """A cell that stops leaves no tunnel behind."""
    passage = await way.egress.admit(grant(way.target))
    async with dialling(passage.proxy) as client:
        assert await opened(passage, client, way.target)

        await way.egress.aclose()

        assert await client.gone()
    await way.egress.aclose()


async def test_a_gateway_that_dies_leaves_no_way_open(tmp_path: Path) -> None:
    """Its touches have no end on record: what goes on under them must stop."""
    async with vendor() as world, separate(tmp_path / "control"):
        target = f"127.0.0.1:{world.port}"
        dying, other = (
            RemoteEgress(tmp_path / "control", development=True),
            RemoteEgress(tmp_path / "control", development=True),
        )
        passage, kept = await dying.admit(grant(target)), await other.admit(grant(target))
        async with dialling(passage.proxy) as client, dialling(kept.proxy) as living:
            assert await opened(passage, client, target)
            assert await opened(kept, living, target)
            assert dying._line is not None
            dying._line[1].transport.abort()

            assert await client.gone()
            assert await living.echo(b"hello") == b"hello"
        async with dialling(passage.proxy) as client:
            assert await client.ask(head(passage, target)) == "407 ticket.unknown"
        await other.aclose()


async def test_a_broker_that_dies_takes_every_way_with_it(tmp_path: Path) -> None:
    """It dies closed; what it saw is lost, and that is said instead of "nothing was seen"."""
    async with vendor() as world, separate(tmp_path / "control") as process:
        target = f"127.0.0.1:{world.port}"
        egress = RemoteEgress(tmp_path / "control", development=True)
        passage = await egress.admit(grant(target))
        async with dialling(passage.proxy) as client:
            assert await opened(passage, client, target)
            process.send_signal(signal.SIGKILL)
            await process.wait()

            assert await client.gone()
        with pytest.raises(EgressError):
            await egress.admit(grant(target))
        with pytest.raises(EgressError, match=r"egress\.lost"):
            await egress.end(passage)
        with pytest.raises(ConnectionRefusedError):
            await dialling(passage.proxy).__aenter__()

        async with separate(tmp_path / "control"):
            again = await egress.admit(grant(target))
            assert await egress.end(again) == ()
        await egress.aclose()


@asynccontextmanager
async def controlled(path: Path, *, development: bool = False) -> AsyncIterator[Control]:
    """Serve a broker of this process at *path*."""
    broker = Broker(development=development)
    await broker.start()
    control = Control(broker, development=development)
    await control.start(path)
    try:
        yield control
    finally:
        await control.aclose()
        await broker.aclose()


async def test_a_broker_that_was_started_again_knows_nothing_of_before(tmp_path: Path) -> None:
    """Calls that end at once: the first finds the line dead, the others a broker that is new."""
    path = tmp_path / "control"
    egress = RemoteEgress(path)
    async with controlled(path):
        ended, *open_ = [await egress.admit(grant()) for _ in range(5)]
        assert await egress.end(ended) == ()
    async with controlled(path):
        told = await asyncio.gather(*map(egress.end, open_[:3]), return_exceptions=True)
        await egress.end(await egress.admit(grant()))
        with pytest.raises(EgressError, match=r"egress\.lost"):
            await egress.end(open_[3])

        assert [str(each) for each in told] == ["egress.lost"] * 3
        assert await egress.end(ended) == ()
        await egress.aclose()


async def test_the_control_answer_names_a_ticket_it_does_not_know(tmp_path: Path) -> None:
    """A connection ends what it was granted; of anything else it learns that it is unknown."""
    path = tmp_path / "control"
    async with controlled(path):
        owner = RemoteEgress(path)
        passage = await owner.admit(grant())
        reader, writer = await asyncio.open_unix_connection(path)
        assert msgspec.json.decode(await reader.readline()) == {"development": False}
        writer.write(msgspec.json.encode({"type": "end", "ticket": passage.ticket}) + b"\n")

        answer = msgspec.json.decode(await reader.readline())

        writer.transport.abort()
        assert answer["error"] == "ticket.unknown"
        assert await owner.end(passage) == ()
        await owner.aclose()


async def test_production_trusts_no_broker_of_development(tmp_path: Path) -> None:
    """Such a one lets out to loopback and in plain text, whatever the gateway's settings say."""
    path = tmp_path / "control"
    async with controlled(path, development=True):
        strict, lax = RemoteEgress(path), RemoteEgress(path, development=True)

        for _ in range(2):
            with pytest.raises(EgressError, match="runs in development"):
                await strict.admit(grant())

        assert await lax.end(await lax.admit(grant())) == ()
        await lax.aclose()


@pytest.mark.parametrize("greeting", [b"{}\n", b'{"passage":null}\n', b"\n"])
async def test_a_broker_that_does_not_say_its_mode_is_not_trusted(
    tmp_path: Path, greeting: bytes
) -> None:
    """An older one, or something else at the socket's path, must not pass for strict."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_unix_server(greet, tmp_path / "control")

    with pytest.raises(EgressError, match=r"broker: (ValidationError|DecodeError)"):
        await RemoteEgress(tmp_path / "control").admit(grant())

    server.close()


async def test_the_control_socket_is_its_owner_s(tmp_path: Path) -> None:
    """Whoever can open it can let anything out."""
    path = tmp_path / "control"
    before = os.umask(0)
    try:
        control = Control(Broker(), development=False)
        await control.start(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await control.aclose()


async def test_a_file_in_the_socket_s_place_is_not_removed(tmp_path: Path) -> None:
    """A wrong path in the settings must not cost a file."""
    path = tmp_path / "control"
    path.write_text("precious")

    with pytest.raises(OSError, match="in use"):
        await Control(Broker(), development=False).start(path)

    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "line", [b"{}\n", b"hello\n", b'{"type":"admit"}\n', b"[" * 2_000_000 + b"\n"]
)
async def test_nonsense_on_the_control_socket_ends_that_connection_alone(
    tmp_path: Path, line: bytes
) -> None:
    """Two gateways share a broker: one's fault is not the other's."""
    path = tmp_path / "control"
    broker = Broker()
    await broker.start()
    control = Control(broker, development=False)
    await control.start(path)
    egress = RemoteEgress(path)
    passage = await egress.admit(grant("stt.vendor.example:443"))

    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    with contextlib.suppress(ConnectionError):  # it closed before it had read all
        await reader.readline()  # the greeting
        assert await reader.read() == b""
    writer.transport.abort()

    assert await egress.end(passage) == ()
    await egress.aclose()
    await control.aclose()
    await broker.aclose()
