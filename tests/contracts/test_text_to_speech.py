"""One contract for every `TextToSpeech`."""

import asyncio
from collections.abc import Iterator
from datetime import date

import numpy as np
import pytest
from support.speech import a_processor

from residency import registry
from residency.errors import ProcessorRefusedError
from residency.model import Service, Spoken
from residency.ports import TextToSpeech
from residency.processors.scripted import ScriptedTextToSpeech
from residency.processors.tts import MAX_CHARACTERS, LocalTextToSpeech

TONE = (np.sin(np.arange(24_000) / 10) * 8_000).astype("<i2").tobytes()


def _scripted() -> TextToSpeech:
    row = a_processor(Service.TEXT_TO_SPEECH, "scripted")
    return ScriptedTextToSpeech(row, [Spoken(pcm=TONE, rate=24_000)], delay_s=0.01)


def _local() -> TextToSpeech:
    return LocalTextToSpeech(registry.load(today=date(2026, 11, 23)).get("tts.local.eu-central"))


@pytest.fixture(
    scope="module", params=["scripted", pytest.param("local", marks=pytest.mark.engine)]
)
def tts(request: pytest.FixtureRequest) -> Iterator[TextToSpeech]:
    """Yield each adapter."""
    adapter = _local() if request.param == "local" else _scripted()
    yield adapter
    asyncio.run(adapter.aclose())


@pytest.fixture(scope="module")
def local() -> Iterator[TextToSpeech]:
    """Yield the real engines."""
    adapter = _local()
    yield adapter
    asyncio.run(adapter.aclose())


@pytest.mark.anyio
async def test_text_becomes_sound(tts: TextToSpeech) -> None:
    """A reply is audible speech of a plausible length, not a click or silence."""
    spoken = await tts.speak("Your conference has been extended.", language="en")
    wave = np.frombuffer(spoken.pcm, "<i2")

    assert 0.5 < len(wave) / spoken.rate < 10
    assert np.abs(wave.astype(int)).max() > 1_000


@pytest.mark.anyio
async def test_after_a_deadline_the_next_call_works(tts: TextToSpeech) -> None:
    """Speech is an extra beside the text: a late one is dropped, the engine stays."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.0001):
            await tts.speak("One moment.", language="en")
    spoken = await tts.speak("One moment.", language="en")

    assert spoken.pcm


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.parametrize("language", ["de", "es", "fr", "it", "pt"])
async def test_each_language_of_the_row_has_its_own_voice(
    local: TextToSpeech, language: str
) -> None:
    """A row's languages are a promise to the policy; and German read by rules of English is not."""
    numbers = "1 2 3 4 5 6 7 8 9 10"

    spoken = await local.speak(numbers, language=language)
    english = await local.speak(numbers, language="en")

    assert len(spoken.pcm) > spoken.rate
    assert spoken.pcm != english.pcm


@pytest.mark.engine
@pytest.mark.anyio
async def test_voices_do_not_stick(local: TextToSpeech) -> None:
    """One library speaks five languages: the voice is chosen for each call."""
    first = await local.speak("10 20 30", language="de")
    other = await local.speak("10 20 30", language="fr")
    again = await local.speak("10 20 30", language="de")

    assert abs(len(first.pcm) - len(again.pcm)) < len(first.pcm) * 0.02
    assert abs(len(first.pcm) - len(other.pcm)) > len(first.pcm) * 0.1


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "language", "why"),
    [
        ("hello", "hi", "no voice"),
        ("", "en", "0 characters"),
        ("  ", "de", "2 characters"),
        ("a" * (MAX_CHARACTERS + 1), "en", "1001 characters"),
    ],
    ids=["no voice", "empty", "blank", "too long"],
)
async def test_what_cannot_be_spoken_is_refused(
    local: TextToSpeech, text: str, language: str, why: str
) -> None:
    """A refusal leaves the text answer standing; half a reply read aloud would mislead."""
    with pytest.raises(ProcessorRefusedError, match=why):
        await local.speak(text, language=language)


@pytest.mark.engine
@pytest.mark.anyio
async def test_text_is_not_markup(local: TextToSpeech) -> None:
    """Redaction placeholders look like tags; swallowed by the engine they would vanish."""
    plain = await local.speak("ruf an", language="de")
    tagged = await local.speak("ruf <PHONE_1> an", language="de")

    assert len(tagged.pcm) > len(plain.pcm) * 1.3
