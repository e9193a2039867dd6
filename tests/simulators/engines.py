"""Engines behind a simulated vendor: a script for speed, Whisper for truth."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from support.speech import heard

from residency.processors.whisper import WhisperSpeechToText


@dataclass(frozen=True, slots=True)
class Heard:
    """What an engine understood; *language* is a primary tag."""

    text: str
    language: str
    confidence: float


Engine = Callable[[bytes, Sequence[str]], Awaitable[Heard]]
"""Takes 16 kHz mono s16le and the languages to choose from (primary tags)."""


def scripted(text: str, language: str = "en", confidence: float = 0.9) -> Engine:
    """Return an engine that always understands *text*."""

    async def engine(_pcm: bytes, _languages: Sequence[str]) -> Heard:
        return Heard(text, language, confidence)

    return engine


def real(whisper: WhisperSpeechToText) -> Engine:
    """Return an engine that really listens."""

    async def engine(pcm: bytes, languages: Sequence[str]) -> Heard:
        said = await whisper.transcribe(heard(pcm), languages=languages)
        return Heard(said.text, said.language, said.confidence)

    return engine
