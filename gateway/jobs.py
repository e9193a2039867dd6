"""
Jobs and their leases, in the database: the broker only says which job to look at.

- A job is *accepted*, *parked* (waiting for a consent) or ended; only an ended job suppresses
  work.
- A lease has an owner, an end and a fencing token. Each claim raises the token; whoever
  writes with an older one is refused (`LeaseLostError`).
- Turns of one conversation run in the order they were accepted: a job with an earlier
  accepted one is not handed out, and ending a job wakes the next. One that waits for a suspended
  processor holds nobody up.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import db
from gateway.errors import LeaseLostError
from gateway.schema import inbox, jobs, relay, replies
from vault.agreed_time import AgreedTime

LEASE_S = 60
REVOKED = "person.revoked"
WITHDRAWN = "consent.withdrawn"
ERASED = "person.erased"
ACCOUNT = "account.closed"  # it waits for WhatsApp to accept the operator's account
SUSPENDED = "processor.suspended"  # it waits for a finding to be closed
SENT = "sent"  # a reply's state (`outbox.State`)
REPEATABLE = (
    "notice",
    "text",
    "unread",
    "unsupported",
)  # kinds of replies that are words alone (`outbox.Kind`)
SOON_S = 300.0  # who is due sooner keeps a place at the broker
TAKEN_BACK = frozenset({ERASED, REVOKED, WITHDRAWN})


class State(StrEnum):
    """Where a job stands; kept sorted. All but the first two are ends."""

    ACCEPTED = "accepted"
    PARKED = "parked"
    BURIED = "buried"
    DONE = "done"
    HANDED_OVER = "handed_over"
    REFUSED = "refused"


class Unclaimed(StrEnum):
    """Why a job was not handed out; kept sorted."""

    BLOCKED = "blocked"  # an earlier turn of the conversation is still open
    EARLY = "early"  # its next try is not due
    ENDED = "ended"
    HELD = "held"  # another worker's lease is running
    LATER = "later"  # its next try is not due for long: it will be told of again
    PARKED = "parked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The work on one update, as leased: *fence* is this lease's token."""

    id: str
    tenant: str
    conversation: str
    artifact: str
    trace: str
    attempts: int
    fence: int
    owner: str
    accepted_at: datetime
    sent_at: datetime
    deadline_at: datetime


def micros(moment: datetime) -> int:
    """Return *moment* as microseconds since the epoch."""
    return int(moment.timestamp() * 1_000_000)


class Jobs:
    """Leases jobs. *woken* is called after commit with jobs that the broker should hear of."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        now: Callable[[], datetime],
        woken: Callable[[Sequence[str]], None],
    ) -> None:
        self._engine = engine
        self._now = now
        self._woken = woken

    async def claim(self, job_id: str, owner: str) -> Job | Unclaimed:
        """Lease *job_id* to *owner*, or say why not."""
        now = micros(self._now())
        async with self._engine.begin() as tx:
            query = select(jobs).where(jobs.c.id == job_id).with_for_update()
            row = (await tx.execute(query)).one_or_none()
            if refusal := await _unclaimed(tx, row, now):
                return refusal
            lease = {
                "lease_owner": owner,
                "lease_until": now + LEASE_S * 1_000_000,
                "fence": jobs.c.fence + 1,
            }
            changed = await tx.execute(
                update(jobs).where(jobs.c.id == job_id).values(lease).returning(jobs)
            )
            return _job(changed.one(), self._now)

    async def renew(self, job: Job) -> None:
        """Extend the lease; raises `LeaseLostError` if it is no longer ours."""
        async with self._engine.begin() as tx:
            await self.hold(tx, job)

    async def hold(self, tx: AsyncConnection, job: Job) -> None:
        """Within *tx*, extend the lease or raise `LeaseLostError`: call it before each write."""
        until = micros(self._now()) + LEASE_S * 1_000_000
        await _fenced(tx, job, {"lease_until": until})

    async def later(
        self, job: Job, delay_s: float, *, tried: bool = True, reason: str = ""
    ) -> None:
        """
        Give the lease back; the job is due again after *delay_s* seconds.

        *reason* says what it waits for, so that it can be found and told sooner (`waiting`).
        """
        values = {
            "reason": reason,
            "lease_owner": None,
            "lease_until": 0,
            "next_try_at": micros(self._now() + timedelta(seconds=delay_s)),
            "attempts": job.attempts + int(tried),
        }
        async with self._engine.begin() as tx:
            await _fenced(tx, job, values)
            passed = reason == SUSPENDED  # later turns go on
            woken = await self._wake_next(tx, job.conversation) if passed else []
        self._woken(woken)

    async def park(self, job: Job, reason: str) -> None:
        """Set the job aside until `unpark`; later turns go on."""
        async with self._engine.begin() as tx:
            await _fenced(tx, job, _released(State.PARKED, reason))
            woken = await self._wake_next(tx, job.conversation)
        self._woken(woken)

    async def end(self, job: Job, state: State, reason: str) -> None:
        """
        End the job, forget its sealed body, and wake the conversation's next turn.

        What was sent stays sealed until it arrived, or had time to (`undelivered.forget`).
        """
        now = micros(self._now())
        async with self._engine.begin() as tx:
            await _fenced(tx, job, _released(state, reason) | {"ended_at": now})
            await _forget(tx, [job.id], sent=state is not State.DONE)
            woken = await self._wake_next(tx, job.conversation)
        self._woken(woken)

    async def alone(self, tx: AsyncConnection, job: Job) -> None:
        """Within *tx*, have whoever works on the same conversation wait: call it before `hold`."""
        same = (jobs.c.conversation == job.conversation) & (jobs.c.state == State.ACCEPTED)
        query = select(jobs.c.id).where(same).order_by(jobs.c.seq).with_for_update()
        (await tx.execute(query)).all()

    async def in_line(self, job: Job) -> None:
        """
        Let *job*, which passed earlier turns, wait for them with the rest of what it asks.

        Raises `LeaseLostError` if there are some: their end wakes it.
        """
        async with self._engine.begin() as tx:
            query = select(jobs).where(jobs.c.id == job.id)
            if not await _behind(tx, (await tx.execute(query)).one()):
                return
            waits = {"urgent": False, "lease_owner": None, "lease_until": 0}
            await _fenced(tx, job, waits)
        raise LeaseLostError(job.id)

    async def identify(self, job: Job, subject: str | None, purpose: str = "") -> None:
        """Note whose *job* this is (None: nobody's any more), and for which purpose it works."""
        async with self._engine.begin() as tx:
            await _fenced(tx, job, {"subject": subject, "purpose": purpose})

    async def check(self, job: Job) -> None:
        """Raise `LeaseLostError` if *job* is no longer ours; it only reads: ask it often."""
        query = select(jobs.c.id).where(_held(job))
        async with db.reading(self._engine) as tx:
            if (await tx.execute(query)).first() is None:
                raise LeaseLostError(job.id)

    async def taken_back(self, job_id: str) -> bool:
        """Whether the person ended *job_id* by taking a consent or a message back."""
        query = select(jobs.c.reason).where((jobs.c.id == job_id) & (jobs.c.state == State.REFUSED))
        async with db.reading(self._engine) as tx:
            return (await tx.execute(query)).scalar() in TAKEN_BACK

    async def unpark(
        self, subject: str, deadline_at: datetime, waiting_for: str | None = None
    ) -> list[str]:
        """
        Make the person's parked jobs accepted again, due by *deadline_at*; return them.

        With *waiting_for*, only those that were parked for that reason.
        """
        async with self._engine.begin() as tx:
            parked = (jobs.c.subject == subject) & (jobs.c.state == State.PARKED)
            if waiting_for is not None:
                parked &= jobs.c.reason == waiting_for
            values = {
                "state": State.ACCEPTED,
                "reason": "",
                "next_try_at": 0,
                "attempts": 0,
                "deadline_at": micros(deadline_at),
            }
            changed = await tx.execute(update(jobs).where(parked).values(values).returning(jobs))
            woken = [row.id for row in sorted(changed, key=lambda row: row.seq)]
            await self.tell(tx, woken)
        self._woken(woken)
        return woken

    async def discard_parked(
        self,
        subject: str,
        reason: str,
        waiting_for: str | None = None,
        *,
        written_by: datetime | None = None,
    ) -> list[tuple[str, str, str]]:
        """
        End the person's parked jobs; return their (job, artifact, tenant) ids.

        With *waiting_for*, only those that were parked for that reason; with *written_by*, only
        those of what they had written by then.
        """
        theirs = jobs.c.subject == subject
        if waiting_for is not None:
            theirs &= jobs.c.reason == waiting_for
        if written_by is not None:
            theirs &= jobs.c.sent_at <= micros(written_by)
        return await self._refuse_parked(theirs, reason)

    async def begin_again(self, subject: str, purpose: str, *, by: Job) -> None:
        """
        Have the person's jobs of *purpose* that are under way begin again, but not *by*.

        Whoever works on one loses it, and it meets anew what is asked before each touch.
        """
        theirs = (jobs.c.subject == subject) & (jobs.c.id != by.id) & (jobs.c.purpose == purpose)
        theirs &= (jobs.c.state == State.ACCEPTED) & jobs.c.lease_owner.is_not(None)
        again = {"lease_owner": None, "lease_until": 0, "next_try_at": 0}
        query = update(jobs).where(theirs).values(again | {"fence": jobs.c.fence + 1})
        async with self._engine.begin() as tx:
            woken = list((await tx.execute(query.returning(jobs.c.id))).scalars())
            await self.tell(tx, woken)
        self._woken(woken)

    async def stop(
        self, subject: str, purpose: str, reason: str, *, by: Job
    ) -> list[tuple[str, str, str]]:
        """
        End the person's open jobs of *purpose*, and have their others begin again.

        Those of what they wrote after *by*, which may be late, begin again, too: they are asked.
        Whoever works on one of them loses it: no further touch of it begins, and nothing that it
        knows is written any more. *by*, which says so, goes on, and so do urgent ones, lest two of
        them stop each other for ever. Return the (job, artifact, tenant) ids of those that ended.
        """
        theirs = (jobs.c.subject == subject) & (jobs.c.id != by.id)
        opened = jobs.c.state.in_([State.ACCEPTED, State.PARKED])
        over = _released(State.REFUSED, reason) | {"ended_at": micros(self._now())}
        again = {"lease_owner": None, "lease_until": 0, "next_try_at": 0}
        fenced = {"fence": jobs.c.fence + 1}
        over_now = (jobs.c.purpose == purpose) & (jobs.c.sent_at <= micros(by.sent_at))
        rests = theirs & opened & over_now
        others = theirs & ~over_now & jobs.c.lease_owner.is_not(None)
        others &= (jobs.c.state == State.ACCEPTED) & jobs.c.urgent.is_(False)
        async with self._engine.begin() as tx:
            query = update(jobs).where(rests).values(over | fenced).returning(jobs)
            ended = (await tx.execute(query)).all()
            await _forget(tx, [row.id for row in ended])
            await _forget_said(tx, (jobs.c.subject == subject) & (jobs.c.purpose == purpose))
            query = update(jobs).where(others).values(again | fenced).returning(jobs)
            woken = [row.id for row in (await tx.execute(query)).all()]
            await self.tell(tx, woken)
            for conversation in {row.conversation for row in ended}:
                woken += await self._wake_next(tx, conversation)
        self._woken(woken)
        return [(row.id, row.artifact, row.tenant) for row in ended]

    async def stop_all(self, subjects: Collection[str], reason: str) -> list[tuple[str, str, str]]:
        """
        End every open job of *subjects*; whoever works on one loses it.

        Return the (job, artifact, tenant) ids of those that ended.
        """
        theirs = jobs.c.subject.in_(subjects) & jobs.c.state.in_([State.ACCEPTED, State.PARKED])
        over = _released(State.REFUSED, reason) | {"ended_at": micros(self._now())}
        async with self._engine.begin() as tx:
            query = update(jobs).where(theirs).values(over | {"fence": jobs.c.fence + 1})
            ended = (await tx.execute(query.returning(jobs))).all()
            await _forget(tx, [row.id for row in ended])
            await _forget_said(tx, jobs.c.subject.in_(subjects))
            woken = [
                job
                for conversation in {row.conversation for row in ended}
                for job in await self._wake_next(tx, conversation)
            ]
        self._woken(woken)
        return [(row.id, row.artifact, row.tenant) for row in ended]

    async def discard(self, artifact: str, reason: str) -> list[tuple[str, str, str]]:
        """
        End the job of *artifact* if it is still open; its holder's writes are then refused.

        Return the (job, artifact, tenant) ids of what it ended: one, or none.
        """
        now = micros(self._now())
        open_job = (jobs.c.artifact == artifact) & jobs.c.state.in_([State.ACCEPTED, State.PARKED])
        values = _released(State.REFUSED, reason) | {"ended_at": now, "fence": jobs.c.fence + 1}
        async with self._engine.begin() as tx:
            found = await tx.execute(update(jobs).where(open_job).values(values).returning(jobs))
            ended = found.all()
            woken = []
            for row in ended:
                await _forget(tx, [row.id])
                woken += await self._wake_next(tx, row.conversation)
            await _forget_said(tx, jobs.c.artifact == artifact)
        self._woken(woken)
        return [(row.id, row.artifact, row.tenant) for row in ended]

    async def release(self, owner_prefix: str) -> None:
        """Give back the leases of owners so named: only for a caller who knows they are dead."""
        theirs = jobs.c.lease_owner.startswith(owner_prefix, autoescape=True)
        values = {"lease_owner": None, "lease_until": 0}
        async with self._engine.begin() as tx:
            query = update(jobs).where(theirs).values(values).returning(jobs.c.id)
            freed = list((await tx.execute(query)).scalars())
            # The broker thinks they are being worked on: it would wait before telling again.
            await self.tell(tx, freed)
        self._woken(freed)

    async def wake(self, job_ids: Collection[str]) -> None:
        """Make those of *job_ids* that are parked accepted again, due at once."""
        parked = jobs.c.id.in_(job_ids) & (jobs.c.state == State.PARKED)
        values = {"state": State.ACCEPTED, "reason": "", "next_try_at": 0}
        async with self._engine.begin() as tx:
            query = update(jobs).where(parked).values(values).returning(jobs.c.id)
            woken = list((await tx.execute(query)).scalars())
            await self.tell(tx, woken)
        self._woken(woken)

    async def resume(self, job_ids: Collection[str]) -> None:
        """Make accepted jobs that wait for their next try due now."""
        waiting = jobs.c.id.in_(job_ids) & (jobs.c.state == State.ACCEPTED)
        idle = jobs.c.lease_owner.is_(None) & (jobs.c.next_try_at > 0)
        async with self._engine.begin() as tx:
            query = update(jobs).where(waiting & idle).values(next_try_at=0).returning(jobs.c.id)
            woken = list((await tx.execute(query)).scalars())
            await self.tell(tx, woken)
        self._woken(woken)

    async def waiting(self, reason: str) -> dict[str, int]:
        """Return by tenant how many jobs wait for *reason*."""
        query = select(jobs.c.tenant, func.count()).where(_waits(reason)).group_by(jobs.c.tenant)
        async with db.reading(self._engine) as tx:
            return {row[0]: row[1] for row in await tx.execute(query)}

    async def wake_waiting(self, reason: str, tenant: str, limit: int) -> int:
        """Make up to *limit* of the tenant's jobs that wait for *reason* due, the oldest first."""
        mine = _waits(reason) & (jobs.c.tenant == tenant)
        earlier = jobs.alias()
        blocked = (
            (earlier.c.conversation == jobs.c.conversation)
            & (earlier.c.state == State.ACCEPTED)
            & (earlier.c.seq < jobs.c.seq)
        )
        if reason != SUSPENDED:
            blocked &= earlier.c.reason != SUSPENDED
        first = mine & ~select(earlier.c.id).where(blocked).exists()
        query = select(jobs.c.id).where(first).order_by(jobs.c.seq).limit(limit)
        values = {"next_try_at": 0, "reason": ""}
        async with self._engine.begin() as tx:
            found = list((await tx.execute(query)).scalars())
            which = jobs.c.id.in_(found) & _waits(reason)
            changed = update(jobs).where(which).values(values).returning(jobs.c.id)
            woken = list((await tx.execute(changed)).scalars())
            await self.tell(tx, woken)
        self._woken(woken)
        return len(woken)

    async def discard_stale(
        self, parked_for: timedelta, time: AgreedTime
    ) -> list[tuple[str, str, str]]:
        """End jobs parked for longer than that; return their (job, artifact, tenant) ids."""
        return await self._refuse_parked(
            jobs.c.accepted_at < micros(time.before(parked_for)), "consent.none"
        )

    async def stranded(self, quiet_s: float) -> list[str]:
        """Return accepted jobs that are due, unleased, and not spoken of for *quiet_s* seconds."""
        now = micros(self._now())
        spoken = select(func.coalesce(func.max(relay.c.created_at), 0)).where(
            relay.c.job == jobs.c.id
        )
        due = (
            (jobs.c.state == State.ACCEPTED)
            & (jobs.c.next_try_at <= now)
            & (jobs.c.lease_until < now)
            & (spoken.scalar_subquery() < now - int(quiet_s * 1_000_000))
        )
        async with self._engine.begin() as tx:
            query = select(jobs.c.id).where(due).order_by(jobs.c.seq).limit(500)
            found = list((await tx.execute(query)).scalars())
            await self.tell(tx, found)
        return found

    async def _refuse_parked(
        self, which: ColumnElement[bool], reason: str
    ) -> list[tuple[str, str, str]]:
        now = micros(self._now())
        values = {"state": State.REFUSED, "reason": reason, "ended_at": now}
        async with self._engine.begin() as tx:
            changed = await tx.execute(
                update(jobs)
                .where((jobs.c.state == State.PARKED) & which)
                .values(values)
                .returning(jobs.c.id, jobs.c.artifact, jobs.c.tenant)
            )
            ended = [(row.id, row.artifact, row.tenant) for row in changed]
            await tx.execute(
                update(inbox)
                .where(inbox.c.job.in_([job for job, _, _ in ended]))
                .values(sealed=None)
            )
        return ended

    def committed(self, job_ids: Sequence[str]) -> None:
        """Have the broker told of *job_ids* soon: they were committed."""
        self._woken(job_ids)

    async def _wake_next(self, tx: AsyncConnection, conversation: str) -> list[str]:
        waiting = (jobs.c.conversation == conversation) & (jobs.c.state == State.ACCEPTED)
        waiting &= jobs.c.reason != SUSPENDED
        query = select(jobs.c.id).where(waiting).order_by(jobs.c.seq).limit(1)
        woken = list((await tx.execute(query)).scalars())
        await self.tell(tx, woken)
        return woken

    async def tell(self, tx: AsyncConnection, job_ids: Sequence[str]) -> None:
        """Within *tx*, note that the broker is to hear of *job_ids*; then call `committed`."""
        now = micros(self._now())
        if job_ids:
            attempt = select(func.count()).where(relay.c.job == jobs.c.id).scalar_subquery()
            source = select(jobs.c.id, attempt, literal(now, BigInteger)).where(
                jobs.c.id.in_(job_ids)
            )
            await tx.execute(insert(relay).from_select(["job", "attempt", "created_at"], source))


async def _forget(tx: AsyncConnection, job_ids: Sequence[str], *, sent: bool = True) -> None:
    """Drop what was written and what was to be said; what was *sent* too, or not yet."""
    await tx.execute(update(inbox).where(inbox.c.job.in_(job_ids)).values(sealed=None))
    said: ColumnElement[bool] = replies.c.job.in_(job_ids)
    if not sent:
        said &= ~((replies.c.state == SENT) & replies.c.kind.in_(REPEATABLE))
    await tx.execute(update(replies).where(said).values(sealed=None))


async def _forget_said(tx: AsyncConnection, theirs: ColumnElement[bool]) -> None:
    """Drop what was sent in jobs that ended, and might have been sent again: it must not be."""
    ended = select(jobs.c.id).where(theirs & jobs.c.state.not_in([State.ACCEPTED, State.PARKED]))
    await tx.execute(update(replies).where(replies.c.job.in_(ended)).values(sealed=None))


async def _unclaimed(
    tx: AsyncConnection, row: Row[tuple[object, ...]] | None, now: int
) -> Unclaimed | None:
    if row is None:
        return Unclaimed.UNKNOWN
    if row.state == State.PARKED:
        return Unclaimed.PARKED
    if row.state != State.ACCEPTED:
        return Unclaimed.ENDED
    if row.lease_until > now:
        return Unclaimed.HELD
    if row.next_try_at > now:
        soon = row.next_try_at <= now + int(SOON_S * 1_000_000)
        return Unclaimed.EARLY if soon else Unclaimed.LATER
    return Unclaimed.BLOCKED if not row.urgent and await _behind(tx, row) else None


async def _behind(tx: AsyncConnection, row: Row[Any]) -> bool:
    """Whether an earlier turn of the conversation is still open."""
    earlier = (
        (jobs.c.conversation == row.conversation)
        & (jobs.c.state == State.ACCEPTED)
        & (jobs.c.seq < row.seq)
        & (jobs.c.reason != SUSPENDED)  # the person was told to type meanwhile
    )
    return (await tx.execute(select(jobs.c.id).where(earlier).limit(1))).first() is not None


def _waits(reason: str) -> ColumnElement[bool]:
    idle = jobs.c.lease_owner.is_(None) & (jobs.c.reason == reason)
    return (jobs.c.state == State.ACCEPTED) & idle


def _released(state: State, reason: str) -> dict[str, object]:
    return {"state": state, "reason": reason[:64], "lease_owner": None, "lease_until": 0}


async def _fenced(tx: AsyncConnection, job: Job, values: Mapping[str, object]) -> None:
    changed = await tx.execute(update(jobs).where(_held(job)).values(values))
    if changed.rowcount != 1:
        raise LeaseLostError(job.id)


def _held(job: Job) -> ColumnElement[bool]:
    return (
        (jobs.c.id == job.id)
        & (jobs.c.fence == job.fence)
        & (jobs.c.lease_owner == job.owner)
        & (jobs.c.state == State.ACCEPTED)
    )


def _job(row: Row[tuple[object, ...]], now: Callable[[], datetime]) -> Job:
    zone = now().tzinfo
    return Job(
        id=row.id,
        tenant=row.tenant,
        conversation=row.conversation,
        artifact=row.artifact,
        trace=row.trace,
        attempts=row.attempts,
        fence=row.fence,
        owner=row.lease_owner,
        accepted_at=datetime.fromtimestamp(row.accepted_at / 1e6, zone),
        sent_at=datetime.fromtimestamp(row.sent_at / 1e6, zone),
        deadline_at=datetime.fromtimestamp(row.deadline_at / 1e6, zone),
    )
