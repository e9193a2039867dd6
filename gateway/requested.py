"""
What a DPO asks for by a command: a row asks, the running cell answers in it.

- Only the running cell writes to the log, so only it can issue: the command adds a row, waits,
  reads the answer and deletes the row; `serve` answers what waits, and drops what nobody fetched.
- It is no job and no touch: nothing of the person is handled. The rules are only asked for the
  periods that hold now, as a readiness probe asks them, and that is not put on record.
- A row holds what the ledger of consents holds: a pseudonym, digests and keyed hashes.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import db, receipts, subjects
from gateway.errors import UndecidedError
from gateway.jobs import micros
from gateway.note import TYPED
from gateway.ports import Ports
from gateway.receipts import Holder
from gateway.schema import decisions, requests
from policy.model import HANDED, Allowed, Denied, Obligations, Question, Stage

FETCHED_WITHIN = timedelta(minutes=10)
BATCH = 20
REPORT = "report"
UNKNOWN_LAW = "jurisdiction.unknown"
NOTHING = "consent.none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A signed receipt, or the reason code why there is none."""

    document: bytes | None
    fault: str


class _RefusedError(Exception):
    """There is no receipt for this request; its text is the reason code."""


async def ask(
    engine: AsyncEngine, subject: str, tenant: str, purpose: str | None, at: datetime
) -> str:
    """Ask for a receipt of *subject*, of one *purpose* or all; return the request's id."""
    return await _ask(engine, {"tenant": tenant, "subject": subject, "purpose": purpose}, at)


async def ask_leave(
    engine: AsyncEngine, subject: str, tenant: str, *, by: str, selector: str, at: datetime
) -> str:
    """
    Ask for leave to open everything of *subject*; return the request's id.

    *by* names who wants to, somebody of the settings; *selector* is the digest of what was
    selected. The answer is the receipt of the log: no evidence, no reading.
    """
    row = {"tenant": tenant, "subject": subject, "what": REPORT, "asked_by": by}
    return await _ask(engine, row | {"purpose": selector}, at)


async def _ask(engine: AsyncEngine, row: dict[str, Any], at: datetime) -> str:
    ident = f"q_{secrets.token_hex(16)}"
    row = row | {"id": ident}
    async with engine.begin() as tx:
        await tx.execute(insert(requests).values(**row, asked_at=micros(at)))
    return ident


async def answer(engine: AsyncEngine, ident: str) -> Answer | None:
    """Return the answer to the request *ident*, or None while there is none."""
    query = select(requests.c.document, requests.c.fault).where(requests.c.id == ident)
    async with db.reading(engine) as tx:
        row = (await tx.execute(query)).one_or_none()
    if row is None or (row.document is None and not row.fault):
        return None
    return Answer(document=row.document, fault=row.fault)


async def drop(engine: AsyncEngine, ident: str) -> None:
    """Forget the request *ident*, answered or not."""
    async with engine.begin() as tx:
        await tx.execute(delete(requests).where(requests.c.id == ident))


async def serve(ports: Ports) -> None:
    """Answer what waits, after dropping what is too old; what fails here is tried again."""
    old = requests.c.asked_at < micros(ports.now() - FETCHED_WITHIN)
    waiting = requests.c.document.is_(None) & (requests.c.fault == "")
    async with db.reading(ports.engine) as tx:
        stale = (await tx.execute(select(requests.c.id).where(old).limit(1))).first()
        rows = (await tx.execute(select(requests).where(waiting & ~old).limit(BATCH))).all()
    if stale:
        async with ports.engine.begin() as tx:
            await tx.execute(delete(requests).where(old))
    for row in rows:
        try:
            made = _leave(row, ports) if row.what == REPORT else _receipt(row, ports)
            said: dict[str, Any] = {"document": await made}
        except _RefusedError as exc:
            said = {"fault": str(exc)}
        async with ports.engine.begin() as tx:
            await tx.execute(update(requests).where(requests.c.id == row.id).values(said))


async def _receipt(row: Row[Any], ports: Ports) -> bytes:
    return await _issued(row.tenant, row.subject, row.purpose, ports)


async def _leave(row: Row[Any], ports: Ports) -> bytes:
    """Put on record who is about to open what, and return where that stands."""
    receipt = await ports.trail.append(
        Event(
            id=f"{row.id}.exported",
            type=EventType.ACCESS_EXPORTED,
            at=ports.now(),
            tenant=row.tenant,
            subject=row.subject,
            region=ports.region,
            actor="operator",
            detail={"basis": "declared", "by": row.asked_by, "selector_sha256": row.purpose},
        )
    )
    return f"{receipt.origin} {receipt.index}".encode()


async def _issued(tenant: str, subject: str, purpose: str | None, ports: Ports) -> bytes:
    rows = await ports.consents.history(tenant, subject)
    rows = [row for row in rows if purpose in {None, row.purpose}]
    if not rows or tenant not in ports.tenants:
        raise _RefusedError(NOTHING)
    holder = Holder(
        tenant=ports.tenants[tenant],
        subject=subject,
        jurisdiction=await _jurisdiction(subject, ports),
        language=rows[-1].language,
        actor="operator",
    )
    return await receipts.issue(holder, rows, await _obligations(holder, ports), ports)


async def _jurisdiction(subject: str, ports: Ports) -> str:
    """Return whose law holds: what was declared, else what the newest kept decision went by."""
    told = await subjects.declared(ports.engine, subject)
    if told.residence:
        return told.residence
    theirs = select(decisions.c.jurisdiction).where(decisions.c.subject == subject)
    async with db.reading(ports.engine) as tx:
        newest = theirs.order_by(decisions.c.at.desc()).limit(1)
        found: str | None = (await tx.execute(newest)).scalar()
    if found is None:  # the number that would say so is known nowhere
        raise _RefusedError(UNKNOWN_LAW)
    return found


async def _obligations(holder: Holder, ports: Ports) -> Obligations:
    decision = await ports.decide(
        Question(
            now=int(ports.now().timestamp()),
            stage=Stage.NOTICE,
            purpose=TYPED,
            tenant=holder.tenant.id,
            controller=holder.tenant.jurisdiction,
            jurisdiction=holder.jurisdiction,
            region=ports.region,
            languages=holder.tenant.languages,
            consent=None,
            held=False,
            minor=(await subjects.declared(ports.engine, holder.subject)).minor,
            data_class=HANDED[Stage.NOTICE],
            bundle_age=0,
            suspended=(),
            transfer_consent=None,
        )
    )
    if isinstance(decision, Allowed):
        return decision.obligations
    if isinstance(decision, Denied):
        raise _RefusedError(decision.reasons[0] if decision.reasons else "denied")
    raise UndecidedError(decision.reasons)
