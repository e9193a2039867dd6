"""
The question for consent to voice notes: asked, asked again, and never in vain or six times alike.

- A question that did not arrive is asked again with the next note. One that was not answered is
  asked again with the first note after an hour, `MOST` times within a day; then a human is told.
- A note in between is not met with silence: the person is told that it waits, and how many do.
- Several workers may have notes of one conversation: what is said is decided while the others wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, handover, phrases, rights
from gateway.jobs import State, micros
from gateway.note import SPOKEN, Note
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.ports import Ports
from gateway.schema import jobs, notices, replies, statuses

AGAIN_AFTER = timedelta(hours=1)
DAY = timedelta(days=1)
MOST = 3
"""Questions within a day; also how often one may fail, and how often a note is said to wait."""
QUIET = timedelta(minutes=1)
"""Notes that come in one breath are told of once."""
UNANSWERED = "consent.unanswered"
ARRIVED = ("delivered", "read", "played")


class Step(StrEnum):
    """What a further note is met with; kept sorted."""

    ASK = "ask"
    HUMAN = "human"  # it waits, and somebody was told that the question is not answered
    NOTHING = "nothing"
    TELL = "tell"  # that it waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One thing that was said *at* a time about a question still open; *failed*: in vain."""

    at: datetime
    asked: bool
    failed: bool = False


def next_step(said: Sequence[Said], now: datetime) -> Step:
    """Return what a note is met with *now*, after what was *said* since the last answer."""
    recent = [each for each in said if now - each.at < DAY]
    asked = sorted(each.at for each in recent if each.asked and not each.failed)
    if not asked:
        failed = [each for each in recent if each.failed and each.asked]
        return Step.ASK if len(failed) < MOST else _told(recent, now, now - AGAIN_AFTER)
    due = asked[-1] + AGAIN_AFTER
    if now >= due:
        return Step.ASK if len(asked) < MOST else _told(recent, now, due)
    told = [each.at for each in recent if not each.asked and each.at >= asked[-1]]
    quiet = bool(told) and now - max(told) < QUIET
    return Step.NOTHING if quiet or len(told) >= MOST else Step.TELL


def _told(recent: Sequence[Said], now: datetime, since: datetime) -> Step:
    """Return what is said where asking is of no use: who is told of it, and once an hour."""
    told = [each.at for each in recent if not each.asked and each.at >= since]
    if not told:
        return Step.HUMAN
    return Step.TELL if now - max(told) >= AGAIN_AFTER else Step.NOTHING


async def ask(note: Note, ports: Ports) -> None:
    """Ask for consent, or say that *note* waits for an answer, or neither: see the rules above."""
    async with db.reading(ports.engine) as tx:
        step = await _step(tx, note, ports)

    async def overtaken(tx: AsyncConnection) -> bool:
        await ports.jobs.alone(tx, note.job)
        return await _step(tx, note, ports) is not step

    match step:
        case Step.ASK:
            await rights.question(note, ports, unless=overtaken)
        case Step.HUMAN | Step.TELL:
            if step is Step.HUMAN:
                await handover.open_row(note, UNANSWERED, ports)
            words = await _words(note, step, ports)
            await rights.say(note, Kind.WAITING, words, ports, unless=overtaken)
        case Step.NOTHING:
            pass


async def _words(note: Note, step: Step, ports: Ports) -> Body:
    language, fallback = await rights.language_of(note, ports), note.tenant.languages[0]
    waiting = (jobs.c.subject == note.subject) & (jobs.c.state == State.PARKED)
    query = select(func.count()).select_from(jobs).where(waiting & (jobs.c.id != note.job.id))
    async with db.reading(ports.engine) as tx:
        count = (await tx.execute(query)).scalar_one() + 1
    key = "note_waits_human" if step is Step.HUMAN else "note_waits"
    text = phrases.say(key, language, fallback=fallback, count=str(count))
    return Body(text=text, language=phrases.spoken(language, fallback))


async def _step(tx: AsyncConnection, note: Note, ports: Ports) -> Step:
    """Return the step; what this very job has begun to say, it goes on with."""
    said = await _said(tx, note, ports)
    mine = select(replies.c.kind).where(replies.c.job == note.job.id)
    begun = set((await tx.execute(mine)).scalars())
    if Kind.CONSENT in begun:
        return Step.ASK
    return Step.TELL if Kind.WAITING in begun else next_step(said, ports.now())


async def _said(tx: AsyncConnection, note: Note, ports: Ports) -> list[Said]:
    """Return what this person was told since they last answered, and within a day."""
    since = micros(ports.now() - DAY)
    answered = (
        select(func.max(notices.c.asked_at))
        .where((notices.c.subject == note.subject) & (notices.c.purpose == SPOKEN))
        .where(notices.c.answered_by.is_not(None))
    )
    failed = exists().where((statuses.c.reply == replies.c.id) & (statuses.c.state == "failed"))
    came = exists().where((statuses.c.reply == replies.c.id) & statuses.c.state.in_(ARRIVED))
    query = (
        select(
            replies.c.created_at,
            replies.c.kind,
            ((replies.c.state == Reply.FAILED) | (failed & ~came)).label("failed"),
        )
        .join(jobs, jobs.c.id == replies.c.job)
        .where((jobs.c.subject == note.subject) & (jobs.c.id != note.job.id))
        .where(replies.c.kind.in_([Kind.CONSENT, Kind.WAITING]) & (replies.c.created_at >= since))
        .where(replies.c.created_at > func.coalesce(answered.scalar_subquery(), 0))
    )
    zone = ports.now().tzinfo
    return [
        Said(
            at=datetime.fromtimestamp(row.created_at / 1e6, zone),
            asked=row.kind == Kind.CONSENT,
            failed=bool(row.failed),
        )
        for row in await tx.execute(query)
    ]
