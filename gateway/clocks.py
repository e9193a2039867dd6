"""
Every class of what is kept, with the clock that ends it: one table, for the DPO and the watchdog.

- An artifact carries its due time (`vault.retention`); of everything else the age is counted.
- A class whose clock ran over by more than its *grace* is overdue: some sweep did not happen.
- What has no clock says why it is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db
from gateway.jobs import State
from gateway.schema import (
    decisions,
    handovers,
    inbox,
    jobs,
    pauses,
    replies,
    requests,
    sessions,
    statuses,
    unattributed,
)
from gateway.unattributed import KEPT_FOR
from policy.consents.tables import consents
from vault.model import HoldState, Kind
from vault.orders import LAPSES_AFTER
from vault.tables import epoch_keys, holds, retention, subject_keys

MICROS = 1_000_000
PARKED_FOR = timedelta(days=6)  # WhatsApp keeps a media id from a webhook for 7
REMEMBERED_FOR = timedelta(days=30)  # WhatsApp delivers again for 7 days; backups are older
MEMORY_FOR = timedelta(hours=48)  # 24 in human hands, 24 after
RECORDS_FOR = timedelta(days=400)  # the longest clock an artifact may have, and a month
SAID_FOR = timedelta(hours=1)  # failures come within minutes; what was said is kept no longer
REQUESTS_FOR = timedelta(minutes=10)
ARTIFACT_GRACE = timedelta(minutes=15)
HOURLY_GRACE = timedelta(hours=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """
    One class of what is kept.

    *stamp* is its due time (*longest* is then None, each row has its own) or of
    its age; *per_second* what one second is in it. *where* restricts to rows that still count.
    """

    name: str
    says: str
    set_by: str
    enforced_by: str
    stamp: ColumnElement[int] | None = None
    where: ColumnElement[bool] | None = None
    longest: timedelta | None = None
    per_second: int = MICROS
    grace: timedelta = HOURLY_GRACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a clock shows: how many there are, the oldest or next due, and by how much over."""

    clock: Clock
    count: int
    first: datetime | None
    overdue: timedelta

    @property
    def alarming(self) -> bool:
        """Whether the clock ran over by more than its grace."""
        return self.overdue > self.clock.grace


def _artifact(kind: Kind, says: str) -> Clock:
    r = retention.c
    return Clock(
        name=kind.value,
        says=says,
        set_by="policy decision (jurisdiction, tenant)",
        enforced_by="sweeper, each 5 s",
        # Once let go, what a hold kept is late from then on.
        stamp=case((r.freed_at > r.due_at, r.freed_at), else_=r.due_at),
        where=and_(r.kind == kind.value, r.state == "due", r.hold.is_(None)),
        per_second=1,
        grace=ARTIFACT_GRACE,
    )


CLOCKS: tuple[Clock, ...] = (
    _artifact(Kind.RAW_AUDIO, "the recording: until its transcript is sealed, under 24 h always"),
    Clock(
        name="clean_audio",
        says="decoded sound: in memory while it is heard, never kept",
        set_by="design",
        enforced_by="nothing is stored",
    ),
    _artifact(Kind.TRANSCRIPT, "the words"),
    _artifact(Kind.REDACTED_TRANSCRIPT, "the words without what the rules find"),
    _artifact(Kind.REPLY_AUDIO, "the spoken reply"),
    Clock(
        name="legal_holds",
        says="orders to keep what a clock would delete; what they keep counts in no other line",
        set_by="two people, with a ground and an end",
        enforced_by="sweeper, each second",
        stamp=holds.c.expires_at,
        where=holds.c.state == HoldState.PLACED,
        per_second=1,
        grace=ARTIFACT_GRACE,
    ),
    Clock(
        name="proposed_holds",
        says="holds that wait for a second person's approval",
        set_by=f"constant, {LAPSES_AFTER}",
        enforced_by="sweeper, each second",
        stamp=holds.c.proposed_at,
        where=holds.c.state.in_([HoldState.OPENING, HoldState.PROPOSED]),
        longest=LAPSES_AFTER,
        per_second=1,
        grace=ARTIFACT_GRACE,
    ),
    Clock(
        name="session_memory",
        says="what the dialogue remembers of a conversation, sealed",
        set_by=f"constant, {MEMORY_FOR}",
        enforced_by="sweeper, hourly",
        stamp=sessions.c.updated_at,
        longest=MEMORY_FOR,
    ),
    Clock(
        name="intake_bodies",
        says="accepted updates, sealed, until their job ends",
        set_by=f"constant, {PARKED_FOR} while a consent is waited for",
        enforced_by="the end of the job; sweeper, each minute",
        stamp=inbox.c.received_at,
        where=inbox.c.sealed.is_not(None),
        longest=PARKED_FOR + timedelta(days=1),
    ),
    Clock(
        name="unattributed",
        says="parts of deliveries that name no sender, sealed",
        set_by=f"constant, {KEPT_FOR}",
        enforced_by="sweeper, each minute",
        stamp=unattributed.c.received_at,
        longest=KEPT_FOR,
        grace=ARTIFACT_GRACE,
    ),
    Clock(
        name="dedup_keys",
        says="keyed hashes of message ids, against answering twice",
        set_by=f"constant, {REMEMBERED_FOR}",
        enforced_by="sweeper, hourly",
        stamp=inbox.c.received_at,
        longest=REMEMBERED_FOR,
    ),
    Clock(
        name="statuses",
        says="what WhatsApp said of our replies; random ids",
        set_by=f"constant, {REMEMBERED_FOR}",
        enforced_by="sweeper, hourly",
        stamp=statuses.c.at,
        longest=REMEMBERED_FOR,
    ),
    Clock(
        name="sent_replies",
        says="what was said, sealed, until WhatsApp says that it arrived: else it is sent again",
        set_by=f"constant, {SAID_FOR}",
        enforced_by="sweeper, each minute",
        stamp=replies.c.sent_at,
        where=and_(
            replies.c.sealed.is_not(None),
            replies.c.job.in_(
                select(jobs.c.id).where(jobs.c.state.not_in([State.ACCEPTED, State.PARKED]))
            ),
        ),
        longest=SAID_FOR,
        grace=ARTIFACT_GRACE,
    ),
    Clock(
        name="dead_letters",
        says="jobs that could not be done; random ids",
        set_by="constant, 3 days, 0:00:00",
        enforced_by="JetStream, max_age of the stream",
    ),
    Clock(
        name="decision_inputs",
        says="what decisions were made of, sealed, for a replay",
        set_by="[decisions] kept_days",
        enforced_by="sweeper, hourly",
        stamp=decisions.c.at,
        longest=None,
    ),
    Clock(
        name="job_records",
        says="ended jobs and handovers: pseudonyms, times, reasons",
        set_by=f"constant, {RECORDS_FOR}",
        enforced_by="sweeper, hourly",
        stamp=jobs.c.ended_at,
        where=jobs.c.state.not_in([State.ACCEPTED, State.PARKED]),
        longest=RECORDS_FOR,
    ),
    Clock(
        name="handovers",
        says="conversations given to a human: pseudonyms, times, reasons",
        set_by=f"constant, {RECORDS_FOR}",
        enforced_by="sweeper, hourly",
        stamp=handovers.c.at,
        longest=RECORDS_FOR,
    ),
    Clock(
        name="pauses",
        says="who was asked whether they withdraw: pseudonyms and times, until they answer",
        set_by="constant, one day",
        enforced_by="the answer; sweeper, each second",
        stamp=pauses.c.ends_at,
        grace=ARTIFACT_GRACE,
    ),
    Clock(
        name="requests",
        says="receipts that a command asked for",
        set_by=f"constant, {REQUESTS_FOR}",
        enforced_by="sweeper, each second",
        stamp=requests.c.asked_at,
        longest=REQUESTS_FOR,
        grace=ARTIFACT_GRACE,
    ),
    Clock(
        name="epoch_keys",
        says="keys of an hour or a month, until the last clock in them ran out",
        set_by="the artifacts in them",
        enforced_by="sweeper, each 5 s; the keeper destroys the KEK",
        stamp=epoch_keys.c.last_due,
        where=and_(epoch_keys.c.ciphertext.is_not(None), epoch_keys.c.last_due > 0),
        per_second=1,
        grace=timedelta(days=32),  # a month's key has to outlive the month
    ),
    Clock(
        name="subject_keys",
        says="one wrapped key per person, until erasure",
        set_by="erasure; nothing opens without an epoch's key",
        enforced_by="erasure",
        stamp=subject_keys.c.version,
        where=subject_keys.c.ciphertext.is_not(None),
        longest=timedelta.max,
        per_second=1,
    ),
    Clock(
        name="consents",
        says="the ledger: proof that was asked and agreed (GDPR Art. 7(1)), by pseudonym",
        set_by="kept as proof, beyond an erasure",
        enforced_by="nothing: kept with the reason given",
        stamp=consents.c.at,
        longest=timedelta.max,
        per_second=1,
    ),
)


async def readings(
    engine: AsyncEngine,
    now: datetime,
    *,
    decisions_for: timedelta,
    clocks: Sequence[Clock] = CLOCKS,
) -> list[Reading]:
    """Return what every clock shows at *now*; *decisions_for* is the setting of their inputs."""
    found = []
    async with db.reading(engine) as tx:
        for clock in clocks:
            if clock.stamp is None:
                found.append(Reading(clock=clock, count=0, first=None, overdue=timedelta(0)))
                continue
            query = select(func.count(), func.min(clock.stamp))
            row = (
                await tx.execute(query if clock.where is None else query.where(clock.where))
            ).one()
            longest = decisions_for if clock.name == "decision_inputs" else clock.longest
            found.append(_reading(clock, row[0], row[1], longest, now))
    return found


def _reading(
    clock: Clock, count: int, stamp: int | None, longest: timedelta | None, now: datetime
) -> Reading:
    if stamp is None or longest == timedelta.max:
        return Reading(clock=clock, count=count, first=None, overdue=timedelta(0))
    first = datetime.fromtimestamp(stamp / clock.per_second, UTC)
    due = first if longest is None else first + longest
    return Reading(clock=clock, count=count, first=first, overdue=max(timedelta(0), now - due))


async def lateness(engine: AsyncEngine, since: datetime) -> dict[str, list[int]]:
    """Return by kind how late, in seconds, each deletion since then was; sorted."""
    r = retention.c
    expired = and_(r.state == "done", r.done_at >= int(since.timestamp()))
    counted = or_(r.reason == "retention.expired", r.late_seconds > 0)
    found: dict[str, list[int]] = {}
    async with db.reading(engine) as tx:
        query = select(r.kind, r.late_seconds).where(expired, counted).order_by(r.late_seconds)
        for kind, late in await tx.execute(query):
            found.setdefault(kind, []).append(late)
    return found
