"""One request to the admin API: who asks, for what, and what the rules say to it."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from audit.model import Event, EventType
from gateway.console.people import People, Person
from gateway.console.wire import Fields
from gateway.errors import ProblemError
from gateway.ports import Ports
from policy.access import PLATFORM, Action, Permitted, Reading, Request
from policy.model import Denied

FOREIGN = "tenant.foreign"
UNKNOWN = "object.unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What answers: the cell's *ports*, the *people* it knows, and how an answer is put off."""

    ports: Ports
    people: People
    rest: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Somebody's request: *ident* is what the path names, *given* what query or body say."""

    person: Person
    console: Console
    ident: str
    given: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the route table: what may be sent there, and what answers."""

    method: str
    path: str
    act: Callable[[Call], Awaitable[Response]]
    body: Fields = field(default_factory=dict)
    query: Fields = field(default_factory=dict)


async def may(call: Call, action: Action, target: str, owner: str | None) -> bool:
    """
    Return whether the rules let *action* on *target* of *owner* (None: nobody knows it) happen.

    False means that it is to look as if there were no such thing, which is so for another
    tenant's too: both are put to the rules, put on record, and take the same steps.

    Raises:
        ProblemError: the person may not do such a thing at all (403), or nobody said yes (503).

    """
    person = call.person
    verdict = await ask(call, request(person, action, target, owner or person.tenant))
    if isinstance(verdict, Permitted) and owner is not None:
        return True
    reasons = verdict.reasons if isinstance(verdict, Denied) else ()
    reasons += (UNKNOWN,) if owner is None else ()
    await denied(call, action, target, reasons, verdict.provenance.id)
    # Whoever may not do this to their own tenant's hears the same of every other one's.
    if shown := tuple(code for code in reasons if code not in {FOREIGN, UNKNOWN}):
        raise ProblemError(403, "access.denied", reasons=shown)
    return False


def request(
    person: Person, action: Action, target: str, owner: str, purpose: Reading = Reading.RIGHTS
) -> Request:
    """Return what is put to the rules for *person*."""
    return Request(
        actor=person.name,
        role=person.role,
        tenant=person.tenant,
        action=action,
        object=target,
        owner=owner,
        purpose=purpose,
    )


async def ask(call: Call, wanted: Request) -> Permitted | Denied:
    """Return what the rules say to *wanted*; raise `ProblemError` (503) if they do not answer."""
    verdict = await call.console.ports.ask_access(wanted)
    said = type(verdict).__name__.lower()
    reasons = () if isinstance(verdict, Permitted) else verdict.reasons
    call.console.ports.metrics.decided("access", said, reasons)
    if not isinstance(verdict, Permitted | Denied):
        raise ProblemError(503, "access.undecided")
    return verdict


async def denied(
    call: Call, action: Action, target: str, reasons: tuple[str, ...], decision: str | None
) -> None:
    """Put a denial on record before anybody hears of it."""
    # Among their own tenant's leaves, this one would tell whose the other thing is.
    hidden = not {FOREIGN, UNKNOWN}.isdisjoint(reasons)
    told = {"reasons": sorted(reasons), "tenant": call.person.tenant}
    await on_record(
        call,
        EventType.ACCESS_DENIED,
        action,
        target,
        tenant=PLATFORM if hidden else call.person.tenant,
        decision=decision,
        outcome="denied",
        told=told,
    )


async def on_record(
    call: Call,
    kind: EventType,
    action: Action,
    target: str,
    *,
    tenant: str,
    decision: str | None,
    outcome: str,
    told: Mapping[str, Any],
    ident: str = "",
) -> None:
    """Put on record what the person asked for or did; once for an *ident*, however often."""
    detail = {"basis": "observed", "object": target, "role": str(call.person.role), **told}
    await call.console.ports.trail.append(
        Event(
            id=ident or f"x_{secrets.token_hex(16)}",
            type=kind,
            at=call.console.ports.now(),
            tenant=tenant,
            region=call.console.ports.region,
            actor=call.person.name,
            action=str(action),
            decision=decision,
            outcome=outcome,
            detail=detail,
        )
    )
