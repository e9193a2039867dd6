"""
Hand a conversation to a human: a row for the people who answer, and a leaf in the trail.

From then on the dialogue answers nothing in this conversation until it is given back.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from audit.model import Event, EventType
from gateway import db, log, memory, session
from gateway.jobs import micros
from gateway.note import Note
from gateway.ports import Ports
from gateway.schema import handovers


async def hand_over(note: Note, reason: str, ports: Ports) -> None:
    """Open a handover for *reason*; doing it again for the same job changes nothing."""
    taken = session.handed_over(await memory.recall(note, ports), int(ports.now().timestamp()))
    kept = await memory.sealed(note, taken, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await intend(tx, note, reason, ports)
        await memory.remember(tx, note, kept, ports)
    await announce(note, reason, ports)


async def open_row(note: Note, reason: str, ports: Ports) -> None:
    """Open a handover without taking the conversation from the dialogue: a "no" was said."""
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await intend(tx, note, reason, ports)
    await announce(note, reason, ports)


async def intend(tx: AsyncConnection, note: Note, reason: str, ports: Ports) -> bool:
    """Open a handover with *tx*; False if this job already has one."""
    row = {
        "job": note.job.id,
        "tenant": note.tenant.id,
        "conversation": note.job.conversation,
        "subject": note.subject,
        "reason": reason[:64],
        "at": micros(ports.now()),
    }
    return await db.insert_new(tx, handovers, row)


async def announce(note: Note, reason: str, ports: Ports) -> None:
    """Tell the operators; the same handover is one leaf however often it is announced."""
    await ports.trail.append(
        Event(
            id=f"{note.job.id}.handover",
            type=EventType.HANDOVER_OPENED,
            at=ports.now(),
            tenant=note.tenant.id,
            artifact=note.job.artifact,
            subject=note.subject,
            job=note.job.id,
            outcome=reason[:64],
        )
    )
    ports.metrics.handed_over(reason)
    log.get().warning("handover.opened", job=note.job.id, reason=reason)
