"""One contract for every `SpeechToText`."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import date

import pytest
from simulators.azure_world import azure_at
from simulators.engines import scripted
from simulators.google_world import google_at
from simulators.ticketed import Ticketed
from support.pki import Authority
from support.speech import a_processor, heard, recording

from residency import registry
from residency.errors import ProcessorBusyError, ProcessorRefusedError
from residency.model import Service, Transcript
from residency.ports import SpeechToText
from residency.processors.scripted import ScriptedSpeechToText
from residency.processors.whisper import WhisperSpeechToText

WORDS = Transcript(text="Go forward 10 meters.", language="en", confidence=0.9)


def _scripted() -> SpeechToText:
    row = a_processor(Service.SPEECH_TO_TEXT, "scripted")
    return ScriptedSpeechToText(row, [WORDS], delay_s=0.01)


def _whisper() -> WhisperSpeechToText:
    rows = registry.load(today=date(2026, 11, 23))
    return WhisperSpeechToText(rows.get("stt.whisper-base.eu-central"))


@pytest.fixture(scope="module")
def whisper() -> Iterator[WhisperSpeechToText]:
    """Yield the real engine, one for the module: loading takes seconds."""
    adapter = _whisper()
    yield adapter
    asyncio.run(adapter.aclose())


@pytest.fixture(
    params=[
        "scripted",
        "azure-speech",
        "google-speech",
        pytest.param("whisper", marks=pytest.mark.engine),
    ]
)
async def stt(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[SpeechToText]:
    """Yield each adapter; a vendor's goes through the broker to its simulator."""
    if request.param == "scripted":
        yield _scripted()
    elif request.param == "whisper":
        yield request.getfixturevalue("whisper")
    elif request.param == "azure-speech":
        async with azure_at(authority, scripted(WORDS.text)) as azure:
            yield Ticketed(azure.adapter(), azure.broker)
    else:
        async with google_at(authority, scripted(WORDS.text)) as google:
            yield Ticketed(google.adapter(), google.broker)


@pytest.mark.anyio
async def test_a_note_becomes_words(stt: SpeechToText) -> None:
    """The whole product stands on this call."""
    transcript = await stt.transcribe(recording("psphinx_misc_en_goforward"), languages=("en",))

    assert transcript.text == "Go forward 10 meters."
    assert transcript.language == "en"
    assert 0.5 < transcript.confidence <= 1.0


@pytest.mark.anyio
async def test_calls_may_overlap(stt: SpeechToText) -> None:
    """Two conversations speak at the same time; one must not fail or read the other's words."""
    note = recording("psphinx_misc_en_goforward")

    both = await asyncio.gather(*(stt.transcribe(note, languages=("en",)) for _ in range(2)))

    assert [transcript.text for transcript in both] == ["Go forward 10 meters."] * 2


@pytest.mark.anyio
async def test_after_a_deadline_the_next_call_works(stt: SpeechToText) -> None:
    """The caller keeps the deadline: a late engine must not be lost with the call."""
    note = recording("psphinx_misc_en_goforward")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await stt.transcribe(note, languages=("en",))
    transcript = await stt.transcribe(note, languages=("en",))

    assert transcript.text == "Go forward 10 meters."


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "language", "said"),
    [
        ("asterisk_en_conf-extended", "en", r"The conference has been extended\."),
        ("asterisk_es_conf-getpin", "es", "ingrese la clave de entrada para la conferencia"),
        ("asterisk_fr_vm-toforward", "fr", "transférer ce message(,| à) un autre utilisateur"),
        ("asterisk_it_enter-num-blacklist", "it", "numero da aggiungere alla lista nera"),
    ],
)
async def test_people_are_understood_in_four_languages(
    whisper: WhisperSpeechToText, name: str, language: str, said: str
) -> None:
    """
    The language is told from the sound: a voice note carries none.

    The French "à" may be lost: the engine's kernels differ from processor to processor.
    """
    transcript = await whisper.transcribe(recording(name), languages=("en", "es", "fr", "it"))

    assert re.search(said, transcript.text), transcript.text
    assert transcript.language == language


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "language", "digits"),
    [
        ("digits_en_7", "en", "3137353799"),
        ("digits_es_3", "es", "8312402344"),
        ("digits_it_0", "it", "8365461073"),
    ],
)
async def test_spoken_digits_arrive_complete(
    whisper: WhisperSpeechToText, name: str, language: str, digits: str
) -> None:
    """Redaction finds card numbers in what is written here: a lost digit would hide one."""
    transcript = await whisper.transcribe(recording(name), languages=(language,))

    assert "".join(filter(str.isdigit, transcript.text)) == digits


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.parametrize("pcm", [b"", bytes(64_000)], ids=["empty", "silence"])
async def test_a_note_without_speech_has_no_words(whisper: WhisperSpeechToText, pcm: bytes) -> None:
    """Whisper invents words for noise; an invented wish would be acted upon."""
    transcript = await whisper.transcribe(heard(pcm, voiced=False), languages=("en",))

    assert (transcript.text, transcript.confidence) == ("", 0.0)


@pytest.mark.engine
@pytest.mark.anyio
async def test_sound_without_voice_is_not_shown_to_the_model(whisper: WhisperSpeechToText) -> None:
    """What the voice detector calls no speech stays out of the engine, whatever it sounds like."""
    note = replace(recording("psphinx_misc_en_goforward"), voiced_seconds=0.0)

    transcript = await whisper.transcribe(note, languages=("en",))

    assert transcript.text == ""


@pytest.mark.engine
@pytest.mark.anyio
async def test_a_language_outside_the_row_is_refused(whisper: WhisperSpeechToText) -> None:
    """Whisper base writes nonsense in Hindi: better no words, and the engine is not shown it."""
    with pytest.raises(ProcessorRefusedError, match="serves none"):
        await whisper.transcribe(recording("psphinx_misc_en_goforward"), languages=("hi",))


@pytest.mark.engine
@pytest.mark.anyio
async def test_a_killed_engine_is_busy_and_comes_back(whisper: WhisperSpeechToText) -> None:
    """The kernel kills what eats memory: the note is retried, the gateway lives."""
    note = recording("asterisk_en_conf-extended")
    await whisper.warm()
    pid = whisper.pid
    assert pid is not None

    call = asyncio.ensure_future(whisper.transcribe(note, languages=("en",)))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ProcessorBusyError):
        await call
    transcript = await whisper.transcribe(note, languages=("en",))

    assert transcript.text == "The conference has been extended."
    assert whisper.pid != pid
