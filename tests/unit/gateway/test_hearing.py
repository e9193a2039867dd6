"""From a voice note to words: fetched once, sealed first, heard once."""

import msgspec
import pytest
from support import oggs
from support.desk import RAW_AUDIO_S, RECORDING, WORDS, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import hearing, pipeline
from gateway.demo.graph import DROP, Trick
from gateway.errors import (
    AudioRefusedError,
    ConsentNeededError,
    LeaseLostError,
    MediaGoneError,
    MediaRefusedError,
    SilentError,
)
from gateway.jobs import LEASE_S, WITHDRAWN
from gateway.note import Note
from gateway.session import Memory
from policy.model import ConsentState
from residency.errors import NoProcessorError, ProcessorBusyError
from residency.model import Audio, Transcript
from vault.errors import GoneError
from vault.model import Kind


@pytest.fixture
async def note(desk: Desk) -> Note:
    """Return a voice note of somebody who agreed."""
    await desk.consents()
    return await desk.spoken()


async def again(desk: Desk, note: Note) -> Note:
    """Return the same job as its next holder opens it, after the first one was killed."""
    desk.clock.move(LEASE_S + 1)
    return await desk.claim(note.job.id, "w2")


@pytest.mark.anyio
async def test_a_recording_becomes_words(desk: Desk, note: Note) -> None:
    """The middle of the main path, with what the processor was given."""
    assert await hearing.words(note, Memory(), desk.ports) == WORDS

    audio, languages = desk.hearing["stt.one"].last
    assert isinstance(audio, Audio)
    assert audio.ogg == RECORDING.read_bytes()
    assert languages == ("en",)
    assert desk.fetched() == ["GET /{v}/{media}", "GET /_cdn/{token}", "DELETE /{v}/{media}"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("told", "stated", "digest"),
    [(True, None, "webhook"), (False, None, "metadata"), (False, "none", "unchecked")],
)
async def test_what_the_bytes_were_held_against_is_on_record(
    desk: Desk, *, told: bool, stated: str | None, digest: str
) -> None:
    """A recording that nobody named a digest of is opened, and nobody can say it was checked."""
    await desk.consents()
    content = desk.recording()
    desk.world.media.find(
        content.media_id, desk.line.phone_number_id, desk.world.clock.now()
    ).stated_sha256 = stated
    note = await desk.note(content if told else msgspec.structs.replace(content, sha256=None))

    assert await hearing.words(note, Memory(), desk.ports) == WORDS

    ended = [each for each in desk.trail.seen if each.type is EventType.TOUCH_ENDED]
    assert [each.detail["digest"] for each in ended if each.action == "fetch"] == [digest]


@pytest.mark.anyio
async def test_it_is_sealed_under_a_clock_before_any_processor_hears_it(
    desk: Desk, note: Note
) -> None:
    """What nobody will delete must not come into being."""
    await hearing.words(note, Memory(), desk.ports)

    order = desk.types("artifact.stored", "touch.began")
    assert order.index("artifact.stored") < order.index("touch.began transcribe")
    stored = next(e for e in desk.trail.seen if e.type is EventType.ARTIFACT_STORED)
    assert stored.detail["due"] == int(desk.clock().timestamp()) + RAW_AUDIO_S
    assert stored.detail["kind"] == "raw_audio"


@pytest.mark.anyio
async def test_after_a_crash_the_recording_is_not_fetched_again(desk: Desk, note: Note) -> None:
    """Each fetch is a touch, and WhatsApp was already asked to delete its copy."""
    desk.script("stt.one", ProcessorBusyError("told to fail"))
    desk.script("stt.two", ProcessorBusyError("told to fail"))
    with pytest.raises(NoProcessorError):
        await hearing.words(note, Memory(), desk.ports)
    before = desk.fetched()
    desk.script("stt.one", WORDS)

    assert await hearing.words(await again(desk, note), Memory(), desk.ports) == WORDS

    assert desk.fetched() == before


@pytest.mark.anyio
async def test_after_a_crash_the_recording_is_not_heard_again(desk: Desk, note: Note) -> None:
    """The transcript is kept: a second transcription would be a second touch, and may differ."""
    await hearing.words(note, Memory(), desk.ports)
    before = desk.fetched()
    desk.script("stt.one", Transcript(text="other words", language="en", confidence=0.9))

    assert await hearing.words(await again(desk, note), Memory(), desk.ports) == WORDS

    assert desk.fetched() == before
    assert desk.hearing["stt.one"].calls == 0


@pytest.mark.anyio
async def test_the_transcript_is_kept_sealed(desk: Desk, note: Note) -> None:
    """It is content like the recording: ciphertext only, on its own clock."""
    await hearing.words(note, Memory(), desk.ports)

    kept = await desk.ports.custody.describe(note.label(Kind.TRANSCRIPT).artifact)
    assert kept is not None
    assert kept.due > desk.clock()
    opened = msgspec.json.decode(await desk.ports.custody.open(kept), type=Transcript)
    assert opened == WORDS
    files = [path for path in desk.directory.rglob("*") if path.is_file()]
    assert not any(WORDS.text.encode() in path.read_bytes() for path in files)


@pytest.mark.anyio
async def test_typed_words_are_fetched_from_nowhere(desk: Desk) -> None:
    """There is nothing to capture, to decide about, or to transcribe."""
    words = await hearing.words(await desk.typed("Hi"), Memory(), desk.ports)

    assert (words.text, words.language, words.confidence) == ("Hi", "en", 1.0)
    assert desk.trail.seen == []


@pytest.mark.anyio
async def test_silence_asks_no_processor(desk: Desk) -> None:
    """A recording without speech holds nothing that anybody needs to hear."""
    await desk.consents()
    note = await desk.note(desk.recording(oggs.note(2.0)))

    with pytest.raises(SilentError):
        await hearing.words(note, Memory(), desk.ports)

    assert [each.calls for each in desk.hearing.values()] == [0, 0]
    assert "policy.decided transcribe" not in desk.types()


@pytest.mark.anyio
async def test_what_is_no_voice_note_reaches_no_processor(desk: Desk) -> None:
    """Hostile bytes end at the container's walk."""
    await desk.consents()
    note = await desk.note(desk.recording(b"RIFF" + bytes(2_000)))

    with pytest.raises(AudioRefusedError):
        await hearing.words(note, Memory(), desk.ports)

    assert [each.calls for each in desk.hearing.values()] == [0, 0]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("trick", "error"), [(Trick.GONE, MediaGoneError), (Trick.WRONG_BYTES, MediaRefusedError)]
)
async def test_media_that_is_gone_or_wrong_is_not_kept(
    desk: Desk, trick: Trick, error: type[Exception]
) -> None:
    """Bytes that are not what the webhook announced are not this person's note."""
    await desk.consents()
    voice = desk.recording()
    desk.world.media.items[voice.media_id].trick = trick
    note = await desk.note(voice)

    with pytest.raises(error):
        await hearing.words(note, Memory(), desk.ports)

    assert await desk.ports.custody.describe(note.job.artifact) is None
    assert desk.types("touch.ended")[:1] == ["touch.ended fetch"]


@pytest.mark.anyio
async def test_a_recording_that_was_destroyed_is_not_fetched_again(desk: Desk, note: Note) -> None:
    """WhatsApp still has it for days: fetching it anew would begin the life that just ended."""
    kept = await hearing.keep(note, Kind.RAW_AUDIO, b"gone", RAW_AUDIO_S, desk.ports)
    await desk.ports.custody.destroy(kept, reason="retention.expired")

    with pytest.raises(GoneError):
        await hearing.words(note, Memory(), desk.ports)

    assert desk.fetched() == []
    assert desk.types("touch.began") == []


@pytest.mark.anyio
async def test_what_was_taken_back_is_not_even_stored(desk: Desk, note: Note) -> None:
    """An engine that answers late answers nobody: storing and destroying it would be a risk."""
    await desk.ports.jobs.discard(note.job.artifact, WITHDRAWN)

    with pytest.raises(LeaseLostError):
        await hearing.keep(note, Kind.TRANSCRIPT, b"late", 60, desk.ports)

    assert desk.types("artifact.stored") == []


@pytest.mark.anyio
async def test_a_whatsapp_that_does_not_delete_stops_nobody(desk: Desk, note: Note) -> None:
    """The request is a courtesy to the person: its failure is on record, the answer goes on."""
    desk.world.faults.add("media.delete", DROP, times=5)

    assert await hearing.words(note, Memory(), desk.ports) == WORDS

    deleting = [e for e in desk.trail.seen if e.action == "delete-media"]
    assert [event.outcome for event in deleting] == [None, "raised"]


@pytest.mark.anyio
async def test_a_withdrawal_after_the_fetch_keeps_processors_out(desk: Desk, note: Note) -> None:
    """The recording is ours for its last hours, and nobody's to hear."""
    desk.script("stt.one", ProcessorBusyError("told to fail"))
    desk.script("stt.two", ProcessorBusyError("told to fail"))
    with pytest.raises(NoProcessorError):
        await hearing.words(note, Memory(), desk.ports)
    successor = await again(desk, note)
    await desk.consents(ConsentState.WITHDRAWN)
    heard = desk.script("stt.one", WORDS)

    with pytest.raises(ConsentNeededError):
        await hearing.words(successor, Memory(), desk.ports)

    assert heard.calls == 0


@pytest.mark.anyio
async def test_what_cannot_be_put_on_record_is_heard_by_nobody(desk: Desk, note: Note) -> None:
    """No evidence, no touch: an artifact that the trail does not know goes no further."""
    desk.trail.refuses = lambda event: event.type is EventType.ARTIFACT_STORED

    with pytest.raises(AppendError):
        await hearing.words(note, Memory(), desk.ports)

    assert desk.hearing["stt.one"].calls == 0


@pytest.mark.anyio
async def test_a_question_under_way_is_heard_in_its_own_language(desk: Desk, note: Note) -> None:
    """What was asked, and in which language, tells "four" from "fort"."""
    known = Memory(language="fr", pending="opening_hours")

    await hearing.words(note, known, desk.ports)

    assert desk.hearing["stt.one"].last[1] == ("fr",)


@pytest.mark.anyio
async def test_the_typing_sign_shows_while_a_recording_is_heard(desk: Desk, note: Note) -> None:
    """A person who sees nothing for seconds sends the note again."""
    desk.script("stt.one", WORDS, delay_s=0.5)

    await pipeline.answer(note, desk.ports)

    assert len(desk.ada.typing) == 1
