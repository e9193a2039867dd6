"""
Replies, sent at most once each, although WhatsApp has no idempotency key.

- A reply is *intended* (committed with the turn that decided it), then *attempted* (committed
  just before the request leaves), then *sent*. One row per job and kind.
- Found *attempted* and not *sent*, it may or may not have arrived. It is settled by a status
  that carries our opaque id; one that failed is sent again, under a new id, if its code allows
  that. If none comes within the grace time, it is sent once more and
  marked as a possible duplicate; a second doubt goes to a human.
- "Nothing was sent" (`ChannelBusyError`, `AccountFaultError`) makes it *intended* again; a
  refusal makes it *failed*.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from audit.errors import AppendError
from audit.model import Event, EventType
from gateway import crashpoint, db, persons
from gateway.errors import (
    AccountFaultError,
    ChannelBusyError,
    ChannelError,
    ChannelRefusedError,
    DoubtError,
    WaitingError,
)
from gateway.jobs import micros
from gateway.note import Note
from gateway.passage import leaving
from gateway.ports import Ports
from gateway.schema import replies, statuses
from gateway.whatsapp import codes
from gateway.whatsapp.codes import Meaning, Means
from gateway.whatsapp.send import DEADLINE_S
from policy.model import Allowed
from residency.model import Passage, Processor

TYPING_S = 1.0
SETTLED_S = 2.0
MOST_TRIES = 3  # of one message that WhatsApp takes and does not deliver
ARRIVED = frozenset({"delivered", "played", "read"})


class Kind(StrEnum):
    """What is sent; at most one of each per job. Kept sorted."""

    CONSENT = "consent"
    DECLINED = "declined"  # that the person is not served here
    ERASED = "erased"  # that their erasure is done
    NOTICE = "notice"
    PURPOSE = "purpose"  # the question for a further consent
    QUESTION = "question"  # whether they withdraw, or want everything deleted
    RECEIPT = "receipt"
    TEXT = "text"
    TYPING = "typing"
    UNREAD = "unread"  # that a message is damaged: please type
    UNSUPPORTED = "unsupported"  # that what was sent is nothing we can read or hear
    VOICE = "voice"
    WAITING = "waiting"  # that a note waits for the answer to a question


class State(StrEnum):
    """Where a reply stands; kept sorted."""

    ATTEMPTED = "attempted"
    FAILED = "failed"
    INTENDED = "intended"
    SENT = "sent"


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to send; *buttons* are (id, title) pairs, *speak* asks for speech beside the text.

    *number* is ours, *phone* or *bsuid* the person's: what does not arrive can be sent again.
    """

    text: str
    language: str
    notice: str = ""  # the version, if this is the consent notice
    buttons: tuple[tuple[str, str], ...] = ()
    speak: bool = False
    number: str = ""
    phone: str = ""
    bsuid: str = ""


Send = Callable[[str, Passage], Awaitable[object]]
"""What is given our opaque id and leave to reach WhatsApp."""


async def sealed(note: Note, kind: Kind, body: Body, ports: Ports) -> bytes:
    """Return *body* sealed, ready for `intend`: keys are fetched before a transaction begins."""
    context = f"reply/{note.job.id}/{kind}"
    to = note.message.sender
    addressed = msgspec.structs.replace(
        body, number=note.message.phone_number_id, phone=to.phone or "", bsuid=to.bsuid or ""
    )
    return await ports.custody.seal_small(note.subject, context, msgspec.json.encode(addressed))


async def intend(
    tx: AsyncConnection,
    note: Note,
    kind: Kind,
    sealed: bytes | None,
    ports: Ports,
    *,
    tries: int = 0,
) -> bool:
    """
    Commit, with *tx*, that this will be sent; False if this job already has such a reply.

    *tries* counts those of an earlier job, if the same was sent before and did not arrive.
    """
    return await _insert(tx, note, kind, sealed, ports, tries=tries)


async def renewed(tx: AsyncConnection, reply: str) -> str:
    """
    Intend *reply* anew, under another id, and return that.

    What WhatsApp says of the earlier try must not be taken for what it says of the next.
    """
    fresh = _fresh_id()
    values = {"id": fresh, "state": State.INTENDED}
    await tx.execute(update(replies).where(replies.c.id == reply).values(values))
    return fresh


def may_go_again(meaning: Meaning, tries: int) -> bool:
    """Whether what failed for a reason of *meaning*, after so many *tries*, is sent again."""
    if meaning.means is Means.ACCOUNT:
        return True  # no try: nothing goes out until the account is mended
    return meaning.means is not Means.REFUSED and tries < MOST_TRIES


async def intended(note: Note, kind: Kind, ports: Ports) -> Body | None:
    """Return what this job already decided to send, if it did."""
    async with db.reading(ports.engine) as tx:
        row = await _row(tx, note, kind)
    if row is None or row.sealed is None:
        return None
    body = await opened(note.subject, row, ports)
    return msgspec.structs.replace(body, number="", phone="", bsuid="")


async def opened(subject: str, row: Any, ports: Ports) -> Body:
    """Return the body of the reply *row*, which was sealed for *subject*."""
    context = f"reply/{row.job}/{row.kind}"
    body = await ports.custody.open_small(subject, context, row.sealed)
    return msgspec.json.decode(body, type=Body)


async def begun(note: Note, kind: Kind, ports: Ports) -> bool:
    """Whether this job has such a reply, wherever it stands."""
    async with db.reading(ports.engine) as tx:
        return await _row(tx, note, kind) is not None


async def pending(note: Note, kind: Kind, ports: Ports) -> bool:
    """Whether this reply was intended and nothing was tried with it yet."""
    async with db.reading(ports.engine) as tx:
        row = await _row(tx, note, kind)
    return row is not None and row.state == State.INTENDED


async def typing(note: Note, allowed: Allowed, send: Send, ports: Ports) -> None:
    """Show that an answer is on its way; once per job, never repeated, never in the way."""
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        if not await _insert(tx, note, Kind.TYPING, None, ports):
            return
        row = await _row(tx, note, Kind.TYPING)
    processor = ports.processors[allowed.processors[0]]
    with contextlib.suppress(ChannelError, TimeoutError):
        async with (
            leaving(
                note, processor, "send-typing", row.id, allowed, ports, deadline_s=TYPING_S
            ) as (_, passage),
            asyncio.timeout(TYPING_S),
        ):
            await send(row.id, passage)


async def deliver(note: Note, kind: Kind, allowed: Allowed, send: Send, ports: Ports) -> None:
    """
    Send the intended reply by *send*, which is given our opaque id.

    Raises `WaitingError` while an earlier attempt is unresolved, and *send*'s own errors.
    """
    async with db.reading(ports.engine) as tx:
        row = await _row(tx, note, kind)
    if row is None or row.state == State.SENT:
        return
    if row.state == State.FAILED:
        raise ChannelRefusedError("reply.failed")
    if row.state == State.ATTEMPTED:
        row = await _unresolved(note, row, ports)
        if row is None:
            return
    to, tenant = note.message.sender, note.tenant.id
    # Of somebody erased we know no number any more: whoever asked for that is told all the same.
    if not note.erased and not await persons.reached(to, note.subject, tenant, ports):
        raise ChannelRefusedError("number.given_on")  # its next holder would read it
    await _mark(note, row.id, ports, state=State.ATTEMPTED, tries=row.tries + 1, attempted=True)
    crashpoint.reach("reply.attempted")
    processor = ports.processors[allowed.processors[0]]
    await _post(note, row.id, kind, allowed, processor, send, ports)
    crashpoint.reach("reply.sent")
    await _mark(note, row.id, ports, state=State.SENT, sent=True)
    crashpoint.reach("reply.recorded")


async def _post(
    note: Note,
    reply: str,
    kind: Kind,
    allowed: Allowed,
    processor: Processor,
    send: Send,
    ports: Ports,
) -> None:
    left = False
    try:
        with ports.metrics.timed(
            "send", processor=processor.id, tenant=note.tenant.id, region=note.region
        ):
            async with leaving(
                note, processor, f"send-{kind}", reply, allowed, ports, deadline_s=DEADLINE_S
            ) as (_, passage):
                left = True
                await send(reply, passage)
    except (AccountFaultError, ChannelBusyError):
        await _mark(note, reply, ports, state=State.INTENDED)
        raise
    except AppendError:
        if not left:  # no evidence, no touch: nothing was sent
            await _mark(note, reply, ports, state=State.INTENDED)
        raise
    except ChannelRefusedError:
        await _mark(note, reply, ports, state=State.FAILED)
        raise


async def _unresolved(note: Note, row: Any, ports: Ports) -> Any | None:
    """Return the row to send, None if WhatsApp has it; raises while it is too early to tell."""
    async with db.reading(ports.engine) as tx:
        known = (await tx.execute(select(statuses).where(statuses.c.reply == row.id))).all()
    told = {each.state: each for each in known}
    if "failed" in told and not ARRIVED & told.keys():
        return await _failed(note, row, told["failed"], ports)
    if told:
        await _mark(note, row.id, ports, state=State.SENT, sent=True)
        return None
    waited = (micros(ports.now()) - row.attempted_at) / 1e6
    if waited < ports.unknown_grace_s:
        raise WaitingError(ports.unknown_grace_s - waited)
    if row.possible_duplicate:
        raise DoubtError(row.id)
    await ports.jobs.renew(note.job)
    await ports.trail.append(
        Event(
            id=f"{row.id}.unknown.{row.tries}",
            type=EventType.REPLY_UNKNOWN,
            at=ports.now(),
            tenant=note.tenant.id,
            artifact=row.id,
            subject=note.subject,
            job=note.job.id,
            outcome="resent",
            detail={"basis": "unknown", "tries": row.tries},
        )
    )
    await _mark(note, row.id, ports, state=State.INTENDED, possible_duplicate=True)
    return row


async def _failed(note: Note, row: Any, told: Any, ports: Ports) -> Any:
    """Return the row to send again, or raise `ChannelRefusedError`: the code *told* forbids it."""
    if not may_go_again(codes.failed(told.error_code), row.tries):
        await _mark(note, row.id, ports, state=State.FAILED)
        raise ChannelRefusedError(str(told.error_code) if told.error_code else "reply.failed")
    if not told.settled:
        raise WaitingError(SETTLED_S)  # until it is on record
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await renewed(tx, row.id)
        return await _row(tx, note, Kind(row.kind))


def _fresh_id() -> str:
    return f"r_{secrets.token_hex(16)}"


async def _insert(
    tx: AsyncConnection,
    note: Note,
    kind: Kind,
    sealed: bytes | None,
    ports: Ports,
    *,
    tries: int = 0,
) -> bool:
    row = {
        "id": _fresh_id(),
        "tries": tries,
        "job": note.job.id,
        "kind": kind,
        "state": State.INTENDED,
        "sealed": sealed,
        "created_at": micros(ports.now()),
    }
    return await db.insert_new(tx, replies, row)


async def _row(tx: AsyncConnection, note: Note, kind: Kind) -> Any:
    query = select(replies).where((replies.c.job == note.job.id) & (replies.c.kind == kind))
    return (await tx.execute(query)).one_or_none()


async def _mark(
    note: Note,
    reply: str,
    ports: Ports,
    *,
    attempted: bool = False,
    sent: bool = False,
    **values: object,
) -> None:
    at = micros(ports.now())
    stamps = {"attempted_at": at} if attempted else {"sent_at": at} if sent else {}
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await tx.execute(update(replies).where(replies.c.id == reply).values(**(values | stamps)))
