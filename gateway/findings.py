"""
Findings: where what was seen of a processor is not what its row declares.

- `consider` is called for every touch of a processor with hosts. It suspends at once, in memory,
  and never waits: what it found is made durable by `settle`, which runs all the time.
- A difference is one open finding however often it is seen. It is on the trail as
  ``finding.opened`` and, when a person closed it, as ``finding.closed``.
- A suspension outlives a restart. It is lifted when its closing is on the trail, not before.
- What is seen again after it was closed opens anew: closing says that it was looked at.
- What passes by itself (an account at WhatsApp that is accepted again) is closed by the cell.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from audit.errors import AuditError
from audit.leaf import instant, micros
from audit.model import Event, EventType
from audit.personal import looks_personal, withheld
from gateway import db, log
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.schema import findings, observations
from gateway.touch import Trail
from residency import drift
from residency.drift import Certificate, Finding, Severity
from residency.model import Observed, Processor

TICK_S = 5.0
REFRESH_US = 60_000_000  # a fact seen again is written once a minute
THE_CELL = "vocustody"  # who closes what passed by itself
MOST_VALUES = 512  # of one fact of one processor
MOST_NOTES = 20  # open notes (no warnings, no alarms) of one processor
_MOST = {Severity.INFO: MOST_NOTES, Severity.WARN: MOST_VALUES}  # an alarm is never one too many

Fact = tuple[str, str, str]


class FindingError(GatewayError):
    """There is no such open finding, or it cannot be closed like this; the message says why."""


class Findings:
    """One cell's findings; one instance per event loop, and one loop per cell."""

    def __init__(
        self,
        engine: AsyncEngine,
        trail: Trail,
        metrics: Metrics,
        *,
        cell: str,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._trail = trail
        self._metrics = metrics
        self._cell = cell
        self._now = now
        self._suspended: frozenset[str] = frozenset()
        self._open: dict[str, tuple[str, str]] = {}  # key -> processor and severity
        self._fresh: dict[str, dict[str, Any]] = {}  # key -> row, not durable yet
        self._seen: dict[Fact, int] = {}  # -> when it was last written
        self._facts: dict[Fact, tuple[str, int]] = {}  # basis and time, not durable yet
        self._ever: set[str] = set()  # keys of what is reported once, whatever became of it
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read what is open and what was seen; call it before the first decision."""
        async with db.reading(self._engine) as tx:
            for row in (await tx.execute(select(observations))).all():
                self._seen[row.processor, row.fact, row.value] = row.last_at
            query = select(findings.c.processor, findings.c.kind, findings.c.observed)
            once = await tx.execute(query.where(findings.c.kind == drift.Kind.LAW))
            self._ever = {_hashed(*row) for row in once.all()}
        await self._reload()

    def suspended(self) -> tuple[str, ...]:
        """Return the processors that rest until a person has looked, sorted."""
        return tuple(sorted(self._suspended))

    def consider(
        self, row: Processor, observed: Observed, *, certificate: Certificate | None = None
    ) -> tuple[Finding, ...]:
        """Hold *observed* against *row*; return what was not found before, already suspended."""
        if not row.hosts:  # nothing was connected to
            return ()
        at = self._now()
        known = [v for who, fact, v in self._seen if (who, fact) == (row.id, "peer")]
        found = drift.compare(row, observed, at=at, certificate=certificate, known_peers=known)
        self._remember(row, observed, certificate, micros(at))
        fresh = tuple(each for each in found if self._opens(each, row))
        self._woken.set()
        return fresh

    def report(self, finding: Finding, row: Processor) -> None:
        """Open *finding*, which no comparison found, unless it is open."""
        self._opens(finding, row)
        self._woken.set()

    def report_once(self, finding: Finding, row: Processor) -> bool:
        """Open *finding* unless it ever was, closed since or not; tell whether it was opened."""
        key = _key(finding)
        if key in self._ever:
            return False
        self._ever.add(key)
        self.report(finding, row)
        return True

    def is_open(self, finding: Finding) -> bool:
        """Whether *finding* was reported and not closed since."""
        return _key(finding) in self._open

    async def passed(self, kind: drift.Kind, why: str, *, but: Collection[Finding] = ()) -> int:
        """Close what is open of *kind* and not among *but*: it passed. Return how many."""
        await self.settle()
        left = (findings.c.kind == kind.value) & findings.c.open_key.is_not(None)
        left &= findings.c.open_key.not_in([_key(each) for each in but])
        at = micros(self._now())
        values = {"open_key": None, "closed_at": at, "closed_by": THE_CELL, "why": why}
        async with self._engine.begin() as tx:
            closed = (await tx.execute(update(findings).where(left).values(values))).rowcount
        if closed:
            await self.settle()
        return closed

    def _opens(self, finding: Finding, row: Processor) -> bool:
        key = _key(finding)
        if key in self._open:
            return False
        place = (row.id, finding.severity.value)
        most = _MOST.get(finding.severity)
        if most is not None and sum(each == place for each in self._open.values()) >= most:
            return False
        self._open[key] = place
        self._fresh[key] = _row(finding, row, key)
        if finding.suspends(row):
            self._suspended |= {row.id}
            log.get().error("processor.suspended", processor=row.id, reason=finding.kind.value)
        self._metrics.found(row.id, finding.kind, finding.severity)
        self._metrics.suspended(len(self._suspended))
        return True

    def _remember(
        self, row: Processor, observed: Observed, certificate: Certificate | None, at: int
    ) -> None:
        for fact, value, basis in _facts(observed, certificate):
            place = (row.id, fact, value)
            many = sum(key[:2] == place[:2] for key in self._seen) >= MOST_VALUES
            if at - self._seen.get(place, 0) >= REFRESH_US and (place in self._seen or not many):
                self._seen[place] = at
                self._facts[place] = (basis, at)

    async def settle(self) -> None:
        """Make durable what was found and seen, and put openings and closings on the trail."""
        fresh, facts = dict(self._fresh), dict(self._facts)
        async with self._engine.begin() as tx:
            for row in fresh.values():
                await db.insert_new(tx, findings, row)
            for place, (basis, at) in facts.items():
                await _observe(tx, place, basis, at)
        self._fresh = {k: row for k, row in self._fresh.items() if k not in fresh}
        self._facts = {k: v for k, v in self._facts.items() if facts.get(k) != v}
        await self._record()
        await self._reload()

    async def _record(self) -> None:
        closing = findings.c.closed_at.is_not(None) & findings.c.closing_recorded_at.is_(None)
        unrecorded = findings.c.opening_recorded_at.is_(None) | closing
        async with db.reading(self._engine) as tx:
            query = select(findings).where(unrecorded).order_by(findings.c.opened_at)
            rows = (await tx.execute(query)).all()
        for row in rows:
            done = {}
            if row.opening_recorded_at is None:
                await self._trail.append(_opened(row, self._cell))
                done["opening_recorded_at"] = micros(self._now())
            if row.closed_at is not None:
                await self._trail.append(_closed(row, self._cell))
                done["closing_recorded_at"] = micros(self._now())
            async with self._engine.begin() as tx:
                await tx.execute(update(findings).where(findings.c.id == row.id).values(done))

    async def _reload(self) -> None:
        async with db.reading(self._engine) as tx:
            query = select(findings).where(findings.c.closing_recorded_at.is_(None))
            rows = (await tx.execute(query)).all()
        stored = {row.open_key: (row.processor, row.severity) for row in rows if row.open_key}
        fresh = self._fresh
        self._open = stored | {k: (row["processor"], row["severity"]) for k, row in fresh.items()}
        self._suspended = frozenset(row.processor for row in rows if row.suspends) | frozenset(
            row["processor"] for row in fresh.values() if row["suspends"]
        )
        self._metrics.suspended(len(self._suspended))

    def start(self) -> None:
        """Settle all the time, until `aclose`."""
        self._task = asyncio.create_task(self._run(), name="findings")

    @property
    def alive(self) -> bool:
        """Whether what is found is being made durable."""
        return self._task is not None and not self._task.done()

    async def aclose(self) -> None:
        """Stop; what was found is made durable first. Safe to call twice."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        await self._settled()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._woken.wait()
            self._woken.clear()
            if not await self._settled():
                await asyncio.sleep(TICK_S)

    async def _settled(self) -> bool:
        try:
            await self.settle()
        except (AuditError, SQLAlchemyError) as exc:  # suspended meanwhile, and tried again
            log.get().error("findings.unsettled", error=type(exc).__name__)
            return False
        return True


def seen(detail: Mapping[str, Any]) -> Observed:
    """Return what the detail of a touch (`Touch.observe`) says was seen."""
    return Observed(
        host=detail.get("host", ""),
        peer=detail.get("peer", ""),
        peers=tuple(detail.get("peers", ())),
        tls=detail.get("tls", ""),
        region=detail.get("attested", {}).get("region", ""),
        refused=tuple(detail.get("refused", ())),
    )


async def close(engine: AsyncEngine, ident: str, *, by: str, why: str, at: datetime) -> None:
    """
    Close finding *ident*: *by* looked at it, and *why* says what came of it.

    The running cell puts it on the trail and lifts the suspension; one that is not running does
    so when it starts. Raises `FindingError`.
    """
    if not by.strip() or not why.strip():
        raise FindingError("a finding is closed by somebody, for a reason (--by, --why)")
    for option, said, most in (("--by", by, 64), ("--why", why, 200)):
        if len(said) > most:  # cut short, what is left of an id may look like a number
            raise FindingError(f"{option}: say it in {most} characters")
        if looks_personal(said):
            raise FindingError(f"{option}: looks like a number or an address (it goes on record)")
    values = {"open_key": None, "closed_at": micros(at), "closed_by": by, "why": why}
    which = (findings.c.id == ident) & findings.c.closed_at.is_(None)
    async with engine.begin() as tx:
        changed = await tx.execute(update(findings).where(which).values(values))
    if not changed.rowcount:
        raise FindingError("no open finding has this id (vocustody findings lists them)")


def _key(finding: Finding) -> str:
    return _hashed(finding.processor, finding.kind, finding.observed)


def _hashed(processor: str, kind: str, observed: str) -> str:
    told = f"{processor}\0{kind}\0{observed}"
    return hashlib.sha256(told.encode()).hexdigest()


def _row(finding: Finding, row: Processor, key: str) -> dict[str, Any]:
    return {
        "id": f"f_{secrets.token_hex(16)}",
        "open_key": key,
        "processor": row.id,
        "region": row.region,
        "kind": finding.kind.value,
        "severity": finding.severity.value,
        "declared": finding.declared[:512],
        "observed": finding.observed[:512],
        "basis": finding.basis,
        "suspends": finding.suspends(row),
        "opened_at": micros(finding.at),
    }


def _facts(observed: Observed, certificate: Certificate | None) -> Iterator[tuple[str, str, str]]:
    tls = certificate.told if certificate else observed.tls
    for fact, value, basis in (
        ("host", observed.host or (certificate.host if certificate else ""), "observed"),
        *(("peer", peer, "observed") for peer in dict.fromkeys((*observed.peers, observed.peer))),
        ("region", observed.region, "attested by vendor"),
        ("tls", tls, "observed"),
    ):
        if value:
            yield fact, value[:256], basis


async def _observe(tx: AsyncConnection, place: Fact, basis: str, at: int) -> None:
    processor, fact, value = place
    row = {"processor": processor, "fact": fact, "value": value, "basis": basis}
    if await db.insert_new(tx, observations, row | {"first_at": at, "last_at": at}):
        return
    c = observations.c
    which = (c.processor == processor) & (c.fact == fact) & (c.value == value)
    await tx.execute(update(observations).where(which).values(last_at=at))


def _opened(row: Row[Any], cell: str) -> Event:
    return _event(row, cell, EventType.FINDING_OPENED, row.opened_at, {"basis": row.basis})


def _closed(row: Row[Any], cell: str) -> Event:
    basis = "observed" if row.closed_by == THE_CELL else "declared"
    said = {"basis": basis, "by": row.closed_by, "why": row.why}
    return _event(row, cell, EventType.FINDING_CLOSED, row.closed_at, said)


def _event(row: Row[Any], cell: str, kind: EventType, at: int, said: dict[str, Any]) -> Event:
    return Event(
        id=f"{row.id}.{kind.value.rpartition('.')[2]}",
        type=kind,
        at=instant(at),
        tenant=cell,
        processor=row.processor,
        region=row.region,
        outcome="suspended" if row.suspends else "noted",
        detail=said
        | {
            "declared": withheld(row.declared),
            "kind": row.kind,
            "observed": withheld(row.observed),
            "severity": row.severity,
        },
    )
