"""Google Speech through the broker: one call, one connection, one place."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date

import grpc  # type: ignore[import-untyped]
import pytest
from google.cloud.speech_v2.types import cloud_speech as speech
from simulators.engines import Heard, real, scripted
from simulators.google_speech import Fault
from simulators.google_world import SAID, Google, google_at, google_row, recognizer
from simulators.receipts import fingerprint
from support.pki import Authority
from support.speech import heard, recording

from residency import registry
from residency.errors import ProcessorBusyError, ProcessorRefusedError, RegistryError
from residency.model import Audio, Passage
from residency.processors import google_request
from residency.processors.whisper import WhisperSpeechToText

pytestmark = pytest.mark.anyio

EUROPE, AMERICA = "europe-west4", "us-central1"
NOTE = recording("psphinx_misc_en_goforward")
LONG = replace(NOTE, seconds=61.0)
QUOTE = "the vendor's text, which may quote a person"


@pytest.fixture
async def google(authority: Authority) -> AsyncIterator[Google]:
    """Yield the vendor with a scripted engine."""
    async with google_at(authority, scripted(SAID)) as found:
        yield found


async def test_the_note_arrives_whole_and_undecoded(google: Google) -> None:
    """What the vendor says it got is what the person sent, and nothing is said of the device."""
    transcript, _ = await google.transcribe(google.adapter(), NOTE, languages=("en", "de"))

    (receipt,) = google.at[EUROPE].log.receipts
    (config,) = google.at[EUROPE].requests
    assert transcript.text == SAID
    assert receipt.sha256 == hashlib.sha256(NOTE.ogg).hexdigest()
    assert receipt.audio_bytes == len(NOTE.ogg)
    assert config.explicit_decoding_config.encoding.name == "OGG_OPUS"
    assert (config.model, list(config.language_codes)) == ("short", ["en-US", "de-DE"])


async def test_touches_and_receipts_join_both_ways(google: Google) -> None:
    """No touch without a receipt, no receipt without a touch: what an auditor checks first."""
    adapter = google.adapter()

    outcomes = [await google.transcribe(adapter, NOTE) for _ in range(3)]

    receipts = google.at[EUROPE].log.by_request()
    seen = {transcript.observed.request_id: contacts for transcript, contacts in outcomes}
    assert seen.keys() == receipts.keys()
    assert len(seen) == len(google.at[EUROPE].connections) == 3
    assert len({receipt.connection for receipt in receipts.values()}) == 3
    for transcript, (contact,) in outcomes:
        assert (transcript.observed.host, contact.host) == ("", f"{google.at[EUROPE].host}:443")
        assert (contact.peer, contact.refused) == (google.at[EUROPE].address, "")
        assert contact.sent > len(NOTE.ogg)
    assert google.at[AMERICA].connections == []


async def test_each_call_has_a_token_of_its_own(google: Google) -> None:
    """A token seen at one call is of no use for long; the log holds its fingerprint only."""
    await google.transcribe(google.adapter(), NOTE)

    (receipt,) = google.at[EUROPE].log.receipts
    assert len(receipt.auth) == len(fingerprint("any"))


@pytest.mark.parametrize(
    ("note", "method"),
    [
        (NOTE, "Recognize"),
        (replace(NOTE, seconds=60.0), "Recognize"),
        (LONG, "StreamingRecognize"),
    ],
)
async def test_long_notes_are_streamed(google: Google, note: Audio, method: str) -> None:
    """Recognize takes a minute; a bucket for more would be another processor."""
    transcript, _ = await google.transcribe(google.adapter(), note)

    (receipt,) = google.at[EUROPE].log.receipts
    assert google.at[EUROPE].methods == [method]
    assert receipt.sha256 == hashlib.sha256(NOTE.ogg).hexdigest()
    assert transcript.text == SAID
    assert transcript.observed.request_id == receipt.request_id
    assert transcript.observed.region == EUROPE


async def test_a_heavy_note_is_streamed(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recognize counts bytes as well as seconds."""
    monkeypatch.setattr("residency.processors.google_speech.INLINE_BYTES", len(NOTE.ogg) - 1)

    await google.transcribe(google.adapter(), NOTE)

    assert google.at[EUROPE].methods == ["StreamingRecognize"]


async def test_a_stream_s_messages_stay_under_the_limit(google: Google) -> None:
    """A message over 15 KB is refused by the vendor, and the note with it."""
    ogg = recording("digits_es_3").ogg
    pins = google.adapter()._pins
    how = google_request.config(pins, ogg, ["es-ES"])

    first, *rest = [message async for message in google_request.pieces(pins, ogg * 4, how)]

    assert first.recognizer == recognizer(EUROPE)
    assert b"".join(message.audio for message in rest) == ogg * 4
    assert max(len(message.audio) for message in rest) <= 15 * 1024


async def test_a_note_longer_than_a_stream_is_refused_unsent(google: Google) -> None:
    """The vendor cuts a stream after five minutes: half a note is a wrong answer."""
    outcome, contacts = await google.transcribe(google.adapter(), replace(NOTE, seconds=301.0))

    assert isinstance(outcome, ProcessorRefusedError)
    assert contacts == ()


async def test_no_words_are_an_answer(google: Google) -> None:
    """Google sends no result for a note in which it hears nothing."""
    google.at[EUROPE].faults.append(Fault(heard=Heard("", "en", 0.0)))

    transcript, _ = await google.transcribe(google.adapter(), NOTE)

    assert (transcript.text, transcript.confidence, transcript.language) == ("", 0.0, "en")


@pytest.mark.parametrize("note", [NOTE, LONG], ids=["inline", "streamed"])
async def test_doubt_and_another_language_are_reported(google: Google, note: Audio) -> None:
    """The gateway asks again when the confidence is low; it answers in the language heard."""
    google.at[EUROPE].faults.append(Fault(heard=Heard("zehn Meter vor", "de", 0.25)))

    transcript, _ = await google.transcribe(google.adapter(), note, languages=("en", "de"))

    assert (transcript.text, transcript.language) == ("zehn Meter vor", "de")
    assert transcript.confidence == pytest.approx(0.25)


async def test_a_note_is_as_sure_as_its_least_sure_part(google: Google) -> None:
    """A long note comes back in parts, and one misheard part can turn its meaning round."""
    parts = [(0.9, "go"), (0.3, "not"), (1.5, "forward")]
    results = [
        speech.StreamingRecognitionResult(
            alternatives=[{"transcript": word, "confidence": confidence}]
        )
        for confidence, word in parts
    ]
    answers = [speech.StreamingRecognizeResponse(results=[each]) for each in results]

    whole = google.adapter()._transcript(answers, {}, "en-US")
    last = google.adapter()._transcript(answers[2:], {}, "en-US")

    assert whole.text == "go not forward"
    assert whole.confidence == pytest.approx(0.3)
    assert last.confidence == 1.0


async def test_an_answer_from_elsewhere_says_so(google: Google) -> None:
    """What the vendor says of itself is kept as it said it, beside what the row declares."""
    google.at[EUROPE].faults.append(Fault(region="us-east5"))

    transcript, _ = await google.transcribe(google.adapter(), NOTE)

    assert transcript.observed.region == "us-east5"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, ProcessorRefusedError),
        (grpc.StatusCode.PERMISSION_DENIED, ProcessorRefusedError),
        (grpc.StatusCode.INVALID_ARGUMENT, ProcessorRefusedError),
        (grpc.StatusCode.NOT_FOUND, ProcessorRefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, ProcessorRefusedError),
        (grpc.StatusCode.OUT_OF_RANGE, ProcessorRefusedError),
        (grpc.StatusCode.UNAVAILABLE, ProcessorBusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ProcessorBusyError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ProcessorBusyError),
        (grpc.StatusCode.INTERNAL, ProcessorBusyError),
        (grpc.StatusCode.CANCELLED, ProcessorBusyError),
        (grpc.StatusCode.ABORTED, ProcessorBusyError),
        (grpc.StatusCode.UNKNOWN, ProcessorBusyError),
    ],
)
@pytest.mark.parametrize("note", [NOTE, LONG], ids=["inline", "streamed"])
async def test_an_error_is_ours_once_and_without_the_vendor_s_text(
    google: Google, note: Audio, code: grpc.StatusCode, error: type[Exception]
) -> None:
    """A retry inside the adapter would be a touch that nobody recorded."""
    google.at[EUROPE].faults.append(Fault(code=code))

    outcome, contacts = await google.transcribe(google.adapter(), note)

    assert type(outcome) is error
    assert str(outcome) == f"stt.google.europe-west4: {code.name}"
    assert outcome.__cause__ is None
    assert len(google.at[EUROPE].log.receipts) == len(contacts) == 1


@pytest.mark.parametrize("after", [100, 5_000], ids=["in the handshake", "in the note"])
async def test_a_dropped_connection_is_not_taken_up_again(google: Google, after: int) -> None:
    """A second connection would carry the note twice under one touch."""
    google.at[EUROPE].cut_after = after

    outcome, contacts = await google.transcribe(google.adapter(), NOTE)

    assert isinstance(outcome, ProcessorBusyError)
    assert len(contacts) == len(google.at[EUROPE].connections) == 1
    assert google.at[EUROPE].log.receipts == []


@pytest.mark.parametrize("note", [NOTE, LONG], ids=["inline", "streamed"])
async def test_a_vendor_that_hangs_meets_our_deadline(google: Google, note: Audio) -> None:
    """The SDK has none: a call that nobody cancels would hold the note for ever."""
    google.at[EUROPE].faults.append(Fault(delay_s=60))

    outcome, _ = await google.transcribe(google.adapter(deadline_s=0.3), note)

    assert isinstance(outcome, ProcessorBusyError)
    assert "DEADLINE_EXCEEDED" in str(outcome)


@pytest.mark.parametrize("note", [NOTE, LONG], ids=["inline", "streamed"])
async def test_a_cancelled_call_ends_at_the_vendor(google: Google, note: Audio) -> None:
    """When a touch has ended, nobody works on its content."""
    google.at[EUROPE].faults.append(Fault(delay_s=60))
    passage = await google.admit()
    call = asyncio.create_task(
        google.adapter().transcribe(note, languages=("en",), passage=passage)
    )
    async with asyncio.timeout(10):
        await google.at[EUROPE].heard.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    async with asyncio.timeout(10):
        await google.at[EUROPE].ended.wait()
    assert len(await google.broker.end(passage)) == 1


async def test_calls_overlap_without_mixing(google: Google) -> None:
    """Twenty people speak at once: each note under its own ticket, on its own connection."""
    adapter = google.adapter()
    notes = [replace(NOTE, ogg=NOTE.ogg) for _ in range(20)]

    outcomes = await asyncio.gather(*(google.transcribe(adapter, note) for note in notes))

    assert {transcript.text for transcript, _ in outcomes} == {SAID}
    assert len({transcript.observed.request_id for transcript, _ in outcomes}) == 20
    assert [len(contacts) for _, contacts in outcomes] == [1] * 20
    assert len(set(google.at[EUROPE].connections)) == 20


async def test_a_certificate_of_another_region_ends_the_call(google: Google) -> None:
    """DNS that points elsewhere meets TLS: the name is the region, and no audio is sent."""
    google.detours[google.at[EUROPE].host] = google.at[AMERICA].host

    outcome, (contact,) = await google.transcribe(google.adapter(), NOTE)

    assert isinstance(outcome, ProcessorBusyError)
    assert contact.peer == google.at[AMERICA].address
    assert google.at[AMERICA].log.receipts == google.at[EUROPE].log.receipts == []
    assert len(google.at[AMERICA].connections) == 1
    assert contact.sent < len(NOTE.ogg)


async def test_an_authority_that_is_not_trusted_ends_the_call(google: Google) -> None:
    """Whoever answers for the vendor must be vouched for; None means the public authorities."""
    outcome, (contact,) = await google.transcribe(google.adapter(roots=None), NOTE)

    assert isinstance(outcome, ProcessorBusyError)
    assert google.at[EUROPE].log.receipts == []
    assert contact.sent < len(NOTE.ogg)


@pytest.mark.parametrize(
    "given",
    [
        Passage(),
        Passage(ticket="t", secret="s"),
        Passage(proxy="127.0.0.1:9", secret="s"),
        Passage(proxy="127.0.0.1:9", ticket="t"),
    ],
)
async def test_without_a_passage_nothing_is_opened(google: Google, given: Passage) -> None:
    """An adapter that dials by itself when it has no proxy is the leak we are here for."""
    with pytest.raises(ProcessorRefusedError, match="no passage"):
        await google.adapter().transcribe(NOTE, languages=("en",), passage=given)

    assert google.lookups == []


@pytest.mark.parametrize(
    "wrong", [{"secret": "not-the-secret"}, {"ticket": "not-a-ticket"}], ids=["secret", "ticket"]
)
async def test_a_wrong_ticket_gets_nowhere(google: Google, wrong: dict[str, str]) -> None:
    """The broker asks who comes; the vendor is not even resolved."""
    passage = replace(await google.admit(), **wrong)  # type: ignore[arg-type]

    with pytest.raises(ProcessorBusyError):
        await google.adapter().transcribe(NOTE, languages=("en",), passage=passage)

    assert google.lookups == google.at[EUROPE].connections == []
    assert google.broker.refusals["ticket.unknown"] == 1


async def test_a_ticket_for_another_region_gets_nowhere(google: Google) -> None:
    """A mixed-up passage must fail at the broker, not arrive in the wrong country."""
    passage = await google.admit(google_row(AMERICA))

    with pytest.raises(ProcessorBusyError):
        await google.adapter().transcribe(NOTE, languages=("en",), passage=passage)

    assert google.lookups == []
    assert [contact.refused != "" for contact in await google.broker.end(passage)] == [True]


async def test_when_the_broker_is_gone_nothing_leaves(google: Google) -> None:
    """The way out dies closed: there is no second one."""
    passage = await google.admit()
    await google.broker.aclose()

    with pytest.raises(ProcessorBusyError):
        await google.adapter().transcribe(NOTE, languages=("en",), passage=passage)

    assert google.at[EUROPE].connections == []


async def test_the_environment_s_proxies_are_not_asked(
    google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine's https_proxy would carry notes past the broker; its no_proxy, around it."""
    heads: list[bytes] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        proxied, first = await google.transcribe(google.adapter(), NOTE)
        for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, f"{google.at[EUROPE].host},.googleapis.com,127.0.0.1,*")
        bypassed, second = await google.transcribe(google.adapter(), NOTE)

    assert (proxied.text, bypassed.text) == (SAID, SAID)
    assert len(first) == len(second) == 1
    assert heads == []


async def test_the_vendor_s_name_is_looked_up_by_the_broker_alone(google: Google) -> None:
    """Whoever asks a resolver tells it where a note goes, and may get another answer."""
    await google.transcribe(google.adapter(), NOTE)

    assert google.lookups == [google.at[EUROPE].host]


@pytest.mark.parametrize(
    "wanted",
    [{"data-logging": "off"}, {"location": AMERICA}, {"model": "long"}],
)
@pytest.mark.parametrize("by", ["passage", "row"])
async def test_an_option_that_the_request_does_not_carry_is_refused_unsent(
    google: Google, wanted: dict[str, str], by: str
) -> None:
    """Data logging is a switch of the project: from here nobody can say that it is off."""
    row = google_row(options=wanted if by == "row" else {})
    passage = replace(await google.admit(), options=wanted if by == "passage" else {})

    with pytest.raises(ProcessorRefusedError, match="does not carry"):
        await google.adapter(row).transcribe(NOTE, languages=("en",), passage=passage)

    assert await google.broker.end(passage) == ()


async def test_an_option_that_the_request_carries_is_let_through(google: Google) -> None:
    """Location, model and recognizer stand in every request."""
    wanted = {"location": EUROPE, "model": "short", "recognizer": recognizer(EUROPE)}
    passage = replace(await google.admit(), options=wanted)

    transcript = await google.adapter().transcribe(NOTE, languages=("en",), passage=passage)

    assert transcript.text == SAID


@pytest.mark.parametrize("note", [heard(b"", voiced=False), replace(NOTE, voiced_seconds=0.0)])
async def test_silence_is_not_shown_to_the_vendor(google: Google, note: Audio) -> None:
    """What holds no speech needs no processor."""
    transcript, contacts = await google.transcribe(google.adapter(), note)

    assert (transcript.text, transcript.confidence) == ("", 0.0)
    assert contacts == ()


@pytest.mark.parametrize("ogg", [b"", NOTE.pcm, NOTE.ogg[:40]], ids=["empty", "pcm", "cut"])
async def test_what_is_no_opus_note_is_not_sent(google: Google, ogg: bytes) -> None:
    """The vendor would be told to decode as Opus what is not."""
    outcome, contacts = await google.transcribe(google.adapter(), replace(NOTE, ogg=ogg))

    assert isinstance(outcome, ProcessorRefusedError)
    assert contacts == ()


async def test_the_rate_is_one_that_the_vendor_takes(google: Google) -> None:
    """The head names the microphone's rate, which may be any; Opus decodes at 48 kHz."""
    pins = google.adapter()._pins
    odd = NOTE.ogg[:40] + (44_100).to_bytes(4, "little") + NOTE.ogg[44:]

    rates = [
        google_request.config(pins, ogg, ["en-US"]).explicit_decoding_config.sample_rate_hertz
        for ogg in (NOTE.ogg, odd)
    ]

    assert rates == [int.from_bytes(NOTE.ogg[40:44], "little"), 48_000]


async def test_no_log_level_shows_a_person_s_words(
    google: Google, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK's own client logs requests and answers at DEBUG; ours is not that client."""
    with caplog.at_level(logging.DEBUG):
        for name in list(logging.root.manager.loggerDict):
            caplog.set_level(logging.DEBUG, name)
        await google.transcribe(google.adapter(), NOTE)

    said = [f"{vars(record)}" for record in caplog.records]
    assert not [line for line in said if SAID in line or "Bearer" in line or "googleapis" in line]


async def test_a_row_that_disagrees_is_no_adapter(google: Google) -> None:
    """The check is at construction: no call can come before it."""
    with pytest.raises(RegistryError):
        google.adapter(google_row(hosts=("speech.googleapis.com:443",)))


@pytest.fixture
async def listening(authority: Authority) -> AsyncIterator[Google]:
    """Yield the vendor with the real engine."""
    rows = registry.load(today=date(2026, 11, 23))
    whisper = WhisperSpeechToText(rows.get("stt.whisper-base.eu-central"))
    async with google_at(authority, real(whisper)) as found:
        yield found
    await whisper.aclose()


@pytest.mark.engine
async def test_people_are_understood_through_the_whole_way(listening: Google) -> None:
    """Real speech, the true protocol, the broker and a real engine: nothing is scripted."""
    spanish = recording("asterisk_es_conf-getpin")
    told = [
        (replace(NOTE, seconds=61.0), "en", SAID),
        (spanish, "es", "ingrese la clave de entrada para la conferencia"),
    ]

    for note, language, said in told:
        transcript, (contact,) = await listening.transcribe(
            listening.adapter(), note, languages=("en", "es")
        )

        assert said in transcript.text
        assert transcript.language == language
        assert 0.3 < transcript.confidence <= 1.0
        assert contact.sent > len(note.ogg)
    assert listening.at[EUROPE].methods == ["StreamingRecognize", "Recognize"]
