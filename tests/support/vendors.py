"""A real cell whose speech vendors are simulators under their true names, and who met whom."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from simulators.receipts import Receipt, ReceiptLog
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from support.cell import GRACE_S, SCRIPTED
from support.pki import Authority
from support.stage import PHONE, secret, until

from audit import leaf
from audit.model import Event, EventType
from audit.trail import Trail
from gateway import probe, settings, webhook
from gateway.audio import prepare
from gateway.compose.cell import Cell, cell
from gateway.compose.egress import Outside
from gateway.demo.cells import TenantPlan, write_settings
from gateway.demo.graph import GraphWorld, listen
from gateway.demo.graph.person import Person
from gateway.errors import DoorError
from residency.tunnel import Ends

HERE = "nl-west"
GOOGLE = "stt.google.nl-west"
AZURE = "stt.azure.nl-west"
LINE = "12025550100"
SPEECH = Path(__file__).parents[1] / "corpus" / "speech"
FORWARD = (SPEECH / "psphinx_misc_en_goforward.ogg").read_bytes()
CARDS = (SPEECH / "psphinx_cards_en_003.ogg").read_bytes()
HTTPS = 443

ROWS = """
[[processor]]
id = "stt.google.nl-west"
template = "google-stt"
region = "nl-west"
languages = ["en"]
options = { location = "europe-west4", model = "long" }
contract = "Example DPA 2026-18, signed 2026-10-02"
contract_expires = 2027-10-01
[processor.settings]
recognizer = "projects/a-project/locations/europe-west4/recognizers/_"
region_header = "x-sim-region"
vendor_region = "europe-west4"

[[processor]]
id = "stt.azure.nl-west"
template = "azure-stt"
region = "nl-west"
languages = ["en"]
settings = { vendor_region = "westeurope"AZURE }
contract = "Example DPA 2026-17, signed 2026-10-02"
contract_expires = 2027-10-01
"""


class Simulator(Protocol):
    """What both vendors' simulators have; the SDKs behind them are extras, loaded when needed."""

    address: str
    port: int
    log: ReceiptLog

    @property
    def host(self) -> str:
        """Return the vendor's name of this endpoint."""
        ...

    async def start(self, authority: Authority) -> None:
        """Serve with a certificate of *authority*."""
        ...

    async def stop(self) -> None:
        """Stop serving."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A connection that the vendor's machine accepted; its simulator knows it as *inner*."""

    at: datetime
    inner: str


@dataclass(slots=True)
class Gate:
    """
    The machine of one simulator: it counts every connection, whoever opened it.

    It is what a packet counter would see: what the simulator makes of a connection is its log.
    """

    behind: Simulator
    port: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Return the address at which it stands."""
        return self.behind.address

    async def start(self, authority: Authority) -> None:
        """Listen, with the simulator behind."""
        await self.behind.start(authority)
        self._server = await asyncio.start_server(self._carry, self.address, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be away: connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
            for writer in self._open:
                writer.transport.abort()
            await self.behind.stop()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = datetime.now(UTC)
        inward, outward = await asyncio.open_connection(self.behind.address, self.behind.port)
        host, port = outward.get_extra_info("sockname")[:2]
        self.arrivals.append(Arrival(at=at, inner=f"{host}:{port}"))
        self._open |= {writer, outward}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, outward))
                group.create_task(_pump(inward, writer))
        finally:
            self._open -= {writer, outward}
            writer.transport.abort()
            outward.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(65_536):
            sink.write(chunk)
            await sink.drain()
    sink.close()


@dataclass(slots=True, kw_only=True)
class Vendors:
    """
    Both vendors, each at home (`google`, `azure`) and elsewhere, and how a cell finds them.

    *detours* let a name lead to another name's address; *lookups* are the names asked for.
    """

    authority: Authority
    gates: Mapping[str, Gate]
    detours: dict[str, str] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    @property
    def google(self) -> Any:
        """Return Google's simulator in europe-west4."""
        return self.gates["europe-west4-speech.googleapis.com"].behind

    @property
    def azure(self) -> Any:
        """Return Azure's simulator in westeurope."""
        return self.gates["westeurope.stt.speech.microsoft.com"].behind

    @property
    def arrivals(self) -> int:
        """Return how many connections there were, to whomever."""
        return sum(len(gate.arrivals) for gate in self.gates.values())

    def outside(self) -> Outside:
        """Return the world for a cell."""
        return Outside(
            resolve=self._resolve, connect=self._connect, roots=self.authority.ca.read_bytes()
        )

    async def _resolve(self, name: str, _port: int) -> Sequence[str]:
        self.lookups.append(name)
        if name not in self.gates:
            raise OSError("no such name")
        return (self.gates[self.detours.get(name, name)].address,)

    async def _connect(self, address: str, port: int) -> Ends:
        ports = {gate.address: gate.port for gate in self.gates.values()}
        return await asyncio.open_connection(address, ports.get(address, port))


@asynccontextmanager
async def selling(
    authority: Authority, said: str = "go forward ten meters"
) -> AsyncIterator[Vendors]:
    """Run both vendors in two regions each; whatever they hear, they understand *said*."""
    gates = {sim.host: Gate(sim) for sim in _simulators(said)}
    try:
        for gate in gates.values():
            await gate.start(authority)
        yield Vendors(authority=authority, gates=gates)
    finally:
        for gate in gates.values():
            await gate.stop()


def _simulators(said: str) -> Iterator[Simulator]:
    from simulators import azure_world, google_world  # noqa: PLC0415 - SDKs are extras
    from simulators.azure_speech import AzureSpeech  # noqa: PLC0415
    from simulators.engines import scripted  # noqa: PLC0415
    from simulators.google_speech import GoogleSpeech  # noqa: PLC0415

    known = {google_world.ACCOUNT: google_world._key().public_key()}
    for number, location in enumerate(google_world.LOCATIONS, start=1):
        yield GoogleSpeech(
            location=location, address=f"127.0.7.{number}", engine=scripted(said), keys=known
        )
    for number, region in enumerate(azure_world.REGIONS, start=1):
        yield AzureSpeech(
            region=region,
            address=f"127.0.8.{number}",
            engine=scripted(said),
            keys=[azure_world.KEY],
        )


@dataclass(slots=True, kw_only=True)
class Shop:
    """A running cell in `HERE`, its vendors, and Ada, who agrees when she is asked."""

    cell: Cell
    config: Path
    vendors: Vendors
    world: GraphWorld
    ada: Person
    said: set[str] = field(default_factory=set)

    async def say(self, note: bytes = FORWARD) -> None:
        """Let Ada speak *note*, and keep its digests, decoded and not."""
        first, audio = not self.said, await prepare.prepare(note, self.cell.ports.decoder)
        self.said |= {hashlib.sha256(each).hexdigest() for each in (audio.ogg, audio.pcm)}
        await self.ada.say(note)
        if first:
            await self.ada.expect(lambda message: message.kind == "buttons", within_s=20)
            await self.ada.press("consent.grant")

    async def answered(self, count: int) -> str:
        """Return the *count*th text that reached Ada, once everything about it has ended."""

        async def done() -> list[str]:
            texts = [each.text for each in self.ada.inbox if each.kind == "text"]
            ended = [e for e in await self.events(EventType.JOB_ENDED) if e.job]
            return texts if len(texts) >= count and len(ended) > count else []

        return str((await until(done))[count - 1])

    async def events(self, *kinds: EventType) -> list[Event]:
        """Return what is on the trail of *kinds* (default: everything), oldest first."""
        trail = self.cell.ports.trail
        assert isinstance(trail, Trail)
        reader = trail.reader()
        _, head = await reader.head()
        entries = enumerate(await reader.entries(0, head.size))
        found = [leaf.decode(index, data).event for index, data in entries]
        return [event for event in found if not kinds or event.type in kinds]

    async def touches(self, action: str = "transcribe") -> list[tuple[Event, Event]]:
        """Return each touch that is an *action*, as it began and as it ended."""
        ends = {event.touch: event for event in await self.events(EventType.TOUCH_ENDED)}
        return [
            (began, ends[began.touch])
            for began in await self.events(EventType.TOUCH_BEGAN)
            if began.action == action and began.touch in ends
        ]

    async def joined(self) -> list[str]:
        """Return where vendors and trail disagree; empty = each touch has its receipts."""
        for gate in self.vendors.gates.values():
            if quiet := getattr(gate.behind, "quiet", None):
                await quiet()
        tone = probe.tone()
        said = self.said | {hashlib.sha256(each).hexdigest() for each in (tone.ogg, tone.pcm)}
        return list(disagreements(await self.events(), self.vendors.gates.values(), said))


@asynccontextmanager
async def shop(
    directory: Path,
    world: GraphWorld,
    vendors: Vendors,
    *,
    more: str = "",
    azure: str = "",
) -> AsyncIterator[Shop]:
    """Run a cell whose registry has *vendors*; *azure* is added to its Azure row's settings."""
    line = world.lines[next(iter(world.lines))]
    config = _settings(directory, world, line, more, azure)
    async with AsyncExitStack() as stack:
        built = await stack.enter_async_context(cell(settings.load(config), vendors.outside()))
        url = await stack.enter_async_context(listen(_door(built)))
        line.callback_url = f"{url}/webhooks/whatsapp/fernruf"
        ada = world.person(PHONE, line=line)
        yield Shop(cell=built, config=config, vendors=vendors, world=world, ada=ada)


def _settings(directory: Path, world: GraphWorld, line: Any, more: str, azure: str) -> Path:
    from simulators import azure_world, google_world  # noqa: PLC0415 - SDKs are extras

    secret(directory, "azure", azure_world.KEY)
    secret(directory, "google", google_world.account_file().decode())
    registry = directory / "processors.toml"
    registry.write_text(_inside() + ROWS.replace("AZURE", azure))
    credentials = (
        f'[processors."{GOOGLE}"]\ncredentials_file = "google"\n'
        f'[processors."{AZURE}"]\nkey_file = "azure"'
    )
    plan = TenantPlan(
        id="fernruf",
        controller="Fernruf GmbH",
        jurisdiction="DE",
        languages=("en",),
        line=line,
    )
    return write_settings(
        directory,
        cell="nl-1",
        region=HERE,
        graph_url=world.url,
        tenants=[plan],
        registry=registry,
        more="\n".join([f"[outbox]\nunknown_grace_seconds = {GRACE_S}", credentials, more]),
    )


def _inside() -> str:
    """Return the scripted registry in `HERE`, without its ears: those are the vendors'."""
    text = SCRIPTED.read_text().replace("eu-central", HERE).replace('"DE"', '"NL"')
    head, *rows = text.split("[[processor]]")
    return "[[processor]]".join([head, *(row for row in rows if "stt.scripted" not in row)])


def _door(built: Cell) -> ASGIApp:
    app = Starlette(routes=webhook.routes(), exception_handlers={DoorError: webhook.refused})

    async def opened(scope: Scope, receive: Receive, send: Send) -> None:
        state = {"doors": built.doors, "vitals": built.vitals}
        await app({**scope, "state": state}, receive, send)

    return opened


@dataclass(frozen=True, slots=True, kw_only=True)
class _Touch:
    name: str
    began: datetime
    ended: Event

    @property
    def request_id(self) -> str:
        """Return the request's id, as the vendor attested it; empty where it did not."""
        return str(self.ended.detail.get("attested", {}).get("request_id", ""))

    def met(self, gate: Gate, at: datetime) -> bool:
        """Tell whether the touch says that it was at *gate* at that time."""
        peers = self.ended.detail.get("peers", ())
        return gate.address in peers and self.began <= at <= self.ended.at


def disagreements(
    events: Sequence[Event], gates: Collection[Gate], said: Collection[str]
) -> Iterator[str]:
    """
    Yield where the audit (*events*) and what the vendors saw (*gates*) disagree, in words.

    Every connection, by address and time, and every receipt, by its connection, must belong to
    exactly one touch; every touch must have the connections it says, and one that is done the
    one receipt with its request id. *said* are the digests of all audio that there was.
    """
    touches = list(_of_vendors(events))
    owners: dict[str, list[_Touch]] = {}
    for gate in gates:
        for arrival in gate.arrivals:
            found = [touch for touch in touches if touch.met(gate, arrival.at)]
            owners[arrival.inner] = found
            if len(found) != 1:
                yield f"a connection to {gate.behind.host} belongs to {len(found)} touches"
        for receipt in gate.behind.log.receipts:
            yield from _of_receipt(receipt, owners.get(receipt.connection, []), said)
    receipts = [receipt.request_id for gate in gates for receipt in gate.behind.log.receipts]
    for touch in touches:
        yield from _of_touch(touch, owners, receipts)


def _of_vendors(events: Sequence[Event]) -> Iterator[_Touch]:
    began = {e.touch: e for e in events if e.type is EventType.TOUCH_BEGAN}
    for event in events:
        if event.type is EventType.TOUCH_ENDED and event.processor in (GOOGLE, AZURE):
            name = f"{event.action} by {event.processor}"
            yield _Touch(name=name, began=began[event.touch].at, ended=event)


def _of_receipt(receipt: Receipt, owners: Sequence[_Touch], said: Collection[str]) -> Iterator[str]:
    if receipt.outcome == "done" and receipt.sha256 not in said:
        yield f"{receipt.region} heard what nobody said"
    for touch in owners:
        detail = touch.ended.detail
        if touch.ended.outcome == "done" and touch.request_id != receipt.request_id:
            yield f"{touch.name}: a receipt of another request"
        if int(detail.get("bytes", 0)) < receipt.audio_bytes:
            yield f"{touch.name}: fewer bytes than the vendor got"
    if len(owners) != 1:
        yield f"a receipt of {receipt.region} belongs to {len(owners)} touches"


def _of_touch(
    touch: _Touch, owners: Mapping[str, Sequence[_Touch]], receipts: Sequence[str]
) -> Iterator[str]:
    said = int(touch.ended.detail.get("connections", 0))
    made = sum(touch in each for each in owners.values())
    if said != made:
        yield f"{touch.name}: says {said} connections, the vendor saw {made}"
    count = receipts.count(touch.request_id)
    if touch.ended.outcome == "done" and count != 1:
        yield f"{touch.name}: {count} receipts"
