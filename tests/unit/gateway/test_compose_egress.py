"""The cell's way out: who goes through the broker, and what is refused before it starts."""

import asyncio
import secrets
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from pathlib import Path

import hvac
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.egress import PUBLIC, World, brokering, grant, vendor
from support.openbao import OpenBao
from support.pki import Authority
from support.settings import CANARY, Configure

from gateway import cli, settings
from gateway.compose import egress as exits
from gateway.compose.cell import cell
from gateway.errors import MissingPartError, SettingsError
from gateway.settings import Settings
from policy.errors import BundleError, FetchError
from policy.fetch import HttpSource
from residency import registry
from residency.control import Control, RemoteEgress
from residency.errors import EgressError
from residency.proxy import Broker
from residency.registry import Registry
from vault.errors import KeyringError
from vault.keyrings.client import Transit
from vault.keyrings.transit import TransitKeyring

KEY = bytes(range(48))
VAULT = "vault.cell.example"
SERVERS = """
[services]
nats = "tls://nats.example:4222"
vault = {{ url = "{vault}", token_file = "token" }}
objects = {{ url = "s3://sealed", access_key_file = "token", secret_key_file = "token" }}
"""


def production(
    configure: Configure, channel: str = "", vault: str = f"https://{VAULT}"
) -> Settings:
    """Return a production cell's settings; *channel* is said of WhatsApp."""
    path = configure(SERVERS.format(vault=vault), mode='"production"')
    path.write_text(path.read_text() + channel)
    return settings.load(path)


def shipped() -> Registry:
    """Return the registry that ships with us."""
    return registry.load(today=date(2026, 11, 22))


def test_the_defaults_of_whatsapp_are_the_registry_s(configure: Configure) -> None:
    """Out of the box, the channel and its row must agree."""
    exits.check(production(configure), shipped())


@pytest.mark.parametrize(
    ("channel", "names"),
    [
        ('graph_url = "https://graph.example/v25.0"', "graph.example:443"),
        ('graph_url = "https://graph.facebook.com:8443/v25.0"', "graph.facebook.com:8443"),
        ('media_hosts = ["lookaside.fbsbx.com", "media.example"]', "media.example:443"),
    ],
)
def test_a_channel_outside_its_row_is_refused_at_start(
    configure: Configure, channel: str, names: str
) -> None:
    """The first note would show it, hours later, as a channel that is always busy."""
    with pytest.raises(SettingsError) as caught:
        exits.check(production(configure, channel), shipped())

    [fault] = caught.value.faults
    assert fault.startswith(
        f"tenants[0].whatsapp.{channel.partition(' ')[0]}: {names} is not among"
    )
    assert "msg.whatsapp.eu-central" in fault


def test_a_vault_must_have_a_name(configure: Configure) -> None:
    """An address cannot be told from a mistake, and no certificate is issued for one."""
    with pytest.raises(SettingsError, match=r"services\.vault\.url: an address"):
        exits.check(production(configure, vault="https://10.0.0.8:8200"), shipped())


def test_simulators_are_for_development(configure: Configure) -> None:
    """Production reaches what its registry row names, and nothing besides."""
    channel = 'graph_url = "http://127.0.0.1:9000/v25.0"\nmedia_hosts = ["127.0.0.1:9000"]\n'
    path = configure()
    path.write_text(path.read_text() + channel)

    assert exits.simulators(settings.load(path)) == ("127.0.0.1:9000",)
    assert exits.simulators(production(configure)) == ()


@pytest.mark.anyio
async def test_a_taken_port_is_named_with_its_setting(configure: Configure) -> None:
    """The most common reason why a server does not start."""
    async with vendor() as world, AsyncExitStack() as stack:
        config = configure(f'[egress]\nlisten = "127.0.0.1:{world.port}"')

        with pytest.raises(MissingPartError, match=r"\[egress\] listen"):
            await exits.egress(settings.load(config), stack)


def test_doctor_names_a_broker_that_is_not_there(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell whose broker is down accepts notes and answers nobody."""
    status = cli.main(["doctor", "--config", str(configure('[egress]\ncontrol = "no.sock"'))])

    said = capsys.readouterr().out
    assert status == 1
    assert "FIX  egress: " in said
    assert "vocustody egress" in said
    assert CANARY not in said


def test_a_separate_broker_needs_a_place_to_be_asked(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would run and serve nobody."""
    assert cli.main(["egress", "--config", str(configure())]) == 2
    assert "egress.control" in capsys.readouterr().err


@pytest.mark.anyio
async def test_the_command_serves_tickets_until_it_is_told_to_stop(configure: Configure) -> None:
    """An operator runs it as another user, the only one with a route out."""
    config = configure('[egress]\ncontrol = "egress.sock"')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "egress", "--config", str(config),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    assert (await process.stderr.readline()).startswith(b"vocustody: broker on 127.0.0.1:")
    egress = RemoteEgress(config.parent / "egress.sock", development=True)

    assert await exits.ready(egress)
    assert (await egress.admit(grant())).proxy.startswith("127.0.0.1:")

    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    with pytest.raises(EgressError):
        await exits.ready(egress)
    await egress.aclose()


@asynccontextmanager
async def tls_before(
    openbao: OpenBao, context: ssl.SSLContext, world: World
) -> AsyncIterator[None]:
    """Have *world* lead to the real OpenBao behind TLS."""
    host, _, port = openbao.url.removeprefix("http://").partition(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_pump(reader, inner[1]), _pump(inner[0], writer))

    server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)
    world.port = server.sockets[0].getsockname()[1]
    yield
    server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
def transit(openbao: OpenBao) -> str:
    """Return a transit mount of this test's own."""
    name = f"transit-{secrets.token_hex(4)}"
    client = hvac.Client(url=openbao.url, token=openbao.token)
    client.sys.enable_secrets_engine("transit", path=name)
    return name


@pytest.mark.anyio
async def test_a_vault_elsewhere_is_reached_through_the_broker(
    openbao: OpenBao, transit: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds every key: not even it is reached in a way that nobody sees."""
    monkeypatch.setattr(exits, "RENEW_S", 0.2)
    async with (
        vendor() as world,
        tls_before(openbao, authority.leaf(VAULT).context(), world),
        brokering(world, private=[f"{VAULT}:8200"]) as broker,
    ):
        world.names = {VAULT: ["10.0.0.8"]}
        standing = exits.Standing(broker, "vault", f"{VAULT}:8200")
        await standing.start()
        adapter = exits.ByPassage(standing)
        mounted = Transit(
            f"https://{VAULT}:8200",
            lambda: openbao.token,
            mount=transit,
            ca=str(authority.ca),
            sessions=1,
            route=lambda session: session.mount("https://", adapter),
        )
        keyring = TransitKeyring(mounted)
        first = standing.passage

        wrapped = await keyring.wrap("kek", KEY)
        while first.ticket in broker._ways:  # noqa: ASYNC110 - until it was renewed twice
            await asyncio.sleep(0.05)

        assert await keyring.unwrap([wrapped]) == [KEY]
        assert standing.passage.ticket != first.ticket
        assert set(world.went) == {("10.0.0.8", 8200)}
        assert len(adapter.proxy_manager) == 1

        await standing.aclose()
        [refused] = await keyring.unwrap([wrapped])
        assert isinstance(refused, KeyringError)
        assert broker._ways == {}


@asynccontextmanager
async def controlled(path: Path, port: int = 0) -> AsyncIterator[Broker]:
    """Serve a broker of this process at *path*, its proxy on *port*."""
    async with AsyncExitStack() as stack:
        broker = Broker()
        await broker.start(port=port)
        stack.push_async_callback(broker.aclose)
        control = Control(broker, development=False)
        await control.start(path)
        stack.push_async_callback(control.aclose)
        yield broker


@pytest.mark.anyio
@pytest.mark.parametrize("same", [True, False])
async def test_a_standing_passage_that_is_dead_is_renewed_at_once(
    tmp_path: Path,
    same: bool,  # noqa: FBT001 - a column
) -> None:
    """A broker that starts again knows no ticket: 20 s without a vault would stop the cell."""
    egress = RemoteEgress(tmp_path / "control")
    standing = exits.Standing(egress, "vault", f"{VAULT}:8200")
    session = requests.Session()
    session.mount("https://", exits.ByPassage(standing))
    async with controlled(tmp_path / "control") as broker:
        await standing.start()
        port = int(broker.proxy.rpartition(":")[2])
    async with controlled(tmp_path / "control", port if same else 0) as broker:
        dead = standing.passage
        with pytest.raises(requests.exceptions.ProxyError):
            await asyncio.to_thread(session.get, f"https://{VAULT}:8200")

        async with asyncio.timeout(exits.RENEW_S / 2):
            while standing.passage is dead:  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(0.05)

        assert standing.passage.ticket in broker._ways
        assert standing.passage.proxy == broker.proxy
        await standing.aclose()
        assert broker._ways == {}
    await egress.aclose()
    session.close()


@pytest.mark.anyio
async def test_a_vault_that_is_down_does_not_cost_a_ticket_per_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each renewal ends the last but one: calls that are under way would be cut by it."""
    monkeypatch.setattr(exits, "AGAIN_S", 3600.0)
    async with vendor() as world, brokering(world) as broker:
        standing = exits.Standing(broker, "vault", f"{VAULT}:8200")
        await standing.start()
        first = standing.passage
        standing.failed(first)
        while standing.passage is first:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)
        second = standing.passage

        standing.failed(second)
        await asyncio.sleep(0.1)

        assert standing.passage is second
        await standing.aclose()


@pytest.mark.anyio
async def test_production_takes_no_ticket_of_a_broker_in_development(
    configure: Configure, tmp_path: Path
) -> None:
    """Its operator is told which of the two to start again, and how."""
    given = production(configure)
    given = given.model_copy(
        update={"egress": given.egress.model_copy(update={"control": tmp_path / "control"})}
    )
    async with AsyncExitStack() as stack:
        broker = Broker(development=True)
        await broker.start()
        stack.push_async_callback(broker.aclose)
        control = Control(broker, development=True)
        await control.start(tmp_path / "control")
        stack.push_async_callback(control.aclose)

        with pytest.raises(EgressError, match=r"runs in development.*cell\.mode"):
            await exits.ready(await exits.egress(given, stack))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("vault", "mounted"), [("http://127.0.0.1:8200", False), ("https://vault.example", True)]
)
async def test_only_a_vault_on_this_machine_is_reached_directly(
    configure: Configure,
    vault: str,
    mounted: bool,  # noqa: FBT001 - a column
) -> None:
    """Bytes to ourselves never leave; all others do, by the broker."""
    table = f'[services]\nvault = {{ url = "{vault}", token_file = "token" }}'
    given = settings.load(configure(table))
    async with vendor() as world, brokering(world) as broker, AsyncExitStack() as stack:
        session = hvac.Client(url=vault).session

        (await exits.vault_mount(given, broker, stack))(session)

        assert isinstance(session.get_adapter("https://vault.example"), exits.ByPassage) is mounted


LAW = "law.cell.example"
PUBLISHED = """
[policy]
source = "{source}"
verify_keys = ["law.pub"]
"""


@pytest.fixture
def followed(configure: Configure, tmp_path: Path) -> Callable[[str], Settings]:
    """Return a function that gives the settings of a cell that follows a source."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "law.pub").write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
    return lambda source: settings.load(configure(PUBLISHED.format(source=source)))


@pytest.mark.anyio
async def test_a_source_of_policy_elsewhere_is_reached_through_the_broker(
    followed: Callable[[str], Settings], authority: Authority
) -> None:
    """A cell whose only way out is the broker still hears of a new law, and by no other way."""

    async def publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nlaw")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(publish, "127.0.0.1", 0, ssl=authority.leaf(LAW).context())
    world = World(port=server.sockets[0].getsockname()[1], names={LAW: [PUBLIC]})
    url = f"https://{LAW}/bundle.tar.gz"
    async with server, brokering(world) as broker:
        async with AsyncExitStack() as stack:
            way = await exits.source_way(followed(url), broker, stack)
            trust = ssl.create_default_context(cafile=authority.ca)
            source = HttpSource(url, way=way, trust=trust)

            assert await source.newest() == b"law"

        with pytest.raises(FetchError):
            await source.newest()
        assert world.went == [(PUBLIC, 443)]
        assert broker._ways == {}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("source", "by_broker"),
    [
        ("bundle.tar.gz", False),
        ("http://127.0.0.1:8000/bundle.tar.gz", False),
        ("https://127.0.0.1:8000/bundle.tar.gz", False),
        (f"https://{LAW}/bundle.tar.gz", True),
    ],
)
async def test_only_a_source_on_this_machine_is_reached_directly(
    followed: Callable[[str], Settings],
    source: str,
    by_broker: bool,  # noqa: FBT001 - a column
) -> None:
    """As with the vault."""
    async with vendor() as world, brokering(world) as broker, AsyncExitStack() as stack:
        way = await exits.source_way(followed(source), broker, stack)

        assert (way() is not None) is by_broker


@pytest.mark.anyio
async def test_a_source_may_stand_on_our_own_network(followed: Callable[[str], Settings]) -> None:
    """As a vault may: it is ours, and its bundles are signed."""
    given = followed(f"https://{LAW}/bundle.tar.gz")
    async with vendor() as world, AsyncExitStack() as stack:
        world.names = {LAW: ["10.0.0.9"]}
        outside = exits.Outside(resolve=world.resolve, connect=world.connect)
        broker = await exits.egress(given, stack, outside)
        way = await exits.source_way(given, broker, stack)

        with pytest.raises(FetchError):  # the server shows no certificate
            await HttpSource(f"https://{LAW}/bundle.tar.gz", way=way).newest()

        assert world.went == [("10.0.0.9", 443)]


def test_a_source_by_its_address_is_refused_at_start(
    followed: Callable[[str], Settings],
) -> None:
    """The broker would never let it out: better to hear of it before anything runs."""
    with pytest.raises(SettingsError, match=r"policy\.source: an address"):
        exits.check(followed("https://203.0.113.7/bundle.tar.gz"), shipped())


@pytest.mark.anyio
async def test_a_cell_asks_its_source_by_the_broker(
    followed: Callable[[str], Settings],
) -> None:
    """The server here shows no certificate at all: that it was asked is what counts."""
    async with vendor() as world:
        world.names = {LAW: [PUBLIC]}
        outside = exits.Outside(resolve=world.resolve, connect=world.connect)

        with pytest.raises((BundleError, FetchError)):
            async with cell(followed(f"https://{LAW}/bundle.tar.gz"), outside=outside):
                pass

        assert world.asked == [LAW]
