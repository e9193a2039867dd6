"""
The ledger of consents as the gateway keeps it: what was shown, what was answered, by whom and how.

- Each purpose is asked for by itself and answered by itself (GDPR Art. 7(2), recital 43).
- A row keeps the version and the hash of the words, their language, the channel, how the will was
  expressed, and keyed hashes of the message that showed them and of the one that answered.
- A no may follow an old notice; a yes only counts for words that are still known to be shown.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.model import Event, EventType
from gateway import db, persons, subjects
from gateway.inbox import keyed
from gateway.jobs import micros
from gateway.note import SPOKEN, Note
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.ports import Ports
from gateway.schema import jobs, notices, replies
from gateway.whatsapp.payload import Choice, VoiceNote
from policy import consent
from policy.consent import agreed, expiry
from policy.model import YES, Consent, ConsentState, Expressed

CHANNEL = "whatsapp"
SKEW_S = 300
"""How far WhatsApp's clock may be behind ours: a yes is to words that were shown before it."""
RENEW_PART = 12
"""A consent is asked for again in the last such part of its life: a month of a year's."""


@dataclass(frozen=True, slots=True)
class Words:
    """The exact words a person was shown: version, hex SHA-256, language, and the reply's id."""

    version: str
    sha256: str
    language: str
    reply: str = ""


def words(shown: Body) -> Words:
    """Return what is kept of the words *shown*."""
    digest = hashlib.sha256(shown.text.encode()).hexdigest()
    return Words(shown.notice, digest, shown.language)


async def newest(note: Note, purpose: str, ports: Ports) -> Consent | None:
    """Return the row that counts now."""
    return await ports.consents.newest(note.tenant.id, note.subject, purpose)


async def show(
    tx: AsyncConnection, note: Note, purpose: str, kind: Kind, shown: Words, ports: Ports
) -> None:
    """Commit, with *tx*, which words the reply of *kind* shows for *purpose*."""
    row = {
        "job": note.job.id,
        "purpose": purpose,
        "kind": kind,
        "tenant": note.tenant.id,
        "subject": note.subject,
        "version": shown.version,
        "sha256": shown.sha256,
        "language": shown.language,
        "asked_at": micros(ports.now()),
    }
    await db.insert_new(tx, notices, row)


async def shown(note: Note, purpose: str, ports: Ports) -> Words | None:
    """Return the newest notice for *purpose* that was sent before *note* and is not answered."""
    # What this very job asked, in a try that was cut short, is no notice that it answers.
    theirs = (notices.c.subject == note.subject) & (notices.c.job != note.job.id)
    # Nobody agrees to what they had not seen yet.
    theirs &= notices.c.asked_at <= (note.message.sent_at + SKEW_S) * 1_000_000
    unanswered = notices.c.answered_by.is_(None) | (notices.c.answered_by == note.job.id)
    sent = replies.c.state.in_([Reply.ATTEMPTED, Reply.SENT])
    query = (
        select(notices, replies.c.id)
        .join(replies, (replies.c.job == notices.c.job) & (replies.c.kind == notices.c.kind))
        .where(theirs & (notices.c.purpose == purpose) & unanswered & sent)
        .order_by(notices.c.asked_at.desc())
        .limit(1)
    )
    async with db.reading(ports.engine) as tx:
        row = (await tx.execute(query)).one_or_none()
    return Words(row.version, row.sha256, row.language, row.id) if row else None


async def to_ask(note: Note, ports: Ports) -> str | None:
    """Return the purpose that this person should be asked about next, if there is one."""
    for purpose in (SPOKEN, *note.tenant.consents.ask):
        row = await newest(note, purpose, ports)
        since = _ask_since(row, int(ports.now().timestamp()))
        if since is not None and not await _asked(note, purpose, since, ports):
            return purpose
    return None


async def no_since(note: Note, purpose: str, ports: Ports) -> Consent | None:
    """Return a no that was written when *note* was or later, if there is one."""
    return consent.no_since(await _of(note, purpose, ports), _written(note, ports))


async def yes_since(note: Note, purpose: str, ports: Ports) -> Consent | None:
    """Return a yes that was written after *note*, if there is one."""
    return consent.yes_since(await _of(note, purpose, ports), _written(note, ports))


async def _of(note: Note, purpose: str, ports: Ports) -> list[Consent]:
    rows = await ports.consents.history(note.tenant.id, note.subject)
    return [row for row in rows if row.purpose == purpose]


def _written(note: Note, ports: Ports) -> int:
    """Return when *note* was written; no will of a person lies in the future."""
    return min(note.message.sent_at, int(ports.now().timestamp()))


async def overtaken(note: Note, ports: Ports) -> ConsentState | None:
    """
    Return the no that *note* was overtaken by: written after it, it answers that note, too.

    A yes that was written after both brings nothing back.
    """
    row = await no_since(note, SPOKEN, ports)
    if row is None:
        return None
    if row.at > note.message.sent_at:
        return row.state
    # A second holds many updates: within it, the order in which they came in.
    mine = select(jobs.c.seq).where(jobs.c.id == note.job.id).scalar_subquery()
    later = (jobs.c.subject == note.subject) & (jobs.c.seq > mine)
    async with db.reading(ports.engine) as tx:
        found = (await tx.execute(select(jobs.c.id).where(later))).scalars().all()
    return row.state if row.id in {ident(job, SPOKEN) for job in found} else None


async def record(
    note: Note, purpose: str, state: ConsentState, shown: Words, ports: Ports
) -> Consent:
    """
    Add the row that says what *note* expressed; the same note is one row however often.

    Raises `LeaseLostError` if *note* is no longer ours, as that of a person who was erased.
    """
    await ports.jobs.check(note.job)
    key = await ports.keys.named(f"idempotency-{note.tenant.id}")
    at = _written(note, ports)
    row = Consent(
        id=ident(note.job.id, purpose),
        tenant=note.tenant.id,
        subject=note.subject,
        purpose=purpose,
        state=state,
        at=at,
        expires_at=expiry(at, months=note.tenant.consents.valid_months),
        notice_version=shown.version,
        notice_sha256=shown.sha256,
        language=shown.language,
        channel=CHANNEL,
        evidence=keyed(key, "evidence", note.message.id),
        shown=keyed(key, "evidence", shown.reply) if shown.reply else "",
        expressed=_expressed(note),
    )
    await ports.consents.record(row)
    if (now := await subjects.became(ports.engine, note.subject)) != note.subject:
        await persons.carry_over(note.subject, now, note.tenant.id, ports)
    return row


async def said_by(note: Note, row: Consent, ports: Ports) -> bool:
    """Whether *row* says what this very *note* expressed, under whichever name it was recorded."""
    key = await ports.keys.named(f"idempotency-{note.tenant.id}")
    return row.evidence == keyed(key, "evidence", note.message.id)


async def granted(note: Note, purpose: str, shown: Words, ports: Ports) -> None:
    """Record a yes to the words *shown*: a renewal if it follows another."""
    rows = await ports.consents.history(note.tenant.id, note.subject)
    mine = ident(note.job.id, purpose)
    before = [row for row in rows if row.purpose == purpose and row.id != mine]
    row = await record(note, purpose, agreed(before[-1] if before else None), shown, ports)
    await answered(note, [purpose], ports)
    await on_record(note, EventType(f"consent.{row.state}"), purpose, shown, ports)


async def answered(note: Note, purposes: list[str], ports: Ports) -> None:
    """Note that *note* answered what was asked about *purposes*."""
    theirs = (notices.c.subject == note.subject) & notices.c.purpose.in_(purposes)
    opened = theirs & notices.c.answered_by.is_(None) & (notices.c.job != note.job.id)
    opened &= notices.c.asked_at <= (note.message.sent_at + SKEW_S) * 1_000_000
    async with ports.engine.begin() as tx:
        await tx.execute(update(notices).where(opened).values(answered_by=note.job.id))


async def on_record(note: Note, kind: EventType, purpose: str, shown: Words, ports: Ports) -> None:
    """Put on record what was asked or expressed."""
    await ports.trail.append(
        Event(
            id=f"{note.job.id}.{kind}.{purpose}",
            type=kind,
            at=ports.now(),
            tenant=note.tenant.id,
            subject=note.subject,
            job=note.job.id,
            detail={
                "language": shown.language,
                "notice_sha256": shown.sha256,
                "notice_version": shown.version,
                "purpose": purpose,
            },
        )
    )


def ident(job: str, purpose: str) -> str:
    """Return the id of the row that says what *job* expressed about *purpose*."""
    return f"c_{hashlib.sha256(f'{job}/{purpose}'.encode()).hexdigest()[:32]}"


def _ask_since(row: Consent | None, now: int) -> int | None:
    """Return since when it is time to ask again, in epoch seconds; None: it is not."""
    match row:
        case None:
            return 0
        case Consent(state=ConsentState.EXPIRED):
            return row.at
        case Consent(state=state) if state in YES and now >= _late(row):
            return _late(row)
        case _:
            return None  # a yes that lasts, or a no that is to be respected


def _late(row: Consent) -> int:
    """Return when the last part of the life of *row* begins, in epoch seconds."""
    return row.expires_at - (row.expires_at - row.at) // RENEW_PART


async def _asked(note: Note, purpose: str, since: int, ports: Ports) -> bool:
    theirs = (notices.c.subject == note.subject) & (notices.c.purpose == purpose)
    same = (replies.c.job == notices.c.job) & (replies.c.kind == notices.c.kind)
    asked = theirs & (notices.c.asked_at >= since * 1_000_000) & (replies.c.state != Reply.FAILED)
    # This job's own question may still be on its way: it is taken up again, not asked anew.
    asked &= notices.c.job != note.job.id
    async with db.reading(ports.engine) as tx:
        query = select(notices.c.job).join(replies, same).where(asked).limit(1)
        return (await tx.execute(query)).first() is not None


def _expressed(note: Note) -> Expressed:
    match note.message.content:
        case Choice():
            return Expressed.BUTTON
        case VoiceNote():
            return Expressed.VOICE
        case _:
            return Expressed.TYPED
