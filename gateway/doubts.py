"""
Where it is unclear whether somebody withdraws: they are asked with two buttons.

Until they press one, nothing they said is opened (`gateway.pauses`). A typed yes withdraws, for
that protects; a typed no may mean either, so the question comes again.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select

from gateway import buttons, consents, db, pauses, phrases, record, rights
from gateway.buttons import Button
from gateway.inbox import WINDOW_S
from gateway.jobs import micros
from gateway.note import SPOKEN, Note
from gateway.outbox import Body, Kind
from gateway.outbox import State as Reply
from gateway.ports import Ports
from gateway.schema import pauses as table
from gateway.schema import replies

ASKED_AGAIN_AFTER = timedelta(hours=1)
SENT = (Reply.ATTEMPTED, Reply.SENT)


async def ask(note: Note, ports: Ports) -> None:
    """Open nothing more, and ask whether the person withdraws."""
    await pauses.begin(note, pauses.WITHDRAW, ports)
    language = await language_of(note, ports)
    shown = [buttons.button(each, language) for each in (buttons.WITHDRAW, buttons.KEEP)]
    await question(note, "ask_withdraw", shown, ports)


async def asked_lately(note: Note, ports: Ports) -> bool:
    """Whether the question was sent, or may have been, within the last hour."""
    asked = (
        select(func.max(replies.c.created_at))
        .join(table, table.c.job == replies.c.job)
        .where((table.c.subject == note.subject) & (replies.c.job != note.job.id))
        .where((replies.c.kind == Kind.QUESTION) & replies.c.state.in_(SENT))
    )
    async with db.reading(ports.engine) as tx:
        newest: int | None = (await tx.execute(asked)).scalar()
    return newest is not None and newest > micros(ports.now() - ASKED_AGAIN_AFTER)


async def keep(note: Note, ports: Ports) -> rights.Confirmation:
    """Go on as before: what waited for the answer may be opened, unless they said no since."""
    if await consents.no_since(note, SPOKEN, ports):
        return rights.LATER_SAID
    await pauses.end(note, ports, "kept")
    window = note.job.sent_at + timedelta(seconds=WINDOW_S)
    await ports.jobs.unpark(note.subject, window, pauses.REASON)
    return rights.Confirmation(("kept",))


async def sweep(ports: Ports) -> None:
    """End unheard what waited behind a question that nobody answered, and forget the question."""
    time, reason = await ports.agreed(), pauses.UNANSWERED
    if time is None:
        return
    for subject in await pauses.over(ports.engine, time):
        ended = await ports.jobs.discard_parked(subject, reason, pauses.REASON)
        for job, artifact, tenant in ended:
            await record.discarded(job, artifact, tenant, reason, ports.trail, ports.now())
    await pauses.forget(ports.engine, time)


async def question(note: Note, key: str, shown: Sequence[Button], ports: Ports) -> None:
    """Send the phrase *key* with the buttons *shown*, in the person's language."""
    language = await language_of(note, ports)
    body = Body(text=phrases.say(key, language), language=language, buttons=tuple(shown))
    await rights.say(note, Kind.QUESTION, body, ports)


async def language_of(note: Note, ports: Ports) -> str:
    """Return the language to ask in: one that we have words in."""
    return phrases.spoken(await rights.language_of(note, ports), note.tenant.languages[0])
