"""
A pause: it is unclear whether somebody withdraws, so nothing they said is opened meanwhile.

- It begins before the question is sent: if that cannot be sent, nothing is opened all the same.
- What is under way stops before its next touch and is set aside, as is what comes in. An answer
  ends the pause: a withdrawal ends what waits unheard, "keep" lets it go on.
- Without an answer it ends by itself after `LASTS`: what waited ends unheard, and the consent
  counts again for what comes then. Rows are pseudonyms and times, and go with the pause.
"""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import db
from gateway.jobs import micros
from gateway.note import SPOKEN, Note
from gateway.ports import Ports
from gateway.schema import pauses
from vault.agreed_time import AgreedTime

WITHDRAW = "withdraw"
ERASE = "erase"
LASTS = timedelta(hours=24)
REASON = "withdrawal.unclear"
UNANSWERED = "withdrawal.unanswered"


async def begin(note: Note, what: str, ports: Ports) -> None:
    """Open nothing of this person's from now on, for they are asked *what* they want."""
    at = ports.now()
    row = {
        "job": note.job.id,
        "tenant": note.tenant.id,
        "subject": note.subject,
        "what": what,
        "asked_at": micros(at),
        "ends_at": micros(at + LASTS),
    }
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await db.insert_new(tx, pauses, row)
    await ports.jobs.begin_again(note.subject, SPOKEN, by=note.job)
    await _on_record(note, EventType.PROCESSING_PAUSED, "asked", ports)


async def standing(note: Note, ports: Ports) -> str | None:
    """Return what this person was asked last, if nothing of theirs may be opened now."""
    open_one = (pauses.c.subject == note.subject) & (pauses.c.ends_at > micros(ports.now()))
    query = select(pauses.c.what).where(open_one).order_by(pauses.c.asked_at.desc()).limit(1)
    async with db.reading(ports.engine) as tx:
        found: str | None = (await tx.execute(query)).scalar()
    return found


async def end(note: Note, ports: Ports, outcome: str) -> None:
    """End the pause of this person, which they answered with *outcome*; none is fine, too."""
    if not await standing(note, ports):
        return
    await _on_record(note, EventType.PROCESSING_RESUMED, outcome, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await tx.execute(delete(pauses).where(pauses.c.subject == note.subject))


async def over(engine: AsyncEngine, time: AgreedTime) -> list[str]:
    """Return those whose last pause is over."""
    ended = func.max(pauses.c.ends_at) <= micros(time.at)
    async with db.reading(engine) as tx:
        query = select(pauses.c.subject).group_by(pauses.c.subject).having(ended)
        return list((await tx.execute(query)).scalars())


async def forget(engine: AsyncEngine, time: AgreedTime) -> None:
    """Forget the pauses that are over."""
    async with engine.begin() as tx:
        await tx.execute(delete(pauses).where(pauses.c.ends_at <= micros(time.at)))


async def _on_record(note: Note, kind: EventType, outcome: str, ports: Ports) -> None:
    await ports.trail.append(
        Event(
            id=f"{note.job.id}.{kind}",
            type=kind,
            at=ports.now(),
            tenant=note.tenant.id,
            subject=note.subject,
            job=note.job.id,
            outcome=outcome,
            detail={"basis": "observed", "reason": REASON},
        )
    )
