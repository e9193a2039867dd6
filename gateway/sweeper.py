"""
The ticks: APScheduler says when to look, the database says what is due.

- What cannot be undone waits until independent clocks agree (`gateway.timekeeping`); the rest of
  each tick goes on.

A tick that is missed, late or doubled changes nothing: rows are leased, and what is due stays
due until it is done.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy import delete, select, update

from audit.errors import EventError
from audit.model import Event, EventType
from gateway import (
    db,
    doubts,
    erasing,
    handover,
    hold_events,
    log,
    ordered,
    persons,
    record,
    requested,
    subjects,
    unattributed,
    undelivered,
    waiting,
)
from gateway.clocks import MEMORY_FOR, PARKED_FOR, RECORDS_FOR, REMEMBERED_FOR
from gateway.inbox import INTAKE_DAYS, intake_key
from gateway.jobs import State, micros
from gateway.keeper import SWEEPING
from gateway.ports import Ports
from gateway.schema import handovers, inbox, jobs, notices, replies, sessions, statuses
from policy import consent
from policy.model import Consent
from vault import duties, ledger, retention
from vault.agreed_time import AgreedTime
from vault.errors import VaultError

HEARTBEAT = timedelta(minutes=2)
RECONCILED_EVERY = timedelta(days=1)
LEFT_WITHIN = timedelta(hours=1)  # no store takes longer; at the start, older ones are looked for
BATCH = 200
UNATTRIBUTED_TICK_S = 15.0  # a prober sees soon that one came
ERASING_TICK_S = 0.5  # soft within two seconds of being asked for
JITTER_S = 600  # cells that were started together do not list their stores together


class Sweeper:
    """Runs the cell's recurring work, and hourly *chores*; *owner* names it in its leases."""

    def __init__(
        self,
        ports: Ports,
        *,
        owner: str,
        chores: Sequence[Callable[[AgreedTime], Awaitable[None]]] = (),
        keeping: Callable[[], Awaitable[None]] | None = None,
        erasing: Callable[[], Awaitable[None]] | None = None,
        noting: Callable[[], Awaitable[None]] | None = None,
        retention_tick_s: float = 5.0,
    ) -> None:
        self._ports = ports
        self._chores = chores
        self._owner = owner
        self._looked_back = False
        self._told = set[str]()  # keys that replaced others, and are on record
        self._waiting = waiting.Waiting(ports)
        self.unattributed = 0  # parts of deliveries that are kept and name nobody
        self._scheduler = AsyncIOScheduler(
            timezone="UTC",
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        ticks: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self.settle, 1.0),
            (self.wake_waiting, waiting.TICK_S),
            (self.delete_due, retention_tick_s),
            (self.destroy_leftovers, retention_tick_s),
            (self.end_stale, 60.0),
            (self.end_pauses, 1.0),
            (self.forget_said, 60.0),
            (self.forget_unattributed, UNATTRIBUTED_TICK_S),
            (self.expire, 60.0),
            (self.tell_replaced, 60.0),
            (self.tell_closed, 2.0),
            (self.tell_declared, 5.0),
            (self.issue_requested, 1.0),
            (self.tend_holds, 1.0),
            (self.forget, 3600.0),
            (self.reconcile, RECONCILED_EVERY.total_seconds()),
        ]
        if keeping is not None:  # in development there is no keeper beside us
            ticks.append((keeping, retention_tick_s))
        if erasing is not None:
            ticks.append((erasing, ERASING_TICK_S))
        if noting is not None:
            ticks.append((noting, retention_tick_s))
        for tick, seconds in ticks:
            self._scheduler.add_job(
                self._guarded,
                "interval",
                args=[tick],
                seconds=seconds,
                id=tick.__qualname__,
                jitter=JITTER_S if seconds > JITTER_S else None,
            )

    def start(self) -> None:
        """Start ticking; what came due while nobody looked is looked at first."""
        self._scheduler.start()
        for tick in (self.end_stale, self.expire, self.forget, self.forget_unattributed):
            self._scheduler.add_job(self._guarded, args=[tick])

    @property
    def alive(self) -> bool:
        """Whether the clocks are being looked at."""
        return bool(self._scheduler.running)

    async def aclose(self) -> None:
        """Stop ticking."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _guarded(self, tick: Callable[[], Awaitable[None]]) -> None:
        try:
            await tick()
        except Exception as exc:  # noqa: BLE001 - one failed tick must not stop the next
            log.get().error("sweeper.failed", error=type(exc).__name__, stage=tick.__name__)

    async def delete_due(self) -> None:
        """Destroy what is due; put on record what was destroyed and is not on record yet."""
        ports = self._ports
        with ports.metrics.timed("delete", region=ports.region):
            while await self._swept():
                await record.destructions(ports)
        await record.destructions(ports)
        ports.metrics.overdue(await retention.overdue(ports.now(), ports.engine))
        await duties.take(ports.engine, SWEEPING, self._owner, now=ports.now, lasts=HEARTBEAT)

    async def _swept(self) -> bool:
        """Destroy some of what is due; whether there was any. The time is agreed anew each time."""
        ports, time = self._ports, await self._ports.agreed()
        if time is None:
            return False
        return bool(await retention.sweep(time, ports.custody, owner=self._owner, limit=BATCH))

    async def destroy_leftovers(self) -> None:
        """Destroy what a killed process stored of a job that was taken back meanwhile."""
        since = self._ports.now() - LEFT_WITHIN if self._looked_back else None
        await erasing.leftovers(since, self._ports)
        self._looked_back = True

    async def settle(self) -> None:
        """Put what WhatsApp said of our replies on record, and resume jobs that waited for it."""
        ports = self._ports
        # Of what failed while its job is still at work on the next message, when it is done.
        working = (jobs.c.state == State.ACCEPTED) & (replies.c.state == "sent")
        early = working & (statuses.c.state == undelivered.FAILED)
        query = (
            select(statuses, replies.c.job, replies.c.kind, jobs.c.tenant)
            .join(replies, replies.c.id == statuses.c.reply)
            .join(jobs, jobs.c.id == replies.c.job)
            .where(statuses.c.settled.is_(False) & ~early)
            .limit(BATCH)
        )
        async with db.reading(ports.engine) as tx:
            rows = (await tx.execute(query)).all()
        for row in rows:
            try:
                await ports.trail.append(_settlement(row, ports.now()))
            except EventError as exc:  # this one can never be recorded: let the others pass
                log.get().error("status.unrecorded", error=exc)
            try:
                await undelivered.settled(row.reply, row.state, row.error_code, row.number, ports)
            except VaultError as exc:  # nothing can be opened now: this one waits, not the others
                log.get().warning("status.unsettled", error=exc)
                continue
            ports.metrics.settled(row.kind, row.state)
            await self._settled(row.reply, row.state)
        if rows:
            await ports.jobs.resume({row.job for row in rows})

    async def forget_said(self) -> None:
        """Drop what was said as soon as it arrived, or had time to."""
        if (time := await self._ports.agreed()) is not None:
            await undelivered.forget(time, self._ports)

    async def wake_waiting(self) -> None:
        """Wake the jobs that wait for the operator, where that has a point by now."""
        await self._waiting.tick()

    async def _settled(self, reply: str, state: str) -> None:
        which = (statuses.c.reply == reply) & (statuses.c.state == state)
        async with self._ports.engine.begin() as tx:
            await tx.execute(update(statuses).where(which).values(settled=True))

    async def end_stale(self) -> None:
        """End notes whose author never answered the notice; WhatsApp has dropped the media."""
        ports, time = self._ports, await self._ports.agreed()
        if time is None:
            return
        for job, artifact, tenant in await ports.jobs.discard_stale(PARKED_FOR, time):
            await record.discarded(job, artifact, tenant, "consent.none", ports.trail, ports.now())

    async def end_pauses(self) -> None:
        """End the pauses whose question nobody answered."""
        await doubts.sweep(self._ports)

    async def expire(self) -> None:
        """Put on record, then into the ledger, which consents ran out; doing it twice is once."""
        ports, time = self._ports, await self._ports.agreed()
        if time is None:
            return
        for ended in await ports.consents.due(time.seconds, BATCH):
            row = consent.expired(ended)
            # The leaf first: what the ledger knows is no longer due, and would never be told.
            await ports.trail.append(_expiry(row, ports.now()))
            await ports.consents.record(row)

    async def tell_declared(self) -> None:
        """Put on record what was declared of people; a command cannot, while the cell runs."""
        ports = self._ports
        for event in await subjects.unrecorded(ports.engine, BATCH):
            await ports.trail.append(event)
            await subjects.recorded(ports.engine, event, ports.now())
        await persons.tell(ports)

    async def tell_replaced(self) -> None:
        """Put on record which keys took the place of one that was gone before its time."""
        for name in await self._ports.keys.replacements():
            if name not in self._told:
                await record.replaced(name, self._ports)
                self._told.add(name)

    async def tell_closed(self) -> None:
        """Put closed handovers on record: then the dialogue has their conversations again."""
        ports = self._ports
        for event in await handover.unrecorded(ports.engine, BATCH):
            await ports.trail.append(event)
            await handover.recorded(ports.engine, event, ports.now())

    async def issue_requested(self) -> None:
        """Issue the receipts that a command asked for: it cannot write to the log."""
        await requested.serve(self._ports)

    async def tend_holds(self) -> None:
        """Do what commands want of legal holds, end those that are over, and tell the trail."""
        try:
            await ordered.serve(self._ports)
        finally:  # whatever one of them runs into, the clocks of the others go on
            await hold_events.tick(self._ports, BATCH)

    async def forget(self) -> None:
        """Drop idempotency keys, statuses, relay and decision rows older than they need to be."""
        time = await self._ports.agreed()
        if time is None:
            return
        if count := await ledger.bring_back(self._ports.engine, time):
            log.get().warning("retention.brought_back", count=count)
        await self._forget_updates(time)
        await self._ports.decisions.forget(time)
        await self._forget_intake(time)
        await self._forget_records(time)
        for chore in self._chores:
            await chore(time)

    async def _forget_updates(self, time: AgreedTime) -> None:
        old = micros(time.before(REMEMBERED_FOR))
        async with self._ports.engine.begin() as tx:
            await tx.execute(delete(inbox).where(inbox.c.received_at < old))
            await tx.execute(delete(statuses).where(statuses.c.at < old))
            idle = micros(time.before(MEMORY_FOR))
            await tx.execute(delete(sessions).where(sessions.c.updated_at < idle))

    async def forget_unattributed(self) -> None:
        """Drop parts of deliveries that name nobody after their day, and count the others."""
        ports = self._ports
        if time := await ports.agreed():
            await unattributed.forget(ports.engine, time)
        self.unattributed = await unattributed.waiting(ports.engine)
        ports.metrics.unattributed(self.unattributed)

    async def reconcile(self) -> None:
        """Hold the object store against the ledger, both ways."""
        found = await retention.reconcile(self._ports.custody)
        self._ports.metrics.reconciled(strays=found.strays, missing=len(found.missing))
        for artifact in found.missing:
            log.get().error("artifact.missing", artifact=artifact)

    async def _forget_records(self, time: AgreedTime) -> None:
        """Drop what tells of jobs that ended longer ago than anything made of them may be kept."""
        old = micros(time.before(RECORDS_FOR))
        open_jobs = [State.ACCEPTED, State.PARKED]
        async with self._ports.engine.begin() as tx:
            ended = jobs.c.state.not_in(open_jobs) & (jobs.c.ended_at < old)
            done = select(jobs.c.id).where(ended)
            await tx.execute(delete(replies).where(replies.c.job.in_(done)))
            await tx.execute(delete(handovers).where(handovers.c.at < old))
            answered = notices.c.answered_by.is_not(None) & (notices.c.asked_at < old)
            await tx.execute(delete(notices).where(answered))
            await tx.execute(delete(jobs).where(ended))

    async def _forget_intake(self, time: AgreedTime) -> None:
        """Destroy the keys of days whose updates have all ended: old backups of them die too."""
        for days in range(INTAKE_DAYS, REMEMBERED_FOR.days):
            day = time.before(timedelta(days=days))
            await self._ports.keys.destroy_day(intake_key(day), time)
        for days in range(unattributed.KEY_DAYS, REMEMBERED_FOR.days):
            day = time.before(timedelta(days=days))
            await self._ports.keys.destroy_day(unattributed.key(day), time)


def _expiry(row: Consent, at: datetime) -> Event:
    return Event(
        id=f"{row.id}.expired",
        type=EventType.CONSENT_EXPIRED,
        at=at,
        tenant=row.tenant,
        subject=row.subject,
        detail={
            "language": row.language,
            "notice_sha256": row.notice_sha256,
            "notice_version": row.notice_version,
            "purpose": row.purpose,
        },
    )


def _settlement(row: Any, at: datetime) -> Event:
    return Event(
        id=f"{row.reply}.{row.state}",
        type=EventType.REPLY_SETTLED,
        at=at,
        tenant=row.tenant,
        artifact=row.reply,
        job=row.job,
        outcome=row.state,
        detail={"basis": "attested by vendor", "error_code": row.error_code},
    )
