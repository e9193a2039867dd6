"""
Requests that every bundle must refuse, whatever else it says of who may do what.

Each case is one thing that is wrong with a request that is otherwise in order: a DPO who reads
a transcript for the person's own request, or an exporter with the approval of two others. Times
are seconds from now.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policy.access import Action, Approval, Reading, Request, Role, digest
from policy.bundle import Bundle
from policy.cases import DAY_S, consent_with
from policy.errors import BundleError
from policy.model import Consent, ConsentState

SHIPPED = Path(__file__).parent / "corpus" / "access.json"
OWNER = "corpus"  # no tenant of anybody's: whose content it is matters, not which tenant exists


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessCase:
    """What is wrong with a request: its own words, its approvals, the person's consent."""

    name: str
    request: Mapping[str, Any]
    approvals: Sequence[Mapping[str, Any]] = ()
    consent: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One request with the approvals that came with it."""

    request: Request
    approvals: tuple[Approval, ...] = ()


def load(path: Path = SHIPPED) -> tuple[AccessCase, ...]:
    """Return the cases in *path*; raise `BundleError` if there are none."""
    found = tuple(AccessCase(**case) for case in json.loads(path.read_text(encoding="utf-8")))
    if not found:
        raise BundleError("the access corpus is empty: nothing would be refused")
    return found


def in_order(bundle: Bundle, *, now: int) -> tuple[Asking, ...]:
    """Return requests without a fault: one to read, one to review, one to export."""
    export = {"role": "exporter", "action": "export"}
    given = (
        AccessCase(name="read", request={}),
        AccessCase(name="review", request={"purpose": "human_review"}, consent={}),
        AccessCase(name="export", request=export, approvals=[{}, {"approver": "p_3"}]),
    )
    return tuple(asking(bundle, case, now=now) for case in given)


def faulty(
    bundle: Bundle, cases: Sequence[AccessCase], *, now: int
) -> Iterator[tuple[str, Asking]]:
    """Yield each case and what is asked."""
    for case in cases:
        yield case.name, asking(bundle, case, now=now)


def asking(bundle: Bundle, case: AccessCase, *, now: int) -> Asking:
    """Return the request of *case*, with approvals of exactly this request where it has any."""
    purpose = case.request.get("purpose", str(Reading.RIGHTS))
    consent = None if case.consent is None else _consent(bundle, purpose, now)
    if consent is not None and case.consent is not None:
        consent = consent_with(consent, case.consent, now)
    request = replace(_REQUEST, consent=consent, **case.request)
    approvals = (_approval(request, change, now) for change in case.approvals)
    return Asking(request=request, approvals=tuple(approvals))


_REQUEST = Request(
    actor="p_1",
    role=Role.DPO,
    tenant=OWNER,
    action=Action.READ_TRANSCRIPT,
    object="a_corpus",
    owner=OWNER,
    purpose=Reading.RIGHTS,
)


def _approval(request: Request, changes: Mapping[str, Any], now: int) -> Approval:
    given = dict(changes)
    at = now + given.pop("at_in", -1)
    approval = Approval(
        approver="p_2",
        role=Role.APPROVER,
        tenant=request.owner,
        at=at,
        request_digest=digest(request),
    )
    return replace(approval, **given)


def _consent(bundle: Bundle, purpose: str, now: int) -> Consent:
    return Consent(
        id="c_corpus",
        tenant=OWNER,
        subject="s_corpus",
        purpose=purpose,
        state=ConsentState.GRANTED,
        at=now - DAY_S,
        expires_at=now + DAY_S,
        notice_version=next(iter(bundle.data["notices"]), "none"),
        notice_sha256="0" * 64,
        language="en",
        channel="whatsapp",
        evidence="0" * 64,
    )
