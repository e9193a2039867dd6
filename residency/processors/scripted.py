"""
Scripted processors for tests and benchmarks; production refuses the adapter ``scripted`` by name.

Each answers after *delay_s* with the next of *answers*, round and round; an answer that is a
`ProcessorError` is raised. Trusted for nothing: what they return was written beforehand.
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from residency.errors import ProcessorError, RegistryError
from residency.model import (
    INSIDE,
    Audio,
    Intent,
    Passage,
    Processor,
    Spoken,
    Transcript,
    Understanding,
)

ADAPTER = "scripted"

Answer = TypeVar("Answer")


class _Scripted(Generic[Answer]):
    """The script; *calls* counts how often it was asked, *last* is the latest question."""

    def __init__(
        self,
        processor: Processor,
        answers: Iterable[Answer | ProcessorError],
        *,
        delay_s: float = 0.0,
    ) -> None:
        if processor.adapter != ADAPTER:
            # A real engine's row would put its name on an invented answer, in the evidence too.
            raise RegistryError(f"{processor.id}: adapter is not {ADAPTER!r}")
        self.processor = processor
        self.calls = 0
        self.last: tuple[object, ...] = ()
        self._answers = itertools.cycle(answers)
        self._delay_s = delay_s

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""

    async def _next(self, *question: object) -> Answer:
        self.calls += 1
        self.last = question
        answer = next(self._answers)
        await asyncio.sleep(self._delay_s)
        if isinstance(answer, ProcessorError):
            raise answer
        return answer


class ScriptedSpeechToText(_Scripted[Transcript]):
    """`SpeechToText` from a script."""

    async def transcribe(
        self,
        audio: Audio,
        *,
        languages: Sequence[str],
        passage: Passage = INSIDE,  # noqa: ARG002 - no connection is opened
    ) -> Transcript:
        """Return the next transcript."""
        return await self._next(audio, languages)


class ScriptedTextToSpeech(_Scripted[Spoken]):
    """`TextToSpeech` from a script."""

    async def speak(
        self,
        text: str,
        *,
        language: str,
        passage: Passage = INSIDE,  # noqa: ARG002 - no connection is opened
    ) -> Spoken:
        """Return the next speech."""
        return await self._next(text, language)


class ScriptedUnderstander(_Scripted[Understanding]):
    """`Understander` from a script."""

    async def understand(
        self,
        text: str,
        *,
        language: str,
        intents: Sequence[Intent],
        expected: str | None = None,
        passage: Passage = INSIDE,  # noqa: ARG002 - no connection is opened
    ) -> Understanding:
        """Return the next understanding."""
        return await self._next(text, language, intents, expected)
