"""
The one door to the rules: a question in, a decision out, and nothing in between is a yes.

- The question is checked before it is asked; the answer must come in time and have exactly
  the right shape, the active revision, and only processors that the registry has for this
  stage, each with its options.
- An allow that gives reasons, or a deny that gives none, contradicts itself.
- Whatever is not so is `Undecided`, with a code that says what was wrong. Only a well-formed
  no is `Denied`: it is final.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any

from policy import canonical
from policy.errors import EngineError, QuestionError
from policy.model import (
    KINDS,
    SINKS,
    Allowed,
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

_KEYS = frozenset({"allow", "obligations", "processors", "reasons", "revision"})
_OBLIGATIONS = frozenset({*KINDS, "options", "redact"})
_CODE = re.compile(r"[a-z_]{1,32}\.[a-z_]{1,32}")
_WORD = re.compile(r"[A-Za-z0-9._:-]{1,128}")


async def decide(
    question: Question, engine: PolicyEngine, *, facts: Facts, deadline_s: float = DEADLINE_S
) -> Decision:
    """
    Return what *engine* decides on *question*, held against *facts* of the active bundle.

    Takes at most *deadline_s* unless the engine blocks the loop; a late answer is not used.
    """
    asked = as_input(question)
    try:
        check(asked)
    except QuestionError as exc:
        return Undecided(reasons=(exc.code,), provenance=_provenance(engine, facts, ""))
    provenance = _provenance(engine, facts, canonical.digest(asked))
    try:
        answer = await _in_time(engine, asked, deadline_s)
        return _read(answer, facts, asked["stage"], provenance)
    except EngineError as exc:
        return Undecided(reasons=(exc.code,), provenance=provenance)


def _provenance(engine: PolicyEngine, facts: Facts, input_sha256: str) -> Provenance:
    return Provenance(
        id=f"d_{secrets.token_hex(16)}",
        engine=engine.name,
        revision=facts.revision,
        data_sha256=facts.data_sha256,
        input_sha256=input_sha256,
    )


async def _in_time(engine: PolicyEngine, asked: Mapping[str, Any], deadline_s: float) -> Any:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(deadline_s):
            answer = await engine.evaluate(ENTRYPOINT, asked)
    except TimeoutError:
        raise EngineError("engine.late") from None
    # An engine that never yields to the loop outruns the timeout above.
    if loop.time() - began > deadline_s:
        raise EngineError("engine.late")
    return answer


def _read(answer: Any, facts: Facts, stage: str, provenance: Provenance) -> Decision:
    if answer is None:
        raise EngineError("answer.null")
    if type(answer) is not dict:
        raise EngineError("answer.type")
    _shape(answer, _KEYS, "answer.shape")
    if answer["revision"] != facts.revision:
        raise EngineError("answer.revision")
    reasons = _words(answer["reasons"], _CODE, "answer.reasons")
    processors = _words(answer["processors"], _WORD, "answer.processors")
    if type(answer["allow"]) is not bool:
        raise EngineError("answer.allow")
    if not answer["allow"]:
        if not reasons or processors:
            raise EngineError("answer.contradiction")
        return Denied(reasons=reasons, provenance=provenance)
    if reasons or not processors:
        raise EngineError("answer.contradiction")
    if not facts.processors.get(stage, frozenset()).issuperset(processors):
        raise EngineError("answer.unknown_processor")
    return Allowed(
        processors=processors,
        reasons=reasons,
        obligations=_obligations(answer["obligations"], processors),
        provenance=provenance,
    )


def _obligations(found: Any, processors: tuple[str, ...]) -> Obligations:
    code = "answer.obligations"
    _shape(found, _OBLIGATIONS, code)
    _shape(found["redact"], frozenset(SINKS), code)
    _shape(found["options"], frozenset(processors), code)
    for kind in KINDS:
        if type(found[kind]) is not int or found[kind] <= 0:
            raise EngineError(code)
    return Obligations(
        **{kind: found[kind] for kind in KINDS},
        redact={sink: frozenset(_words(found["redact"][sink], _WORD, code)) for sink in SINKS},
        options={name: _texts(found["options"][name], code) for name in processors},
    )


def _shape(value: Any, keys: frozenset[str], code: str) -> None:
    if type(value) is not dict or set(value) != keys:
        raise EngineError(code)


def _words(value: Any, pattern: re.Pattern[str], code: str) -> tuple[str, ...]:
    if type(value) is not list or len(set(map(str, value))) != len(value):
        raise EngineError(code)
    if not all(isinstance(word, str) and pattern.fullmatch(word) for word in value):
        raise EngineError(code)
    return tuple(value)


def _texts(value: Any, code: str) -> dict[str, str]:
    if type(value) is not dict or not all(isinstance(text, str) for text in value.values()):
        raise EngineError(code)
    return dict(value)
