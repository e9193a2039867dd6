"""
What is neither text nor a voice note: said once for an album, not once for each picture.

Six pictures are six updates, and six workers may have them: whether it was said is asked in the
transaction that decides to say it, while the other turns of the conversation wait.
"""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import phrases, rights
from gateway.jobs import micros
from gateway.note import Note
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.ports import Ports
from gateway.schema import jobs, replies

AT_ONCE = timedelta(seconds=30)
"""What was written within this time of what was answered is answered with it."""
KINDS = {"unreadable": Kind.UNREAD, "unsupported": Kind.UNSUPPORTED}
"""The phrases that are said here: to have heard one says nothing of the other."""


async def tell(note: Note, ports: Ports, key: str = "unsupported") -> None:
    """Say the phrase *key* of `KINDS`, unless that was said of what came in the same breath."""
    kind = KINDS[key]
    language, fallback = await rights.language_of(note, ports), note.tenant.languages[0]
    text = phrases.say(key, language, fallback=fallback)
    body = Body(text=text, language=phrases.spoken(language, fallback))

    async def told(tx: AsyncConnection) -> bool:
        await ports.jobs.alone(tx, note.job)
        return await _told(tx, note, kind)

    await rights.say(note, kind, body, ports, unless=told)


async def _told(tx: AsyncConnection, note: Note, kind: Kind) -> bool:
    written, around = micros(note.job.sent_at), int(AT_ONCE.total_seconds() * 1_000_000)
    near = jobs.c.sent_at.between(written - around, written + around)
    same = (jobs.c.conversation == note.job.conversation) & (jobs.c.id != note.job.id)
    said = (replies.c.kind == kind) & (replies.c.state != Reply.FAILED)
    query = select(replies.c.id).join(jobs, jobs.c.id == replies.c.job).where(near & same & said)
    return (await tx.execute(query.limit(1))).first() is not None
