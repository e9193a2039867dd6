"""
Ask before acting: every stage of every note is a decision, and every decision is in the trail.

- Facts that change quickly (consent, the time) are read when the question is asked, so that a
  withdrawal acts on the next decision.
- What is not `Allowed` raises; nothing here turns an absent answer into a yes.
"""

from audit.model import Event, EventType
from gateway.errors import ConsentNeededError, DeniedError, UndecidedError
from gateway.note import Note
from gateway.ports import Ports
from policy.model import Allowed, Decision, Denied, Question, Stage

# Reasons that a person can lift by answering a notice.
ASKABLE = frozenset(
    {
        "consent.expired",
        "consent.missing",
        "consent.refused",
        "consent.withdrawn",
        "notice.unknown",
    }
)


async def permitted(note: Note, stage: Stage, ports: Ports) -> Allowed:
    """
    Return the decision that allows *stage* for *note*.

    Raises `ConsentNeededError`, `DeniedError` or `UndecidedError`; in each case nothing may be
    fetched or sent. Raises `LeaseLostError` if another worker has the job by now.
    """
    await ports.jobs.renew(note.job)
    with ports.metrics.timed("policy", tenant=note.tenant.id, region=note.region):
        decision = await ports.decide(await _question(note, stage, ports))
    await ports.trail.append(_event(note, stage, decision, ports))
    ports.metrics.decided(stage.value, type(decision).__name__.lower(), decision.reasons)
    if isinstance(decision, Allowed):
        return decision
    if not isinstance(decision, Denied):
        raise UndecidedError(decision.reasons)
    if decision.reasons and ASKABLE.issuperset(decision.reasons):
        raise ConsentNeededError(decision.reasons)
    raise DeniedError(decision.reasons)


async def _question(note: Note, stage: Stage, ports: Ports) -> Question:
    return Question(
        now=int(ports.now().timestamp()),
        stage=stage,
        purpose=note.purpose,
        tenant=note.tenant.id,
        jurisdiction=note.jurisdiction.code,
        region=note.region,
        languages=note.tenant.languages,
        held=False,  # nothing sets a hold or tells a minor yet: docs/limits.md
        minor=False,
        consent=await ports.consents.newest(note.tenant.id, note.subject, note.purpose),
    )


def _event(note: Note, stage: Stage, decision: Decision, ports: Ports) -> Event:
    proof = decision.provenance
    return Event(
        id=proof.id,
        type=EventType.POLICY_DECIDED,
        at=ports.now(),
        tenant=note.tenant.id,
        artifact=note.job.artifact,
        subject=note.subject,
        job=note.job.id,
        action=stage.value,
        decision=proof.id,
        outcome=type(decision).__name__.lower(),
        detail={
            "data_sha256": proof.data_sha256,
            "engine": proof.engine,
            "input_sha256": proof.input_sha256,
            "jurisdiction": note.jurisdiction.code,
            "jurisdiction_evidence": note.jurisdiction.evidence,
            "reasons": list(decision.reasons),
            "revision": proof.revision,
        },
    )
