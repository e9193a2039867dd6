"""
Legal holds by command: a row says what somebody wants, the running cell does it and answers in it.

Only the running cell asks the rules in force, wraps keys and writes to the log. The command waits,
reads the answer and deletes the row; `serve` does what waits, and drops what nobody waits for.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db, holding
from gateway.errors import DecisionError
from gateway.holding import Person
from gateway.jobs import micros
from gateway.ports import Ports
from gateway.schema import hold_requests as requests
from vault.errors import HoldError, VaultError

WAITS_FOR = timedelta(minutes=1)  # longer than any command waits
BATCH = 20
Row = dict[str, Any]


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody (*by*, in *role*, for *tenant*) wants; times in epoch seconds."""

    by: str
    role: str
    tenant: str
    hold: str = ""
    case: str = ""
    ground: str = ""
    until: int = 0
    artifacts: tuple[str, ...] = ()
    subject: str | None = None
    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of it, as a plain row, or why nothing did."""

    row: Row
    fault: str


async def ask(engine: AsyncEngine, verb: str, wanted: Wanted, at: datetime) -> str:
    """Ask the running cell to do *verb*; return the request's id."""
    ident = f"q_{secrets.token_hex(16)}"
    said = msgspec.json.encode(wanted)
    async with engine.begin() as tx:
        row = {"id": ident, "verb": verb, "said": said, "asked_at": micros(at)}
        await tx.execute(insert(requests).values(row))
    return ident


async def answer(engine: AsyncEngine, ident: str) -> Answer | None:
    """Return the answer to the request *ident*, or None while there is none."""
    query = select(requests.c.answer, requests.c.fault).where(requests.c.id == ident)
    async with db.reading(engine) as tx:
        row = (await tx.execute(query)).one_or_none()
    if row is None or (row.answer is None and not row.fault):
        return None
    found: Row = msgspec.json.decode(row.answer) if row.answer is not None else {}
    return Answer(row=found, fault=row.fault)


async def drop(engine: AsyncEngine, ident: str) -> None:
    """Forget the request *ident*, answered or not."""
    async with engine.begin() as tx:
        await tx.execute(delete(requests).where(requests.c.id == ident))


async def serve(ports: Ports) -> None:
    """Do what waits, after dropping what nobody waits for any more."""
    old = requests.c.asked_at < micros(ports.now() - WAITS_FOR)
    waiting = requests.c.answer.is_(None) & (requests.c.fault == "")
    async with db.reading(ports.engine) as tx:
        stale = (await tx.execute(select(requests.c.id).where(old).limit(1))).first()
        rows = (await tx.execute(select(requests).where(waiting & ~old).limit(BATCH))).all()
    if stale:
        async with ports.engine.begin() as tx:
            await tx.execute(delete(requests).where(old))
    for row in rows:
        said = await _done(row.verb, msgspec.json.decode(row.said, type=Wanted), ports)
        async with ports.engine.begin() as tx:
            await tx.execute(update(requests).where(requests.c.id == row.id).values(said))


async def _done(verb: str, wanted: Wanted, ports: Ports) -> Row:
    try:
        found = await VERBS[verb](wanted, ports)
    except DecisionError as exc:
        return {"fault": f"the rules say no: {', '.join(exc.reasons) or 'undecided'}"[:512]}
    except HoldError as exc:
        return {"fault": str(exc)[:512]}
    except VaultError as exc:  # away, or a fault: what was begun lapses
        return {"fault": f"not done now: {exc} (try again)"[:512]}
    return {"answer": msgspec.json.encode(found)}


async def _propose(wanted: Wanted, ports: Ports) -> Row:
    hold, taken = await holding.propose(
        _person(wanted),
        case=wanted.case,
        ground=wanted.ground,
        until=datetime.fromtimestamp(wanted.until, UTC),
        ports=ports,
        artifacts=wanted.artifacts,
        subject=wanted.subject,
        since=_moment(wanted.since),
        before=_moment(wanted.before),
    )
    return holding.told(hold) | {"too_late_for": list(taken.too_late)}


async def _approve(wanted: Wanted, ports: Ports) -> Row:
    return holding.told(await holding.approve(_person(wanted), wanted.hold, ports=ports))


async def _release(wanted: Wanted, ports: Ports) -> Row:
    return holding.told(await holding.release(_person(wanted), wanted.hold, ports=ports))


VERBS: Mapping[str, Callable[[Wanted, Ports], Awaitable[Row]]] = {
    "approve": _approve,
    "propose": _propose,
    "release": _release,
}


def _person(wanted: Wanted) -> Person:
    return Person(id=wanted.by, role=wanted.role, tenant=wanted.tenant)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
