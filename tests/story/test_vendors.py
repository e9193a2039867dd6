"""Two vendors of speech in a running cell: what they saw, and what the trail says of it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from support.pki import Authority
from support.speech import recording
from support.stage import until, vocustody
from support.vendors import AZURE, CARDS, FORWARD, GOOGLE, Shop, Vendors, selling, shop

from audit.model import Event, EventType
from gateway import fallback, phrases, probe
from gateway.demo.graph import GraphWorld
from gateway.touch import Matter, touching
from residency.errors import EgressError, ProcessorError
from residency.model import Grant, Observed

pytest.importorskip("azure.cognitiveservices.speech")
pytest.importorskip("google.cloud.speech_v2")

from simulators import azure_speech, google_speech

pytestmark = [pytest.mark.engine, pytest.mark.anyio, pytest.mark.timeout(120)]

GOOGLE_HOST = "europe-west4-speech.googleapis.com"
GOOGLE_ABROAD = "us-central1-speech.googleapis.com"
AZURE_HOST = "westeurope.stt.speech.microsoft.com"
AZURE_ABROAD = "germanywestcentral.stt.speech.microsoft.com"
PROBING = "[probe]\nevery_seconds = 3600"
SOON_S = 5.0


@pytest.fixture
async def vendors(authority: Authority) -> AsyncIterator[Vendors]:
    """Yield both vendors."""
    async with selling(authority) as found:
        yield found


@pytest.fixture
async def cell(tmp_path: Path, graph: GraphWorld, vendors: Vendors) -> AsyncIterator[Shop]:
    """Yield a cell that uses both vendors, Google first."""
    async with shop(tmp_path / "cell", graph, vendors) as opened:
        yield opened


async def heard_by(cell: Shop) -> list[tuple[str | None, str | None]]:
    """Return who heard the notes so far, in order, and with which outcome."""
    return [(ended.processor, ended.outcome) for _, ended in await cell.touches()]


async def waited(cell: Shop) -> timedelta:
    """Return how long after the newest decision about the audio the text began to leave."""
    replies = await cell.touches("send-text")
    made = await cell.events(EventType.POLICY_DECIDED)
    decided = [event.at for event in made if event.action == "transcribe"]
    return replies[-1][0].at - decided[-1]


async def test_each_touch_has_its_receipts_and_each_receipt_its_touch(cell: Shop) -> None:
    """No touch unaudited, no audit without touch: the vendors' own logs are the witness."""
    google, azure = cell.vendors.google, cell.vendors.azure
    await cell.say(FORWARD)
    await cell.answered(1)
    google.faults.append(google_speech.Fault(code=grpc.StatusCode.UNAVAILABLE))
    await cell.say(CARDS)
    await cell.answered(2)

    assert await heard_by(cell) == [(GOOGLE, "done"), (GOOGLE, "raised"), (AZURE, "done")]
    assert await cell.joined() == []
    first, refused = google.log.receipts
    (second,) = azure.log.receipts
    assert first.sha256 == hashlib.sha256(FORWARD).hexdigest()
    assert refused.sha256 == hashlib.sha256(CARDS).hexdigest()
    assert second.audio_bytes == len(recording("psphinx_cards_en_003").pcm)


async def test_a_touch_says_what_was_declared_and_what_was_observed(cell: Shop) -> None:
    """The declaration is on record before a byte leaves, and the connection after it ended."""
    await cell.say()
    await cell.answered(1)

    ((began, ended),) = await cell.touches()
    assert began.detail["declared"] == {
        "country": "NL",
        "hosts": [f"{GOOGLE_HOST}:443"],
        "region": "europe-west4",
    }
    (receipt,) = cell.vendors.google.log.receipts
    seen = dict(ended.detail)
    assert seen.pop("bytes") > receipt.audio_bytes
    assert seen.pop("received") > 0
    assert seen == {
        "attested": {
            "basis": "attested by vendor",
            "region": "europe-west4",
            "request_id": receipt.request_id,
        },
        "basis": "observed",
        "connections": 1,
        "host": f"{GOOGLE_HOST}:443",
        "peers": [cell.vendors.gates[GOOGLE_HOST].address],
        "transfer": "domestic",
    }


async def test_the_join_finds_a_touch_without_receipt_and_a_connection_without_touch(
    cell: Shop,
) -> None:
    """A check that cannot fail proves nothing: both lies are planted, and both are found."""
    gate = cell.vendors.gates[GOOGLE_HOST]
    ports = cell.cell.ports
    _, writer = await asyncio.open_connection(gate.address, gate.port)
    writer.close()
    await until(lambda: _true(gate.arrivals))
    passed_by = await cell.joined()

    async with touching(
        ports.trail,
        Matter(tenant="fernruf", job="j_0", subject="s_0", artifact="a_0", decision="d_0"),
        ports.processors[AZURE],
        "transcribe",
        now=ports.now,
        leave=_leave,
    ) as forged:
        azure = cell.vendors.gates[AZURE_HOST].address
        forged.observe(Observed(request_id="forged", connections=1, peers=(azure,)))
    both = await cell.joined()

    assert passed_by == [f"a connection to {GOOGLE_HOST} belongs to 0 touches"]
    assert both[len(passed_by) :] == [
        f"transcribe by {AZURE}: says 1 connections, the vendor saw 0",
        f"transcribe by {AZURE}: 0 receipts",
    ]


async def _leave() -> None:
    """Let it go on."""


async def _true(value: object) -> bool:
    return bool(value)


async def test_a_vendor_that_answers_from_another_region_is_out_of_the_next_note(
    cell: Shop,
) -> None:
    """Declared NL, answered from the US: found, suspended at once, shown, lifted by a person."""
    cell.vendors.google.faults.append(google_speech.Fault(region="us-central1"))
    config = ("--config", str(cell.config))
    await cell.say()
    await cell.answered(1)
    await cell.say()
    await cell.answered(2)
    await cell.cell.ports.findings.settle()

    assert await heard_by(cell) == [(GOOGLE, "done"), (AZURE, "done")]
    (opened,) = await cell.events(EventType.FINDING_OPENED)
    assert (opened.processor, opened.outcome) == (GOOGLE, "suspended")
    (google, _), _ = await cell.touches()
    middle = (google.at + timedelta(milliseconds=1)).isoformat()
    listed, shown, where, told = await asyncio.gather(
        vocustody("findings", *config),
        vocustody("processors", *config),
        vocustody("where", str(google.artifact), "--at", middle, *config),
        vocustody("timeline", str(google.artifact), *config),
    )
    assert (listed.status, shown.status, where.status, told.status) == (1, 1, 0, 0), where.err
    said = "declared=europe-west4  observed=us-central1  basis=attested by vendor  suspends=True"
    assert said in listed.out
    finding = listed.out.partition("finding=")[2].split()[0]
    assert f"{GOOGLE}  Google  not eligible: suspended by finding {finding} (region)" in shown.out
    assert "  DIFFERS: region: declared europe-west4, observed us-central1\n" in shown.out
    beside = (
        f"declared europe-west4 (NL), host {GOOGLE_HOST}:443; observed host {GOOGLE_HOST}:443,"
        f" peer 127.0.7.1, TLS not seen (tunnel), "
    )
    for answer in (where, told):
        assert beside in answer.out
        assert " bytes out; attested by vendor: us-central1" in answer.out

    closing = ("findings", "close", finding, "--by", "dpo", "--why", "the vendor's fault, mended")
    assert (await vocustody(*closing, *config)).status == 0
    await cell.cell.ports.findings.settle()  # the cell does so every few seconds
    await cell.say()
    await cell.answered(3)
    assert (await heard_by(cell))[2:] == [(GOOGLE, "done")]


async def test_a_certificate_of_another_region_is_found_before_any_note(
    tmp_path: Path, graph: GraphWorld, vendors: Vendors
) -> None:
    """A name that was moved: the probe sees whose certificate it is, and no audio goes there."""
    vendors.detours[AZURE_HOST] = AZURE_ABROAD
    vendors.google.faults.append(google_speech.Fault(code=grpc.StatusCode.UNAVAILABLE))
    async with shop(tmp_path / "cell", graph, vendors, more=PROBING) as cell:
        await until(lambda: _true(AZURE in cell.cell.ports.findings.suspended()))
        await until(lambda: _probed(cell))
        before = vendors.arrivals
        await cell.vendors.gates[GOOGLE_HOST].stop()
        await cell.say()
        await cell.answered(1)
        (opened,) = [
            event
            for event in await cell.events(EventType.FINDING_OPENED)
            if event.detail["kind"] == "certificate"
        ]

        assert opened.detail["observed"] == f"for {AZURE_ABROAD}"
        assert vendors.gates[AZURE_ABROAD].behind.log.receipts == []
        assert await heard_by(cell) == [(GOOGLE, "raised")]
        assert vendors.arrivals == before
        assert await waited(cell) < timedelta(seconds=SOON_S)


async def _probed(cell: Shop) -> list[tuple[Event, Event]]:
    """Return the vendors' probes once each was asked; WhatsApp is asked before them."""
    found = [each for each in await cell.touches("probe") if each[0].processor in (GOOGLE, AZURE)]
    return found if len(found) == 2 else []


async def test_a_name_that_leads_outside_the_regions_addresses_leads_nowhere(
    tmp_path: Path, graph: GraphWorld, vendors: Vendors
) -> None:
    """Where a vendor publishes its region's blocks, an address tells what no header says."""
    vendors.detours[AZURE_HOST] = AZURE_ABROAD
    await vendors.gates[GOOGLE_HOST].stop()
    blocks = ', addresses = "127.0.8.1/32"'
    async with shop(tmp_path / "cell", graph, vendors, azure=blocks) as cell:
        await cell.say()
        await cell.answered(1)
        await cell.say()
        await cell.answered(2)
        await cell.cell.ports.findings.settle()

        assert [who for who, _ in await heard_by(cell)] == [GOOGLE, AZURE, GOOGLE]
        assert cell.cell.ports.findings.suspended() == (AZURE,)
        (opened,) = await cell.events(EventType.FINDING_OPENED)
        assert opened.detail["kind"] == "refused"
        assert opened.detail["observed"] == f"{AZURE_HOST}:443 address.elsewhere"
        assert vendors.gates[AZURE_ABROAD].arrivals == []


@dataclass(slots=True)
class Listener:
    """A proxy that the environment names; *count* is who came."""

    count: int = 0
    url: str = ""

    def meet(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count one, and hang up."""
        self.count += 1
        writer.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """Yield a listener that every variable for proxies points at."""
    listener = Listener()
    server = await asyncio.start_server(listener.meet, "127.0.0.1", 0)
    listener.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "GRPC_PROXY"):
        monkeypatch.setenv(name, listener.url)
        monkeypatch.setenv(name.lower(), listener.url)
    yield listener
    server.close()


async def test_no_proxy_of_the_environment_is_asked(
    proxy: Listener, tmp_path: Path, graph: GraphWorld, vendors: Vendors
) -> None:
    """HTTPS_PROXY is how a native SDK is led past a broker without anybody meaning to."""
    async with shop(tmp_path / "cell", graph, vendors) as cell:
        vendors.google.faults.append(google_speech.Fault(code=grpc.StatusCode.UNAVAILABLE))
        await cell.say()
        await cell.answered(1)

        assert await heard_by(cell) == [(GOOGLE, "raised"), (AZURE, "done")]
        assert await cell.joined() == []
    assert proxy.count == 0


async def test_without_the_broker_neither_sdk_leaves(
    proxy: Listener, tmp_path: Path, graph: GraphWorld, vendors: Vendors
) -> None:
    """It dies closed: a ticket in hand leads nowhere, and no note gets beyond the cell."""
    async with shop(tmp_path / "cell", graph, vendors) as cell:
        ports = cell.cell.ports
        audio = recording("psphinx_misc_en_goforward")
        passages = {who: await ports.egress.admit(_grant(cell, who)) for who in (GOOGLE, AZURE)}
        await ports.egress.aclose()
        for who, passage in passages.items():
            with pytest.raises(ProcessorError):
                await ports.hearing[who].transcribe(audio, languages=("en",), passage=passage)
        with pytest.raises(EgressError):
            await ports.egress.admit(_grant(cell, GOOGLE))
        asked = len(graph.receipts)
        await cell.ada.say(FORWARD)
        await until(lambda: _met(cell, "ChannelBusyError"))

        assert len(graph.receipts) == asked
        assert cell.ada.inbox == []
    assert (vendors.arrivals, vendors.lookups, proxy.count) == (0, [], 0)


def _grant(cell: Shop, who: str) -> Grant:
    hosts = cell.cell.ports.processors[who].hosts
    return Grant(processor=who, decision="d", touch="t", hosts=hosts, seconds=30)


async def _met(cell: Shop, error: str) -> list[Event]:
    ended = await cell.events(EventType.TOUCH_ENDED)
    return [event for event in ended if event.detail.get("error") == error]


async def test_a_silent_vendor_costs_its_share_and_the_next_one_answers(cell: Shop) -> None:
    """Each try is a touch of its own, and leaves the next one time within the same deadline."""
    cell.vendors.google.faults.append(google_speech.Fault(delay_s=30))
    await cell.say()
    await cell.answered(1)

    (silent, gave_up), (_, answered) = await cell.touches()
    assert (silent.processor, gave_up.outcome) == (GOOGLE, "raised")
    assert (answered.processor, answered.outcome) == (AZURE, "done")
    cost_s = (gave_up.at - silent.at).total_seconds()
    assert fallback.VENDOR_S - 0.1 <= cost_s < fallback.VENDOR_S + 2
    assert await cell.joined() == []


async def test_when_every_vendor_is_down_a_text_follows_within_five_seconds(cell: Shop) -> None:
    """Never spill: the list is walked to its end, and then a person reads that it failed."""
    await cell.vendors.gates[GOOGLE_HOST].stop()
    cell.vendors.azure.faults.extend([azure_speech.Fault(status=503)] * 8)
    await cell.say()
    text = await cell.answered(1)

    assert [who for who, _ in await heard_by(cell)] == [GOOGLE, AZURE]
    assert {outcome for _, outcome in await heard_by(cell)} == {"raised"}
    assert text
    assert await waited(cell) < timedelta(seconds=SOON_S)
    assert set(cell.vendors.lookups) <= {GOOGLE_HOST, AZURE_HOST}


async def test_when_nobody_may_hear_it_the_note_is_not_fetched_and_a_text_says_so(
    cell: Shop,
) -> None:
    """An empty allow-list is told within the jurisdiction, and no vendor learns of it; it waits."""
    await cell.say()
    await cell.answered(1)
    ports = cell.cell.ports
    before, fetched = cell.vendors.arrivals, len(await cell.touches("fetch"))
    for who in (GOOGLE, AZURE):
        ports.findings.consider(ports.processors[who], Observed(region="elsewhere"))

    at = ports.now()
    await cell.say(CARDS)
    sent = await until(lambda: _told_down(cell))

    assert sent.at - at < timedelta(seconds=SOON_S)
    assert cell.vendors.arrivals == before
    assert len(await cell.touches("fetch")) == fetched


async def _told_down(cell: Shop) -> Event | None:
    """Return the touch by which Ada was told to type; None before that."""
    down = phrases.say("processor_down", "en")
    told = [each for each in cell.ada.inbox if each.text == down]
    return (await cell.touches("send-notice"))[-1][0] if told else None


async def test_the_scheduled_probe_asks_with_a_tone_and_is_on_the_trail(
    tmp_path: Path, graph: GraphWorld, vendors: Vendors
) -> None:
    """What a health check sends is audio abroad too: it is ours, and it is written down."""
    async with shop(tmp_path / "cell", graph, vendors, more=PROBING) as cell:
        probes = await until(lambda: _probed(cell))

        assert [(ended.processor, ended.outcome) for _, ended in probes] == [
            (GOOGLE, "done"),
            (AZURE, "done"),
        ]
        assert [ended.detail["tls"] for _, ended in probes] == [
            f"TLSv1.3 {GOOGLE_HOST}",
            f"TLSv1.3 {AZURE_HOST}",
        ]
        assert await cell.joined() == []
        tone = probe.tone()
        heard = [*vendors.google.log.receipts, *vendors.azure.log.receipts]
        assert [receipt.sha256 for receipt in heard] == [
            hashlib.sha256(each).hexdigest() for each in (tone.ogg, tone.pcm)
        ]
        assert cell.cell.ports.findings.suspended() == ()
