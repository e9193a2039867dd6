"""
A job opened: the update it is about, whose it is, and whose law holds.

The sender's number is used to find a pseudonym and a jurisdiction, and to answer; it is kept
nowhere but in the sealed update, which goes when the job ends, and in the sealed reply, which
goes when it arrived.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import msgspec
from sqlalchemy import select

from audit.model import Event, EventType
from gateway import db, log, persons, subjects, tombstones
from gateway.errors import LeaseLostError
from gateway.jobs import ERASED, Job, State
from gateway.ports import Ports
from gateway.schema import erasures, inbox
from gateway.settings import Tenant
from gateway.subjects import Declared
from gateway.touch import Leave, Matter
from gateway.whatsapp.payload import Choice, Edited, Message, Text, Undelivered, VoiceNote
from residency.jurisdiction import locate
from residency.model import Jurisdiction
from vault.model import Kind, Label

SPOKEN = "transcribe_and_answer"
TYPED = "answer_typed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """
    One update being worked on. *subject* is a random pseudonym.

    *erased*: the person was erased, as they asked with this very update, and is told of it; nothing
    can be sealed for them any more, nor must anything be kept.
    """

    job: Job
    message: Message
    tenant: Tenant
    subject: str
    jurisdiction: Jurisdiction
    region: str
    minor: bool = False
    erased: bool = False

    @property
    def spoken(self) -> bool:
        """Whether this is a recording, not typed words."""
        return isinstance(self.message.content, VoiceNote)

    @property
    def typed(self) -> str:
        """Return the typed words: a text, an edited text, or the title of what was chosen."""
        match self.message.content:
            case Text(body=body) | Edited(body=str(body)) | Choice(title=body):
                return body
            case _:
                return ""

    @property
    def conversation(self) -> str:
        """
        Return the opaque name of what this person and this number of the tenant's have said.

        It stays when the person's names change, and is another's when the number becomes theirs.
        """
        return conversation(self.message.phone_number_id, self.subject)

    @property
    def purpose(self) -> str:
        """Return what this is processed for: a recording needs a consent, typing does not."""
        if isinstance(self.message.content, Undelivered):
            return self.message.content.purpose
        return SPOKEN if self.spoken else TYPED

    def mark(self, name: str, ports: Ports) -> None:
        """Measure how long after it was accepted this note reached *name*."""
        at = ports.now()
        ports.metrics.note_mark(name, self.job.accepted_at, at, tenant=self.tenant.id)
        waited = at - self.job.accepted_at
        log.get().info("note.mark", stage=name, ms=waited.total_seconds() * 1000)

    def label(self, kind: Kind) -> Label:
        """Return the label under which this note's artifact of *kind* is kept."""
        return Label(
            tenant=self.tenant.id,
            subject=self.subject,
            artifact=artifact(self.job.artifact, kind),
            kind=kind,
            region=self.region,
        )

    def leave(self, ports: Ports) -> Leave:
        """Return the question whether this note may still be worked on, for `touching`."""
        return partial(ports.jobs.check, self.job)

    def matter(self, artifact_id: str, decision: str) -> Matter:
        """Return what a touch of *artifact_id* under *decision* is about."""
        return Matter(
            tenant=self.tenant.id,
            job=self.job.id,
            subject=self.subject,
            artifact=artifact_id,
            decision=decision,
        )


def conversation(phone_number_id: str, subject: str) -> str:
    """Return the opaque name of all that *subject* and that number of the tenant's have said."""
    return hashlib.sha256(f"{phone_number_id}/{subject}".encode()).hexdigest()


def artifact(recording: str, kind: Kind) -> str:
    """Return the id of the *kind* of artifact made from *recording*: same in, same out."""
    if kind is Kind.RAW_AUDIO:
        return recording
    return "a_" + hashlib.sha256(f"{recording}/{kind}".encode()).hexdigest()[:32]


async def opened(job: Job, ports: Ports) -> Note:
    """Unseal the update of *job*, find out whose it is, and note that with the job."""
    async with db.reading(ports.engine) as tx:
        row = (await tx.execute(select(inbox).where(inbox.c.job == job.id))).one()
    if row.sealed is None:
        raise LeaseLostError(job.id)
    body = await ports.custody.open_named(row.body_key, job.id, row.sealed)
    message = msgspec.json.decode(body, type=Message)
    tenant = ports.tenants[job.tenant]
    if erased := await _told_of(job, ports):
        return _note(job, message, erased, Declared(), ports, erased=True)
    seen = await persons.sighting(
        message.sender, tenant.id, ports.keys, at=message.sent_at, device=message.identity_hash
    )
    if await tombstones.bars(ports.engine, seen):
        await _bar(job, ports)
    subject = await persons.recognized(seen, tenant.id, ports, job=job.id)
    note = _note(job, message, subject, await subjects.declared(ports.engine, subject), ports)
    await ports.jobs.identify(job, subject, note.purpose)
    # Asked again: an erasure that began in between stops the jobs it finds, and did not find ours.
    if await tombstones.bars(ports.engine, seen):
        await _bar(job, ports)
    return note


def _note(
    job: Job,
    message: Message,
    subject: str,
    declared: Declared,
    ports: Ports,
    *,
    erased: bool = False,
) -> Note:
    tenant = ports.tenants[job.tenant]
    return Note(
        job=job,
        message=message,
        tenant=tenant,
        subject=subject,
        jurisdiction=locate(
            declared=declared.residence,
            phone=message.sender.phone,
            bsuid=message.sender.bsuid,
            tenant=tenant.jurisdiction,
        ),
        region=ports.region,
        minor=declared.minor,
        erased=erased,
    )


async def _told_of(job: Job, ports: Ports) -> str | None:
    """Return whose erasure *job* tells of: they asked for it with this update, and are nobody's."""
    query = select(erasures.c.subject).where(erasures.c.teller == job.id)
    async with db.reading(ports.engine) as tx:
        found: str | None = (await tx.execute(query)).scalar()
    return found


async def _bar(job: Job, ports: Ports) -> NoReturn:
    """End *job*, unanswered: its author was erased after they wrote this."""
    ended = Event(
        id=f"{job.id}.ended",
        type=EventType.JOB_ENDED,
        at=ports.now(),
        tenant=job.tenant,
        artifact=job.artifact,
        job=job.id,
        outcome=State.REFUSED.value,
        detail={"reason": ERASED},
    )
    await ports.trail.append(ended)
    await ports.jobs.identify(job, None)
    await ports.jobs.end(job, State.REFUSED, ERASED)
    raise LeaseLostError(job.id)
