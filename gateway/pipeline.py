"""
The one main path: a note comes in, a text answer and a spoken answer go out.

Each line's result is the next line's argument. What goes wrong is an exception; `outcome.py`
says what it means. The text is sent first; speech may fail and leaves the text.
"""

from gateway import (
    crashpoint,
    dialogue,
    handover,
    hearing,
    log,
    memory,
    outbox,
    outcome,
    speech,
    understanding,
)
from gateway.dialogue import Act, Reply, Trouble, Turn
from gateway.note import Note
from gateway.outbox import Body, Kind
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.session import Memory
from policy.model import Stage
from residency.model import Passage


async def answer(note: Note, ports: Ports) -> None:
    """Answer *note* in text, and in speech if it was spoken; go on where an earlier try ended."""
    body = await outbox.intended(note, Kind.TEXT, ports) or await _decided(note, ports)
    await _send_text(note, body, ports)
    if body.speak:
        await _send_speech(note, body, ports)


async def _decided(note: Note, ports: Ports) -> Body:
    known = await memory.recall(note, ports)
    turn = await _heard(note, known, ports)
    turn = await understanding.understood(turn, note, known, ports)
    with ports.metrics.timed("dialogue", tenant=note.tenant.id, region=note.region):
        reply = dialogue.step(turn, known, ports.assistants[note.tenant.id])
    return await _committed(reply, note, ports)


async def _heard(note: Note, known: Memory, ports: Ports) -> Turn:
    at = int(ports.now().timestamp())
    spoken, language = note.spoken, known.language or note.tenant.languages[0]
    try:
        words = await hearing.words(note, known, ports)
        text = await understanding.redacted(words, note, ports)
    except outcome.TROUBLES as exc:
        log.get().info("note.unheard", reason=outcome.reason(exc))
        why = outcome.trouble(exc)
        return Turn(text=None, trouble=why, language=language, at=at, spoken=spoken)
    sure = words.confidence >= ports.assistants[note.tenant.id].thresholds.transcript
    trouble = None if sure else Trouble.UNCLEAR
    return Turn(text=text, trouble=trouble, language=words.language, at=at, spoken=spoken)


async def _committed(reply: Reply, note: Note, ports: Ports) -> Body:
    body = Body(text=reply.text, language=reply.language, speak=reply.speak, buttons=reply.buttons)
    stuck, reason = reply.act is Act.HAND_OVER, _handed_over(reply, note, ports)
    kept = await memory.sealed(note, reply.memory, ports)
    sealed = await outbox.sealed(note, Kind.TEXT, body, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await memory.remember(tx, note, kept, ports)
        await outbox.intend(tx, note, Kind.TEXT, sealed, ports)
        if reason:
            await handover.intend(tx, note, reason, ports, taken=stuck)
    crashpoint.reach("turn.committed")
    if reason:
        await handover.announce(note, reason, ports, taken=stuck)
    return body


def _handed_over(reply: Reply, note: Note, ports: Ports) -> str:
    """Return why a human is told of this turn, if one is."""
    if reply.act is Act.HAND_OVER:
        return "dialogue.stuck"
    handed = ports.assistants[note.tenant.id].handed
    return "dialogue.passed_on" if reply.act is Act.ANSWER and reply.intent in handed else ""


async def _send_text(note: Note, body: Body, ports: Ports) -> None:
    allowed = await permitted(note, Stage.REPLY, ports)
    graph = ports.graphs[note.message.phone_number_id]
    to = note.message.sender

    async def send(opaque: str, passage: Passage) -> str:
        if body.buttons:
            return await graph.buttons(to, body.text, body.buttons, opaque=opaque, passage=passage)
        return await graph.text(to, body.text, opaque=opaque, passage=passage)

    await outbox.deliver(note, Kind.TEXT, allowed, send, ports)
    note.mark("first_response", ports)


async def _send_speech(note: Note, body: Body, ports: Ports) -> None:
    try:
        await speech.send(note, body, ports)
    except outcome.SPEECH_OPTIONAL as exc:
        log.get().info("speech.left_out", reason=outcome.reason(exc))
    note.mark("reply_delivered", ports)
