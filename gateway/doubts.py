"""
Where it is unclear whether somebody withdraws: they are asked with two buttons.

Until they press one, nothing they said is opened (`gateway.pauses`). A typed yes withdraws, for
that protects; a typed no may mean either, so the question comes again.
"""

from datetime import timedelta

from sqlalchemy import func, select

from gateway import buttons, consents, db, pauses, phrases, record, rights
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
    await question(note, "ask_withdraw", (buttons.WITHDRAW, buttons.KEEP), ports)


async def remind(note: Note, ports: Ports) -> None:
    """Ask again: something to be opened came in; but not more than once an hour."""
    if not await _asked_lately(note, ports):
        await ask(note, ports)


async def _asked_lately(note: Note, ports: Ports) -> bool:
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


async def question(note: Note, key: str, idents: tuple[str, ...], ports: Ports) -> None:
    """Send the phrase *key* with the buttons *idents*, in the person's language."""
    language = await rights.language_of(note, ports)
    fallback = note.tenant.languages[0]
    body = Body(
        text=phrases.say(key, language, fallback=fallback),
        language=phrases.spoken(language, fallback),
        buttons=tuple(buttons.button(ident, language, fallback=fallback) for ident in idents),
    )
    await rights.say(note, Kind.QUESTION, body, ports)
