"""
Who is not served is told so in a sentence, and nothing else of theirs is processed.

- The rules decide (`person.declined`: the controller serves its own law's people only;
  `law.localises`: the person's law keeps such data in a country where the cell does not stand).
- Told in the tenant's first language and in English, at most once a day: whoever writes ten
  messages is not answered ten times. A right (stop, delete, erase) is carried out as ever.
"""

from datetime import timedelta

from sqlalchemy import select

from gateway import db, phrases, rights
from gateway.errors import DecisionError, DeclinedError, UndecidedError
from gateway.jobs import micros
from gateway.note import Note
from gateway.orders import ENGLISH
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.schema import jobs, replies
from policy.model import Stage

TOLD_AGAIN_AFTER = timedelta(days=1)


async def check(note: Note, ports: Ports) -> None:
    """
    Return if *note*'s author is served, asked where the tenant declines anybody at all.

    For what is answered without a stage of its own (a picture, a wish for a human). Raises
    `DeclinedError`, or `UndecidedError` while nobody can say.
    """
    if note.tenant.abroad != "decline":
        return
    try:
        await permitted(note, Stage.UNDERSTAND, ports)
    except (DeclinedError, UndecidedError):
        raise
    except DecisionError:
        return  # a no of another kind, which is no answer to this question


async def tell(note: Note, ports: Ports) -> None:
    """Say that this person is not served, unless they were told within a day."""
    if not await _told_lately(note, ports):
        body = Body(text=sentence(note), language=note.tenant.languages[0])
        await rights.say(note, Kind.DECLINED, body, ports)


def sentence(note: Note) -> str:
    """Return what is said, in the tenant's first language that we have words in, and in English."""
    languages = dict.fromkeys([phrases.spoken(note.tenant.languages[0]), ENGLISH])
    controller = note.tenant.controller
    return "\n\n".join(phrases.say("declined", each, controller=controller) for each in languages)


async def _told_lately(note: Note, ports: Ports) -> bool:
    since = micros(ports.now() - TOLD_AGAIN_AFTER)
    told = (
        (jobs.c.subject == note.subject)
        & (jobs.c.tenant == note.tenant.id)
        & (jobs.c.id != note.job.id)
        & (replies.c.job == jobs.c.id)
        & (replies.c.kind == Kind.DECLINED)
        & (replies.c.state != Reply.FAILED)
        & (replies.c.created_at > since)
    )
    async with db.reading(ports.engine) as tx:
        return (await tx.execute(select(replies.c.id).where(told).limit(1))).first() is not None
