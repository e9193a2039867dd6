"""The probe: a real TLS server behind the real broker, and what its certificate gives away."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from support.gateway import Clock
from support.pki import Authority
from support.speech import a_processor

from audit import leaf
from audit.errors import StoreError
from audit.model import Event, EventType, Leaf, Receipt
from audit.trail import Trail
from gateway import probe
from gateway.audio import ogg
from gateway.findings import Findings
from gateway.metrics import Metrics
from gateway.probe import Probe
from gateway.touch import Matter, touching
from residency import handshake
from residency.errors import ProcessorBusyError
from residency.model import INSIDE, Audio, Grant, Observed, Passage, Processor, Service, Transcript
from residency.ports import SpeechToText
from residency.proxy import Broker
from residency.tunnel import Ends

HOST = "westeurope.stt.vendor.example"
ROW = a_processor(
    Service.SPEECH_TO_TEXT,
    "azure-speech",
    id="stt.azure.nl-west",
    hosts=(f"{HOST}:443",),
    settings={"vendor_region": "westeurope"},
    contract="DPA 7",
    contract_expires=date(2027, 1, 31),
)


class Vendor:
    """A TLS server that presents what it is told to; *port* once it listens."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, context: ssl.SSLContext) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(_hang_up, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop."""
        if self._server:
            self._server.close()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.transport.abort()


class Broken:
    """A speech engine that raises *fault*."""

    def __init__(self, fault: Exception) -> None:
        self.processor = ROW
        self.fault = fault

    async def transcribe(
        self, audio: Audio, *, languages: Sequence[str], passage: Passage = INSIDE
    ) -> Transcript:
        """Raise it."""
        raise self.fault

    async def aclose(self) -> None:
        """Do nothing."""


class Forgetful:
    """A trail whose store fails while it is asked what was left open."""

    def __init__(self, inner: Trail) -> None:
        self.inner = inner

    async def append(self, event: Event) -> Receipt:
        """Append."""
        return await self.inner.append(event)

    async def checkpoint(self) -> str:
        """Pass through."""
        return await self.inner.checkpoint()

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Raise."""
        raise StoreError("database is locked")


class Engine:
    """A speech engine that answers from *region*, and keeps what it was given."""

    def __init__(self, region: str) -> None:
        self.processor = ROW
        self.region = region
        self.heard: list[tuple[Audio, Passage]] = []

    async def transcribe(
        self, audio: Audio, *, languages: Sequence[str], passage: Passage = INSIDE
    ) -> Transcript:
        """Return nothing heard, and the region."""
        self.heard.append((audio, passage))
        return Transcript(
            text="", language=languages[0], confidence=0.0, observed=Observed(region=self.region)
        )

    async def aclose(self) -> None:
        """Do nothing."""


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """Yield a vendor that does not listen yet."""
    made = Vendor()
    yield made
    await made.aclose()


@pytest.fixture
async def broker(vendor: Vendor) -> AsyncIterator[Broker]:
    """Yield the real broker; the vendor's name leads to this machine."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async def connect(address: str, port: int) -> Ends:
        return await asyncio.open_connection(address, vendor.port)

    made = Broker(development=True, resolve=resolve, connect=connect)
    await made.start()
    yield made
    await made.aclose()


@pytest.fixture
def found(cell_db: AsyncEngine, trail: Trail, clock: Clock) -> Findings:
    """Return the findings of the cell."""
    return Findings(cell_db, trail, Metrics(processors=[ROW.id]), cell="eu-1", now=clock)


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    """Return a context that knows the test authority alone."""
    return ssl.create_default_context(cafile=authority.ca)


def probing(
    broker: Broker,
    found: Findings,
    trail: Trail | Forgetful,
    clock: Clock,
    trust: ssl.SSLContext,
    *rows: Processor,
    engine: SpeechToText | None = None,
) -> Probe:
    """Return a probe of *rows* (default: `ROW`)."""
    hearing = {ROW.id: engine} if engine else {}
    return Probe(
        rows or (ROW,), hearing, broker, found, trail,
        cell="eu-1", every_s=3600, now=clock, trust=trust,
    )  # fmt: skip


async def leaves(trail: Trail) -> list[Event]:
    """Return everything on the trail."""
    reader = trail.reader()
    _, head = await reader.head()
    return [leaf.decode(i, d).event for i, d in enumerate(await reader.entries(0, head.size))]


@pytest.mark.anyio
async def test_the_right_certificate_and_region_are_evidence(
    vendor: Vendor,
    broker: Broker,
    found: Findings,
    trail: Trail,
    clock: Clock,
    trust: ssl.SSLContext,
    authority: Authority,
) -> None:
    """Each hour without a difference is on the trail: host, address, TLS and region."""
    await vendor.start(authority.leaf(HOST).context())
    engine = Engine("westeurope")

    await probing(broker, found, trail, clock, trust, engine=engine).tick()

    assert found.suspended() == ()
    began, ended = await leaves(trail)
    assert (began.action, began.decision, ended.outcome) == ("probe", "probe", "done")
    assert ended.detail["host"] == f"{HOST}:443"
    assert ended.detail["tls"] == f"TLSv1.3 {HOST}"
    assert ended.detail["peers"] == ["127.0.0.1"]
    assert ended.detail["attested"]["region"] == "westeurope"
    ((heard, passage),) = engine.heard
    assert heard.pcm == probe.tone().pcm
    assert passage.ticket


@pytest.mark.anyio
async def test_another_regions_certificate_is_caught(
    vendor: Vendor,
    broker: Broker,
    found: Findings,
    trail: Trail,
    clock: Clock,
    trust: ssl.SSLContext,
    authority: Authority,
) -> None:
    """A name that was moved by DNS shows its new home here first."""
    await vendor.start(authority.leaf("eastus.stt.vendor.example").context())

    await probing(broker, found, trail, clock, trust).tick()
    await found.settle()

    assert found.suspended() == (ROW.id,)
    (opened,) = [e for e in await leaves(trail) if e.type is EventType.FINDING_OPENED]
    assert opened.detail["kind"] == "certificate"
    assert opened.detail["observed"] == "for eastus.stt.vendor.example"


@pytest.mark.anyio
async def test_another_regions_header_is_caught(
    vendor: Vendor,
    broker: Broker,
    found: Findings,
    trail: Trail,
    clock: Clock,
    trust: ssl.SSLContext,
    authority: Authority,
) -> None:
    """The certificate is a wildcard in real life: then only the answer tells."""
    await vendor.start(authority.leaf("*.stt.vendor.example").context())

    await probing(broker, found, trail, clock, trust, engine=Engine("East US")).tick()
    await found.settle()

    assert found.suspended() == (ROW.id,)
    (opened,) = [e for e in await leaves(trail) if e.type is EventType.FINDING_OPENED]
    assert (opened.detail["kind"], opened.detail["observed"]) == ("region", "East US")


@pytest.mark.anyio
@pytest.mark.parametrize(("expired", "said"), [(True, "expired on"), (False, "unknown authority")])
async def test_a_certificate_that_proves_nothing_is_caught(
    vendor: Vendor,
    broker: Broker,
    found: Findings,
    trail: Trail,
    trust: ssl.SSLContext,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
    expired: bool,  # noqa: FBT001 - a parameter of pytest
    said: str,
    clock: Clock,
) -> None:
    """Old or signed by a stranger: whoever answers is not known to be the vendor."""
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    issuer = authority if expired else stranger
    leaf_ = issuer.leaf(HOST, expired=expired)
    clock.at = datetime.now(UTC)  # certificates are made of real time
    await vendor.start(leaf_.context())

    passage = await broker.admit(
        Grant(processor=ROW.id, decision="d", touch="t", hosts=ROW.hosts, seconds=10)
    )
    seen = await handshake.look(ROW.hosts[0], passage, trust=trust)
    await broker.end(passage)
    fresh = found.consider(ROW, Observed(), certificate=seen)

    assert [said in each.observed for each in fresh] == [True]


@pytest.mark.anyio
async def test_a_name_that_leads_out_of_its_region_is_not_even_probed(
    vendor: Vendor,
    broker: Broker,
    found: Findings,
    trail: Trail,
    clock: Clock,
    trust: ssl.SSLContext,
    authority: Authority,
) -> None:
    """A tone is nobody's voice, but a probe that dials abroad would make a poor witness."""
    await vendor.start(authority.leaf(HOST).context())
    held = replace(ROW, settings={**ROW.settings, "addresses": "192.0.2.0/24"})

    await probing(broker, found, trail, clock, trust, held).tick()

    [ended] = [e for e in await leaves(trail) if e.type is EventType.TOUCH_ENDED]
    assert ended.detail["refused"] == [f"{HOST}:443 address.elsewhere"]
    assert "peers" not in ended.detail
    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
async def test_a_vendor_that_is_away_is_no_finding(
    vendor: Vendor,
    broker: Broker,
    found: Findings,
    trail: Trail,
    clock: Clock,
    trust: ssl.SSLContext,
    authority: Authority,
) -> None:
    """Not seen is unknown, not elsewhere; the next row is probed all the same."""
    leaf_ = authority.leaf("other.vendor.example")
    await vendor.start(leaf_.context())
    away = replace(ROW, id="stt.away", hosts=("nobody:1",))
    broker._resolve = _nowhere_but(HOST)  # type: ignore[assignment]

    await probing(broker, found, trail, clock, trust, away, ROW).tick()

    ended = [e for e in await leaves(trail) if e.type is EventType.TOUCH_ENDED]
    assert [(e.processor, e.outcome) for e in ended] == [("stt.away", "raised"), (ROW.id, "done")]
    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [TimeoutError(), ValueError("no certificate")])
async def test_whatever_one_row_raises_the_next_is_probed(
    vendor: Vendor, broker: Broker, found: Findings, trail: Trail, clock: Clock,
    trust: ssl.SSLContext, authority: Authority, fault: Exception,
) -> None:  # fmt: skip
    """What a vendor sends is parsed by others, and may raise anything: nobody else is probed."""
    await vendor.start(authority.leaf(HOST).context())
    running = probing(
        broker, found, trail, clock, trust, ROW, replace(ROW, id="stt.next"), engine=Broken(fault)
    )

    await running.tick()

    ended = [e for e in await leaves(trail) if e.type is EventType.TOUCH_ENDED]
    assert [(e.processor, e.outcome) for e in ended] == [(ROW.id, "raised"), ("stt.next", "done")]
    assert ended[0].detail["error"] == type(fault).__name__


@pytest.mark.anyio
async def test_a_trail_that_cannot_be_read_does_not_end_the_probe(
    vendor: Vendor, broker: Broker, found: Findings, trail: Trail, clock: Clock,
    trust: ssl.SSLContext, authority: Authority,
) -> None:  # fmt: skip
    """A store that is busy for a moment at the start must not blind the cell until the next."""
    await vendor.start(authority.leaf(HOST).context())
    running = probing(broker, found, Forgetful(trail), clock, trust)

    running.start()
    async with asyncio.timeout(10):
        while not await _probed(trail):  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)

    assert running.alive
    await running.aclose()


async def _probed(trail: Trail) -> bool:
    return any(event.type is EventType.TOUCH_ENDED for event in await leaves(trail))


@pytest.mark.anyio
async def test_what_a_killed_cell_left_open_is_ended(
    broker: Broker, found: Findings, trail: Trail, clock: Clock, trust: ssl.SSLContext
) -> None:
    """A touch without an end reads like one under way."""
    matter = Matter(
        tenant="eu-1",
        job="j_probe.eu-1",
        subject="nobody",
        artifact="synthetic-tone",
        decision="probe",
    )
    left = touching(trail, matter, ROW, "probe", now=clock, leave=_given)
    await left.__aenter__()

    await probing(broker, found, trail, clock, trust, replace(ROW, hosts=())).tick()

    assert [event.outcome for event in await leaves(trail)] == [None, "killed"]


async def _given() -> None:
    """Give leave."""


@pytest.mark.anyio
@pytest.mark.parametrize(("contract_days", "review_days"), [(0, 9), (9, 0)])
async def test_an_agreement_that_runs_out_while_the_cell_runs_ends_its_probes(
    vendor: Vendor, broker: Broker, found: Findings, trail: Trail, clock: Clock,
    trust: ssl.SSLContext, authority: Authority, contract_days: int, review_days: int,
) -> None:  # fmt: skip
    """A cell runs for months: who may be asked is a question of today, not of the last start."""
    await vendor.start(authority.leaf(HOST).context())
    today = clock().date()
    row = replace(
        ROW,
        contract_expires=today + timedelta(days=contract_days),
        review_expires=today + timedelta(days=review_days),
    )
    running = probing(broker, found, trail, clock, trust, row)
    await running.tick()
    before = len(await leaves(trail))

    clock.move(86_400)
    await running.tick()

    assert before == 2, "its last day counts"
    assert len(await leaves(trail)) == before


def _nowhere_but(known: str) -> object:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host != known:
            raise OSError
        return ["127.0.0.1"]

    return resolve


@pytest.mark.anyio
async def test_a_ticket_that_is_not_ours_meets_nobody(
    vendor: Vendor, broker: Broker, authority: Authority, trust: ssl.SSLContext
) -> None:
    """The probe has no way round the broker."""
    await vendor.start(authority.leaf(HOST).context())
    forged = Passage(proxy=broker.proxy, ticket="none", secret="none")

    with pytest.raises(ProcessorBusyError, match="ConnectionRefusedError"):
        await handshake.look(f"{HOST}:443", forged, trust=trust)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, hosts=()),
        replace(ROW, contract="", contract_expires=date.min),
        replace(ROW, review_expires=date.min),
    ],
    ids=["inside", "not-filed", "not-reviewed"],
)
async def test_who_has_no_host_or_no_agreement_is_not_probed(
    broker: Broker, found: Findings, trail: Trail, clock: Clock, trust: ssl.SSLContext,
    row: Processor,
) -> None:  # fmt: skip
    """A vendor that is only listed does not hear from us, not even a tone."""
    await probing(broker, found, trail, clock, trust, row).tick()

    assert await leaves(trail) == []


@pytest.mark.anyio
async def test_it_probes_by_itself_and_stops(
    broker: Broker, found: Findings, trail: Trail, clock: Clock, trust: ssl.SSLContext
) -> None:
    """A probe that somebody has to start by hand is not scheduled."""
    running = probing(broker, found, trail, clock, trust, replace(ROW, hosts=()))
    running.start()

    assert running.alive
    await running.aclose()
    assert not running.alive


def test_the_tone_is_nobodys_voice() -> None:
    """It is arithmetic: the same bytes each time, and a note that decoders take."""
    audio = probe.tone()

    assert audio.pcm == probe.tone().pcm
    assert len(audio.pcm) == 32_000
    assert audio.voiced_seconds > 0, "adapters show a vendor nothing that holds no speech"
    assert ogg.inspect(audio.ogg).channels == 1


def test_the_probe_cannot_reach_what_people_said() -> None:
    """Not by rule but by construction: what holds or opens notes is not even loaded."""
    program = (
        "import sys, gateway.probe;"
        "print([m for m in sys.modules if m.split('.')[0] in ('vault', 'policy')"
        " or m in ('gateway.inbox', 'gateway.jobs', 'gateway.note', 'gateway.outbox',"
        " 'gateway.ports', 'gateway.session', 'gateway.whatsapp')])"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "[]"
