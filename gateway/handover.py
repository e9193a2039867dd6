"""
Hand a conversation to a human: a row for the people who answer, and a leaf in the trail.

From then on the dialogue answers nothing in this conversation until it is given back: when the
closing of its last handover is on the trail, or when WhatsApp's window for a free answer is over.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from audit.model import Event, EventType
from audit.personal import looks_personal, withheld
from gateway import db, log, memory, session
from gateway.errors import GatewayError
from gateway.jobs import micros
from gateway.note import Note, conversation
from gateway.ports import Ports
from gateway.schema import handovers
from vault.errors import KeyLostError


class HandoverError(GatewayError):
    """There is no such open handover, or nobody closes it; the message says what is wrong."""


async def hand_over(note: Note, reason: str, ports: Ports) -> None:
    """Open a handover for *reason*; doing it again for the same job changes nothing."""
    kept = await _taken(note, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await intend(tx, note, reason, ports)
        if kept is not None:
            await memory.remember(tx, note, kept, ports)
    await announce(note, reason, ports)


async def _taken(note: Note, ports: Ports) -> bytes | None:
    """Return the memory that a human goes on with; None if the key to it is lost."""
    try:
        taken = session.handed_over(await memory.recall(note, ports), int(ports.now().timestamp()))
        return await memory.sealed(note, taken, ports)
    except KeyLostError:
        return None  # whatever this person says is handed over while that lasts


async def open_row(note: Note, reason: str, ports: Ports) -> None:
    """Open a handover without taking the conversation from the dialogue: a "no" was said."""
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await intend(tx, note, reason, ports, taken=False)
    await announce(note, reason, ports, taken=False)


async def intend(
    tx: AsyncConnection, note: Note, reason: str, ports: Ports, *, taken: bool = True
) -> bool:
    """
    Open a handover with *tx*; False if this job already has one.

    *taken* says whether the dialogue leaves the conversation to the human until it is closed. A
    job of which somebody was only told can still be taken: that is a handover anew.
    """
    row = {
        "job": note.job.id,
        "tenant": note.tenant.id,
        "conversation": note.conversation,
        "subject": note.subject,
        "reason": reason[:64],
        "taken": taken,
        "at": micros(ports.now()),
    }
    if await db.insert_new(tx, handovers, row):
        return True
    told = (handovers.c.job == note.job.id) & ~handovers.c.taken
    anew = row | {"closed_at": None, "closed_by": None, "closing_recorded_at": None}
    return taken and bool((await tx.execute(update(handovers).where(told).values(anew))).rowcount)


async def announce(note: Note, reason: str, ports: Ports, *, taken: bool = True) -> None:
    """Tell the operators; the same handover is one leaf however often it is announced."""
    await ports.trail.append(
        Event(
            id=_leaf(note.job.id, taken=taken),
            type=EventType.HANDOVER_OPENED,
            at=ports.now(),
            tenant=note.tenant.id,
            artifact=note.job.artifact,
            subject=note.subject,
            job=note.job.id,
            outcome=withheld(reason[:64]),
        )
    )
    ports.metrics.handed_over(reason)
    log.get().warning("handover.opened", job=note.job.id, reason=reason)


async def open_for(job: Row[Any], number: str, reason: str, ports: Ports) -> None:
    """
    Open a handover for a *job* that ended: what *number* said did not arrive. Again is once.

    *number* is the tenant's, by its id at WhatsApp.
    """
    subject = job.subject or ""
    row = {
        "job": job.id,
        "tenant": job.tenant,
        "conversation": conversation(number, subject),
        "subject": subject,
        "reason": reason[:64],
        "taken": False,
        "at": micros(ports.now()),
    }
    # The leaf first: a row that is there already is not announced again.
    async with db.reading(ports.engine) as tx:
        known = await tx.execute(select(handovers.c.job).where(handovers.c.job == job.id))
    if known.first() is not None:
        return
    await ports.trail.append(_opened(job, reason, ports.now()))
    async with ports.engine.begin() as tx:
        if await db.insert_new(tx, handovers, row):
            ports.metrics.handed_over(reason)
            log.get().warning("handover.opened", job=job.id, reason=reason)


def _opened(job: Row[Any], reason: str, at: datetime) -> Event:
    return Event(
        id=_leaf(job.id, taken=False),
        type=EventType.HANDOVER_OPENED,
        at=at,
        tenant=job.tenant,
        artifact=job.artifact,
        subject=job.subject,
        job=job.id,
        outcome=withheld(reason[:64]),
    )


def _leaf(job: str, *, taken: bool) -> str:
    return f"{job}.handover.taken" if taken else f"{job}.handover"


async def close(engine: AsyncEngine, job: str, *, by: str, at: datetime) -> int:
    """
    Close the handover of *job*: *by* is done with it. Return how many more hold its conversation.

    The running cell puts it on the trail; then the dialogue answers again, unless another
    handover of the same conversation is open. Raises `HandoverError`.
    """
    if not by.strip():
        raise HandoverError("a handover is closed by somebody (--by)")
    if looks_personal(by) or looks_personal(by[:64]):
        raise HandoverError("--by: looks like a number or an address (name a pseudonym)")
    which = (handovers.c.job == job) & handovers.c.closed_at.is_(None)
    values = {"closed_at": micros(at), "closed_by": by[:64]}
    async with engine.begin() as tx:
        closing = update(handovers).where(which).values(values)
        row = (await tx.execute(closing.returning(handovers.c.conversation))).one_or_none()
        if row is None:
            raise HandoverError("no open handover has this job (vocustody handovers lists them)")
        same = (handovers.c.conversation == row.conversation) & handovers.c.taken
        others = select(func.count()).where(same & handovers.c.closed_at.is_(None))
        return int((await tx.execute(others)).scalar_one())


async def unrecorded(engine: AsyncEngine, limit: int) -> list[Event]:
    """Return up to *limit* closings that the trail does not know yet, as events."""
    closed = handovers.c.closed_at.is_not(None) & handovers.c.closing_recorded_at.is_(None)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(handovers).where(closed).limit(limit))).all()
    return [_closed(row) for row in rows]


async def recorded(engine: AsyncEngine, event: Event, at: datetime) -> None:
    """Note that the trail holds the closing *event*: from now on it counts."""
    mine = handovers.c.job == event.job
    async with engine.begin() as tx:
        await tx.execute(update(handovers).where(mine).values(closing_recorded_at=micros(at)))


def _closed(row: Row[tuple[object, ...]]) -> Event:
    return Event(
        id=f"{_leaf(str(row.job), taken=bool(row.taken))}.closed",
        type=EventType.HANDOVER_CLOSED,
        at=datetime.fromtimestamp(row.closed_at / 1e6, UTC),
        tenant=row.tenant,
        subject=row.subject,
        job=row.job,
        actor="operator",
        outcome=withheld(row.reason),
        detail={"basis": "declared", "by": row.closed_by},
    )
