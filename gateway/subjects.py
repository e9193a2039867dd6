"""
What is known of a person beside their messages: who they turned out to be, and what was declared.

- Two subjects may turn out to be one person. Rows that are found by subject move to the one that
  stays; what is sealed or labelled for the other keeps its name, and `formerly` finds it.
- A residence or a minority is declared by somebody who may (a DPO, a parent), never guessed. It
  counts from the next note on, and the trail learns of it from the sweeper.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from audit.model import Event, EventType
from gateway import db
from gateway.jobs import micros
from gateway.schema import aliases, handovers, jobs, merges, notices, pauses, subjects
from policy.consents.tables import consents
from vault.tables import artifacts

MOVING = (aliases, handovers, jobs, notices, pauses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What was declared of a person: *residence* (ISO 3166-1 alpha-2) or None, and minority."""

    residence: str | None = None
    minor: bool = False


async def declared(engine: AsyncEngine, subject: str) -> Declared:
    """Return what was declared of *subject*; nothing is an adult of unknown residence."""
    query = select(subjects).where(subjects.c.subject == subject)
    async with db.reading(engine) as tx:
        row = (await tx.execute(query)).one_or_none()
    return Declared(residence=row.residence, minor=row.minor) if row else Declared()


async def known(engine: AsyncEngine, subject: str) -> str | None:
    """Return the tenant of *subject*, or None if no number or user id leads to it."""
    query = select(aliases.c.tenant).where(aliases.c.subject == subject).limit(1)
    async with db.reading(engine) as tx:
        found: str | None = (await tx.execute(query)).scalar()
    return found


async def tenant_of(engine: AsyncEngine, subject: str) -> str | None:
    """Return the tenant that holds anything of *subject*, or None."""
    async with db.reading(engine) as tx:
        for table in (aliases, jobs, artifacts, consents):
            query = select(table.c.tenant).where(table.c.subject == subject).limit(1)
            if (found := (await tx.execute(query)).scalar()) is not None:
                return str(found)
    return None


async def of_tenant(engine: AsyncEngine, tenant: str) -> list[str]:
    """Return everybody of whom *tenant* has anything, but those who became somebody else."""
    found: set[str] = set()
    async with db.reading(engine) as tx:
        for table in (aliases, jobs, artifacts):
            query = select(table.c.subject).where(table.c.tenant == tenant).distinct()
            found |= {one for one in (await tx.execute(query)).scalars() if one}
        merged = select(merges.c.subject).where(merges.c.tenant == tenant)
        return sorted(found - set((await tx.execute(merged)).scalars()))


async def owner_of(engine: AsyncEngine, subject: str) -> str | None:
    """Return the tenant of *subject*, also of one that became another; None if there is none."""
    merged = select(merges.c.tenant).where(merges.c.subject == subject)
    if tenant := await known(engine, subject):
        return tenant
    async with db.reading(engine) as tx:
        found: str | None = (await tx.execute(merged)).scalar()
    return found


async def declare(
    engine: AsyncEngine,
    subject: str,
    tenant: str,
    *,
    at: datetime,
    residence: str | None = None,
    minor: bool | None = None,
) -> Declared:
    """Declare what is not None of *subject*, and return all that is declared now."""
    before = await declared(engine, subject)
    now = Declared(
        residence=before.residence if residence is None else residence,
        minor=before.minor if minor is None else minor,
    )
    async with engine.begin() as tx:
        await _put(tx, subject, tenant, now, micros(at))
    return now


async def unrecorded(engine: AsyncEngine, limit: int) -> list[Event]:
    """Return up to *limit* declarations that the trail does not know yet, as events."""
    query = select(subjects).where(subjects.c.recorded_at.is_(None)).limit(limit)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(query)).all()
    return [
        Event(
            id=f"{row.subject}.declared.{row.declared_at}",
            type=EventType.SUBJECT_DECLARED,
            at=datetime.fromtimestamp(row.declared_at / 1e6, UTC),
            tenant=row.tenant,
            subject=row.subject,
            actor="operator",
            detail={"basis": "declared", "minor": row.minor, "residence": row.residence or ""},
        )
        for row in rows
    ]


async def recorded(engine: AsyncEngine, event: Event, at: datetime) -> None:
    """Note that the trail holds *event*; a declaration made since then stays unrecorded."""
    same = (subjects.c.subject == event.subject) & (subjects.c.declared_at == micros(event.at))
    async with engine.begin() as tx:
        await tx.execute(update(subjects).where(same).values(recorded_at=micros(at)))


async def merge(tx: AsyncConnection, old: str, new: str, tenant: str, *, at: datetime) -> None:
    """
    Within *tx*, let everything that is found by subject and was *old*'s be *new*'s.

    What the two were declared becomes one declaration, made *at* the time of the merge.
    """
    await db.insert_new(tx, merges, {"subject": old, "into": new, "tenant": tenant})
    for table in MOVING:
        await tx.execute(update(table).where(table.c.subject == old).values(subject=new))
    theirs = (await tx.execute(select(subjects).where(subjects.c.subject.in_([old, new])))).all()
    if any(row.subject == old for row in theirs):
        # What protects more: either may have been declared a minor; the newest residence counts.
        newest = sorted((row for row in theirs if row.residence), key=lambda row: row.declared_at)
        told = Declared(
            residence=newest[-1].residence if newest else None,
            minor=any(row.minor for row in theirs),
        )
        # Later than either, whatever the clock says: the time is part of the event's id.
        when = max(micros(at), *(row.declared_at + 1 for row in theirs))
        await _put(tx, new, tenant, told, when)


async def formerly(engine: AsyncEngine, subject: str) -> list[str]:
    """Return *subject* and every subject that became it."""
    found = [subject]
    async with db.reading(engine) as tx:
        for one in found:
            query = select(merges.c.subject).where(merges.c.into == one)
            found += [old for old in (await tx.execute(query)).scalars() if old not in found]
    return found


async def became(engine: AsyncEngine, subject: str) -> str:
    """Return the subject that *subject* is known as now."""
    seen = {subject}
    async with db.reading(engine) as tx:
        while True:
            query = select(merges.c.into).where(merges.c.subject == subject)
            into = (await tx.execute(query)).scalar()
            if into is None or into in seen:
                return subject
            subject = into
            seen.add(into)


async def _put(tx: AsyncConnection, subject: str, tenant: str, told: Declared, at: int) -> None:
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    row = {
        "tenant": tenant,
        "residence": told.residence,
        "minor": told.minor,
        "declared_at": at,
        "recorded_at": None,
    }
    await tx.execute(
        insert(subjects)
        .values(subject=subject, **row)
        .on_conflict_do_update(index_elements=[subjects.c.subject], set_=row)
    )
