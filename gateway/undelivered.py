"""
What WhatsApp took and then did not deliver: nobody is left believing that it arrived.

- A ``failed`` status of a message that arrived by another status changes nothing: it arrived.
- Text that can be sent again (the code says so) is: by a job of its own, in the order of its
  conversation, a few times. What cannot be goes to a human, with Graph's code as the reason.
- A voice message leaves the text, which went first. A question that failed counts as not asked:
  while its note waits it is asked again if the code allows that, else with the next note.
- A fault of the operator's account closes the account (`gateway.accounts`); what failed for it
  waits for that like everything else, and is no try.
- Each failure is acted on once, whatever crashes in between: what is made of it is named after it.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

import msgspec
from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import db, handover, log, outbox, record
from gateway.accounts import Part
from gateway.clocks import SAID_FOR
from gateway.errors import AccountFaultError, ConsentNeededError, LeaseLostError
from gateway.inbox import WINDOW_S, intake_key, keyed
from gateway.jobs import State, micros
from gateway.note import Note
from gateway.outbox import ARRIVED, Body, Kind
from gateway.outbox import State as Reply
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.schema import inbox, jobs, replies, statuses
from gateway.whatsapp import codes
from gateway.whatsapp.codes import Meaning, Means
from gateway.whatsapp.payload import Identity, Message, Undelivered
from policy.model import Stage
from residency.model import Passage
from vault.agreed_time import AgreedTime
from vault.errors import GoneError, KeyLostError

FAILED = "failed"
ACCEPTED = ARRIVED | {"sent"}  # by WhatsApp's servers: then the account is well
FIRST_PAUSE_S = 10.0
OPEN = (State.ACCEPTED, State.PARKED)
TOLD = frozenset({Kind.NOTICE, Kind.RECEIPT, Kind.TEXT, Kind.UNREAD, Kind.UNSUPPORTED})


class Act(StrEnum):
    """What was done about a failure; kept sorted."""

    AGAIN = "again"
    HUMAN = "human"
    IGNORED = "ignored"  # it had arrived, or nothing depends on it
    NEXT = "next"  # asked again with the next note
    TEXT = "text"  # the text stands


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed message: its *reply* row, its *job* row, and what its code means."""

    reply: Row[Any]
    job: Row[Any]
    code: int
    number: str
    meaning: Meaning

    @property
    def again(self) -> bool:
        """Whether the same message may be sent once more."""
        return outbox.may_go_again(self.meaning, self.reply.tries)


async def settled(reply: str, state: str, code: int, number: str, ports: Ports) -> None:
    """Act on the status *state* of *reply*; doing it again changes nothing."""
    failure = await _read(reply, code, number, ports)
    if failure is None:
        return
    if state in ACCEPTED:
        await _arrived(failure, state, ports)
    if state != FAILED:
        return
    act = await _act(failure, ports)
    ports.metrics.undelivered(failure.reply.kind, failure.meaning.word, act.value)
    log.get().warning(
        "reply.undelivered",
        job=failure.job.id,
        reply=reply,
        kind=failure.reply.kind,
        code=f"graph:{code}",
        reason=failure.meaning.word,
        outcome=act.value,
    )


async def _read(reply: str, code: int, number: str, ports: Ports) -> Failure | None:
    async with db.reading(ports.engine) as tx:
        found = await tx.execute(select(replies).where(replies.c.id == reply))
        row = found.one_or_none()
        if row is None:
            return None
        job = (await tx.execute(select(jobs).where(jobs.c.id == row.job))).one()
    return Failure(row, job, code, number, codes.failed(code))


async def _arrived(failure: Failure, state: str, ports: Ports) -> None:
    """Note that the account is well; and forget what was said, once it is with the person."""
    number = failure.number
    for fault in ports.accounts.faults():
        asked_since = (failure.reply.attempted_at or 0) > fault.since
        if fault.key == (number, Part.MESSAGES) and asked_since:
            await ports.accounts.answered(number, Part.MESSAGES, by_status=True)
    if state in ARRIVED and failure.job.state not in OPEN:
        async with ports.engine.begin() as tx:
            mine = replies.c.id == failure.reply.id
            await tx.execute(update(replies).where(mine).values(sealed=None))


async def _act(failure: Failure, ports: Ports) -> Act:
    kind = Kind(failure.reply.kind)
    if kind is Kind.TYPING or await _did_arrive(failure, ports):
        return Act.IGNORED
    if failure.meaning.means is Means.ACCOUNT:
        exc = AccountFaultError(str(failure.code), word=failure.meaning.word)
        tenant = failure.job.tenant
        await ports.accounts.refused(failure.number, Part.MESSAGES, tenant, exc, by_status=True)
    if failure.job.state == State.ACCEPTED:
        return Act.AGAIN if failure.again else Act.HUMAN  # whoever works on it reads the status
    if failure.job.state == State.PARKED and kind is Kind.CONSENT and failure.again:
        await _asked_again(failure, ports)
        return Act.AGAIN
    if kind in TOLD and failure.again and await _sent_again(failure, ports):
        return Act.AGAIN
    await _failed(failure, ports)
    if kind not in TOLD:
        return Act.TEXT if kind is Kind.VOICE else Act.NEXT
    await handover.open_for(failure.job, failure.number, str(failure.code), ports)
    return Act.HUMAN


async def _did_arrive(failure: Failure, ports: Ports) -> bool:
    mine = (statuses.c.reply == failure.reply.id) & statuses.c.state.in_(ARRIVED)
    async with db.reading(ports.engine) as tx:
        return (await tx.execute(select(statuses.c.state).where(mine).limit(1))).first() is not None


async def _failed(failure: Failure, ports: Ports) -> None:
    async with ports.engine.begin() as tx:
        await _mark_failed(tx, failure)


async def _mark_failed(tx: AsyncConnection, failure: Failure) -> None:
    mine = replies.c.id == failure.reply.id
    await tx.execute(update(replies).where(mine).values(state=Reply.FAILED, sealed=None))


async def _asked_again(failure: Failure, ports: Ports) -> None:
    """Let the note that waits for the answer ask once more: the same question, under a new id."""
    mine = (jobs.c.id == failure.job.id) & (jobs.c.state == State.PARKED)
    values = {"state": State.ACCEPTED, "reason": "", "next_try_at": _due(failure, ports)}
    async with ports.engine.begin() as tx:
        changed = await tx.execute(update(jobs).where(mine).values(values))
        if not changed.rowcount:
            return  # answered meanwhile
        await outbox.renewed(tx, failure.reply.id)
        await ports.jobs.tell(tx, [failure.job.id])
    ports.jobs.committed([failure.job.id])


async def _sent_again(failure: Failure, ports: Ports) -> bool:
    """Open the job that sends the same words again; False if that can no longer be done."""
    reply, job = failure.reply, failure.job
    if reply.sealed is None or micros(ports.now()) >= job.deadline_at:
        return False
    try:
        body = await outbox.opened(job.subject, reply, ports)
    except (GoneError, KeyLostError):
        return False
    key = await ports.keys.named(f"idempotency-{job.tenant}")
    ident = "j_" + hashlib.sha256(f"{reply.id}/again".encode()).hexdigest()[:32]
    message = _message(failure, body)
    content = msgspec.json.encode(message)
    body_key, at = intake_key(ports.now()), micros(ports.now())
    row = {
        "key": keyed(key, "again", reply.id),
        "tenant": job.tenant,
        "job": ident,
        "digest": keyed(key, "digest", content),
        "body_key": body_key,
        "sealed": await ports.custody.seal_named(body_key, ident, content),
        "received_at": at,
    }
    work = {
        "id": ident,
        "tenant": job.tenant,
        "conversation": job.conversation,
        "artifact": f"a_{secrets.token_hex(16)}",
        "trace": job.trace,
        "state": State.ACCEPTED,
        "next_try_at": _due(failure, ports),
        "accepted_at": at,
        "deadline_at": job.deadline_at,
    }
    async with ports.engine.begin() as tx:
        if await db.insert_new(tx, inbox, row):
            await tx.execute(insert(jobs).values(**work))
            await ports.jobs.tell(tx, [ident])
        await _mark_failed(tx, failure)
    ports.jobs.committed([ident])
    return True


def _message(failure: Failure, body: Body) -> Message:
    counted = failure.meaning.means is not Means.ACCOUNT
    return Message(
        phone_number_id=body.number,
        id=f"again.{failure.reply.id}",
        sender=Identity(phone=body.phone or None, bsuid=body.bsuid or None),
        sent_at=failure.job.deadline_at // 1_000_000 - WINDOW_S,
        content=Undelivered(
            text=body.text,
            language=body.language,
            kind=failure.reply.kind,
            purpose=failure.job.purpose,
            tries=failure.reply.tries if counted else failure.reply.tries - 1,
        ),
    )


def _due(failure: Failure, ports: Ports) -> int:
    tries = max(0, failure.reply.tries - 1)
    return micros(ports.now() + timedelta(seconds=FIRST_PAUSE_S * 4.0**tries))


async def send(note: Note, ports: Ports) -> None:
    """Send once more what did not arrive; a consent that was withdrawn since ends it unsaid."""
    said = note.message.content
    if not isinstance(said, Undelivered):
        raise TypeError("only what was not delivered is sent again")
    body = Body(text=said.text, language=said.language)
    kind = Kind(said.kind)
    stage = Stage.REPLY if kind is Kind.TEXT else Stage.NOTICE
    sealed = await outbox.sealed(note, kind, body, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await outbox.intend(tx, note, kind, sealed, ports, tries=said.tries)
    try:
        allowed = await permitted(note, stage, ports)
    except ConsentNeededError as exc:
        await _unsaid(note, exc.code, ports)
    graph = ports.graphs[note.message.phone_number_id]

    async def text(opaque: str, passage: Passage) -> str:
        return await graph.text(note.message.sender, body.text, opaque=opaque, passage=passage)

    await outbox.deliver(note, kind, allowed, text, ports)


async def _unsaid(note: Note, reason: str, ports: Ports) -> NoReturn:
    await ports.jobs.renew(note.job)
    await record.ended(note.job, State.REFUSED, reason, ports.trail, ports.now())
    await ports.jobs.end(note.job, State.REFUSED, reason)
    raise LeaseLostError(note.job.id) from None


async def forget(time: AgreedTime, ports: Ports) -> int:
    """Drop what was said in jobs that ended, once it arrived or had time to; return how many."""
    ended = replies.c.job.in_(select(jobs.c.id).where(jobs.c.state.not_in(OPEN)))
    arrived = replies.c.id.in_(select(statuses.c.reply).where(statuses.c.state.in_(ARRIVED)))
    old = replies.c.sent_at < micros(time.before(SAID_FOR))
    which = replies.c.sealed.is_not(None) & ended & or_(arrived, old)
    async with ports.engine.begin() as tx:
        return (await tx.execute(update(replies).where(which).values(sealed=None))).rowcount


MANY = 10  # failures in a day, and at least one message in twenty
ONE_IN = 20


async def many(engine: AsyncEngine, now: datetime) -> str:
    """Return what to tell an operator of the last day's failures; empty if they are few."""
    since = micros(now - timedelta(days=1))
    sent = select(func.count()).where(replies.c.attempted_at >= since)
    told = (statuses.c.state == FAILED) & (statuses.c.at >= since)
    query = select(statuses.c.error_code, func.count()).where(told).group_by(statuses.c.error_code)
    async with db.reading(engine) as tx:
        total = (await tx.execute(sent)).scalar_one()
        counts = {row[0]: row[1] for row in await tx.execute(query)}
    failed = sum(counts.values())
    if failed < MANY or failed * ONE_IN < total:
        return ""
    most = sorted(counts, key=lambda code: -counts[code])[:3]
    listed = ", ".join(f"{counts[code]} by {code} ({codes.failed(code).word})" for code in most)
    return f"{failed} of {total} messages of the last day were not delivered: {listed}"
