"""Azure Speech through Microsoft's own SDK, our broker, and the vendor's true host names."""

import asyncio
import hashlib
import math
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from simulators.azure_speech import Fault
from simulators.azure_world import KEY, Azure, azure_at, azure_row
from simulators.engines import Heard, real, scripted
from simulators.receipts import fingerprint
from support.pki import Authority
from support.speech import TODAY, heard, recording

from residency import registry
from residency.errors import (
    EngineMissingError,
    ProcessorBusyError,
    ProcessorRefusedError,
    RegistryError,
)
from residency.model import INSIDE, Passage
from residency.processors import azure_native, azure_speech
from residency.processors import azure_row as rows
from residency.processors.azure_native import Call, Phrase
from residency.processors.child import Child
from residency.processors.whisper import WhisperSpeechToText

pytestmark = pytest.mark.anyio

SAID = "Bring the wheelchair to gate seven."
NOTE = heard(bytes(range(250)) * 640)  # 5 s


@pytest.fixture
async def azure(authority: Authority) -> AsyncIterator[Azure]:
    """Yield the vendor, with an engine that always understands the same."""
    async with azure_at(authority, scripted(SAID)) as world:
        yield world


async def test_every_connection_is_in_all_three_books(azure: Azure) -> None:
    """No touch unaudited, no audit without touch: vendor, broker and adapter agree."""
    said, contacts = await azure.transcribe(azure.adapter(), NOTE)
    await azure.here.quiet()

    (receipt,) = azure.here.log.receipts
    (contact,) = contacts
    assert said.text == SAID
    assert receipt.sha256 == hashlib.sha256(NOTE.pcm).hexdigest()
    assert (said.observed.request_id, said.observed.connections) == (receipt.request_id, 1)
    assert said.observed.host == ""  # the row's host is no observation: the broker tells it
    assert [receipt.connection] == azure.here.connections
    assert contact.peer == azure.here.address
    assert contact.host == f"{azure.here.host}:443"
    assert contact.sent >= receipt.audio_bytes == len(NOTE.pcm)
    assert receipt.auth == fingerprint(KEY)


async def test_nothing_but_the_audio_goes_out(azure: Azure) -> None:
    """The SDK reports device and timings by itself, and can be asked to store audio."""
    await azure.transcribe(azure.adapter(), NOTE)
    await azure.here.quiet()

    assert set(azure.here.frames) == {"speech.config", "speech.context", "audio"}
    assert azure.here.targets == ["/stt/speech/universal/v2"]
    assert "storeAudio" not in str(azure.here.contexts)


@pytest.mark.parametrize(
    ("languages", "asked"),
    [(("de",), ["de-DE"]), (("de", "en"), ["de-DE", "en-US"])],
)
async def test_the_language_is_told_from_the_sound(
    azure: Azure, languages: tuple[str, ...], asked: list[str]
) -> None:
    """The answer is spoken back in it; one language needs no guessing."""
    azure.here.faults.append(Fault(heard=Heard("Hallo.", "de", 0.8)))

    said, _ = await azure.transcribe(azure.adapter(), NOTE, languages=languages)

    (context,) = azure.here.contexts
    assert said.language == "de"
    assert said.confidence == pytest.approx(0.8)
    if len(asked) == 1:
        assert context["phraseDetection"]["language"] == "de-DE"
    else:
        assert context["languageId"]["languages"] == asked


async def test_no_more_than_four_languages_are_asked_for(azure: Azure) -> None:
    """The service refuses a fifth candidate: the caller's first four count."""
    await azure.transcribe(azure.adapter(), NOTE, languages=("de", "en", "es", "fr", "it"))

    (context,) = azure.here.contexts
    assert context["languageId"]["languages"] == ["de-DE", "en-US", "es-ES", "fr-FR"]


@pytest.mark.parametrize("said", ["NoMatch", "InitialSilenceTimeout"])
async def test_no_match_is_an_empty_transcript(azure: Azure, said: str) -> None:
    """Silence is an answer: the person is asked again, the vendor is not."""
    azure.here.faults.append(Fault(said=said))

    transcript, _ = await azure.transcribe(azure.adapter(), NOTE)

    assert (transcript.text, transcript.confidence) == ("", 0.0)
    assert transcript.observed.connections == 1


async def test_an_empty_text_counts_for_nothing(azure: Azure) -> None:
    """A phrase without words must not carry a confidence into the dialogue."""
    azure.here.faults.append(Fault(heard=Heard("", "en", 0.9)))

    transcript, _ = await azure.transcribe(azure.adapter(), NOTE)

    assert (transcript.text, transcript.confidence) == ("", 0.0)


async def test_audio_without_speech_is_not_shown_to_the_vendor(azure: Azure) -> None:
    """What the voice detector calls no speech need not leave the cell."""
    quiet = replace(NOTE, voiced_seconds=0.0)

    transcript, contacts = await azure.transcribe(azure.adapter(), quiet)

    assert (transcript.text, contacts) == ("", ())


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, ProcessorRefusedError, "BadRequest"),
        (401, ProcessorRefusedError, "AuthenticationFailure"),
        (403, ProcessorRefusedError, "AuthenticationFailure"),
        (429, ProcessorBusyError, "TooManyRequests"),
        (500, ProcessorBusyError, "ServiceError"),
        (503, ProcessorBusyError, "ServiceUnavailable"),
    ],
)
async def test_a_refused_upgrade_says_whether_to_come_back(
    azure: Azure, status: int, error: type[Exception], code: str
) -> None:
    """A wrong key never heals; a throttle does. The vendor's words stay outside."""
    azure.here.faults.extend([Fault(status=status)] * 5)

    failed, contacts = await azure.transcribe(azure.adapter(), NOTE)

    assert type(failed) is error
    assert str(failed) == f"stt.azure.westeurope: {code}"
    assert len(contacts) == len(azure.here.connections) <= 2


async def test_an_error_after_the_audio_is_busy(azure: Azure) -> None:
    """The service gave up: the same call may work later."""
    azure.here.faults.extend([Fault(said="Error")] * 5)

    failed, contacts = await azure.transcribe(azure.adapter(), NOTE)

    assert type(failed) is ProcessorBusyError
    assert len(contacts) <= 2


async def test_a_phrase_that_cannot_be_read_fails_the_call(azure: Azure) -> None:
    """The SDK swallows what its callbacks raise: the rest would pass for all that was said."""
    azure.here.faults.append(Fault(more={"NBest": [{"Confidence": "high"}]}))

    failed, _ = await azure.transcribe(azure.adapter(), NOTE)

    assert type(failed) is ProcessorBusyError
    assert str(failed) == "stt.azure.westeurope: AnswerUnreadable"


async def test_a_wrong_key_sends_no_audio(azure: Azure) -> None:
    """Keys are bound to a region: that is the vendor's own fence, before the first word."""
    failed, _ = await azure.transcribe(azure.adapter(key="another"), NOTE)

    assert type(failed) is ProcessorRefusedError
    assert (azure.here.frames, len(azure.here.connections)) == ([], 1)


async def test_a_connection_that_drops_is_counted_and_so_is_the_resend(azure: Azure) -> None:
    """The SDK silently sends all audio again: a second touch, in every book."""
    azure.here.faults.append(Fault(drop_after=50_000))

    said, contacts = await azure.transcribe(azure.adapter(), NOTE)
    await azure.here.quiet()

    first, second = azure.here.log.receipts
    assert said.observed.connections == len(contacts) == len(azure.here.connections) == 2
    assert (first.outcome, second.outcome) == ("cut", "done")
    assert second.sha256 == hashlib.sha256(NOTE.pcm).hexdigest()
    assert first.connection != second.connection
    assert sum(contact.sent for contact in contacts) >= first.audio_bytes + second.audio_bytes


@pytest.mark.parametrize("most", [1, 3])
async def test_the_row_says_how_often_audio_may_be_sent(azure: Azure, most: int) -> None:
    """Left alone, the SDK sends a note to five connections."""
    row = azure_row(settings={"max_connections": str(most)})
    azure.here.faults.extend([Fault(drop_after=50_000)] * 5)

    failed, contacts = await azure.transcribe(azure.adapter(row), NOTE)

    assert type(failed) is ProcessorBusyError
    assert len(contacts) == len(azure.here.connections) == most


async def test_an_sdk_that_retries_more_than_it_was_told_is_ended(azure: Azure) -> None:
    """The count is ours to keep: another SDK version may not know the property."""
    azure.here.faults.extend([Fault(drop_after=50_000)] * 5)
    row = azure_row()
    passage = await azure.admit(row)
    child = Child("a test", azure_native.load)

    with pytest.raises(ProcessorBusyError, match="died"):
        await child.ask(_call(azure, passage, retries=4, max_connections=2))
    contacts = await azure.broker.end(passage)

    assert len(contacts) == 3


def _call(azure: Azure, passage: Passage, **changed: Any) -> Call:
    fields: dict[str, Any] = {
        "host": azure.here.host,
        "locales": ("en-US",),
        "pcm": NOTE.pcm,
        "key": KEY,
        "proxy": passage.proxy,
        "ticket": passage.ticket,
        "secret": passage.secret,
        "roots": azure.authority.ca.read_text(),
        "retries": 1,
        "max_connections": 2,
    }
    return Call(**(fields | changed))


async def test_another_regions_certificate_gets_no_audio(azure: Azure) -> None:
    """A name that leads to another region's machines ends at TLS, before the first byte."""
    there = azure.at["germanywestcentral"]
    azure.detours[azure.here.host] = there.host

    failed, contacts = await azure.transcribe(azure.adapter(), NOTE)

    assert type(failed) is ProcessorBusyError
    assert {contact.peer for contact in contacts} == {there.address}
    assert (there.connections, there.frames, there.log.receipts) == ([], [], [])
    assert max(contact.sent for contact in contacts) < 5_000


async def test_an_authority_that_is_not_trusted_gets_no_audio(azure: Azure) -> None:
    """The system's roots hold in production: a test's authority is a stranger there."""
    failed, _ = await azure.transcribe(azure.adapter(roots=None), NOTE)

    assert type(failed) is ProcessorBusyError
    assert azure.here.connections == []


@pytest.mark.parametrize("passage", [INSIDE, Passage(proxy="127.0.0.1:9")], ids=["none", "bare"])
async def test_there_is_no_way_but_the_brokers(azure: Azure, passage: Passage) -> None:
    """Without a passage the SDK would dial by itself: it is not even started."""
    adapter = azure.adapter()

    with pytest.raises(ProcessorRefusedError, match="no passage"):
        await adapter.transcribe(NOTE, languages=("en",), passage=passage)

    assert [child.pid for child in adapter._children] == [None] * 4


@pytest.mark.parametrize("field", ["ticket", "secret"])
async def test_a_wrong_ticket_opens_nothing(azure: Azure, field: str) -> None:
    """The broker knows its tickets, and the SDK has no second way."""
    adapter = azure.adapter()
    passage = await azure.admit(adapter.processor)

    with pytest.raises((ProcessorBusyError, ProcessorRefusedError)):
        await adapter.transcribe(
            NOTE, languages=("en",), passage=replace(passage, **{field: "wrong"})
        )

    assert (azure.here.connections, azure.lookups) == ([], [])


async def test_proxies_of_the_environment_are_not_asked(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's proxy variable must not become a second way out."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{other.getsockname()[1]}")

        said, contacts = await azure.transcribe(azure.adapter(), NOTE)

        assert (said.text, len(contacts)) == (SAID, 1)
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_a_cancelled_call_stops_sending(azure: Azure) -> None:
    """When a touch has ended, nobody works on its content: the child and its sockets are gone."""
    azure.here.faults.append(Fault(delay_s=30))
    adapter = azure.adapter()
    passage = await azure.admit(adapter.processor)

    call = asyncio.ensure_future(adapter.transcribe(NOTE, languages=("en",), passage=passage))
    await azure.here.arrived.wait()
    (pid,) = [child.pid for child in adapter._children if child.pid]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    said, _ = await azure.transcribe(adapter, NOTE)
    assert said.text == SAID


async def test_a_vendor_that_never_answers_is_busy_in_our_time(azure: Azure) -> None:
    """The SDK's own patience is 70 s."""
    azure.here.faults.append(Fault(start=False))

    failed, _ = await azure.transcribe(azure.adapter(deadline_s=1.5), NOTE)

    assert type(failed) is ProcessorBusyError
    assert str(failed) == "stt.azure.westeurope: no answer in time"


async def test_a_late_end_of_turn_loses_no_words(azure: Azure) -> None:
    """Phrases arrive before the turn ends; the call is whole only then."""
    azure.here.faults.append(Fault(end_delay_s=0.3))

    said, _ = await azure.transcribe(azure.adapter(), NOTE)

    assert said.text == SAID


async def test_twenty_calls_overlap_and_each_has_its_own_words(authority: Authority) -> None:
    """One person's words in another's conversation would be the worst of all faults."""
    notes = [heard(bytes([number, 1]) * 16_000) for number in range(20)]

    async def engine(pcm: bytes, _languages: Any) -> Heard:
        return Heard(f"number {pcm[0]}", "en", 0.9)

    async with azure_at(authority, engine) as azure:
        adapter = azure.adapter(azure_row(settings={"max_calls": "3"}))
        done = await asyncio.gather(*(azure.transcribe(adapter, note) for note in notes))
        await azure.here.quiet()

        assert [said.text for said, _ in done] == [f"number {n}" for n in range(20)]
        ours = {said.observed.request_id for said, _ in done}
        assert ours == {receipt.request_id for receipt in azure.here.log.receipts}
        assert sum(len(contacts) for _, contacts in done) == len(azure.here.connections) == 20


@pytest.mark.parametrize(
    "options",
    [{"telemetry": "on"}, {"mip_opt_out": "true"}, {"telemetry": "off", "region": "westeurope"}],
)
async def test_an_option_that_the_request_does_not_carry_is_refused(
    azure: Azure, options: dict[str, str]
) -> None:
    """An obligation that nobody keeps is worse than none."""
    adapter = azure.adapter()
    passage = replace(await azure.admit(adapter.processor), options=options)

    with pytest.raises(ProcessorRefusedError, match="does not carry"):
        await adapter.transcribe(NOTE, languages=("en",), passage=passage)

    assert azure.lookups == []


async def test_the_options_that_it_carries_are_accepted(azure: Azure) -> None:
    """A row may demand what every call does: no telemetry, no audio kept."""
    row = azure_row(options={"audio-logging": "off", "telemetry": "off"})

    said, _ = await azure.transcribe(azure.adapter(row), NOTE)

    assert said.text == SAID


async def test_options_are_read_back_before_anything_is_dialled(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property that another SDK version ignores would be a promise nobody keeps."""
    sdk: Any = pytest.importorskip("azure.cognitiveservices.speech")
    passage = await azure.admit(azure_row())

    def forgetful(sdk: Any, call: Call) -> Any:
        config = configured(sdk, call)
        config.enable_audio_logging()
        return config

    configured = azure_native.configured
    monkeypatch.setattr(azure_native, "configured", forgetful)
    answer = await asyncio.to_thread(azure_native.recognise, sdk, _call(azure, passage))

    assert answer.error == azure_native.UNPROVEN
    assert azure.lookups == []


async def test_a_language_outside_the_row_is_refused(azure: Azure) -> None:
    """The vendor would answer in some language; the row was reviewed for these."""
    failed, contacts = await azure.transcribe(azure.adapter(), NOTE, languages=("hi",))

    assert type(failed) is ProcessorRefusedError
    assert contacts == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"hosts": ("germanywestcentral.stt.speech.microsoft.com:443",)}, "hosts must be"),
        ({"hosts": ("westeurope.stt.speech.microsoft.com:80",)}, "hosts must be"),
        ({"hosts": ("westeurope.stt.speech.azure.us:443",)}, "hosts must be"),
        ({"hosts": ()}, "hosts must be"),
        ({"settings": {"vendor_region": ""}}, "must be a region of Azure's"),
        (
            {
                "hosts": ("speech.microsoft.com/?.stt.speech.microsoft.com:443",),
                "settings": {"vendor_region": "speech.microsoft.com/?"},
            },
            "must be a region of Azure's",
        ),
        ({"settings": {"locale.de": "de"}}, "locale.de"),
        ({"settings": {"max_connections": "0"}}, "max_connections"),
        ({"settings": {"max_connections": "6"}}, "max_connections"),
        ({"settings": {"max_calls": "many"}}, "max_calls"),
    ],
)
def test_a_row_that_does_not_agree_is_no_adapter(changed: dict[str, Any], says: str) -> None:
    """The SDK dials whatever it is told: the row is held against itself first."""
    with pytest.raises(RegistryError, match=says):
        rows.read(azure_row(**changed))


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("usgovvirginia", "usgovvirginia.stt.speech.azure.us"),
        ("chinaeast2", "chinaeast2.stt.speech.azure.cn"),
    ],
)
def test_another_cloud_is_another_host(region: str, host: str) -> None:
    """Given ``region=usgovvirginia`` the SDK dials the public cloud."""
    assert rows.read(azure_row(region, hosts=(f"{host}:443",))).host == host
    with pytest.raises(RegistryError):
        rows.read(azure_row(region))


def test_every_row_that_ships_is_one_the_adapter_takes() -> None:
    """A seed row that cannot be built would be found on the day it is needed."""
    found = [row for row in registry.load(today=TODAY) if row.adapter == "azure-speech"]

    assert found
    for row in found:
        assert rows.read(row).host.startswith(row.settings["vendor_region"])


def test_without_the_sdk_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK is proprietary and optional."""
    monkeypatch.setattr(azure_speech, "installed", lambda: False)

    with pytest.raises(EngineMissingError, match=r"pip install vocustody\[azure\]"):
        azure_speech.AzureSpeechToText(azure_row(), key=KEY)


def test_secrets_are_in_no_repr(azure_call: Call) -> None:
    """A traceback with locals must not print a key or somebody's voice."""
    shown = repr(azure_call)

    assert not [each for each in ("the-key", "the-secret", "the-voice") if each in shown]


@pytest.fixture
def azure_call() -> Call:
    """Return a call with a secret in every secret field."""
    return Call(
        host="h",
        locales=(),
        pcm=b"the-voice",
        key="the-key",
        proxy="p:1",
        ticket="t",
        secret="the-secret",
        retries=0,
        max_connections=1,
    )


def test_confidence_is_weighted_by_length() -> None:
    """One sure short word must not cover for a long unsure sentence."""
    phrases = [Phrase("yes", "", 1.0, 1), Phrase("a long one", "", 0.5, 9), Phrase("", "", 0, 90)]

    assert math.isclose(azure_speech.confidence(phrases), 0.55)
    assert azure_speech.confidence([Phrase("a", "", 0.9, 0), Phrase("b", "", 0.4, 0)]) == 0.4
    assert azure_speech.confidence([Phrase("a", "", 7.0, 1)]) == 1.0
    assert azure_speech.confidence([]) == 0.0


@pytest.mark.parametrize("said", [{}, {"NBest": None, "PrimaryLanguage": None}, {"NBest": []}])
def test_a_phrase_that_lacks_fields_is_empty(said: dict[str, Any]) -> None:
    """The vendor's shape is the vendor's to change: a bare `KeyError` helps nobody."""
    assert azure_native.phrase(said) == Phrase("", "", 0.0, 0)


@pytest.mark.engine
async def test_a_real_engine_hears_what_was_said(authority: Authority) -> None:
    """The whole way with a real voice: SDK, broker, TLS, frames, and Whisper behind them."""
    whisper = WhisperSpeechToText(registry.load(today=TODAY).get("stt.whisper-base.eu-central"))
    note = recording("asterisk_it_enter-num-blacklist")
    try:
        async with azure_at(authority, real(whisper)) as azure:
            said, _ = await azure.transcribe(azure.adapter(), note, languages=("en", "it"))
    finally:
        await whisper.aclose()

    assert "numero da aggiungere alla lista nera" in said.text
    assert said.language == "it"
