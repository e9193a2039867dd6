"""
Who may do what: one request in, one verdict out, held to the same rules as `decide`.

- What two people approve is the digest of the request (`digest`), computed here: an approval of
  one export is none of another. Rules count the people; they do not compute digests.
- A malformed request is not asked; whatever the engine says that is not exactly a yes is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from policy import answers, canonical
from policy.answers import CODE, WORD
from policy.decide import DEADLINE_S, provenance
from policy.errors import EngineError, QuestionError
from policy.model import Consent, Denied, Facts, Provenance, Undecided
from policy.ports import PolicyEngine
from policy.question import check, consent_as_input, schema

ENTRYPOINT = "vocustody/access/decision"
SCHEMA = schema("access")
PLATFORM = "platform"
"""The tenant of what belongs to none, such as a bundle."""

_KEYS = frozenset({"allow", "approvers", "reasons", "revision"})


class Role(StrEnum):
    """Who somebody is to a tenant; kept sorted."""

    AGENT = "agent"
    APPROVER = "approver"
    AUDITOR = "auditor"
    DPO = "dpo"
    EXPORTER = "exporter"
    OPERATOR = "operator"
    TENANT_ADMIN = "tenant_admin"
    WORKER = "worker"


class Action(StrEnum):
    """What somebody wants to do; kept sorted."""

    ACTIVATE_BUNDLE = "activate_bundle"
    APPROVE = "approve"
    ERASE = "erase"
    EXPORT = "export"
    OPEN_HELD = "open_held"
    PLACE_HOLD = "place_hold"
    PLAY_AUDIO = "play_audio"
    READ_AUDIT = "read_audit"
    READ_TRANSCRIPT = "read_transcript"
    RELEASE_HOLD = "release_hold"


class Reading(StrEnum):
    """What content is read for; those that are purposes of a consent need it. Kept sorted."""

    ANALYTICS = "analytics"
    HUMAN_REVIEW = "human_review"
    RIGHTS = "rights"  # a person's own request, such as access (GDPR Art. 15)
    SERVICE = "service"  # answering the person, such as after a handover
    TRAINING = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One person's yes to the request with that `digest`. *at* in epoch seconds."""

    approver: str
    role: Role
    tenant: str
    at: int
    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    Somebody (*actor*, in *role*, of *tenant*) wants to do *action* to *object* of tenant *owner*.

    *consent* is the newest row for *purpose*, *minor* tells whether the person is known to be
    one. Ids are opaque: names and numbers have no place here.
    """

    actor: str
    role: Role
    tenant: str
    action: Action
    object: str
    owner: str
    purpose: Reading
    consent: Consent | None = None
    minor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """Go ahead; *approvers* are the people whose approval counted."""

    approvers: tuple[str, ...]
    provenance: Provenance


Verdict = Permitted | Denied | Undecided


def digest(request: Request) -> str:
    """Return what an approval names: the SHA-256 of who wants to do what to which object."""
    names = ("action", "actor", "object", "owner", "purpose", "role", "tenant")
    return canonical.digest({name: str(getattr(request, name)) for name in names})


async def verdict(
    request: Request,
    engine: PolicyEngine,
    *,
    facts: Facts,
    now: int,
    approvals: Sequence[Approval] = (),
    deadline_s: float = DEADLINE_S,
) -> Verdict:
    """Return what *engine* says to *request* at *now* (epoch seconds), held against *facts*."""
    asked = as_input(request, approvals, now)
    try:
        check(asked, SCHEMA)
    except QuestionError as exc:
        return Undecided(reasons=(exc.code,), provenance=provenance(engine, facts, ""))
    proof = provenance(engine, facts, canonical.digest(asked))
    try:
        answer = await answers.in_time(engine, ENTRYPOINT, asked, deadline_s)
        proof = replace(proof, answer_sha256=answers.digest(answer))
        return _read(answer, facts, approvals, proof)
    except EngineError as exc:
        return Undecided(reasons=(exc.code,), provenance=proof)


def as_input(request: Request, approvals: Sequence[Approval], now: int) -> dict[str, Any]:
    """Return the ``input`` document of `ENTRYPOINT`."""
    return {
        "action": str(request.action),
        "actor": request.actor,
        "approvals": [
            {
                "approver": approval.approver,
                "at": approval.at,
                "request_digest": approval.request_digest,
                "role": str(approval.role),
                "tenant": approval.tenant,
            }
            for approval in approvals
        ],
        "consent": consent_as_input(request.consent),
        "minor": request.minor,
        "now": now,
        "object": request.object,
        "owner": request.owner,
        "purpose": str(request.purpose),
        "request_digest": digest(request),
        "role": str(request.role),
        "tenant": request.tenant,
    }


def _read(
    answer: Any, facts: Facts, approvals: Sequence[Approval], proof: Provenance
) -> Permitted | Denied:
    answer = answers.document(answer, _KEYS, facts.revision)
    reasons = answers.words(answer["reasons"], CODE, "answer.reasons")
    approvers = answers.words(answer["approvers"], WORD, "answer.approvers")
    if type(answer["allow"]) is not bool:
        raise EngineError("answer.allow")
    if answer["allow"] == bool(reasons):
        raise EngineError("answer.contradiction")
    if not {approval.approver for approval in approvals}.issuperset(approvers):
        raise EngineError("answer.approvers")
    if answer["allow"]:
        return Permitted(approvers=approvers, provenance=proof)
    return Denied(reasons=reasons, provenance=proof)
