"""A conversation's memory in the database: sealed under the subject's key, one row each."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, log, session
from gateway.errors import MemoryFormatError
from gateway.jobs import micros
from gateway.note import Note
from gateway.ports import Ports
from gateway.schema import handovers, sessions
from gateway.session import Memory
from vault.errors import GoneError, TamperedError


async def recall(note: Note, ports: Ports) -> Memory:
    """Return what is remembered of this conversation and still counts; nothing is a memory too."""
    mine = (sessions.c.conversation == note.job.conversation) & (sessions.c.subject == note.subject)
    async with db.reading(ports.engine) as tx:
        kept = (await tx.execute(select(sessions.c.sealed).where(mine))).scalar_one_or_none()
    if kept is None:
        return Memory()
    try:
        opened = session.decode(await ports.custody.open_small(note.subject, _context(note), kept))
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
        .values(conversation=note.job.conversation, tenant=note.tenant.id, **row)
        .on_conflict_do_update(index_elements=[sessions.c.conversation], set_=row)
    )


async def _in_human_hands(note: Note, ports: Ports) -> bool:
    """Whether a handover is open: asked of the rows, for a turn under way may write it again."""
    mine = (handovers.c.conversation == note.job.conversation) & handovers.c.taken
    still = select(handovers.c.job).where(mine & handovers.c.closing_recorded_at.is_(None))
    async with db.reading(ports.engine) as tx:
        return (await tx.execute(still.limit(1))).first() is not None


def _context(note: Note) -> str:
    return f"session/{note.job.conversation}"


async def forget_subjects(subjects: Sequence[str], ports: Ports) -> None:
    """Forget every conversation with these."""
    async with ports.engine.begin() as tx:
        await tx.execute(delete(sessions).where(sessions.c.subject.in_(subjects)))


async def forget(note: Note, ports: Ports) -> None:
    """Forget this conversation: its author took a message back."""
    async with ports.engine.begin() as tx:
        await tx.execute(delete(sessions).where(sessions.c.conversation == note.job.conversation))
