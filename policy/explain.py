"""
Why each processor is chosen or not: the slow rules, asked for a person, never on the hot path.

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

_KEYS = frozenset({"processors", "revision"})
_ROW = frozenset({"ground", "rank", "reasons"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One processor: *rank* from 1 and *ground* if chosen, else 0, empty and the *reasons*."""

    processor: str
    rank: int
    ground: str
    reasons: tuple[str, ...]


async def explain(
    question: Question, engine: PolicyEngine, *, facts: Facts, deadline_s: float = DEADLINE_S
) -> tuple[Explained, ...]:
    """
    Return a row per processor of the registry: the chosen in order, then the others by id.

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
) -> tuple[Explained, ...]:
    """Explain what was *asked* before, as an engine got it. Raises as `explain`."""
    check(asked)
    answer = await answers.in_time(engine, ENTRYPOINT, asked, deadline_s)
    answer = answers.document(answer, _KEYS, facts.revision)
    answers.shape(answer["processors"], frozenset(facts.hosts), "answer.processors")
    rows = [_row(name, found) for name, found in answer["processors"].items()]
    chosen = sorted((row for row in rows if row.rank), key=lambda row: row.rank)
    if [row.rank for row in chosen] != list(range(1, len(chosen) + 1)):
        raise EngineError("answer.rank")
    others = sorted((row for row in rows if not row.rank), key=lambda row: row.processor)
    return (*chosen, *others)


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
