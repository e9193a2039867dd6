"""
What a person may want beside an answer: to agree, refuse, withdraw, delete, reach a human.

- Asking for consent and confirming its end need no consent (GDPR Art. 7(3), 13): these
  messages go under the policy's *notice* stage.
- A yes to one purpose says nothing about another, and a no to one changes nothing else.
- Rules decide, never a classifier.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.model import EventType
from gateway import (
    consents,
    crashpoint,
    db,
    erasing,
    handover,
    log,
    memory,
    outbox,
    pauses,
    persons,
    phrases,
    record,
)
from gateway.consents import Words
from gateway.errors import AccountFaultError, ChannelRefusedError, DeniedError, SuspendedError
from gateway.inbox import WINDOW_S, bar, keyed
from gateway.jobs import REVOKED, WITHDRAWN, State
from gateway.note import SPOKEN, Note
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.permit import permitted
from gateway.phrases import Notice
from gateway.ports import Ports
from gateway.schema import inbox, jobs, replies
from gateway.sections import PURPOSES
from gateway.whatsapp.payload import Edited, Revoked, System
from policy.model import YES, ConsentState, Stage
from residency.model import Passage
from vault.errors import KeyLostError

Unless = Callable[[AsyncConnection], Awaitable[bool]]
GRANT = "consent.grant"
REFUSE = "consent.refuse"
OVERRULED = "consent.overruled"
IDENTITY_CHANGED = frozenset({"customer_identity_changed", "user_identity_changed"})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """
    What an act is confirmed with: built-in phrases, in order. None of them: nothing is said.

    *purpose* is the one whose word they name; *reason* is why a job without words ended.
    """

    keys: tuple[str, ...]
    purpose: str = ""
    reason: str = ""


LATER_SAID = Confirmation((), reason=OVERRULED)
"""The person wrote something else later, and it came in first: that counts, and was confirmed."""


async def question(note: Note, ports: Ports, *, unless: Unless) -> None:
    """Ask for consent to voice notes with two buttons, *unless* it is too late for that."""
    await _ask(note, SPOKEN, Kind.CONSENT, ports, unless=unless)


async def ask_more(note: Note, ports: Ports) -> None:
    """
    Ask for one further consent, if the tenant wants one or the main one is about to end.

    The person was answered already: what WhatsApp or the rules refuse here changes nothing.
    """
    if purpose := await consents.to_ask(note, ports):
        with contextlib.suppress(
            AccountFaultError, ChannelRefusedError, DeniedError, SuspendedError
        ):
            await _ask(note, purpose, Kind.PURPOSE, ports)


async def grant(note: Note, ports: Ports, purpose: str = SPOKEN) -> Confirmation | None:
    """
    Record the consent to the words that were shown, and let the parked notes go on.

    The time of writing counts. A no that was written later has answered the question: a yes that
    comes in behind it brings nothing back.
    """
    if await consents.no_since(note, purpose, ports):
        return LATER_SAID
    newest = await consents.newest(note, purpose, ports)
    if shown := await consents.shown(note, purpose, ports):
        await consents.granted(note, purpose, shown, ports)
        await pauses.end(note, ports, "granted")
    elif newest is None or newest.state not in YES:
        # An old button: nobody knows any more which words it agreed to.
        await _ask(note, purpose, Kind.CONSENT, ports)
        return None
    if purpose != SPOKEN:
        return Confirmation(("purpose_granted",), purpose)
    window = note.job.sent_at + timedelta(seconds=WINDOW_S)
    released = await ports.jobs.unpark(note.subject, window)
    return None if released else Confirmation(("granted",))


async def refuse(note: Note, ports: Ports, purpose: str = SPOKEN) -> Confirmation:
    """Record the refusal, and end unheard what was parked when it was written."""
    await _said_no(note, ConsentState.REFUSED, purpose, ports)
    if purpose == SPOKEN:
        await _drop_parked(note, "consent.refused", ports)
    key = "refused" if purpose == SPOKEN else "purpose_refused"
    return await _unless_overruled(Confirmation((key,)), note, purpose, ports)


async def withdraw(note: Note, ports: Ports) -> Confirmation:
    """Take back every consent, and destroy what was kept if law or tenant say so."""
    await take_back(note, ports)
    overruled = await consents.yes_since(note, SPOKEN, ports) is not None
    said = Confirmation(("withdrawn",))
    if erasing.required(note, ports):
        erased = await erasing.withdrawn(note, ports, older=overruled)
        held = ("withdrawn_held",) if erased.held else ()
        said = Confirmation(("withdrawn_erased", *held))
    return LATER_SAID if overruled else said


async def take_back(note: Note, ports: Ports) -> None:
    """
    Record the withdrawal of every consent, and undo what rested on them.

    What is under way stops before its next touch; what waits ends unheard; what was said is
    forgotten.
    """
    further = [each for each in PURPOSES if await _takes_back(note, each, ports)]
    rows = {each: await _wording(note, each, ports) for each in (SPOKEN, *further)}
    # Before the rows for those with a decision in hand, after them for those who asked meanwhile.
    await _stop(note, ports)
    for purpose, shown in rows.items():
        await consents.record(note, purpose, ConsentState.WITHDRAWN, shown, ports)
    await _stop(note, ports)
    # After the stop: in the trail, no touch of theirs begins behind this leaf.
    for purpose, shown in rows.items():
        await consents.on_record(note, EventType.CONSENT_WITHDRAWN, purpose, shown, ports)
    await consents.answered(note, [SPOKEN, *PURPOSES], ports)
    await pauses.end(note, ports, "withdrawn")
    await erasing.forget(note, ports)


async def withdraw_one(note: Note, ports: Ports, purpose: str) -> Confirmation:
    """Record the withdrawal of one further consent; nothing else changes."""
    await _said_no(note, ConsentState.WITHDRAWN, purpose, ports)
    return await _unless_overruled(Confirmation(("purpose_withdrawn",)), note, purpose, ports)


async def drop(note: Note, said: ConsentState, ports: Ports) -> None:
    """End *note* unheard and unanswered, as what waited when *said* was expressed."""
    reason = f"consent.{said}"
    await ports.jobs.renew(note.job)
    await record.ended(note.job, State.REFUSED, reason, ports.trail, ports.now())
    await ports.jobs.end(note.job, State.REFUSED, reason)


async def human(note: Note, ports: Ports, reason: str = "person.asked") -> Confirmation:
    """Open a handover."""
    await handover.hand_over(note, reason, ports)
    return Confirmation(("handover",))


async def forget(note: Note, ports: Ports) -> None:
    """Destroy what was made of a message that its author deleted or changed."""
    content = note.message.content
    if not isinstance(content, Revoked | Edited):
        return
    recording = await _recording(note, content.original_id, ports)
    if recording is None:
        return
    await _on_record(await ports.jobs.discard(recording, REVOKED), REVOKED, ports)
    await memory.forget(note, ports)
    await erasing.revoked(note, recording, ports)


async def _recording(note: Note, message: str, ports: Ports) -> str | None:
    """
    Return the artifact of *message*; None if it never came in, and now never will.

    WhatsApp may deliver what was taken back after its taking back: the inbox must know it by then.
    """
    key = await ports.keys.named(f"idempotency-{note.tenant.id}")
    known = keyed(key, "message", message)
    query = (
        select(jobs.c.artifact).join(inbox, inbox.c.job == jobs.c.id).where(inbox.c.key == known)
    )
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await bar(tx, note.tenant.id, known, ports.now())
        return (await tx.execute(query)).scalar_one_or_none()


async def moved(note: Note, ports: Ports) -> None:
    """
    Let a new number or user id lead to the same person, and a renewed account to somebody new.

    A change of the identity key renews no consent by itself: whoever has the account now is asked.
    """
    content, job, at = note.message.content, note.job.id, note.message.sent_at
    if not isinstance(content, System):
        return
    sender, tenant = note.message.sender, note.tenant.id
    if content.what in IDENTITY_CHANGED:
        device = content.identity_hash
        await persons.renew(sender, tenant, ports, device=device, at=at, job=job)
    elif content.new:
        await persons.link(content.previous or sender, content.new, tenant, ports, at=at, job=job)


async def tell(note: Note, key: str, ports: Ports, *more: str, purpose: str = "") -> None:
    """Send the built-in phrase *key*, and *more* of them, in the person's language."""
    language = await language_of(note, ports)
    fallback = note.tenant.languages[0]
    fields = {"word": phrases.word(purpose, language, fallback=fallback)} if purpose else {}
    said = [phrases.say(each, language, fallback=fallback, **fields) for each in (key, *more)]
    await say(note, Kind.NOTICE, Body(text=" ".join(said), language=language), ports)


async def say(
    note: Note,
    kind: Kind,
    body: Body,
    ports: Ports,
    *,
    purpose: str = "",
    unless: Unless | None = None,
) -> bool:
    """
    Send *body* under the policy's notice stage, as this job's message of *kind*.

    If it asks for consent to *purpose*, the words are noted beside it. *unless* is asked in the
    transaction that decides to send; return whether it was decided. What was said in a
    group is never answered: others would read it.
    """
    if note.message.group:
        log.get().info("reply.withheld", job=note.job.id, reason="group.message")
        return False
    sealed = await outbox.sealed(note, kind, body, ports)
    async with ports.engine.begin() as tx:
        if unless is not None and await unless(tx):
            return False
        await ports.jobs.hold(tx, note.job)
        new = await outbox.intend(tx, note, kind, sealed, ports)
        if new and purpose:
            await consents.show(tx, note, purpose, kind, consents.words(body), ports)
    crashpoint.reach("reply.intended")
    allowed = await permitted(note, Stage.NOTICE, ports)
    graph = ports.graphs[note.message.phone_number_id]
    to = note.message.sender

    async def send(opaque: str, passage: Passage) -> str:
        if body.buttons:
            return await graph.buttons(to, body.text, body.buttons, opaque=opaque, passage=passage)
        return await graph.text(to, body.text, opaque=opaque, passage=passage)

    await outbox.deliver(note, kind, allowed, send, ports)
    return True


async def language_of(note: Note, ports: Ports) -> str:
    """Return the language this person was last spoken to in, or the tenant's first."""
    try:
        known = await memory.recall(note, ports)
    except KeyLostError:
        return note.tenant.languages[0]  # a no must not wait for a key that never comes back
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


def button(answer: str, purpose: str) -> str:
    """Return the id of the button that gives *answer* to the question about *purpose*."""
    return answer if purpose == SPOKEN else f"{answer}.{purpose}"


async def _ask(
    note: Note, purpose: str, kind: Kind, ports: Ports, *, unless: Unless | None = None
) -> None:
    shown = await _current(note, purpose, ports)
    buttons = (
        (button(GRANT, purpose), shown.grant_title),
        (button(REFUSE, purpose), shown.refuse_title),
    )
    body = Body(text=shown.text, language=shown.language, notice=shown.version, buttons=buttons)
    if not await say(note, kind, body, ports, purpose=purpose, unless=unless):
        return
    await consents.on_record(note, EventType.CONSENT_ASKED, purpose, consents.words(body), ports)


async def _current(note: Note, purpose: str, ports: Ports) -> Notice:
    return phrases.notice(
        await language_of(note, ports),
        note.tenant.controller,
        purpose="" if purpose == SPOKEN else purpose,
        fallback=note.tenant.languages[0],
    )


async def _wording(note: Note, purpose: str, ports: Ports) -> Words:
    """Return the words that a no refers to: those shown, else those of the consent it ends."""
    if shown := await consents.shown(note, purpose, ports):
        return shown
    if newest := await consents.newest(note, purpose, ports):
        return Words(newest.notice_version, newest.notice_sha256, newest.language)
    current = await _current(note, purpose, ports)
    return Words(current.version, current.sha256, current.language)


async def _unless_overruled(
    said: Confirmation, note: Note, purpose: str, ports: Ports
) -> Confirmation:
    """Return *said*, unless a yes that was written later came in first: then it is not true."""
    return LATER_SAID if await consents.yes_since(note, purpose, ports) else said


async def _said_no(note: Note, state: ConsentState, purpose: str, ports: Ports) -> None:
    shown = await _wording(note, purpose, ports)
    await consents.record(note, purpose, state, shown, ports)
    await consents.answered(note, [purpose], ports)
    await consents.on_record(note, EventType(f"consent.{state}"), purpose, shown, ports)


async def _takes_back(note: Note, purpose: str, ports: Ports) -> bool:
    """Whether *note* ends a yes to *purpose*, or did so in a try that was cut short."""
    row = await consents.newest(note, purpose, ports)
    return row is not None and (row.state in YES or await consents.said_by(note, row, ports))


async def _stop(note: Note, ports: Ports) -> None:
    ended = await ports.jobs.stop(note.subject, SPOKEN, WITHDRAWN, by=note.job)
    await _on_record(ended, WITHDRAWN, ports)


async def _drop_parked(note: Note, reason: str, ports: Ports) -> None:
    dropped = await ports.jobs.discard_parked(note.subject, reason, written_by=note.job.sent_at)
    await _on_record(dropped, reason, ports)


async def _on_record(ended: Iterable[tuple[str, str, str]], reason: str, ports: Ports) -> None:
    for job, recording, tenant in ended:
        await record.discarded(job, recording, tenant, reason, ports.trail, ports.now())
