"""
Ask before acting: every stage of every note is a decision, and every decision is in the trail.

- Facts that change quickly (consent, the time) are read when the question is asked, so that a
  withdrawal acts on the next decision.
- While it is unclear whether somebody withdraws, nothing they said is opened (`gateway.pauses`).
- Under a legal hold on anything made of the note nothing but a notice is allowed.
- What is not `Allowed` raises; nothing here turns an absent answer into a yes.
- Where a suspended processor may be the reason of a no, the same rules are asked what they would
  say without it. That answer allows nothing; it tells a no that passes from one that stays.
"""

from dataclasses import replace

from audit.model import Event, EventType
from gateway import pauses, unlisted
from gateway.decisions import Made
from gateway.errors import (
    ConsentNeededError,
    DecisionError,
    DeclinedError,
    DeniedError,
    MisplacedError,
    SuspendedError,
    UndecidedError,
)
from gateway.note import Note
from gateway.ports import Ports
from policy.model import (
    HANDED,
    TRANSFER_ABROAD,
    Allowed,
    Asked,
    Consent,
    Decision,
    Denied,
    Question,
    Stage,
    Undecided,
)
from vault.model import Kind

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

# Reasons for which a person is not served at all, and is told so.
DECLINED = frozenset({"law.localises", "person.declined"})
# Reasons that no person has to do with: the cell stands, or its tenant is written down, wrongly.
OURS = frozenset({"controller.law_missing", "region.foreign", "tenant.unknown"})


async def permitted(note: Note, stage: Stage, ports: Ports) -> Allowed:
    """
    Return the decision that allows *stage* for *note*.

    Raises `ConsentNeededError`, `DeclinedError`, `DeniedError`, `MisplacedError`, `UndecidedError`
    or its `SuspendedError`; in each case nothing may be fetched or sent. Raises `LeaseLostError`
    if another worker has the job.
    """
    await ports.jobs.renew(note.job)
    check_window(note, ports)
    if note.spoken and stage is not Stage.NOTICE and await pauses.standing(note, ports):
        raise ConsentNeededError((pauses.REASON,))
    asked: list[Asked] = []
    with ports.metrics.timed("policy", tenant=note.tenant.id, region=note.region):
        question = await _question(note, stage, ports)
        decision = await ports.decide(question, asked.append)
    await ports.trail.append(_event(note, stage, decision, ports))
    for each in asked:
        # Nothing can be sealed for an erased person, nor should it be.
        if each.provenance.id == decision.provenance.id and not note.erased:
            ports.decisions.keep(_made(note, stage, decision, each, ports))
    ports.metrics.decided(stage.value, type(decision).__name__.lower(), decision.reasons)
    if isinstance(decision, Allowed):
        unlisted.find(note, stage, decision, ports)
        return decision
    if isinstance(decision, Denied) and question.suspended:
        decision = await ports.decide(replace(question, suspended=()))
    raise _error(decision)


def _error(decision: Decision) -> DecisionError:
    """Return what *decision* means; one that would allow, but for a suspension, is no leave."""
    if isinstance(decision, Allowed):
        return SuspendedError(("processor.suspended",))
    if not isinstance(decision, Denied):
        return UndecidedError(decision.reasons)
    if not OURS.isdisjoint(decision.reasons):
        return MisplacedError(decision.reasons)
    if not DECLINED.isdisjoint(decision.reasons):
        first = sorted(decision.reasons, key=lambda code: code not in DECLINED)
        return DeclinedError(tuple(first))
    if decision.reasons and ASKABLE.issuperset(decision.reasons):
        return ConsentNeededError(decision.reasons)
    return DeniedError(decision.reasons)


def check_window(note: Note, ports: Ports) -> None:
    """
    Raise `DeniedError` where WhatsApp takes no free answer to *note* any more.

    It stands before what is done for an answer, and nowhere else: what a person takes back needs
    no answer (`gateway.confirming`).
    """
    if ports.now() >= note.job.deadline_at:
        raise DeniedError(("window.closed",))


async def _question(note: Note, stage: Stage, ports: Ports) -> Question:
    return Question(
        now=int(ports.now().timestamp()),
        stage=stage,
        purpose=note.purpose,
        tenant=note.tenant.id,
        controller=note.tenant.jurisdiction,
        jurisdiction=note.jurisdiction.code,
        region=note.region,
        languages=note.tenant.languages,
        held=await ports.custody.closed([note.label(kind).artifact for kind in Kind]),
        minor=note.minor,
        data_class=HANDED[stage],
        bundle_age=0,
        suspended=ports.findings.suspended(),
        consent=await ports.consents.newest(note.tenant.id, note.subject, note.purpose),
        transfer_consent=await _transfer_consent(note, ports),
    )


async def _transfer_consent(note: Note, ports: Ports) -> Consent | None:
    """Return the consent to a transfer, read only where one could matter."""
    if not ports.asks_transfer_consent:
        return None
    return await ports.consents.newest(note.tenant.id, note.subject, TRANSFER_ABROAD)


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
            "answer_sha256": proof.answer_sha256,
            "controller_jurisdiction": note.tenant.jurisdiction,
            "data_sha256": proof.data_sha256,
            "engine": proof.engine,
            "input_sha256": proof.input_sha256,
            "jurisdiction": note.jurisdiction.code,
            "jurisdiction_evidence": note.jurisdiction.evidence,
            "reasons": list(decision.reasons),
            "revision": proof.revision,
        },
    )


def _made(note: Note, stage: Stage, decision: Decision, asked: Asked, ports: Ports) -> Made:
    proof = asked.provenance
    decided = not isinstance(decision, Undecided)
    return Made(
        id=proof.id,
        at=ports.now(),
        tenant=note.tenant.id,
        subject=note.subject,
        stage=stage.value,
        jurisdiction=note.jurisdiction.code,
        outcome=type(decision).__name__.lower(),
        revision=proof.revision,
        data_sha256=proof.data_sha256,
        engine=proof.engine,
        input_sha256=proof.input_sha256,
        answer_sha256=proof.answer_sha256,
        reasons=decision.reasons,
        asked=asked.question,
        # What was no answer may be anything, of any size; nobody replays it.
        answer=asked.answer if decided else None,
    )
