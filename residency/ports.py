"""
What a processor promises, whoever runs it.

Common to all three: an implementation sends bytes to its registry row's hosts and nowhere
else, keeps no copy, does not retry, and raises only `ProcessorError` (`Busy` when the same
call may work later, `Refused` when it cannot). Its messages never quote content. Calls may
overlap; the caller keeps the deadline and cancels. `aclose` is safe to call twice.
"""

from collections.abc import Sequence
from typing import Protocol

from residency.model import Audio, Intent, Processor, Spoken, Transcript, Understanding


class SpeechToText(Protocol):
    """Turns one voice note into words, inside one region."""

    processor: Processor

    async def transcribe(self, audio: Audio, *, languages: Sequence[str]) -> Transcript:
        """Return the transcript; *languages* in order of preference. Empty text is an answer."""
        ...

    async def aclose(self) -> None:
        """Release engines and connections."""
        ...


class TextToSpeech(Protocol):
    """Turns a short text into speech, inside one region."""

    processor: Processor

    async def speak(self, text: str, *, language: str) -> Spoken:
        """Return the speech; a language it has no voice for is `ProcessorRefusedError`."""
        ...

    async def aclose(self) -> None:
        """Release engines and connections."""
        ...


class Understander(Protocol):
    """Finds intent and slots in redacted text, inside one region."""

    processor: Processor

    async def understand(
        self, text: str, *, language: str, intents: Sequence[Intent], expected: str | None = None
    ) -> Understanding:
        """Return the best intent of *intents*; *expected* is the one still missing a slot."""
        ...

    async def aclose(self) -> None:
        """Release engines and connections."""
        ...
