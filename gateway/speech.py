"""
The spoken answer: beside the text, never instead of it.

Speech is made, sealed, uploaded and sent once. Whatever fails here leaves the text.
"""

from gateway import crashpoint, outbox, record
from gateway.audio import encode
from gateway.fallback import through
from gateway.hearing import keep
from gateway.note import Note
from gateway.outbox import Body, Kind
from gateway.passage import leaving
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.whatsapp.send import DEADLINE_S
from policy.model import Allowed, Stage
from residency.model import Spoken
from vault.model import Kind as Artifact


async def send(note: Note, body: Body, ports: Ports) -> None:
    """Speak *body* and send it as a voice message."""
    ogg = await _spoken(note, body, ports)
    allowed = await permitted(note, Stage.REPLY, ports)
    intent = Body(text="", language=body.language)
    sealed = await outbox.sealed(note, Kind.VOICE, intent, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await outbox.intend(tx, note, Kind.VOICE, sealed, ports)
    if not await outbox.pending(note, Kind.VOICE, ports):
        return  # sent, refused or in doubt: a second recording would only add to it
    media = await _uploaded(note, ogg, allowed, ports)
    crashpoint.reach("voice.uploaded")
    graph = ports.graphs[note.message.phone_number_id]
    sender = note.message.sender
    await outbox.deliver(
        note,
        Kind.VOICE,
        allowed,
        lambda opaque, passage: graph.voice(sender, media, opaque=opaque, passage=passage),
        ports,
    )


async def _spoken(note: Note, body: Body, ports: Ports) -> bytes:
    label = note.label(Artifact.REPLY_AUDIO)
    if kept := await ports.custody.describe(label.artifact):
        await record.kept(note, kept, ports)
        return await ports.custody.open(kept)
    allowed = await permitted(note, Stage.SPEAK, ports)
    spoken: Spoken = await through(
        note,
        allowed,
        "speak",
        label.artifact,
        ports.speaking,
        lambda processor, passage: processor.speak(
            body.text, language=body.language, passage=passage
        ),
        ports,
    )
    ogg = await encode.encode(spoken.pcm, spoken.rate)
    await keep(note, Artifact.REPLY_AUDIO, ogg, allowed.obligations.reply_audio_seconds, ports)
    crashpoint.reach("speech.kept")
    return ogg


async def _uploaded(note: Note, ogg: bytes, allowed: Allowed, ports: Ports) -> str:
    processor = ports.processors[allowed.processors[0]]
    artifact = note.label(Artifact.REPLY_AUDIO).artifact
    with ports.metrics.timed(
        "upload", processor=processor.id, tenant=note.tenant.id, region=note.region
    ):
        async with leaving(
            note, processor, "upload", artifact, allowed, ports, deadline_s=DEADLINE_S
        ) as (_, passage):
            return await ports.graphs[note.message.phone_number_id].upload(ogg, passage=passage)
