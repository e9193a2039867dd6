"""A conversation's memory in the database: sealed under the subject's key, one row each."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, log, session, subjects
from gateway.errors import MemoryFormatError
from gateway.jobs import micros
from gateway.note import Note, conversation
from gateway.ports import Ports
from gateway.schema import handovers, sessions
from gateway.session import Memory
from vault.errors import GoneError, TamperedError


async def recall(note: Note, ports: Ports) -> Memory:
    """
    Return what is remembered of this conversation and still counts; nothing is a memory too.

    Where there is none yet, that of a name which became this person's counts.
    """
    found = await _kept(note, [note.subject], ports)
    if found is None and (former := (await subjects.formerly(ports.engine, note.subject))[1:]):
        found = await _kept(note, former, ports)
    if found is None:
        return Memory()
    try:
        context = f"session/{found.conversation}"
        kept = await ports.custody.open_small(found.subject, context, found.sealed)
        opened = session.decode(kept)
    except (GoneError, MemoryFormatError, TamperedError) as exc:
        # What cannot be read is forgotten: the person is not kept waiting for it.
        log.get().warning("memory.unreadable", error=exc)
        return Memory()
    if opened.handed_over and not await _in_human_hands(note, ports):
        opened = session.given_back(opened)
    return session.fresh(opened, int(ports.now().timestamp()))


async def sealed(note: Note, memory: Memory, ports: Ports) -> bytes:
    """Return *memory* sealed for `remember`: keys are fetched before a transaction begins."""
    return await ports.custody.seal_small(note.subject, _context(note), session.encode(memory))


async def remember(tx: AsyncConnection, note: Note, kept: bytes, ports: Ports) -> None:
    """Replace this conversation's memory within *tx*."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    row = {"sealed": kept, "updated_at": micros(ports.now()), "subject": note.subject}
    await tx.execute(
        insert(sessions)
        .values(conversation=note.conversation, tenant=note.tenant.id, **row)
        .on_conflict_do_update(index_elements=[sessions.c.conversation], set_=row)
    )


async def _kept(note: Note, whose: Sequence[str], ports: Ports) -> Row[Any] | None:
    line = note.message.phone_number_id
    theirs = sessions.c.conversation.in_([conversation(line, one) for one in whose])
    newest = select(sessions).where(theirs).order_by(sessions.c.updated_at.desc()).limit(1)
    async with db.reading(ports.engine) as tx:
        return (await tx.execute(newest)).one_or_none()


async def _in_human_hands(note: Note, ports: Ports) -> bool:
    """Whether a handover is open: asked of the rows, for a turn under way may write it again."""
    line, whole = note.message.phone_number_id, await subjects.formerly(ports.engine, note.subject)
    theirs = handovers.c.conversation.in_([conversation(line, one) for one in whole])
    mine = theirs & handovers.c.taken
    still = select(handovers.c.job).where(mine & handovers.c.closing_recorded_at.is_(None))
    async with db.reading(ports.engine) as tx:
        return (await tx.execute(still.limit(1))).first() is not None


def _context(note: Note) -> str:
    return f"session/{note.conversation}"


async def forget_subjects(whole: Sequence[str], ports: Ports) -> None:
    """Forget every conversation with these."""
    async with ports.engine.begin() as tx:
        await tx.execute(delete(sessions).where(sessions.c.subject.in_(whole)))


async def forget(note: Note, ports: Ports) -> None:
    """Forget this conversation: its author took a message back."""
    line, whole = note.message.phone_number_id, await subjects.formerly(ports.engine, note.subject)
    theirs = sessions.c.conversation.in_([conversation(line, one) for one in whole])
    async with ports.engine.begin() as tx:
        await tx.execute(delete(sessions).where(theirs))
