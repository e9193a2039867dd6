"""
One erasure as the database keeps it: who asked, how far it is, what was found and became of it.

Everything here is ids, counts and times: an erasure's own row tells nothing of the person.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from audit.personal import looks_personal
from gateway import db
from gateway.errors import GatewayError
from gateway.jobs import micros
from gateway.schema import erasures
from gateway.tombstones import Stone
from vault.erasure import SHOWN_AS_DONE, Copy, Fate, Trial
from vault.model import WrappedKey

DUE_WITHIN = timedelta(days=30)  # GDPR Art. 12(3): one month
TRIED_AGAIN_AFTER = timedelta(hours=1)  # what could not be shown as done
RESTORE = "restore"
TRIGGERS = ("contract-end", "order", "request", "withdrawal")
STEPS = ("stopped", "listed", "keys", "rows", "messages", "objects", "remains")
MOST_CHARS = 64
MOST_NAMED = 500  # ids in one statement


class Scope(StrEnum):
    """How much of a person an erasure is about; kept sorted."""

    CONSENT = "consent"  # what was made of their voice notes: the consent to that was withdrawn
    PERSON = "person"
    RECORDING = "recording"  # what was made of one message, which its author took back


STEPS_OF = {
    Scope.CONSENT: ("journaled", "objects", "remains"),
    Scope.PERSON: STEPS,
    Scope.RECORDING: ("journaled", "objects", "remains"),
}
"""Where only artifacts are in scope, they are listed when it is asked for."""

SOFT = {Scope.CONSENT: "objects", Scope.PERSON: "rows", Scope.RECORDING: "objects"}
"""The step after which nothing of ours reads what is erased."""


class ErasureError(GatewayError):
    """The erasure cannot be begun or is unknown; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What is known of one erasure so far.

    *planted* are keys of nobody, wrapped as the person's were: they must not open afterwards.
    *stone* is the second from which on the tombstone stands. *version* counts certificates.
    """

    steps: tuple[tuple[str, datetime], ...] = ()
    subjects: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    objects: tuple[tuple[str, str], ...] = ()
    selector_sha256: str = ""
    found: tuple[Copy, ...] = ()
    fates: tuple[Fate, ...] = ()
    trials: tuple[Trial, ...] = ()
    planted: tuple[WrappedKey, ...] = ()
    stone: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One erasure: who asked for whose, why and when, and how far it is."""

    id: str
    tenant: str
    subject: str
    because: str
    trigger: str
    asked_by: str
    asked_at: datetime
    due_at: datetime
    urgent: bool
    scope: Scope
    step: str
    facts: Facts
    executed_at: datetime | None
    hardened_at: datetime | None
    certified_at: datetime | None
    verdict: str

    @property
    def late(self) -> bool:
        """Whether it was executed after it was due."""
        return self.executed_at is not None and self.executed_at > self.due_at

    @property
    def next_step(self) -> str | None:
        """Return the step to do next, or None when all are done."""
        steps = ("", *STEPS_OF[self.scope])
        at = steps.index(self.step) + 1
        return steps[at] if at < len(steps) else None

    @property
    def certified(self) -> bool:
        """Whether there is a certificate that may be shown as done."""
        return self.certified_at is not None and self.verdict in SHOWN_AS_DONE


async def ask(
    engine: AsyncEngine,
    subject: str,
    tenant: str,
    *,
    because: str,
    trigger: str,
    by: str,
    at: datetime,
    urgent: bool = False,
) -> str:
    """
    Ask for the erasure of *subject*, and return its id; one that is open already is that.

    Raises:
        ErasureError: *trigger* is none of `TRIGGERS`, or *because* or *by* is empty or too long.

    """
    if trigger not in TRIGGERS:
        raise ErasureError(f"trigger: one of {', '.join(TRIGGERS)}")
    for name, value in (("because", because), ("by", by)):
        if not 0 < len(value.strip()) <= MOST_CHARS:
            raise ErasureError(f"{name}: say it in 1 to {MOST_CHARS} characters")
        if looks_personal(value):
            raise ErasureError(f"{name}: it looks like a number or an address (name the case)")
    ident = f"e_{secrets.token_hex(16)}"
    row = _asked(ident, subject, tenant, because, trigger, by, at) | {"urgent": urgent}
    async with engine.begin() as tx:
        found = await _open(tx, subject)
        if found is None:
            await tx.execute(insert(erasures).values(row))
    return found.id if found else ident


async def ask_within(
    tx: AsyncConnection,
    ident: str,
    subject: str,
    tenant: str,
    *,
    because: str,
    trigger: str,
    by: str,
    at: datetime,
    teller: str,
) -> bool:
    """
    Within *tx*, ask for the erasure *ident* of *subject*, of which the job *teller* tells them.

    One that is open already is that; False if another job tells of it.
    """
    if found := await _open(tx, subject):
        if found.teller is None:
            which = erasures.c.id == found.id
            await tx.execute(update(erasures).where(which).values(teller=teller))
        return found.teller in {None, teller}
    row = _asked(ident, subject, tenant, because, trigger, by, at) | {"teller": teller}
    await tx.execute(insert(erasures).values(row))
    return True


async def _open(tx: AsyncConnection, subject: str) -> Any:
    """Return the row of the erasure of *subject* that is not executed yet, if there is one."""
    mine = (erasures.c.subject == subject) & (erasures.c.scope == Scope.PERSON)
    query = select(erasures.c.id, erasures.c.teller).where(mine & erasures.c.executed_at.is_(None))
    return (await tx.execute(query.limit(1))).one_or_none()


def _asked(
    ident: str, subject: str, tenant: str, because: str, trigger: str, by: str, at: datetime
) -> dict[str, Any]:
    """Return the row of an erasure that *by* asks for."""
    return {
        "id": ident,
        "tenant": tenant,
        "subject": subject,
        "because": because,
        "trigger": trigger,
        "asked_by": by,
        "asked_at": micros(at),
        "due_at": micros(at + DUE_WITHIN),
    }


async def begin(
    engine: AsyncEngine,
    ident: str,
    subject: str,
    tenant: str,
    *,
    scope: Scope,
    because: str,
    trigger: str,
    by: str,
    at: datetime,
    facts: Facts,
) -> None:
    """Begin the erasure *ident* of what *facts* list; a second time changes nothing."""
    row = _asked(ident, subject, tenant, because, trigger, by, at)
    row |= {"scope": scope.value, "facts": msgspec.json.encode(facts)}
    async with engine.begin() as tx:
        await db.insert_new(tx, erasures, row)


async def again(engine: AsyncEngine, stone: Stone, facts: Facts, at: datetime) -> None:
    """Have *stone* executed once more, as a restore demands; *facts* are known beforehand."""
    row = {
        "id": stone.erasure,
        "tenant": stone.tenant,
        "subject": stone.subject,
        "because": stone.because,
        "trigger": RESTORE,
        "asked_by": "journal",
        "asked_at": micros(at),
        "due_at": micros(at),
        "urgent": True,
        "scope": stone.scope,
        "facts": msgspec.json.encode(facts),
    }
    afresh = {"step": "", "executed_at": None, "hardened_at": None, "certified_at": None}
    afresh |= {"verdict": "", "certificate": None}
    async with engine.begin() as tx:
        if not await db.insert_new(tx, erasures, row):
            mine = erasures.c.id == stone.erasure
            await tx.execute(update(erasures).where(mine).values(row | afresh))


async def note(engine: AsyncEngine, ident: str, **values: Any) -> None:
    """Write *values* into the row of erasure *ident*."""
    if "facts" in values:
        values["facts"] = msgspec.json.encode(values["facts"])
    async with engine.begin() as tx:
        await tx.execute(update(erasures).where(erasures.c.id == ident).values(**values))


async def find(engine: AsyncEngine, ident: str) -> Erasure | None:
    """Return the erasure *ident*, or None."""
    async with db.reading(engine) as tx:
        row = (await tx.execute(select(erasures).where(erasures.c.id == ident))).one_or_none()
    return None if row is None else _erasure(row)


async def executed(engine: AsyncEngine, idents: Sequence[str]) -> dict[str, bool]:
    """Return, of those of *idents* that the database knows, whether each was executed."""
    c, found = erasures.c, dict[str, bool]()
    async with db.reading(engine) as tx:
        for first in range(0, len(idents), MOST_NAMED):
            some = c.id.in_(idents[first : first + MOST_NAMED])
            rows = await tx.execute(select(c.id, c.executed_at).where(some))
            found |= {row.id: row.executed_at is not None for row in rows}
    return found


async def unfinished(engine: AsyncEngine, *, tried_before: datetime | None = None) -> list[Erasure]:
    """
    Return every erasure that has no certificate yet, the oldest first.

    With *tried_before*, also those whose last certificate before that could not say done.
    """
    c = erasures.c
    wanted: ColumnElement[bool] = c.certified_at.is_(None)
    if tried_before is not None:
        undone = c.verdict.not_in([each.value for each in SHOWN_AS_DONE])
        wanted = or_(wanted, undone & (c.certified_at < micros(tried_before)))
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(erasures).where(wanted).order_by(c.asked_at))).all()
    return [_erasure(row) for row in rows]


async def certificate(engine: AsyncEngine, ident: str) -> bytes | None:
    """Return the certificate of erasure *ident*, or None while there is none."""
    query = select(erasures.c.certificate).where(
        (erasures.c.id == ident) & erasures.c.certified_at.is_not(None)
    )
    async with db.reading(engine) as tx:
        found: bytes | None = (await tx.execute(query)).scalar()
    return found


async def summaries(engine: AsyncEngine) -> list[dict[str, Any]]:
    """Return every erasure as a plain row, the newest first."""
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(erasures).order_by(erasures.c.asked_at.desc()))).all()
    return [summary(_erasure(row)) for row in rows]


def summary(one: Erasure) -> dict[str, Any]:
    """Return *one* as a plain row. Only a verdict that may be shown as done looks done."""
    return {
        "erasure": one.id,
        "tenant": one.tenant,
        "subject": one.subject,
        "trigger": one.trigger,
        "because": one.because,
        "scope": one.scope.value,
        "asked": one.asked_at.isoformat(),
        "due": one.due_at.isoformat(),
        "step": one.step or "requested",
        "executed": _time(one.executed_at),
        "hardened": _time(one.hardened_at),
        "certified": _time(one.certified_at),
        "verdict": one.verdict,
        "done": one.certified,
    }


def told(facts: Facts, *more: Fate) -> Facts:
    """Return *facts* with *more*; what a step says again replaces what it said before."""
    said = {(fate.copy.kind, fate.copy.store, fate.result) for fate in more}
    kept = [f for f in facts.fates if (f.copy.kind, f.copy.store, f.result) not in said]
    return replace(facts, fates=(*kept, *more))


def united(before: Sequence[Copy], after: Sequence[Copy]) -> tuple[Copy, ...]:
    """Return the copies of two listings: what was there once stays listed, the larger count."""
    found = {(copy.kind, copy.store): copy for copy in before}
    for copy in after:
        old = found.get((copy.kind, copy.store))
        if old is None or copy.count >= old.count:
            found[copy.kind, copy.store] = copy
    return tuple(found.values())


def _erasure(row: Row[Any]) -> Erasure:
    return Erasure(
        id=row.id,
        tenant=row.tenant,
        subject=row.subject,
        because=row.because,
        trigger=row.trigger,
        asked_by=row.asked_by,
        asked_at=_moment(row.asked_at),
        due_at=_moment(row.due_at),
        urgent=row.urgent,
        scope=Scope(row.scope),
        step=row.step,
        facts=msgspec.json.decode(row.facts, type=Facts) if row.facts else Facts(),
        executed_at=_moment(row.executed_at) if row.executed_at else None,
        hardened_at=_moment(row.hardened_at) if row.hardened_at else None,
        certified_at=_moment(row.certified_at) if row.certified_at else None,
        verdict=row.verdict,
    )


def _moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1e6, UTC)


def _time(at: datetime | None) -> str:
    return at.isoformat() if at else ""
