"""
From words to meaning: redact first, then understand.

- Processors, logs and analytics see redacted text only; text that was not analysed goes nowhere.
- What no processor understands is an answer too: nothing was understood.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from gateway.dialogue import Turn
from gateway.fallback import through
from gateway.hearing import keep
from gateway.note import Note
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.session import Memory
from policy.model import Stage
from residency.errors import NoProcessorError
from residency.model import Transcript, Understanding
from vault import redact
from vault.errors import NotAnalysedError
from vault.model import Kind, Redacted

SINK = "understand"


async def redacted(words: Transcript, note: Note, ports: Ports) -> str:
    """
    Return *words* as processors may see them, and keep that version on its own clock.

    Raises `NotAnalysedError` when the text could not be analysed.
    """
    allowed = await permitted(note, Stage.UNDERSTAND, ports)
    classes = allowed.obligations.redact[SINK]
    # Which language typed words are in is a guess: they are read in each that the tenant speaks.
    languages = (words.language,) if note.spoken else (words.language, *note.tenant.languages)
    with ports.metrics.timed("redact", tenant=note.tenant.id, region=note.region):
        clean = await asyncio.to_thread(_clean, words.text, classes, dict.fromkeys(languages))
    seconds = allowed.obligations.redacted_seconds
    await keep(note, Kind.REDACTED_TRANSCRIPT, clean.encode(), seconds, ports)
    return clean


def _clean(text: str, classes: frozenset[str], languages: Iterable[str]) -> str:
    for language in languages:
        found = redact.redact(text, classes, language=language)
        if not isinstance(found, Redacted):
            raise NotAnalysedError(found.why)
        text = found.text
    return text


async def understood(turn: Turn, note: Note, memory: Memory, ports: Ports) -> Turn:
    """Return *turn* with its intent and slots, if it has words to understand."""
    text = turn.text
    if turn.trouble or text is None:
        return turn
    allowed = await permitted(note, Stage.UNDERSTAND, ports)
    intents = ports.assistants[note.tenant.id].intents
    try:
        found: Understanding = await through(
            note,
            allowed,
            "understand",
            note.label(Kind.REDACTED_TRANSCRIPT).artifact,
            ports.understanding,
            lambda processor, passage: processor.understand(
                text,
                language=turn.language,
                intents=intents,
                expected=memory.pending,
                passage=passage,
            ),
            ports,
        )
    except NoProcessorError:
        found = Understanding(intent=None, confidence=0.0, slots={})
    return replace(turn, understanding=found)
