"""
What a processor promises, whoever runs it.

Common to all three: an implementation sends bytes to its registry row's hosts and nowhere
else, keeps no copy, does not retry, and raises only `ProcessorError` (`Busy` when the same
call may work later, `Refused` when it cannot). Its messages never quote content. Calls may
overlap; the caller keeps the deadline and cancels. `aclose` is safe to call twice.

Each call has a `Passage`: an adapter with hosts connects through its proxy with its credentials
or not at all, and refuses (`ProcessorRefusedError`, nothing sent) an option of it that the
outgoing request would not carry.
"""

from collections.abc import Sequence
from typing import Protocol

from residency.model import (
    INSIDE,
    Audio,
    Contact,
    Grant,
    Intent,
    Passage,
    Processor,
    Spoken,
    Transcript,
    Understanding,
)


class SpeechToText(Protocol):
    """Turns one voice note into words, inside one region."""

    processor: Processor

    async def transcribe(
        self, audio: Audio, *, languages: Sequence[str], passage: Passage = INSIDE
    ) -> Transcript:
        """Return the transcript; *languages* in order of preference. Empty text is an answer."""
        ...

    async def aclose(self) -> None:
        """Release engines and connections."""
        ...


class TextToSpeech(Protocol):
    """Turns a short text into speech, inside one region."""

    processor: Processor

    async def speak(self, text: str, *, language: str, passage: Passage = INSIDE) -> Spoken:
        """Return the speech; a language it has no voice for is `ProcessorRefusedError`."""
        ...

    async def aclose(self) -> None:
        """Release engines and connections."""
        ...


class Understander(Protocol):
    """Finds intent and slots in redacted text, inside one region."""

    processor: Processor

    async def understand(
        self,
        text: str,
        *,
        language: str,
        intents: Sequence[Intent],
        expected: str | None = None,
        passage: Passage = INSIDE,
    ) -> Understanding:
        """Return the best intent of *intents*; *expected* is the one still missing a slot."""
        ...

    async def aclose(self) -> None:
        """Release engines and connections."""
        ...


class Egress(Protocol):
    """
    The one way out of the cell: tickets for an HTTP CONNECT proxy that is blind to TLS.

    A ticket admits the (host, port) pairs of its grant until it ends; everything else is
    refused and counted. Nothing is admitted without a live ticket, and when the broker dies
    nothing gets out. Calls may overlap; `end` and `aclose` are safe to call twice.

    `end` never answers "nothing" for what it does not know: a ticket of a broker that is gone,
    or one that was forgotten long after it expired, is an `EgressError`.
    """

    async def admit(self, grant: Grant) -> Passage:
        """Open a ticket; raise `EgressError` when that is not possible: then nothing leaves."""
        ...

    async def end(self, passage: Passage) -> tuple[Contact, ...]:
        """
        Close the ticket, cut its tunnels, and return every connection made or refused.

        For a ticket that was ended a moment ago, return the same. Raise `EgressError` for one
        that is not known (any more): what went through it is unknown, and must be told so.
        """
        ...

    async def aclose(self) -> None:
        """Cut everything."""
        ...
