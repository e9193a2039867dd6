"""
What a person may want beside an answer: to agree, refuse, withdraw, delete, reach a human.

- Asking for consent and confirming its end need no consent (GDPR Art. 7(3), 13): these
  messages go under the policy's *notice* stage.
- A consent row keeps what was shown: the version and the hash of the words, the language, the
  channel, and a keyed hash of the message that expressed it.
- Rules decide, never a classifier.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select

from audit.model import Event, EventType
from gateway import crashpoint, db, handover, memory, outbox, phrases, record
from gateway.inbox import WINDOW_S, keyed
from gateway.jobs import State
from gateway.note import SPOKEN, Note, artifact, link
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.schema import inbox, jobs, replies
from gateway.whatsapp.payload import Edited, Revoked, System
from policy.consent import expiry
from policy.model import Consent, ConsentState, Stage
from vault.errors import GoneError, TamperedError
from vault.model import Kind as Artifact

GRANT = "consent.grant"
REFUSE = "consent.refuse"
REVOKED = "person.revoked"
CHANNEL = "whatsapp"


async def ask(note: Note, ports: Ports) -> None:
    """Ask for consent with two buttons, unless this conversation was asked and not yet answered."""
    if await asked(note, ports):
        return
    shown = phrases.notice(
        await language_of(note, ports),
        note.tenant.controller,
        fallback=note.tenant.languages[0],
    )
    buttons = ((GRANT, shown.grant_title), (REFUSE, shown.refuse_title))
    body = Body(text=shown.text, language=shown.language, notice=shown.version, buttons=buttons)
    await say(note, Kind.CONSENT, body, ports)
    await _tell(note, EventType.CONSENT_ASKED, ports, _words(body))


async def grant(note: Note, ports: Ports) -> None:
    """Record the consent to the words that were shown, and let the parked notes go on."""
    newest = await ports.consents.newest(note.tenant.id, note.subject, SPOKEN)
    if shown := await _shown(note, ports):
        await _record(note, ConsentState.GRANTED, _words(shown), ports)
    elif newest is None or newest.state is not ConsentState.GRANTED:
        await ask(note, ports)  # an old button: nobody knows any more which words it agreed to
        return
    window = note.job.accepted_at + timedelta(seconds=WINDOW_S)
    if not await ports.jobs.unpark(note.subject, window):
        await tell(note, "granted", ports)


async def refuse(note: Note, ports: Ports) -> None:
    """Record the refusal, end what was parked unheard, and say so."""
    await _record(note, ConsentState.REFUSED, await _wording(note, ports), ports)
    await _drop_parked(note, "consent.refused", ports)
    await tell(note, "refused", ports)


async def withdraw(note: Note, ports: Ports) -> None:
    """Record the withdrawal, end what was parked unheard, forget what was said, and say so."""
    await _record(note, ConsentState.WITHDRAWN, await _wording(note, ports), ports)
    await memory.forget(note, ports)
    await _drop_parked(note, "consent.withdrawn", ports)
    await tell(note, "withdrawn", ports)


async def human(note: Note, ports: Ports, reason: str = "person.asked") -> None:
    """Open a handover and say so."""
    await handover.hand_over(note, reason, ports)
    await tell(note, "handover", ports)


async def forget(note: Note, ports: Ports) -> None:
    """Destroy what was made of a message that its author deleted or changed."""
    content = note.message.content
    if not isinstance(content, Revoked | Edited):
        return
    key = await ports.keys.named(f"idempotency-{note.tenant.id}")
    query = (
        select(jobs.c.artifact)
        .join(inbox, inbox.c.job == jobs.c.id)
        .where(inbox.c.key == keyed(key, "message", content.original_id))
    )
    async with db.reading(ports.engine) as tx:
        recording = (await tx.execute(query)).scalar_one_or_none()
    if recording is None:
        return
    await _on_record(await ports.jobs.discard(recording, REVOKED), REVOKED, ports)
    await memory.forget(note, ports)
    for kind in Artifact:
        await _destroy(artifact(recording, kind), ports)
    await record.destructions(ports)


async def moved(note: Note, ports: Ports) -> None:
    """Let a new number or user id lead to the same person."""
    content = note.message.content
    if isinstance(content, System) and content.new:
        await link(content.previous or note.message.sender, content.new, note.tenant.id, ports)


async def tell(note: Note, key: str, ports: Ports) -> None:
    """Send the built-in phrase *key* in the person's language."""
    language = await language_of(note, ports)
    text = phrases.say(key, language, fallback=note.tenant.languages[0])
    await say(note, Kind.NOTICE, Body(text=text, language=language), ports)


async def say(note: Note, kind: Kind, body: Body, ports: Ports) -> None:
    """Send *body* under the policy's notice stage, as this job's message of *kind*."""
    sealed = await outbox.sealed(note, kind, body, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await outbox.intend(tx, note, kind, sealed, ports)
    crashpoint.reach("reply.intended")
    allowed = await permitted(note, Stage.NOTICE, ports)
    graph = ports.graphs[note.message.phone_number_id]
    to = note.message.sender

    async def send(opaque: str) -> str:
        if body.buttons:
            return await graph.buttons(to, body.text, body.buttons, opaque=opaque)
        return await graph.text(to, body.text, opaque=opaque)

    await outbox.deliver(note, kind, allowed, send, ports)


async def language_of(note: Note, ports: Ports) -> str:
    """Return the language this person was last spoken to in, or the tenant's first."""
    known = await memory.recall(note, ports)
    return known.language or note.tenant.languages[0]


async def asked(note: Note, ports: Ports) -> bool:
    """Whether a note of this conversation is parked behind an unanswered notice."""
    asked = (
        (jobs.c.subject == note.subject)
        & (jobs.c.state == State.PARKED)
        & (replies.c.kind == Kind.CONSENT)
        & (replies.c.state != Reply.FAILED)
        & (replies.c.job == jobs.c.id)
    )
    async with db.reading(ports.engine) as tx:
        found = await tx.execute(select(func.count()).select_from(jobs).join(replies, asked))
    return bool(found.scalar())


@dataclass(frozen=True, slots=True)
class _Words:
    """The exact words a person was shown: version, hex SHA-256, language."""

    version: str
    sha256: str
    language: str


def _words(shown: Body) -> _Words:
    digest = hashlib.sha256(shown.text.encode()).hexdigest()
    return _Words(shown.notice, digest, shown.language)


async def _shown(note: Note, ports: Ports) -> Body | None:
    """Return the newest open consent notice that this person was sent before *note*."""
    # What this very job asked, in a try that was cut short, is no notice that it answers.
    theirs = (jobs.c.subject == note.subject) & (jobs.c.id != note.job.id)
    sent = (replies.c.kind == Kind.CONSENT) & replies.c.state.in_([Reply.ATTEMPTED, Reply.SENT])
    query = (
        select(replies)
        .join(jobs, jobs.c.id == replies.c.job)
        .where(theirs & sent & replies.c.sealed.is_not(None))
        .order_by(replies.c.created_at.desc())
        .limit(1)
    )
    async with db.reading(ports.engine) as tx:
        row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    try:
        return await outbox.opened(note.subject, row, ports)
    except (GoneError, TamperedError):
        return None  # sealed for the subject this person was before two became one


async def _wording(note: Note, ports: Ports) -> _Words:
    """Return the words that a no refers to: those shown, else those of the consent it ends."""
    if shown := await _shown(note, ports):
        return _words(shown)
    if newest := await ports.consents.newest(note.tenant.id, note.subject, SPOKEN):
        return _Words(newest.notice_version, newest.notice_sha256, newest.language)
    current = phrases.notice(await language_of(note, ports), note.tenant.controller)
    return _Words(current.version, current.sha256, current.language)


async def _record(note: Note, state: ConsentState, shown: _Words, ports: Ports) -> None:
    key = await ports.keys.named(f"idempotency-{note.tenant.id}")
    at = int(ports.now().timestamp())
    await ports.consents.record(
        Consent(
            id=f"c_{note.job.id[2:]}",
            tenant=note.tenant.id,
            subject=note.subject,
            purpose=SPOKEN,
            state=state,
            at=at,
            expires_at=expiry(at),
            notice_version=shown.version,
            notice_sha256=shown.sha256,
            language=shown.language,
            channel=CHANNEL,
            evidence=keyed(key, "evidence", note.message.id),
        )
    )
    await _tell(note, EventType(f"consent.{state}"), ports, shown)


async def _tell(note: Note, kind: EventType, ports: Ports, shown: _Words) -> None:
    await ports.trail.append(
        Event(
            id=f"{note.job.id}.{kind}",
            type=kind,
            at=ports.now(),
            tenant=note.tenant.id,
            subject=note.subject,
            job=note.job.id,
            detail={
                "language": shown.language,
                "notice_sha256": shown.sha256,
                "notice_version": shown.version,
                "purpose": SPOKEN,
            },
        )
    )


async def _drop_parked(note: Note, reason: str, ports: Ports) -> None:
    dropped = await ports.jobs.discard_parked(note.subject, reason)
    await _on_record(dropped, reason, ports)


async def _on_record(ended: Iterable[tuple[str, str, str]], reason: str, ports: Ports) -> None:
    for job, recording, tenant in ended:
        await record.discarded(job, recording, tenant, reason, ports.trail, ports.now())


async def _destroy(artifact_id: str, ports: Ports) -> None:
    if kept := await ports.custody.describe(artifact_id):
        await ports.custody.destroy(kept, reason=REVOKED)
