"""
How a job ends, and what follows from an error: the acts behind the outcomes of `outcome.py`.

Each act returns the seconds until the job's next try, or None when it is over or set aside.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway import crashpoint, declining, handover, log, outcome, record, rights
from gateway.broker import Broker
from gateway.errors import (
    AccountFaultError,
    ChannelUnknownError,
    ConsentNeededError,
    LeaseLostError,
    SuspendedError,
    WaitingError,
)
from gateway.jobs import ACCOUNT, SUSPENDED, Job, State
from gateway.note import Note
from gateway.outcome import Outcome
from gateway.ports import Ports


@dataclass(frozen=True, slots=True)
class Case:
    """
    A job that was interrupted by *exc*; *note* is None if it could not even be opened.

    *orders* says that the person takes something back, agrees or moves, and does not only ask.
    """

    exc: Exception
    job: Job
    note: Note | None
    ports: Ports
    broker: Broker
    orders: bool = False


MOST_WAIT_S = 10.0  # a part of ours that is back must not find people still waiting for minutes
HUMAN_S = (
    3_600.0  # before WhatsApp's window closes: so long has a human, who may still answer in it
)
Act = Callable[[Case], Awaitable[float | None]]


async def end(job: Job, state: State, reason: str, ports: Ports) -> None:
    """Put the end of *job* on record, then end it; `LeaseLostError` if it is not ours to end."""
    await ports.jobs.renew(job)
    await record.ended(job, state.value, reason, ports.trail, ports.now())
    await ports.jobs.end(job, state, reason)
    crashpoint.reach("job.ended")
    ports.metrics.ended(state.value)
    log.get().info("job.ended", outcome=state.value, reason=reason)


async def after(case: Case) -> float | None:
    """Do what the error means; if even that fails, the lease runs out and the job comes back."""
    found = outcome.of(case.exc, attempts=case.job.attempts)
    reason = outcome.reason(case.exc)
    log.get().warning("job.interrupted", outcome=found.value, reason=reason)
    case.ports.metrics.interrupted(found.value, reason)
    try:
        if found is not Outcome.ABANDON:
            await case.ports.jobs.renew(case.job)
        return await ACTS[found](case)
    except LeaseLostError:
        return None
    except Exception as second:  # noqa: BLE001 - whatever it was, the job must not be lost
        log.get().error("job.unconcluded", reason=outcome.reason(second))
        return outcome.delay_s(case.job.attempts)


async def _abandon(_case: Case) -> None:
    """Write nothing: another worker holds the job."""


async def _retry(case: Case) -> float:
    delay_s = max(outcome.delay_s(case.job.attempts), getattr(case.exc, "retry_after", 0.0))
    await case.ports.jobs.later(case.job, delay_s)
    return delay_s


async def _wait(case: Case) -> float | None:
    if isinstance(case.exc, ConsentNeededError):
        await case.ports.jobs.park(case.job, case.exc.code)
        return None
    passing = isinstance(case.exc, WaitingError | ChannelUnknownError)
    left_s = (case.job.deadline_at - case.ports.now()).total_seconds()
    # What a person takes back waits for as long as it must; only its confirmation has a window.
    left_s -= 0 if case.orders else HUMAN_S
    if left_s <= 0 and case.note is not None and not passing and not case.orders:
        return await _hand_over(case)  # it waited for as long as the person can
    if case.note is not None and case.note.spoken and isinstance(case.exc, SuspendedError):
        await _tell(case.note, case.ports, "processor_down")  # they may type meanwhile
    delay_s, reason, tried = _pause(case, left_s)
    await case.ports.jobs.later(case.job, delay_s, tried=tried, reason=reason)
    return delay_s


def _pause(case: Case, left_s: float) -> tuple[float, str, bool]:
    """Return for how long and for what the job waits, and whether it was a try."""
    match case.exc:
        case WaitingError(seconds=seconds):
            return seconds, "", False
        case ChannelUnknownError():
            return case.ports.unknown_grace_s, "", False
        case AccountFaultError():  # woken sooner, by `waiting`
            return max(1.0, left_s), ACCOUNT, False
        case SuspendedError():
            return max(1.0, left_s), SUSPENDED, False
        case _:
            return min(MOST_WAIT_S, outcome.delay_s(case.job.attempts)), "", True


async def _decline(case: Case) -> None:
    if case.note and not case.note.erased:
        await declining.tell(case.note, case.ports)
    await end(case.job, State.REFUSED, outcome.reason(case.exc), case.ports)


async def _refuse(case: Case) -> None:
    if case.note and not case.note.erased:
        await handover.open_row(case.note, outcome.reason(case.exc), case.ports)
        await _tell(case.note, case.ports)
    await end(case.job, State.REFUSED, outcome.reason(case.exc), case.ports)


async def _hand_over(case: Case) -> float | None:
    if case.note is None:
        # Ending it would forget a message that nobody has read: a keyring may be away for long.
        return await _retry(case)
    await _to_human(case)
    await end(case.job, State.HANDED_OVER, outcome.reason(case.exc), case.ports)
    return None


async def _bury(case: Case) -> None:
    await _to_human(case)
    await end(case.job, State.BURIED, outcome.reason(case.exc), case.ports)


async def _to_human(case: Case) -> None:
    reason = outcome.reason(case.exc)
    await case.broker.bury(case.job.id, reason)
    case.ports.metrics.buried(reason)
    if case.note is None or case.note.erased:
        return
    await handover.hand_over(case.note, reason, case.ports)
    await _tell(case.note, case.ports)


async def _tell(note: Note, ports: Ports, what: str = "handover") -> None:
    try:
        await rights.tell(note, what, ports)
    except LeaseLostError:
        raise
    except Exception as failed:  # noqa: BLE001 - the human is told either way
        log.get().warning("handover.untold", reason=outcome.reason(failed))


ACTS: dict[Outcome, Act] = {
    Outcome.ABANDON: _abandon,
    Outcome.BURY: _bury,
    Outcome.DECLINE: _decline,
    Outcome.HAND_OVER: _hand_over,
    Outcome.REFUSE: _refuse,
    Outcome.RETRY: _retry,
    Outcome.WAIT: _wait,
}
