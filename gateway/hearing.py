"""
From a voice note to words: capture, seal, decode, transcribe, redact.

- Consent and residency are decided before the first byte is fetched.
- The recording is sealed, with its deletion clock running, before any processor hears it.
- A repeated run (after a crash) goes on from what is already kept.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec

from gateway import crashpoint, outbox, record
from gateway.audio import prepare
from gateway.errors import ChannelError, LeaseLostError, SilentError
from gateway.fallback import through
from gateway.jobs import WITHDRAWN
from gateway.note import Note
from gateway.passage import leaving
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.session import Memory
from gateway.whatsapp.media import DEADLINE_S
from gateway.whatsapp.payload import VoiceNote
from policy.model import Allowed, Stage
from residency.errors import ProcessorRefusedError
from residency.model import Audio, Passage, Transcript
from residency.ports import SpeechToText
from vault.errors import GoneError
from vault.model import Artifact, Kind

VOICED_S = 0.3


async def words(note: Note, known: Memory, ports: Ports) -> Transcript:
    """
    Return the words of *note*: typed, or transcribed once.

    A note that completes a request is in that request's language; what is *known* says so.

    Raises `AudioError`, `ChannelError`, `DecisionError`, `NoProcessorError`.
    """
    if not note.spoken:
        return Transcript(
            text=note.typed, language=known.language or note.tenant.languages[0], confidence=1.0
        )
    label = note.label(Kind.TRANSCRIPT)
    if kept := await ports.custody.describe(label.artifact):
        await record.kept(note, kept, ports)
        return msgspec.json.decode(await ports.custody.open(kept), type=Transcript)
    audio = await _prepared(await _captured(note, ports), note, ports)
    allowed = await permitted(note, Stage.TRANSCRIBE, ports)
    languages = (known.language,) if known.pending else note.tenant.languages
    async with _typing_shown(note, ports):
        heard = await through(
            note,
            allowed,
            "transcribe",
            note.job.artifact,
            ports.hearing,
            lambda processor, passage: _transcribe(processor, audio, languages, passage),
            ports,
            seconds=audio.seconds,
        )
    seconds = allowed.obligations.transcript_seconds
    over = None if note.tenant.retention.keep_raw_audio else note.job.artifact
    content = msgspec.json.encode(heard)
    await keep(note, Kind.TRANSCRIPT, content, seconds, ports, instead_of=over)
    crashpoint.reach("transcript.kept")
    note.mark("transcript_ready", ports)
    return heard


async def keep(
    note: Note,
    kind: Kind,
    content: bytes,
    seconds: int,
    ports: Ports,
    *,
    instead_of: str | None = None,
) -> Artifact:
    """Seal *content* for at most *seconds* and put that on record; *instead_of* is then due."""
    await ports.jobs.check(note.job)  # what was taken back meanwhile is not even stored
    label = note.label(kind)
    with ports.metrics.timed("seal", tenant=note.tenant.id, region=note.region):
        due = ports.now() + timedelta(seconds=seconds)
        kept = await ports.custody.put(content, label, due, instead_of=instead_of)
    await record.kept(note, kept, ports)
    try:
        await ports.jobs.check(note.job)
    except LeaseLostError:
        # An erasure that listed what there was may have been faster than the row of this one.
        if await ports.jobs.taken_back(note.job.id):
            await ports.custody.destroy(kept, reason=WITHDRAWN)
            await record.destructions(ports)
        raise
    return kept


@asynccontextmanager
async def _typing_shown(note: Note, ports: Ports) -> AsyncIterator[None]:
    """Show, beside the body, that an answer is on its way; what fails there is of no matter."""
    sign = asyncio.create_task(_show_typing(note, ports), name="typing")
    try:
        yield
    finally:
        await asyncio.gather(sign, return_exceptions=True)


async def _show_typing(note: Note, ports: Ports) -> None:
    allowed = await permitted(note, Stage.REPLY, ports)
    graph = ports.graphs[note.message.phone_number_id]
    await outbox.typing(
        note, allowed, lambda _, passage: graph.typing(note.message.id, passage=passage), ports
    )


async def _captured(note: Note, ports: Ports) -> bytes:
    if kept := await ports.custody.describe(note.job.artifact):
        await record.kept(note, kept, ports)
        return await ports.custody.open(kept)
    if await ports.custody.gone(note.job.artifact):
        raise GoneError(note.job.artifact)  # its time is over: it is not fetched again
    allowed = await permitted(note, Stage.CAPTURE, ports)
    content = await _fetched(note, allowed, ports)
    await keep(note, Kind.RAW_AUDIO, content, allowed.obligations.raw_audio_seconds, ports)
    crashpoint.reach("audio.kept")
    note.mark("audio_fetched", ports)
    await _forgotten_at_whatsapp(note, allowed, ports)
    return content


async def _fetched(note: Note, allowed: Allowed, ports: Ports) -> bytes:
    processor = ports.processors[allowed.processors[0]]
    artifact = note.job.artifact
    with ports.metrics.timed(
        "media_fetch", processor=processor.id, tenant=note.tenant.id, region=note.region
    ):
        async with leaving(
            note, processor, "fetch", artifact, allowed, ports, deadline_s=DEADLINE_S
        ) as (touch, passage):
            source = ports.media[note.message.phone_number_id]
            fetched = await source.fetch(_voice(note), passage=passage)
            touch.observe(fetched.observed)
            touch.detail["digest"] = fetched.digest
    return fetched.content


async def _forgotten_at_whatsapp(note: Note, allowed: Allowed, ports: Ports) -> None:
    # WhatsApp keeps its copy for days: asking it to delete shortens that, and the answer to the
    # person does not depend on it.
    processor = ports.processors[allowed.processors[0]]
    artifact = note.job.artifact
    with contextlib.suppress(ChannelError):
        async with leaving(
            note, processor, "delete-media", artifact, allowed, ports, deadline_s=DEADLINE_S
        ) as (_, passage):
            source = ports.media[note.message.phone_number_id]
            await source.delete(_voice(note).media_id, passage=passage)


async def _prepared(content: bytes, note: Note, ports: Ports) -> Audio:
    with ports.metrics.timed("decode", tenant=note.tenant.id, region=note.region):
        audio = await prepare.prepare(content, ports.decoder)
    if audio.voiced_seconds < VOICED_S:
        raise SilentError("audio.silent")
    return audio


async def _transcribe(
    processor: SpeechToText, audio: Audio, languages: tuple[str, ...], passage: Passage
) -> Transcript:
    heard = await processor.transcribe(audio, languages=languages, passage=passage)
    if not heard.text.strip():
        # Somebody spoke and nothing was heard: that is a failure, not an empty message.
        raise ProcessorRefusedError(f"{processor.processor.id}: empty")
    return heard


def _voice(note: Note) -> VoiceNote:
    if not isinstance(note.message.content, VoiceNote):
        raise TypeError("only a voice note has a recording")
    return note.message.content
