"""
What needs two more people: somebody asks, others approve exactly that, and it is used once.

- An approval names the digest of the whole request: of who wants to do what to which object of
  whose. Any other request has another digest, and no approval.
- Whether the people who approved are enough is for the rules to say, each time it is asked.
- A request ends a day after it was asked for; using it is one row update, which one caller wins.
- What is used is in the log before it is used; nothing here says that it then happened.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import db
from gateway.errors import ApprovalError
from gateway.jobs import micros
from gateway.ports import Ports
from gateway.schema import access_approvals, access_requests
from policy import access
from policy.access import Action, Approval, Permitted, Reading, Request, Role, Verdict
from vault.agreed_time import AgreedTime

GOOD_FOR = timedelta(hours=24)
KEPT_FOR = timedelta(days=30)  # after its end; the log keeps the record

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that waits for approvals, was used, or ended without."""

    id: str
    request: Request
    digest: str
    asked_at: int
    expires_at: int
    used_at: int | None

    def over(self, at: datetime) -> bool:
        """Return whether its time is over."""
        return self.expires_at <= micros(at)


async def ask(engine: AsyncEngine, request: Request, at: datetime) -> Asked:
    """Keep *request* for others to approve."""
    asked = Asked(
        id=f"q_{secrets.token_hex(16)}",
        request=request,
        digest=access.digest(request),
        asked_at=micros(at),
        expires_at=micros(at + GOOD_FOR),
        used_at=None,
    )
    names = ("actor", "action", "object", "owner", "purpose", "role", "tenant")
    row = {name: str(getattr(request, name)) for name in names}
    row |= {name: getattr(asked, name) for name in ("id", "digest", "asked_at", "expires_at")}
    async with engine.begin() as tx:
        await tx.execute(insert(access_requests).values(row))
    return asked


async def find(engine: AsyncEngine, ident: str) -> Asked | None:
    """Return the request *ident*, or None."""
    query = select(access_requests).where(access_requests.c.id == ident)
    async with db.reading(engine) as tx:
        row = (await tx.execute(query)).one_or_none()
    return _asked(row) if row is not None else None


async def given(engine: AsyncEngine, asked: Asked) -> tuple[Approval, ...]:
    """Return the approvals of *asked*, the oldest first."""
    c = access_approvals.c
    query = select(access_approvals).where(c.request == asked.id).order_by(c.at, c.approver)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(query)).all()
    return tuple(
        Approval(
            approver=row.approver,
            role=Role(row.role),
            tenant=row.tenant,
            at=row.at // _MICROS,
            request_digest=asked.digest,
        )
        for row in rows
    )


def check(asked: Asked, digest: str, at: datetime) -> None:
    """Raise `ApprovalError` if nothing can be approved by *digest* at *at*."""
    if asked.used_at is not None:
        raise ApprovalError("request.used")
    if asked.over(at):
        raise ApprovalError("request.expired")
    if digest != asked.digest:
        raise ApprovalError("request.changed")


async def approve(
    engine: AsyncEngine, asked: Asked, approver: str, role: Role, tenant: str, at: datetime
) -> None:
    """
    Count the approval of *asked* by *approver*.

    Raises:
        ApprovalError: it was used or is over, or this person has approved it already.

    """
    row = {"request": asked.id, "approver": approver, "role": str(role), "tenant": tenant}
    async with engine.begin() as tx:
        query = select(access_requests).where(access_requests.c.id == asked.id)
        check(_asked((await tx.execute(query)).one()), asked.digest, at)
        if not await db.insert_new(tx, access_approvals, row | {"at": micros(at)}):
            raise ApprovalError("approval.given")


async def use(request: Request, ports: Ports) -> Verdict:
    """
    Return what the rules say to *request* with its approvals; a yes uses them up.

    Whoever hears `Permitted` does it, once: the next one who asks for the same hears no.
    """
    at = ports.now()
    for asked in await _open(ports.engine, request, at):
        verdict = await ports.ask_access(request, await given(ports.engine, asked))
        if not isinstance(verdict, Permitted):
            continue
        await _used_on_record(asked, verdict, ports, at)
        if await _spent(ports.engine, asked, at):
            return verdict
    return await ports.ask_access(request)


async def forget(engine: AsyncEngine, time: AgreedTime) -> None:
    """Delete what ended long ago."""
    c = access_requests.c
    old = select(c.id).where(c.expires_at < micros(time.before(KEPT_FOR)))
    async with engine.begin() as tx:
        await tx.execute(delete(access_approvals).where(access_approvals.c.request.in_(old)))
        await tx.execute(delete(access_requests).where(c.id.in_(old)))


async def _open(engine: AsyncEngine, request: Request, at: datetime) -> list[Asked]:
    c = access_requests.c
    mine = (c.digest == access.digest(request)) & c.used_at.is_(None) & (c.expires_at > micros(at))
    async with db.reading(engine) as tx:
        query = select(access_requests).where(mine).order_by(c.asked_at, c.id)
        return [_asked(row) for row in (await tx.execute(query)).all()]


async def _spent(engine: AsyncEngine, asked: Asked, at: datetime) -> bool:
    c = access_requests.c
    mine = (c.id == asked.id) & c.used_at.is_(None)
    async with engine.begin() as tx:
        done = await tx.execute(update(access_requests).where(mine).values(used_at=micros(at)))
    return bool(done.rowcount)


async def _used_on_record(asked: Asked, verdict: Permitted, ports: Ports, at: datetime) -> None:
    request = asked.request
    await ports.trail.append(
        Event(
            id=f"{asked.id}.used",
            type=EventType.ACCESS_USED,
            at=at,
            tenant=request.owner,
            region=ports.region,
            actor=request.actor,
            action=str(request.action),
            decision=verdict.provenance.id,
            outcome="permitted",
            detail={
                "approvers": sorted(verdict.approvers),
                "basis": "observed",
                "digest": asked.digest,
                "object": request.object,
                "request": asked.id,
            },
        )
    )


def _asked(row: Row[Any]) -> Asked:
    return Asked(
        id=row.id,
        request=Request(
            actor=row.actor,
            role=Role(row.role),
            tenant=row.tenant,
            action=Action(row.action),
            object=row.object,
            owner=row.owner,
            purpose=Reading(row.purpose),
        ),
        digest=row.digest,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )
