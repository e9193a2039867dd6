"""
Requests over HTTP that others must approve: asked for by one person, approved by two.

What is approved is what `GET` shows, by its digest: who approves another text approves nothing.
What then happens is not asked for here: whoever carries it out uses the request up
(`gateway.approvals.use`), and names the object's real owner.
"""

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from audit.model import EventType
from gateway import approvals
from gateway.approvals import Asked
from gateway.console.call import Call, Endpoint, ask, denied, may, on_record, request
from gateway.console.wire import Field, one_of, shaped, told
from gateway.errors import ApprovalError, ProblemError
from policy.access import Action, Permitted, Reading
from policy.model import Denied

PATH = "/admin/v1/requests"
MISSING = ("approval.missing",)
SELF = ("approval.self",)
ACTIONS = tuple(action.value for action in Action if action is not Action.APPROVE)
OBJECT = r"[a-z]{1,2}_[0-9a-f]{32}|[0-9a-f]{64}"
"""An id of ours or a digest; a number is neither."""

_IDENT = shaped(r"q_[0-9a-f]{32}")


async def begin(call: Call) -> Response:
    """Ask for something that others must approve."""
    given, person, ports = call.given, call.person, call.console.ports
    action, purpose = Action(given["action"]), Reading(given["purpose"])
    wanted = request(person, action, given["object"], person.tenant, purpose)
    verdict = await ask(call, wanted)
    if isinstance(verdict, Permitted):
        raise ProblemError(422, "approval.needless", field="action")
    if verdict.reasons != MISSING:
        await _refuse(call, action, given["object"], verdict)
    asked = await approvals.ask(ports.engine, wanted, ports.now())
    await on_record(
        call,
        EventType.ACCESS_ASKED,
        action,
        given["object"],
        tenant=person.tenant,
        decision=verdict.provenance.id,
        outcome="pending",
        told={"digest": asked.digest, "request": asked.id},
        ident=f"{asked.id}.asked",
    )
    status = f"{PATH}/{asked.id}"
    return told(await _shown(call, asked) | {"status": status}, 201, Location=status)


async def one(call: Call) -> Response:
    """Return a request to who asked, and to who may approve it."""
    asked = await _found(call)
    if asked is None or not _own(call, asked):
        owner = asked.request.owner if asked is not None else None
        if not await may(call, Action.APPROVE, _ident(call), owner):
            raise ProblemError(404, "request.unknown")
    if asked is None:  # `may` says no to what nobody knows
        raise ProblemError(404, "request.unknown")
    return told(await _shown(call, asked))


async def approve(call: Call) -> Response:
    """Approve a request of somebody else."""
    person, ports = call.person, call.console.ports
    asked, ident = await _found(call), _ident(call)
    owner = asked.request.owner if asked is not None else None
    if not await may(call, Action.APPROVE, ident, owner) or asked is None:
        raise ProblemError(404, "request.unknown")
    if asked.request.actor == person.name:
        await denied(call, Action.APPROVE, ident, SELF, None)
        raise ProblemError(403, "access.denied", reasons=SELF)
    try:
        approvals.check(asked, call.given["digest"], ports.now())
        await on_record(
            call,
            EventType.ACCESS_APPROVED,
            asked.request.action,
            asked.request.object,
            tenant=asked.request.owner,
            decision=None,
            outcome="approved",
            told={"digest": asked.digest, "request": ident},
            ident=f"{ident}.approved.{person.name}",
        )
        await approvals.approve(
            ports.engine, asked, person.name, person.role, person.tenant, ports.now()
        )
    except ApprovalError as exc:
        raise ProblemError(409, exc.code) from None
    return told(await _shown(call, asked), 201)


async def _refuse(call: Call, action: Action, target: str, verdict: Denied) -> None:
    shown = tuple(code for code in verdict.reasons if (code,) != MISSING)
    await denied(call, action, target, verdict.reasons, verdict.provenance.id)
    raise ProblemError(403, "access.denied", reasons=shown)


async def _found(call: Call) -> Asked | None:
    return await approvals.find(call.console.ports.engine, _ident(call))


def _ident(call: Call) -> str:
    return call.ident if _IDENT(call.ident) else "malformed"


def _own(call: Call, asked: Asked) -> bool:
    person, wanted = call.person, asked.request
    theirs = (wanted.actor, wanted.role, wanted.tenant)
    return theirs == (person.name, person.role, person.tenant)


async def _shown(call: Call, asked: Asked) -> dict[str, Any]:
    wanted = asked.request
    given = await approvals.given(call.console.ports.engine, asked)
    return {
        "request": asked.id,
        "digest": asked.digest,
        "by": wanted.actor,
        "action": str(wanted.action),
        "object": wanted.object,
        "purpose": str(wanted.purpose),
        "asked": _time(asked.asked_at),
        "expires": _time(asked.expires_at),
        "approvals": [each.approver for each in given],
        "state": await _state(call, asked),
    }


async def _state(call: Call, asked: Asked) -> str:
    if asked.used_at is not None:
        return "used"
    if asked.over(call.console.ports.now()):
        return "expired"
    given = await approvals.given(call.console.ports.engine, asked)
    verdict = await call.console.ports.ask_access(asked.request, given)
    return "approved" if isinstance(verdict, Permitted) else "pending"


def _time(stamp: int) -> str:
    return datetime.fromtimestamp(stamp / 1e6, UTC).isoformat()


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=PATH,
        act=begin,
        body={
            "action": Field(fits=one_of(*ACTIONS)),
            "object": Field(fits=shaped(OBJECT)),
            "purpose": Field(fits=one_of(*Reading), default=Reading.RIGHTS.value),
        },
    ),
    Endpoint(method="GET", path=f"{PATH}/{{ident}}", act=one),
    Endpoint(
        method="POST",
        path=f"{PATH}/{{ident}}/approvals",
        act=approve,
        body={"digest": Field(fits=shaped(r"[0-9a-f]{64}"))},
    ),
)
