"""
Stored decisions, decided again: first as they were, then as a candidate bundle would.

- A decision is compared only if its old answer comes back byte for byte (canonical JSON) from
  the bundle of its revision. Which engine gave it makes no difference.
- Undecided means that nobody answered: counted with its reason, not replayed. So is what
  cannot be opened any more.
- A report names decisions, codes, jurisdictions and processors; no person, not even by pseudonym.
"""

from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from policy import canonical, decide, question
from policy.errors import BundleError, EngineError, QuestionError
from policy.model import Allowed, Decision, Denied, Facts, Obligations, Provenance, Undecided
from policy.ports import PolicyEngine

EXAMPLES = 3

_PER_PROCESSOR = ("egress", "options", "transfers")


class Kind(StrEnum):
    """What may be different; kept sorted."""

    ALLOWED_TO_DENIED = "allowed_to_denied"
    DENIED_TO_ALLOWED = "denied_to_allowed"
    OBLIGATIONS = "obligations"
    PROCESSORS_ADDED = "processors_added"
    PROCESSORS_REMOVED = "processors_removed"
    REASONS = "reasons"
    REORDERED = "reordered"
    TO_UNDECIDED = "to_undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """
    One decision as it was made: what was *asked*, what was *answered*, and their digests.

    *outcome* is ``allowed``, ``denied`` or ``undecided``; only then is *answer* None and do
    *reasons* say why.
    """

    id: str
    outcome: str
    revision: str
    data_sha256: str
    input_sha256: str
    answer_sha256: str
    asked: Mapping[str, Any] = field(repr=False)
    answer: Any = field(repr=False)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """A decision whose input or bundle is not to be had any more, and *why*: no fault."""

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A decision that did not come back as it was made, and *why*."""

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Judge:
    """An engine with one bundle loaded, and the *facts* to hold its answers against."""

    engine: PolicyEngine
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One decision that the candidate would have made differently.

    *added* and *removed* are processors of the allow-list, *reasons* those of the candidate.
    """

    id: str
    stage: str
    jurisdiction: str
    was: str
    would: str
    kinds: tuple[Kind, ...]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What a replay under *candidate* (its revision) found; see `status`."""

    candidate: str
    seen: int = 0
    reproduced: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Return 3 if something did not reproduce, 1 if something would change, else 0."""
        return 3 if self.faults else 1 if self.changes else 0

    @property
    def kinds(self) -> Counter[str]:
        """Return how many decisions would change in which way; one may in several."""
        return Counter(kind.value for change in self.changes for kind in change.kinds)

    @property
    def jurisdictions(self) -> dict[str, Counter[str]]:
        """Return the same per jurisdiction, with how many change ``in all``."""
        found: dict[str, Counter[str]] = {}
        for change in self.changes:
            counts = found.setdefault(change.jurisdiction, Counter())
            counts.update(["in all", *(kind.value for kind in change.kinds)])
        return dict(sorted(found.items()))

    @property
    def processors(self) -> dict[str, dict[str, int]]:
        """Return, per processor, how many allow-lists it would be added to and removed from."""
        added = Counter(name for change in self.changes for name in change.added)
        removed = Counter(name for change in self.changes for name in change.removed)
        names = sorted({*added, *removed})
        return {name: {"added": added[name], "removed": removed[name]} for name in names}

    @property
    def summary(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "candidate": self.candidate,
            "seen": self.seen,
            "reproduced": self.reproduced,
            "undecided": dict(sorted(self.undecided.items())),
            "gone": dict(sorted(self.gone.items())),
            "not_reproduced": [asdict(fault) for fault in self.faults],
            "changed": len(self.changes),
            "kinds": dict(sorted(self.kinds.items())),
            "jurisdictions": {code: dict(each) for code, each in self.jurisdictions.items()},
            "processors": self.processors,
            "examples": {
                kind: [asdict(change) for change in each] for kind, each in self.examples.items()
            },
        }

    @property
    def examples(self) -> dict[str, list[Change]]:
        """Return the first few changes of each kind."""
        return {
            kind.value: [change for change in self.changes if kind in change.kinds][:EXAMPLES]
            for kind in Kind
            if self.kinds[kind.value]
        }


async def replay(
    decisions: AsyncIterable[Stored | Gone | Fault],
    judge_of: Callable[[str], Awaitable[Judge | BundleError | None]],
    candidate: Judge,
) -> Report:
    """
    Return what *candidate* would have decided otherwise.

    *judge_of* a revision is the judge with that bundle, None if it is kept no longer, or the
    error that says what is wrong with what is kept.
    """
    report = Report(candidate=candidate.facts.revision)
    async for decision in decisions:
        report.seen += 1
        if isinstance(decision, Gone):
            report.gone[decision.why] += 1
        elif isinstance(decision, Fault):
            report.faults.append(decision)
        elif decision.outcome == "undecided":
            report.undecided[next(iter(decision.reasons), "unknown")] += 1
        elif (judge := await judge_of(decision.revision)) is None:
            report.gone["bundle.missing"] += 1
        elif isinstance(judge, BundleError):
            report.faults.append(Fault(decision.id, "bundle.altered"))
        else:
            await _again(decision, judge, candidate, report)
    return report


async def _again(stored: Stored, judge: Judge, candidate: Judge, report: Report) -> None:
    if why := await reproduce(stored, judge):
        report.faults.append(Fault(stored.id, why))
        return
    report.reproduced += 1
    was = _read(stored.answer, judge.facts, stored.asked)
    would = await _decide(stored.asked, candidate)
    if change := compare(stored, was, would):
        report.changes.append(change)


async def reproduce(stored: Stored, judge: Judge) -> str:
    """Return why *stored* does not come back as it was made, or ``""`` if it does."""
    if canonical.digest(stored.asked) != stored.input_sha256:
        return "input.digest"
    if canonical.digest(stored.answer) != stored.answer_sha256:
        return "answer.digest"
    if (judge.facts.revision, judge.facts.data_sha256) != (stored.revision, stored.data_sha256):
        return "bundle.digest"
    try:
        answer = await judge.engine.evaluate(decide.ENTRYPOINT, stored.asked)
    except EngineError as exc:
        return exc.code
    if canonical.encode(answer) != canonical.encode(stored.answer):
        return "answer.differs"
    read = _read(answer, judge.facts, stored.asked)
    return "" if _outcome(read) == stored.outcome else "outcome.differs"


def compare(stored: Stored, was: Decision, would: Decision) -> Change | None:
    """Return how *would* differs from *was*, or None if it does not but for its revision."""
    before, after = _processors(was), _processors(would)
    kinds = tuple(sorted(_kinds(was, would)))
    if not kinds:
        return None
    return Change(
        id=stored.id,
        stage=stored.asked["stage"],
        jurisdiction=stored.asked["jurisdiction"],
        was=_outcome(was),
        would=_outcome(would),
        kinds=kinds,
        added=_without(after, before),
        removed=_without(before, after),
        reasons=would.reasons,
    )


def _kinds(was: Decision, would: Decision) -> Iterator[Kind]:
    before, after = _processors(was), _processors(would)
    if isinstance(would, Undecided):
        yield Kind.TO_UNDECIDED
    elif isinstance(was, Allowed) and isinstance(would, Denied):
        yield Kind.ALLOWED_TO_DENIED
    elif isinstance(was, Denied) and isinstance(would, Allowed):
        yield Kind.DENIED_TO_ALLOWED
    elif was.reasons != would.reasons:
        yield Kind.REASONS
    if _without(after, before):
        yield Kind.PROCESSORS_ADDED
    if _without(before, after):
        yield Kind.PROCESSORS_REMOVED
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield Kind.REORDERED
    if isinstance(was, Allowed) and isinstance(would, Allowed) and _differ(was, would):
        yield Kind.OBLIGATIONS


def _differ(was: Allowed, would: Allowed) -> bool:
    """Whether obligations differ; those of a processor on one list only do not count."""
    both = set(was.processors) & set(would.processors)
    return _duties(was.obligations, both) != _duties(would.obligations, both)


def _duties(obligations: Obligations, names: set[str]) -> dict[str, Any]:
    found = asdict(obligations)
    for each in _PER_PROCESSOR:
        found[each] = {name: duty for name, duty in found[each].items() if name in names}
    return found


async def _decide(asked: Mapping[str, Any], judge: Judge) -> Decision:
    try:
        question.check(dict(asked))
        answer = await judge.engine.evaluate(decide.ENTRYPOINT, asked)
    except (EngineError, QuestionError) as exc:
        return Undecided(reasons=(exc.code,), provenance=_nobody(judge.facts))
    return _read(answer, judge.facts, asked)


def _read(answer: Any, facts: Facts, asked: Mapping[str, Any]) -> Decision:
    try:
        return decide.read(answer, facts, asked, _nobody(facts))
    except EngineError as exc:
        return Undecided(reasons=(exc.code,), provenance=_nobody(facts))


def _nobody(facts: Facts) -> Provenance:
    """Return the provenance of what nobody decided: a replay is no decision."""
    return Provenance(
        id="", engine="", revision=facts.revision, data_sha256=facts.data_sha256, input_sha256=""
    )


def _outcome(decision: Decision) -> str:
    return type(decision).__name__.lower()


def _processors(decision: Decision) -> tuple[str, ...]:
    return decision.processors if isinstance(decision, Allowed) else ()


def _without(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in set(others))
