"""
The persons a cell knows: `gateway.identity` decides who writes, this keeps what it decided.

- Names are kept as keyed hashes (HMAC under the cell's pepper), each with the times between which
  it led to a pseudonym. A row changes at most once a day while nothing else changes.
- Two workers that meet one name at once take turns.
- That two are one person, or that a name became another's, is told to the log with its evidence;
  until the log has it, a row remembers to.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import BigInteger, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from audit.model import Event, EventType
from gateway import db, identity, subjects
from gateway.identity import Answer, Link, Sighting, Why
from gateway.inbox import keyed
from gateway.jobs import micros
from gateway.ports import Ports
from gateway.schema import aliases, identity_changes
from gateway.sections import SILENT_DAYS
from gateway.whatsapp.payload import Identity
from policy import consent
from vault.keys import Keys

TOLD_AT_ONCE = 100

Rule = Callable[[Sequence[Link]], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """That *alias* was somebody's: *since* then, *until* then or still; see `identity.Link`."""

    alias: str
    since: int
    until: int | None
    user_id: str


async def pseudonym(
    who: Identity, tenant: str, ports: Ports, *, at: int | None = None, job: str | None = None
) -> str:
    """
    Return the random subject of *who*, who wrote *at* that second (now).

    Where two subjects turn out to be one person, what the other agreed to or took back counts
    from then on: the newest of both. *job* is the evidence.
    """
    seen = await sighting(who, tenant, ports.keys, at=_at(at, ports))
    return await recognized(seen, tenant, ports, job=job)


async def recognized(seen: Sighting, tenant: str, ports: Ports, *, job: str | None = None) -> str:
    """Return the subject of who was *seen*."""
    rule = partial(
        identity.recognize, seen, fresh=_fresh(), silent_days=_silent_days(tenant, ports)
    )
    return await _settled(rule, [seen.number, seen.user_id], tenant, ports, job)


async def link(
    old: Identity,
    new: Identity,
    tenant: str,
    ports: Ports,
    *,
    at: int | None = None,
    job: str | None = None,
) -> str:
    """Let *new* lead to the subject of *old*: a person changed number or user id at that time."""
    was = await sighting(old, tenant, ports.keys, at=_at(at, ports))
    is_now = await sighting(new, tenant, ports.keys, at=was.at)
    rule = partial(
        identity.changed, was, is_now, fresh=_fresh(), silent_days=_silent_days(tenant, ports)
    )
    names = [was.number, was.user_id, is_now.number, is_now.user_id]
    return await _settled(rule, names, tenant, ports, job)


async def renew(
    who: Identity,
    tenant: str,
    ports: Ports,
    *,
    device: str | None,
    at: int,
    job: str | None = None,
) -> str:
    """Let the names of *who* lead to somebody new: their identity key changed at that time."""
    seen = await sighting(who, tenant, ports.keys, at=at, device=device)
    rule = partial(
        identity.identity_changed, seen, fresh=_fresh(), silent_days=_silent_days(tenant, ports)
    )
    return await _settled(rule, [seen.number, seen.user_id], tenant, ports, job)


async def sighting(
    who: Identity, tenant: str, keys: Keys, *, at: int, device: str | None = None
) -> Sighting:
    """Return the keyed hashes of the names of *who*, and of their identity key, if it is told."""
    pepper = await keys.named("pepper")

    def name(kind: str, value: str | None) -> str:
        return keyed(pepper, "alias", f"{tenant}|{kind}|{value}") if value else ""

    return Sighting(
        at=at,
        number=name("phone", who.phone),
        user_id=name("bsuid", who.bsuid),
        device=name("device", device),
    )


async def holders(engine: AsyncEngine, names: Sequence[str]) -> list[Link]:
    """Return to whom *names* lead and ever led, the newest first."""
    query = select(aliases).where(aliases.c.alias.in_(names)).order_by(aliases.c.since.desc())
    async with db.reading(engine) as tx:
        return [_link(row) for row in await tx.execute(query)]


async def held_by(tx: AsyncConnection, whole: Sequence[str]) -> list[Held]:
    """Return which names lead to one of *whole*, and from when to when."""
    theirs = select(aliases.c.alias).where(aliases.c.subject.in_(whole))
    rows = await tx.execute(select(aliases).where(aliases.c.alias.in_(theirs)))
    known = sorted(map(_link, rows), key=lambda each: (each.alias, each.since))
    found = []
    for place, one in enumerate(known):
        follower = known[place + 1] if place + 1 < len(known) else None
        ends = [one.until] if one.until is not None else []
        ends += [follower.since] if follower and follower.alias == one.alias else []
        if one.subject in whole:
            since = 0 if one.why is Why.FIRST else one.since
            held = Held(
                alias=one.alias, since=since, until=min(ends, default=None), user_id=one.user_id
            )
            found.append(held)
    return found


async def carry_over(old: str, new: str, tenant: str, ports: Ports) -> None:
    """Let the rows of *old* in the ledger of consents count for *new*, too; again is once."""
    for row in consent.carried(await ports.consents.history(tenant, old), new):
        await ports.consents.record(row)


async def reached(who: Identity, subject: str, tenant: str, ports: Ports) -> bool:
    """Whether the number of *who* still leads to *subject*, or to nobody we know."""
    if who.phone is None:
        return True
    seen = await sighting(Identity(phone=who.phone), tenant, ports.keys, at=0)
    newest = next(iter(await holders(ports.engine, [seen.number])), None)
    if newest is None or (newest.subject == subject and newest.until is None):
        return True
    return newest.until is None and newest.subject == await subjects.became(ports.engine, subject)


async def end_names(subject: str, at: int, ports: Ports) -> None:
    """Let no name lead to *subject* from that second on, where none has been given on since."""
    theirs = (aliases.c.subject == subject) & aliases.c.until.is_(None) & (aliases.c.since <= at)
    async with ports.engine.begin() as tx:
        await tx.execute(update(aliases).where(theirs).values(until=at))


async def tell(ports: Ports) -> None:
    """Put on record which persons turned out to be one or two, and on which evidence."""
    query = select(identity_changes).order_by(identity_changes.c.at).limit(TOLD_AT_ONCE)
    async with db.reading(ports.engine) as tx:
        rows = (await tx.execute(query)).all()
    for row in rows:
        event = Event(
            id=row.id,
            type=EventType(row.kind),
            at=datetime.fromtimestamp(row.at / 1e6, UTC),
            tenant=row.tenant,
            subject=row.subject,
            job=row.job,
            detail={"basis": "observed", "evidence": row.why, "former": row.former},
        )
        await ports.trail.append(event)
        async with ports.engine.begin() as tx:
            await tx.execute(delete(identity_changes).where(identity_changes.c.id == row.id))


async def _settled(
    rule: Rule, names: Sequence[str], tenant: str, ports: Ports, job: str | None
) -> str:
    """Return whom *rule* names, once everything that follows from it is written."""
    names = sorted({name for name in names if name})
    async with db.reading(ports.engine) as tx:
        answer = rule(await _known(tx, names))
    if not answer.links and not answer.joined:
        return answer.subject
    for other in answer.joined:
        # Before they are one: no decision in between may overlook a withdrawal.
        await carry_over(other, answer.subject, tenant, ports)
    async with ports.engine.begin() as tx:
        await _take_turns(tx, names)
        answer = rule(await _known(tx, names))
        await _write(tx, answer, tenant, ports.now(), job)
    for other in answer.joined:
        await carry_over(other, answer.subject, tenant, ports)
    if answer.joined or answer.left:
        await tell(ports)
    return answer.subject


async def _write(
    tx: AsyncConnection, answer: Answer, tenant: str, at: datetime, job: str | None
) -> None:
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    for one in answer.links:
        row = {
            "tenant": tenant,
            "subject": one.subject,
            "until": one.until,
            "seen": one.seen,
            "user_id": one.user_id,
            "device": one.device,
            "why": one.why.value,
        }
        await tx.execute(
            insert(aliases)
            .values(alias=one.alias, since=one.since, **row)
            .on_conflict_do_update(index_elements=[aliases.c.alias, aliases.c.since], set_=row)
        )
    for other in answer.joined:
        await subjects.merge(tx, other, answer.subject, tenant, at=at)
    told = [(EventType.SUBJECT_MERGED, other) for other in answer.joined]
    told += [(EventType.SUBJECT_SPLIT, answer.left)] if answer.left else []
    for kind, former in told:
        row = {
            "id": f"{answer.subject}.{kind.value.partition('.')[2]}.{former[:14]}.{micros(at)}",
            "tenant": tenant,
            "kind": kind.value,
            "subject": answer.subject,
            "former": former,
            "why": answer.why.value,
            "job": job,
            "at": micros(at),
        }
        await db.insert_new(tx, identity_changes, row)


async def _take_turns(tx: AsyncConnection, names: Sequence[str]) -> None:
    """Let one transaction at a time decide about *names*; SQLite has one writer anyway."""
    if tx.dialect.name == "sqlite":
        return
    lock = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger)))
    for name in names:
        await tx.execute(lock, {"key": int.from_bytes(bytes.fromhex(name[:16]), signed=True)})


async def _known(tx: AsyncConnection, names: Sequence[str]) -> list[Link]:
    beside = select(aliases.c.user_id).where(aliases.c.alias.in_(names))
    which = or_(aliases.c.alias.in_(names), aliases.c.alias.in_(beside))
    return [_link(row) for row in await tx.execute(select(aliases).where(which))]


def _link(row: object) -> Link:
    found = row._mapping  # type: ignore[attr-defined]  # noqa: SLF001 - public by its documentation
    return Link(
        alias=found["alias"],
        subject=found["subject"],
        since=found["since"],
        seen=found["seen"],
        until=found["until"],
        user_id=found["user_id"],
        device=found["device"],
        why=Why(found["why"]),
    )


def _fresh() -> str:
    return f"s_{secrets.token_hex(16)}"


def _at(at: int | None, ports: Ports) -> int:
    return int(ports.now().timestamp()) if at is None else at


def _silent_days(tenant: str, ports: Ports) -> int:
    known = ports.tenants.get(tenant)
    return known.number_silent_days if known else SILENT_DAYS
