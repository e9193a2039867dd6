"""
Pulls jobs, leases them, and runs each one to an end or to its next try.

- The lease and its fencing token decide who works; the broker's acknowledgement decides nothing.
- A job's result is committed before its message is acknowledged.
- Stopping finishes what is begun, up to a limit, and gives the rest back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import structlog
from nats.errors import Error as NatsError
from sqlalchemy.exc import SQLAlchemyError

from gateway import conclude, crashpoint, log, record, touch, turns
from gateway.broker import Broker, Told
from gateway.conclude import Case
from gateway.errors import LeaseLostError
from gateway.jobs import SOON_S, Job, State, Unclaimed
from gateway.note import Note, opened
from gateway.ports import Ports
from gateway.slots import Slots

BEAT_S = 10.0
# A message that waits counts among those which the broker lets out; who waits for longer is found
# in the database when the time has come.
MOST_PAUSE_S = SOON_S
# When to be told again of a job that is held or not yet due; of others, whoever ends, parks or
# unparks them tells.
AGAIN_S = {Unclaimed.EARLY: 1.0, Unclaimed.HELD: 5.0}


class Worker:
    """Works on as many jobs at once as *slots* has, as *owner*."""

    def __init__(self, ports: Ports, broker: Broker, *, owner: str, slots: Slots) -> None:
        self._ports = ports
        self._broker = broker
        self._owner = owner
        self._slots = slots
        self._busy: set[asyncio.Task[None]] = set()
        self._holders: dict[str, asyncio.Task[Any]] = {}
        self._pulls: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start pulling, on every lane by itself."""
        self._pulls = [
            asyncio.create_task(self._run(lane), name=f"worker-{lane}")
            for lane in self._slots.lanes
        ]

    @property
    def alive(self) -> bool:
        """Whether jobs would be worked on."""
        return bool(self._pulls) and not any(pull.done() for pull in self._pulls)

    async def aclose(self, grace_s: float = 20.0) -> None:
        """Take no more jobs, finish those begun within *grace_s*, cancel the rest."""
        for pull in self._pulls:
            pull.cancel()
        await asyncio.gather(*self._pulls, return_exceptions=True)
        if self._busy:
            await asyncio.wait(self._busy, timeout=grace_s)
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _run(self, lane: str) -> None:
        async for told in self._broker.told(lane, self._slots):
            task = asyncio.create_task(self._one(told), name="job")
            self._busy.add(task)
            task.add_done_callback(partial(self._over, lane))

    def _over(self, lane: str, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._slots.release(lane)
        if not task.cancelled() and (exc := task.exception()):
            log.get().error("worker.failed", error=type(exc).__name__)

    async def _one(self, told: Told) -> None:
        job = await self._ports.jobs.claim(told.job, self._owner)
        if not isinstance(job, Job):
            pause = AGAIN_S.get(job)
            await (told.done() if pause is None else told.again(pause))
            return
        crashpoint.reach("job.claimed")
        await self._take_over(job)
        with structlog.contextvars.bound_contextvars(job=job.id, trace=job.trace):
            async with _beating(told, job, self._ports):
                pause_s = await self._work(job)
        asleep = pause_s is None or pause_s > MOST_PAUSE_S
        await (told.done() if asleep or pause_s is None else told.again(pause_s))

    async def _take_over(self, job: Job) -> None:
        """
        End our own earlier work on *job*, which has lost its lease, and wait for its end.

        Or its touch would be closed as killed while it is still under way.
        """
        earlier = self._holders.get(job.id)
        this = asyncio.current_task()
        if this is not None:
            self._holders[job.id] = this
            this.add_done_callback(partial(self._left, job.id))
        if earlier is not None and earlier is not this and not earlier.done():
            earlier.cancel()
            await asyncio.wait([earlier])

    def _left(self, job: str, task: asyncio.Task[Any]) -> None:
        if self._holders.get(job) is task:
            del self._holders[job]

    async def _work(self, job: Job) -> float | None:
        """Run *job*; return None when it is over, or the seconds until its next try."""
        ports = self._ports
        waited = ports.now() - job.accepted_at
        ports.metrics.observe("queue_wait", waited.total_seconds(), tenant=job.tenant)
        note: Note | None = None
        try:
            note = await opened(job, ports)
            await touch.close_killed(ports.trail, job.id, now=ports.now)
            await record.accepted(note, ports)
            reason = await turns.act(note, ports)
        except asyncio.CancelledError:
            with contextlib.suppress(LeaseLostError):
                await asyncio.shield(ports.jobs.later(job, 0.0, tried=False))
            return 0.0  # stopping: whoever is told next goes on
        except Exception as exc:  # noqa: BLE001 - the one place that turns errors into outcomes
            orders = note is not None and turns.orders_something(note)
            case = Case(exc, job, note, ports, self._broker, orders=orders)
            return await conclude.after(case)
        await conclude.end(job, State.DONE, reason, ports)
        return None


@contextlib.asynccontextmanager
async def _beating(told: Told, job: Job, ports: Ports) -> AsyncIterator[None]:
    """Keep the message and the lease alive while the body runs."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            # A broker or a database that is away for a moment must not cost us the lease.
            with contextlib.suppress(NatsError, OSError, SQLAlchemyError):
                await ports.jobs.renew(job)
                await told.working()

    task = asyncio.create_task(beat(), name="beat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
