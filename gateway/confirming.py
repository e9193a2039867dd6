"""
Acts of a person's rights come first, and their confirmation after them, if it can be sent.

- An act (withdraw, refuse, agree, delete, move to another number) returns what is to be said as
  a value. It is whole by then: what keeps the confirmation back undoes nothing.
- WhatsApp's window, a no by Graph or the rules, a lost key, or tries in vain leave the confirmation
  out. That is on record: the job's end says why, a human is told, it is counted and logged.
- What may still be sent later (a part of ours is away, a status is awaited) is tried again, and
  the act is not.
"""

from collections.abc import Awaitable, Callable

from gateway import handover, log, outbox, outcome, rights
from gateway.note import Note
from gateway.outbox import Kind
from gateway.outcome import Outcome
from gateway.ports import Ports
from gateway.rights import Confirmation

ANSWERED = "answered"
UNCONFIRMED = "unconfirmed"
FINAL = frozenset({Outcome.BURY, Outcome.HAND_OVER, Outcome.REFUSE})
"""What no later try would change: the confirmation is left out."""

Act = Callable[[Note, Ports], Awaitable[Confirmation | None]]


async def done(act: Act, note: Note, ports: Ports) -> str:
    """Do *act*, confirm it if that can be done, and return why the job ends."""
    if await outbox.begun(note, Kind.NOTICE, ports):
        return await _confirmed(None, note, ports)
    said = await act(note, ports)
    if said is None:
        return ANSWERED
    return await _confirmed(said, note, ports) if said.keys else said.reason


async def _confirmed(said: Confirmation | None, note: Note, ports: Ports) -> str:
    """Say *said*, or go on with what an earlier try had begun to say."""
    try:
        if said is not None:
            await rights.tell(note, said.keys[0], ports, *said.keys[1:], purpose=said.purpose)
        elif body := await outbox.intended(note, Kind.NOTICE, ports):
            await rights.say(note, Kind.NOTICE, body, ports)
    except Exception as exc:
        if outcome.of(exc, attempts=note.job.attempts) not in FINAL:
            raise
        return await _left_out(outcome.reason(exc), note, ports)
    return ANSWERED


async def _left_out(why: str, note: Note, ports: Ports) -> str:
    reason = f"{UNCONFIRMED}.{why}"
    await handover.open_row(note, reason, ports)
    ports.metrics.unconfirmed(why)
    log.get().warning("confirmation.left_out", reason=why)
    return reason
