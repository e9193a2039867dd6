"""
Hands accepted jobs to the broker: at once after commit, and again whatever was missed.

- The database is the truth: a job whose message was lost (broker down, disk deleted) is told
  again, under a new attempt number, because the broker would swallow a repeated one.
- Telling twice is harmless: the lease decides who works.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import crashpoint, db, log
from gateway.broker import Broker
from gateway.jobs import Jobs, micros
from gateway.schema import jobs, relay
from gateway.slots import URGENT
from vault.agreed_time import AgreedTime

TICK_S = 1.0
QUIET_S = 5.0
LONG_QUIET_S = 60.0
KEEP = timedelta(hours=24)
BATCH = 64
GATHER_S = 0.01  # what is committed meanwhile goes along


class Relay:
    """Publishes relay rows; `wake` is what `Inbox` and `Jobs` call after a commit."""

    def __init__(
        self, engine: AsyncEngine, broker: Broker, leases: Jobs, *, now: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._jobs = leases
        self._now = now
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self, woken: Sequence[str]) -> None:
        """Publish soon: the jobs *woken* were committed."""
        if woken:
            self._work.set()

    def start(self) -> None:
        """Start relaying."""
        self._task = asyncio.create_task(self._run(), name="relay")

    @property
    def alive(self) -> bool:
        """Whether accepted jobs would reach the broker."""
        return self._task is not None and not self._task.done()

    async def aclose(self) -> None:
        """Stop; what is unpublished stays in the table."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._work.clear()
            try:
                while await self.publish():
                    pass
                await self.redrive()
            except Exception as exc:  # noqa: BLE001 - whatever it was, accepted notes wait
                log.get().warning("relay.delayed", error=type(exc).__name__)
                await asyncio.sleep(TICK_S)
            await _first(self._work, TICK_S)
            await asyncio.sleep(GATHER_S)

    async def publish(self) -> int:
        """Publish up to `BATCH` unpublished rows; return how many."""
        query = (
            select(relay, jobs.c.tenant, jobs.c.urgent)
            .join(jobs, jobs.c.id == relay.c.job)
            .where(relay.c.published_at.is_(None))
            .order_by(relay.c.id)
        )
        async with db.reading(self._engine) as tx:
            rows = (await tx.execute(query.limit(BATCH))).all()
        if rows:
            await asyncio.gather(*map(self._tell, rows))
            crashpoint.reach("relay.published")
            done = relay.c.id.in_([row.id for row in rows])
            async with self._engine.begin() as tx:
                values = {"published_at": micros(self._now())}
                await tx.execute(update(relay).where(done).values(values))
        return len(rows)

    async def _tell(self, row: Any) -> None:
        lane = URGENT if row.urgent else row.tenant
        await self._broker.publish(row.job, row.attempt, lane)

    async def redrive(self) -> None:
        """Write relay rows anew for jobs that nobody seems to have been told of."""
        idle = await self._broker.pending() == 0
        if found := await self._jobs.stranded(QUIET_S if idle else LONG_QUIET_S):
            log.get().info("relay.redriven", count=len(found))
            self._work.set()

    async def forget(self, time: AgreedTime) -> None:
        """Delete rows published more than a day ago."""
        old = relay.c.published_at < micros(time.before(KEEP))
        async with self._engine.begin() as tx:
            await tx.execute(delete(relay).where(old))


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
