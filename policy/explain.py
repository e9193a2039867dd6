"""
Whose law holds, and why each processor is chosen or not: the slow rules, never on the hot path.

A row is either chosen (rank 1 is the first choice, with the ground of the transfer) or has every
reason against it, those against the question itself included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy import answers
from policy.answers import CODE, WORD
from policy.decide import TRANSFER
from policy.errors import EngineError
from policy.model import Facts, Question
from policy.ports import PolicyEngine
from policy.question import as_input, check

ENTRYPOINT = "vocustody/explain/decision"
DEADLINE_S = 5.0

_KEYS = frozenset({"law", "processors", "revision"})
_EARLIER = _KEYS - {"law"}  # what a bundle answers that was made before it said whose law holds
_HELD = frozenset({"controller", "localising", "parts", "person", "unlisted"})
_ROW = frozenset({"ground", "rank", "reasons"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One processor: *rank* from 1 and *ground* if chosen, else 0, empty and the *reasons*."""

    processor: str
    rank: int
    ground: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the law that held: its *value*, and *by* whom; see ``whose_law.parts``."""

    value: Any
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    Whose law held: names of laws by country, empty for a country that the table has no law of.

    *localising* are the person's laws that say where the cell may stand, with the article.
    """

    controller: Mapping[str, str]
    person: Mapping[str, str]
    unlisted: tuple[str, ...]
    localising: Mapping[str, str]
    parts: Mapping[str, Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    Whose law held, and a row per processor: the chosen in order, then the others by id.

    *law* is None where the bundle was made before its rules said so.
    """

    law: Held | None
    processors: tuple[Explained, ...]


async def explain(
    question: Question, engine: PolicyEngine, *, facts: Facts, deadline_s: float = DEADLINE_S
) -> Answer:
    """
    Return whose law holds for *question*, and why each processor is chosen or not.

    Raises:
        QuestionError: the question is malformed.
        EngineError: there is no answer, or it is not of the right shape or revision.

    """
    return await asked_again(as_input(question), engine, facts=facts, deadline_s=deadline_s)


async def asked_again(
    asked: Mapping[str, Any],
    engine: PolicyEngine,
    *,
    facts: Facts,
    deadline_s: float = DEADLINE_S,
) -> Answer:
    """Explain what was *asked* before, as an engine got it. Raises as `explain`."""
    check(asked)
    answer = await answers.in_time(engine, ENTRYPOINT, asked, deadline_s)
    keys = _KEYS if isinstance(answer, dict) and "law" in answer else _EARLIER
    answer = answers.document(answer, keys, facts.revision)
    law = _held(answer["law"]) if "law" in answer else None
    return Answer(law=law, processors=_rows(answer["processors"], facts))


def _rows(found: Any, facts: Facts) -> tuple[Explained, ...]:
    answers.shape(found, frozenset(facts.hosts), "answer.processors")
    rows = [_row(name, each) for name, each in found.items()]
    chosen = sorted((row for row in rows if row.rank), key=lambda row: row.rank)
    if [row.rank for row in chosen] != list(range(1, len(chosen) + 1)):
        raise EngineError("answer.rank")
    others = sorted((row for row in rows if not row.rank), key=lambda row: row.processor)
    return (*chosen, *others)


def _held(found: Any) -> Held:
    code = "answer.law"
    answers.shape(found, _HELD, code)
    if type(found["parts"]) is not dict:
        raise EngineError(code)
    for part in found["parts"].values():
        answers.shape(part, frozenset({"by", "value"}), code)
    return Held(
        controller=answers.texts(found["controller"], code),
        person=answers.texts(found["person"], code),
        unlisted=answers.words(found["unlisted"], WORD, code),
        localising=answers.texts(found["localising"], code),
        parts={
            name: Part(value=part["value"], by=answers.words(part["by"], WORD, code))
            for name, part in sorted(found["parts"].items())
        },
    )


def _row(name: str, found: Any) -> Explained:
    answers.shape(found, _ROW, "answer.shape")
    reasons = answers.words(found["reasons"], CODE, "answer.reasons")
    answers.words([name], WORD, "answer.processors")
    rank, ground = found["rank"], found["ground"]
    if type(rank) is not int or rank < 0:
        raise EngineError("answer.rank")
    if rank:
        answers.words([ground], TRANSFER, "answer.ground")
    if bool(rank) == bool(reasons) or bool(rank) != bool(ground):
        raise EngineError("answer.contradiction")
    return Explained(processor=name, rank=rank, ground=ground, reasons=tuple(sorted(reasons)))
