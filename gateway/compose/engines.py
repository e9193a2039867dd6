"""The processors that this cell can really reach: registry rows with an adapter behind them."""

import asyncio
import contextlib
import itertools
import math
import struct
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from gateway import log
from gateway.assistant import Assistant
from gateway.compose.surroundings import now
from gateway.settings import Settings
from residency.errors import EngineMissingError, ProcessorError
from residency.model import Processor, Service, Spoken, Transcript, Understanding
from residency.ports import SpeechToText, TextToSpeech, Understander
from residency.processors.azure_speech import AzureSpeechToText
from residency.processors.intents import NearestExample
from residency.processors.scripted import (
    ScriptedSpeechToText,
    ScriptedTextToSpeech,
    ScriptedUnderstander,
)
from residency.processors.tts import LocalTextToSpeech
from residency.processors.whisper import WhisperSpeechToText
from residency.registry import Registry

SCRIPTED = "scripted"

Build = Callable[[Processor, Settings, bytes | None], Any]


@dataclass(frozen=True, slots=True)
class Engines:
    """Adapters by processor id, and the rows that have none here."""

    hearing: dict[str, SpeechToText] = field(default_factory=dict)
    speaking: dict[str, TextToSpeech] = field(default_factory=dict)
    understanding: dict[str, Understander] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


async def engines(
    settings: Settings, registry: Registry, stack: AsyncExitStack, *, roots: bytes | None = None
) -> Engines:
    """
    Build and warm the adapters of the cell's own region; a missing engine is said aloud.

    Vendors elsewhere are built where the settings hold their credentials: whether anything may
    go there is each decision's to say.

    Vendors' certificates must lead to *roots* (PEM; None = each client's own).
    """
    found = Engines()
    places: dict[Service, dict[str, Any]] = {
        Service.SPEECH_TO_TEXT: found.hearing,
        Service.TEXT_TO_SPEECH: found.speaking,
        Service.UNDERSTANDING: found.understanding,
    }
    for row in registry:
        elsewhere = row.region != settings.cell.region
        if row.service not in places or (elsewhere and row.id not in settings.processors):
            continue
        try:
            built = adapter(row, settings, roots)
        except EngineMissingError as exc:
            log.get().warning("engine.missing", processor=row.id, error=exc)
            found.missing.append(str(exc))
            continue
        stack.push_async_callback(built.aclose)
        places[row.service][row.id] = built
    everyone = [*found.hearing.values(), *found.speaking.values(), *found.understanding.values()]
    await asyncio.gather(*(_warm(one) for one in everyone))
    return found


async def rehearse(found: Engines, assistants: Iterable[Assistant]) -> None:
    """Show every understander the tenants' examples, so that the first note does not wait."""
    for assistant in assistants:
        for processor in found.understanding.values():
            with contextlib.suppress(ProcessorError):
                await processor.understand(
                    "hello", language=assistant.languages[0], intents=assistant.intents
                )


def adapter(row: Processor, settings: Settings, roots: bytes | None = None) -> Any:
    """Return what speaks to *row*; raise `EngineMissingError` where nothing here can."""
    settings.refuse_development({row.id: row.adapter})
    try:
        build = ADAPTERS[row.service, row.adapter]
    except KeyError:
        raise EngineMissingError(f"{row.id}: no adapter {row.adapter!r}") from None
    return build(row, settings, roots)


async def _warm(one: Any) -> None:
    if warm := getattr(one, "warm", None):
        await warm()


def _whisper(row: Processor, settings: Settings, _roots: bytes | None) -> SpeechToText:
    return WhisperSpeechToText(row, model_dir=settings.engines.whisper_dir)


def _azure(row: Processor, settings: Settings, roots: bytes | None) -> SpeechToText:
    given = settings.processors.get(row.id)
    if given is None or given.key_file is None:
        raise EngineMissingError(f'{row.id}: no key (set key_file in [processors."{row.id}"])')
    return AzureSpeechToText(row, key=given.key_file.text, roots=roots.decode() if roots else None)


def _google(row: Processor, settings: Settings, roots: bytes | None) -> SpeechToText:
    given = settings.processors.get(row.id)
    if given is None or given.credentials_file is None:
        raise EngineMissingError(
            f'{row.id}: no credentials (set credentials_file in [processors."{row.id}"])'
        )
    try:
        # Here: gRPC and the SDK take most of a second to import, and are an extra.
        from residency.processors import google_account, google_speech  # noqa: PLC0415
    except ModuleNotFoundError:
        raise EngineMissingError(
            f"{row.id}: no Google SDK (pip install vocustody[google])"
        ) from None
    account = google_account.ServiceAccount(given.credentials_file.value, now=now)
    return google_speech.GoogleSpeechToText(row, credentials=account, roots=roots)


def _intents(row: Processor, _settings: Settings, _roots: bytes | None) -> Understander:
    try:
        return NearestExample(row)
    except EngineMissingError:
        # Fewer paraphrases are recognised without the model; what is not is asked about.
        log.get().warning("engine.reduced", processor=row.id)
        return NearestExample(row, meaning=False)


def _scripted(build: Callable[..., Any], answer: Callable[[Processor], Any]) -> Build:
    def made(row: Processor, _settings: Settings, _roots: bytes | None) -> Any:
        delay_s = float(row.settings.get("delay_ms", "0")) / 1000
        return build(row, itertools.repeat(answer(row)), delay_s=delay_s)

    return made


def _transcript(row: Processor) -> Transcript:
    return Transcript(
        text=row.settings.get("text", "hello"),
        language=row.settings.get("language", row.languages[0]),
        confidence=float(row.settings.get("confidence", "0.9")),
    )


def _understanding(row: Processor) -> Understanding:
    return Understanding(intent=row.settings.get("intent"), confidence=0.95, slots={})


def _spoken(row: Processor) -> Spoken:
    """Return a second of silence, or of a tone that the row names: a test may look for it."""
    rate = 16_000
    turns = 2 * math.pi * float(row.settings.get("hertz", "0")) / rate
    pcm = b"".join(struct.pack("<h", round(16_000 * math.sin(turns * at))) for at in range(rate))
    return Spoken(pcm=pcm, rate=rate)


ADAPTERS: dict[tuple[Service, str], Build] = {
    (Service.SPEECH_TO_TEXT, SCRIPTED): _scripted(ScriptedSpeechToText, _transcript),
    (Service.SPEECH_TO_TEXT, "azure-speech"): _azure,
    (Service.SPEECH_TO_TEXT, "google-speech"): _google,
    (Service.SPEECH_TO_TEXT, "whisper"): _whisper,
    (Service.TEXT_TO_SPEECH, SCRIPTED): _scripted(ScriptedTextToSpeech, _spoken),
    (Service.TEXT_TO_SPEECH, "local-speech"): lambda row, *_: LocalTextToSpeech(row),
    (Service.UNDERSTANDING, SCRIPTED): _scripted(ScriptedUnderstander, _understanding),
    (Service.UNDERSTANDING, "nearest-example"): _intents,
}
BUILT = frozenset({*ADAPTERS, (Service.MESSAGING, "graph")})
"""What there is code for; messaging is spoken by `gateway.whatsapp`."""
