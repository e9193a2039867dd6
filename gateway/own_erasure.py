"""
An erasure that a person asks for in the chat: one button, the DPO's path, and word when it is done.

- Who asks for it plainly has withdrawn with that; who may have asked is asked, and nothing they
  said is opened meanwhile (`gateway.pauses`).
- The press begins the erasure, and in the same transaction its job becomes nobody's: the erasure,
  which ends every job of the person, leaves that one alone. Its sealed update is the one place that
  still knows where the answer goes; it is forgotten with the answer, or when the time for one is
  over. The job is set aside meanwhile, and the tick of erasures wakes it.
- The answer is built-in words: nothing can be sealed for somebody whose keys are destroyed, and
  nothing is kept of the decision that allowed it but its leaf.
"""

import hashlib
from collections.abc import Sequence

from sqlalchemy import select, update

from gateway import (
    buttons,
    db,
    doubts,
    erasure,
    handover,
    log,
    outbox,
    outcome,
    pauses,
    phrases,
    rights,
)
from gateway.confirming import FINAL, UNCONFIRMED
from gateway.erasure import STEPS, Erasure, Scope
from gateway.errors import LeaseLostError
from gateway.jobs import State
from gateway.note import Note
from gateway.outbox import Kind
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.rights import Confirmation
from gateway.schema import erasures, jobs
from policy.model import Stage
from residency.model import Passage
from vault.erasure import Result

RUNNING = "erasure.running"
UNASKED = "erasure.unasked"
TRIGGER = "person"
BECAUSE = "asked for in the chat"
BY = "the person"


async def ask(note: Note, ports: Ports) -> Confirmation:
    """
    Take "delete my data" for the withdrawal that it is, and ask for the one confirmation.

    A question that cannot be sent takes nothing back: a human hears that an erasure was asked for.
    """
    said = await rights.withdraw(note, ports)
    try:
        await _question(note, ports)
    except Exception as exc:
        if outcome.of(exc, attempts=note.job.attempts) not in FINAL:
            raise
        log.get().warning("erasure.unasked", reason=outcome.reason(exc))
        await handover.open_row(note, UNASKED, ports)
    return said


async def ask_first(note: Note, ports: Ports) -> None:
    """Ask whether the person wants to be erased; until they answer, open nothing."""
    await pauses.begin(note, pauses.ERASE, ports)
    await _question(note, ports)


async def keep(note: Note, ports: Ports) -> Confirmation:
    """Delete nothing more; if only that was open, what waited goes on."""
    await doubts.keep(note, ports)
    return Confirmation(("data_kept",))


async def confirmed(note: Note, ports: Ports, language: str) -> Confirmation | None:
    """
    Begin the erasure of who pressed the button; when it is done, tell them in *language*.

    Raises `LeaseLostError` when the job was set aside until then.
    """
    one = await _told_by(note, ports)
    if one is None:
        await rights.take_back(note, ports)
        if not await _begin(note, ports):
            return None  # one is under way already, and whoever began it hears of it
        one = await _told_by(note, ports)
    if one is None or one.step != STEPS[-1]:
        await ports.jobs.park(note.job, RUNNING)
        raise LeaseLostError(note.job.id)  # it is nobody's now: the tick of erasures wakes it
    try:
        await _tell(note, one, language, ports)
    except Exception as exc:
        if outcome.of(exc, attempts=note.job.attempts) not in FINAL:
            raise
        # No handover is opened: nothing must be kept of them. The end of the job says why.
        why = outcome.reason(exc)
        ports.metrics.unconfirmed(why)
        return Confirmation((), reason=f"{UNCONFIRMED}.{why}")
    return None


async def wake(ports: Ports) -> None:
    """Wake the jobs whose erasure did its last step, and forget which job told of it at its end."""
    done = (erasures.c.teller.is_not(None)) & (erasures.c.step == STEPS[-1])
    query = select(jobs.c.id, jobs.c.state).join(erasures, erasures.c.teller == jobs.c.id)
    async with db.reading(ports.engine) as tx:
        rows = (await tx.execute(query.where(done))).all()
    await ports.jobs.wake([row.id for row in rows if row.state == State.PARKED])
    over = [row.id for row in rows if row.state not in {State.ACCEPTED, State.PARKED}]
    if over:
        async with ports.engine.begin() as tx:
            mine = erasures.c.teller.in_(over)
            await tx.execute(update(erasures).where(mine).values(teller=None))


async def _question(note: Note, ports: Ports) -> None:
    language = await doubts.language_of(note, ports)
    confirm = (buttons.confirming(language), buttons.button(buttons.ERASE, language)[1])
    await doubts.question(
        note, "ask_erase", (confirm, buttons.button(buttons.KEEP_DATA, language)), ports
    )


async def _begin(note: Note, ports: Ports) -> bool:
    """
    Begin the erasure, or join one that is open, and make *note*'s job nobody's.

    Return whether this job is the one to tell of it.
    """
    digest = hashlib.sha256(f"{note.job.id}/{Scope.PERSON}".encode()).hexdigest()
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        mine = await erasure.ask_within(
            tx,
            f"e_{digest[:32]}",
            note.subject,
            note.tenant.id,
            because=BECAUSE,
            trigger=TRIGGER,
            by=BY,
            at=ports.now(),
            teller=note.job.id,
        )
        if mine:
            # Its conversation is a keyed hash of the number: that must lead nowhere either.
            nobodys = {"subject": None, "purpose": "", "conversation": note.job.id}
            await tx.execute(update(jobs).where(jobs.c.id == note.job.id).values(nobodys))
    return mine


async def _told_by(note: Note, ports: Ports) -> Erasure | None:
    """Return the erasure that *note*'s job tells of, if there is one."""
    query = select(erasures.c.id).where(erasures.c.teller == note.job.id)
    async with db.reading(ports.engine) as tx:
        found: str | None = (await tx.execute(query)).scalar()
    return None if found is None else await erasure.find(ports.engine, found)


async def _tell(note: Note, one: Erasure, language: str, ports: Ports) -> None:
    """Tell the person what was done and what stays; once, as any reply."""
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await outbox.intend(tx, note, Kind.ERASED, None, ports)
    allowed = await permitted(note, Stage.NOTICE, ports)
    graph = ports.graphs[note.message.phone_number_id]
    text = " ".join(phrases.say(key, language, erasure=one.id) for key in _keys(one))

    async def send(opaque: str, passage: Passage) -> str:
        return await graph.text(note.message.sender, text, opaque=opaque, passage=passage)

    await outbox.deliver(note, Kind.ERASED, allowed, send, ports)


def _keys(one: Erasure) -> Sequence[str]:
    held = any(fate.result is Result.HELD for fate in one.facts.fates)
    return ("erased", *(["withdrawn_held"] if held else []), "erased_stays")
