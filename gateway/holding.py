"""
Legal holds as people place and end them: one proposes, another one approves, the rules judge both.

- Whoever calls says who they are, in which role, for which tenant: believe no request's own word.
- What is approved is the id of the hold, a digest of its terms (`vault.orders`).
- A verdict is on record before it counts. What became of the hold is told by `hold_events`.
- What is kept opens for the case alone, by `opened`, and each time is a touch on record.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from audit.personal import looks_personal
from gateway import subjects
from gateway.errors import DeniedError, UndecidedError
from gateway.ports import Ports
from policy import access
from policy.access import Action, Approval, Permitted, Reading, Request, Role
from policy.model import Denied
from vault import holds, orders
from vault.errors import HoldError
from vault.model import Hold, HoldState, Label, Scope, Taken
from vault.tables import holds as table

READER = "person"
"""Who touches what is opened for a case, in the place of a processor."""
OPEN = "open-held"

_ONE_MISSING = ("approval.missing",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who acts: a pseudonym, in a *role* (`policy.access.Role`), for a *tenant*."""

    id: str
    role: str
    tenant: str


async def propose(
    who: Person,
    *,
    case: str,
    ground: str,
    until: datetime,
    ports: Ports,
    artifacts: Sequence[str] = (),
    subject: str | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
) -> tuple[Hold, Taken]:
    """
    Propose a hold of *who*'s tenant; return it, with what it keeps and what it is too late for.

    It stops clocks from now on, and lapses if nobody approves it within a day.

    Raises:
        DecisionError: the rules say no, or nothing.
        HoldError: its terms are not acceptable.
        KeyringError: the keyring is away.

    """
    scope = Scope(
        tenant=who.tenant,
        artifacts=tuple(dict.fromkeys(artifacts)),
        subjects=await _whole(subject, who.tenant, ports),
        since=since,
        before=before,
    )
    at = ports.now().replace(microsecond=0)
    hold = Hold(
        id=orders.ident_of(case, ground, scope, at, until),
        case=case,
        ground=ground,
        scope=scope,
        state=HoldState.OPENING,
        placed_by=who.id,
        placed_role=who.role,
        proposed_at=at,
        expires_at=until,
    )
    orders.check(hold)
    for name, said in (("case", case), ("ground", ground), ("by", who.id)):
        if looks_personal(said):
            raise HoldError(f"{name}: looks like a number or an address (it goes on record)")
    await _may_ask(_request(who, Action.PLACE_HOLD, hold), ports)
    taken = await holds.propose(ports.custody, hold)
    return await _found(hold.id, ports), taken


async def approve(who: Person, ident: str, *, ports: Ports) -> Hold:
    """
    Approve what is proposed of the hold *ident*: that it is placed, or that it is released.

    Raises `DecisionError` or `HoldError`.
    """
    hold, at = await _found(ident, ports), ports.now()
    if hold.state is HoldState.PROPOSED:
        first = Person(id=hold.placed_by, role=hold.placed_role, tenant=hold.scope.tenant)
        await _approved(_request(first, Action.PLACE_HOLD, hold), who, ports)
        await holds.place(ports.engine, ident, by=who.id, at=at)
    elif hold.state is HoldState.PLACED and hold.release_by and hold.release_role:
        first = Person(id=hold.release_by, role=hold.release_role, tenant=hold.scope.tenant)
        await _approved(_request(first, Action.RELEASE_HOLD, hold), who, ports)
        await holds.release(ports.engine, ident, by=who.id, at=at)
    else:
        raise HoldError(f"{ident}: nothing is proposed (vocustody hold list)")
    return await _found(ident, ports)


async def release(who: Person, ident: str, *, ports: Ports) -> Hold:
    """
    Propose the end of the placed hold *ident*; it ends when another person approves that.

    Raises `DecisionError` or `HoldError`.
    """
    hold = await _found(ident, ports)
    await _may_ask(_request(who, Action.RELEASE_HOLD, hold), ports)
    await holds.ask_release(ports.engine, ident, by=who.id, role=who.role, at=ports.now())
    return await _found(ident, ports)


async def opened(who: Person, ident: str, artifact: str, *, ports: Ports) -> bytes:
    """
    Return what the placed hold *ident* keeps as *artifact*, for its case; on record first.

    Raises `DecisionError`, or as `vault.holds.read`.
    """
    hold = await _found(ident, ports)
    verdict = await _judged(_request(who, Action.OPEN_HELD, hold), (), ports)
    if not isinstance(verdict, Permitted):
        raise await _refusal(_request(who, Action.OPEN_HELD, hold), verdict, ports)
    kept = {each.label.artifact: each.label for each in await holds.kept_by(ports.engine, ident)}
    if artifact not in kept:
        raise HoldError(f"{artifact}: not kept by {ident}")
    touch, decision = f"t_{secrets.token_hex(16)}", verdict.provenance.id
    await ports.trail.append(_touch("began", touch, who, hold, kept[artifact], decision, ports))
    outcome = "raised"
    try:
        content = await holds.read(ports.custody, ident, artifact)
        outcome = "done"
    finally:
        ended = _touch("ended", touch, who, hold, kept[artifact], decision, ports, outcome)
        await ports.trail.append(ended)
    return content


async def listed(engine: AsyncEngine, tenant: str | None = None) -> list[dict[str, Any]]:
    """Return every hold, or those of *tenant*, the newest first, as plain rows."""
    which = [] if tenant is None else [table.c.tenant == tenant]
    return [told(hold) for hold in await orders.listed(engine, *which)]


def told(hold: Hold) -> dict[str, Any]:
    """Return *hold* as a plain row."""
    lapses = hold.proposed_at + orders.LAPSES_AFTER
    return {
        "hold": hold.id,
        "case": hold.case,
        "ground": hold.ground,
        "state": hold.ended or hold.state.value,
        "tenant": hold.scope.tenant,
        "subjects": list(hold.scope.subjects),
        "artifacts": list(hold.scope.artifacts),
        "since": _time(hold.scope.since),
        "before": _time(hold.scope.before),
        "kept": hold.kept,
        "too_late": hold.too_late,
        "by": hold.placed_by,
        "proposed": _time(hold.proposed_at),
        "lapses": _time(lapses) if hold.state is HoldState.PROPOSED else "",
        "approved_by": hold.approved_by or "",
        "placed": _time(hold.placed_at),
        "until": _time(hold.expires_at),
        "release_by": hold.release_by or "",
        "released_by": hold.released_by or "",
        "ended": _time(hold.ended_at),
    }


async def _whole(subject: str | None, tenant: str, ports: Ports) -> tuple[str, ...]:
    """Return every subject that is the same person as *subject*."""
    if subject is None:
        return ()
    newest = await subjects.became(ports.engine, subject)
    if await subjects.known(ports.engine, newest) != tenant:
        raise HoldError(f"no such subject of {tenant} (they begin with s_; see the trail)")
    return tuple(sorted(await subjects.formerly(ports.engine, newest)))


async def _found(ident: str, ports: Ports) -> Hold:
    hold = await orders.find(ports.engine, ident)
    if hold is None:
        raise HoldError("no such hold (they begin with h_; vocustody hold list)")
    return hold


def _request(who: Person, action: Action, hold: Hold) -> Request:
    try:
        role = Role(who.role)
    except ValueError:
        raise DeniedError(("role.forbidden",)) from None
    return Request(
        actor=who.id,
        role=role,
        tenant=who.tenant,
        action=action,
        object=hold.id,
        owner=hold.scope.tenant,
        purpose=Reading.RIGHTS,
    )


async def _may_ask(request: Request, ports: Ports) -> None:
    """Return if nothing but another person's approval is missing; else say no, on record."""
    verdict = await _judged(request, (), ports)
    if isinstance(verdict, Permitted):
        return  # the tables ask for a second person all the same
    if not isinstance(verdict, Denied) or verdict.reasons != _ONE_MISSING:
        raise await _refusal(request, verdict, ports)


async def _approved(request: Request, who: Person, ports: Ports) -> None:
    """Put on record that *who* approves *request*, if the rules count that; else say no."""
    by = _approval(request, who, ports)
    verdict = await _judged(request, (by,), ports)
    if not isinstance(verdict, Permitted) or who.id not in verdict.approvers:
        raise await _refusal(request, verdict, ports)
    detail = {"approver": who.id, "request_digest": by.request_digest}
    kind, decision = EventType.ACCESS_APPROVED, verdict.provenance.id
    await ports.trail.append(_access(kind, request, decision, "permitted", detail, ports))


def _approval(request: Request, who: Person, ports: Ports) -> Approval:
    try:
        role = Role(who.role)
    except ValueError:
        raise DeniedError(("role.forbidden",)) from None
    return Approval(
        approver=who.id,
        role=role,
        tenant=who.tenant,
        at=int(ports.now().timestamp()),
        request_digest=access.digest(request),
    )


async def _judged(request: Request, approvals: Sequence[Approval], ports: Ports) -> access.Verdict:
    verdict = await ports.ask_access(request, approvals)
    reasons = () if isinstance(verdict, Permitted) else verdict.reasons
    ports.metrics.decided("access", type(verdict).__name__.lower(), reasons)
    return verdict


async def _refusal(request: Request, verdict: access.Verdict, ports: Ports) -> Exception:
    """Put on record that the rules said no, and return the error that says so."""
    if not isinstance(verdict, Denied):
        reasons = () if isinstance(verdict, Permitted) else verdict.reasons
        return UndecidedError(reasons)
    detail = {"reasons": sorted(verdict.reasons)}
    kind, decision = EventType.ACCESS_DENIED, verdict.provenance.id
    await ports.trail.append(_access(kind, request, decision, "denied", detail, ports))
    return DeniedError(verdict.reasons)


def _access(
    kind: EventType,
    request: Request,
    decision: str,
    outcome: str,
    detail: dict[str, Any],
    ports: Ports,
) -> Event:
    said = {"basis": "observed", "object": request.object, "role": str(request.role), **detail}
    return Event(
        id=f"x_{secrets.token_hex(16)}",
        type=kind,
        at=ports.now(),
        tenant=request.tenant,
        region=ports.region,
        actor=request.actor,
        action=str(request.action),
        decision=decision,
        outcome=outcome,
        detail=said,
    )


def _touch(
    step: str,
    touch: str,
    who: Person,
    hold: Hold,
    label: Label,
    decision: str,
    ports: Ports,
    outcome: str | None = None,
) -> Event:
    return Event(
        id=f"{touch}.{step}",
        type=EventType(f"touch.{step}"),
        at=ports.now(),
        tenant=label.tenant,
        artifact=label.artifact,
        subject=label.subject,
        touch=touch,
        actor=who.id,
        action=OPEN,
        processor=READER,
        region=ports.region,
        decision=decision,
        outcome=outcome,
        detail={
            "basis": "observed",
            "case": hold.case,
            "ground": hold.ground,
            "hold": hold.id,
            "role": who.role,
        },
    )


def _time(at: datetime | None) -> str:
    return at.isoformat() if at is not None else ""
