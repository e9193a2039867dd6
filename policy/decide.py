"""
The one door to the rules: a question in, a decision out, and nothing in between is a yes.

- The question is checked before it is asked; the answer must come in time and have exactly
  the right shape, the active revision, and only processors that the registry has for this
  stage, each with its options, the registry's own hosts and a ground for the transfer.
- Those at home come before those abroad, nobody suspended is among them, and where the bundle
  is too old nobody abroad is: the rules say so too, but these three are not left to them alone.
- An allow that gives reasons, or a deny that gives none, contradicts itself.
- Whatever is not so is `Undecided`, with a code that says what was wrong. Only a well-formed
  no is `Denied`: it is final.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from policy import answers, canonical
from policy.answers import CODE, WORD, shape, texts, words
from policy.errors import EngineError, QuestionError
from policy.model import (
    KINDS,
    SINKS,
    Allowed,
    Asked,
    Decision,
    Denied,
    Facts,
    Obligations,
    Provenance,
    Question,
    Undecided,
)
from policy.ports import PolicyEngine
from policy.question import as_input, check

ENTRYPOINT = "vocustody/route/decision"
DEADLINE_S = 0.25
STALE_S = 86_400
"""The age of a bundle past which nothing goes abroad: its list of transfers may be outdated."""

_KEYS = frozenset({"allow", "obligations", "processors", "reasons", "revision"})
_OBLIGATIONS = frozenset({*KINDS, "egress", "options", "redact", "transfers"})
_HOST = re.compile(r"[A-Za-z0-9.\[\]:-]{1,260}:[1-9][0-9]{0,4}")
TRANSFER = re.compile(r"domestic|adequacy:[A-Z]{2}|scc(?::[1-4])?|bcr|explicit-consent")


async def decide(
    question: Question,
    engine: PolicyEngine,
    *,
    facts: Facts,
    deadline_s: float = DEADLINE_S,
    kept: Callable[[Asked], None] | None = None,
) -> Decision:
    """
    Return what *engine* decides on *question*, held against *facts* of the active bundle.

    Takes at most *deadline_s* unless the engine blocks the loop; a late answer is not used.
    *kept* is called once for each question that was asked, answered or not, before this returns.
    A question taken back (cancelled) is not kept.
    """
    asked = as_input(question)
    try:
        check(asked)
    except QuestionError as exc:
        return Undecided(reasons=(exc.code,), provenance=provenance(engine, facts, ""))
    proof = provenance(engine, facts, canonical.digest(asked))
    answer: Any = None
    decision: Decision
    try:
        answer = await answers.in_time(engine, ENTRYPOINT, asked, deadline_s)
        proof = replace(proof, answer_sha256=answers.digest(answer))
        decision = read(answer, facts, asked, proof)
    except EngineError as exc:
        decision = Undecided(reasons=(exc.code,), provenance=proof)
    if kept is not None:
        kept(Asked(entrypoint=ENTRYPOINT, question=asked, answer=answer, provenance=proof))
    return decision


def provenance(engine: PolicyEngine, facts: Facts, input_sha256: str) -> Provenance:
    """Return the proof of a new decision; *input_sha256* is empty if nothing was asked."""
    return Provenance(
        id=f"d_{secrets.token_hex(16)}",
        engine=engine.name,
        revision=facts.revision,
        data_sha256=facts.data_sha256,
        input_sha256=input_sha256,
    )


def read(answer: Any, facts: Facts, asked: Mapping[str, Any], proof: Provenance) -> Decision:
    """Return the decision that *answer* to *asked* is; raise `EngineError` if it is none."""
    answer = answers.document(answer, _KEYS, facts.revision)
    reasons = words(answer["reasons"], CODE, "answer.reasons")
    processors = words(answer["processors"], WORD, "answer.processors")
    if type(answer["allow"]) is not bool:
        raise EngineError("answer.allow")
    if not answer["allow"]:
        if not reasons or processors:
            raise EngineError("answer.contradiction")
        return Denied(reasons=reasons, provenance=proof)
    if reasons or not processors:
        raise EngineError("answer.contradiction")
    if not facts.processors.get(asked["stage"], frozenset()).issuperset(processors):
        raise EngineError("answer.unknown_processor")
    if not set(processors).isdisjoint(asked["suspended"]):
        raise EngineError("answer.suspended")
    obligations = _obligations(answer["obligations"], processors)
    _hold_egress(obligations, facts)
    _hold_transfers(obligations, processors, asked["bundle_age"])
    return Allowed(
        processors=processors, reasons=reasons, obligations=obligations, provenance=proof
    )


def _hold_egress(obligations: Obligations, facts: Facts) -> None:
    for name, hosts in obligations.egress.items():
        if hosts != facts.hosts.get(name):
            raise EngineError("answer.egress")


def _hold_transfers(obligations: Obligations, processors: tuple[str, ...], bundle_age: int) -> None:
    abroad = [obligations.transfers[name] != "domestic" for name in processors]
    if abroad != sorted(abroad) or (bundle_age > STALE_S and any(abroad)):
        raise EngineError("answer.transfers")


def _obligations(found: Any, processors: tuple[str, ...]) -> Obligations:
    code = "answer.obligations"
    shape(found, _OBLIGATIONS, code)
    shape(found["redact"], frozenset(SINKS), code)
    for name in ("egress", "options", "transfers"):
        shape(found[name], frozenset(processors), code)
    for kind in KINDS:
        if type(found[kind]) is not int or found[kind] <= 0:
            raise EngineError(code)
    return Obligations(
        **{kind: found[kind] for kind in KINDS},
        redact={sink: frozenset(words(found["redact"][sink], WORD, code)) for sink in SINKS},
        options={name: texts(found["options"][name], code) for name in processors},
        egress={name: words(found["egress"][name], _HOST, code) for name in processors},
        transfers={
            name: words([found["transfers"][name]], TRANSFER, code)[0] for name in processors
        },
    )
