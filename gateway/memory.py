"""A conversation's memory in the database: sealed under the subject's key, one row each."""

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, session
from gateway.jobs import micros
from gateway.note import Note
from gateway.ports import Ports
from gateway.schema import sessions
from gateway.session import Memory


async def recall(note: Note, ports: Ports) -> Memory:
    """Return what is remembered of this conversation and still counts; nothing is a memory too."""
    query = select(sessions.c.sealed).where(sessions.c.conversation == note.job.conversation)
    async with db.reading(ports.engine) as tx:
        kept = (await tx.execute(query)).scalar_one_or_none()
    if kept is None:
        return Memory()
    opened = await ports.custody.open_small(note.subject, _context(note), kept)
    return session.fresh(session.decode(opened), int(ports.now().timestamp()))


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


def _context(note: Note) -> str:
    return f"session/{note.job.conversation}"
