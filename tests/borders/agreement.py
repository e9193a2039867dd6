"""Hold the rules against the oracle, case by case, for as long as they agree or to the end."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from borders import oracle, worlds
from borders.oracle import World
from borders.worlds import Case

from policy import decide
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import Allowed, Decision
from policy.ports import PolicyEngine
from residency import route
from residency.errors import NoProcessorError

PER_WORLD = 25

Opened = Callable[[Bundle], "AsyncIterator[PolicyEngine]"]


@dataclass(slots=True)
class Tally:
    """What a run met: *wrong* are cases in which oracle and rules disagree, by seed."""

    seed: int = worlds.SEED
    cases: int = 0
    worlds: int = 0
    met: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@asynccontextmanager
async def embedded(bundle: Bundle) -> AsyncIterator[PolicyEngine]:
    """Yield the embedded engine."""
    engine = EmbeddedEngine(bundle)
    try:
        yield engine
    finally:
        await engine.aclose()


async def fuzz(
    cases: int,
    *,
    seed: int = worlds.SEED,
    engine: Callable[[Bundle], object] = embedded,
    build: Callable[[World], Bundle] = worlds.built,
    patience: int = 10,
) -> Tally:
    """Ask *cases* questions of engines over bundles made by *build*; stop at *patience* faults."""
    tally = Tally(seed=seed)
    while tally.cases < cases and len(tally.wrong) < patience:
        drawn = f"{seed}/{tally.worlds}"
        draw = random.Random(drawn)
        given = worlds.world(draw)
        bundle = build(given)
        tally.worlds += 1
        async with engine(bundle) as asked:  # type: ignore[attr-defined]
            for number in range(min(PER_WORLD, cases - tally.cases)):
                case = worlds.case(draw, given)
                decision = await decide.decide(
                    case.question, asked, facts=bundle.facts, deadline_s=10
                )
                _compare(tally, f"{drawn}/{number}", given, case, decision)
    return tally


def _compare(tally: Tally, name: str, given: World, case: Case, decision: Decision) -> None:
    tally.cases += 1
    tally.met[type(decision).__name__] += 1
    wanted = oracle.ways(given, case.question)
    tally.met.update(ground.partition(":")[0] for _, ground in wanted)
    tally.met["several"] += len(wanted) > 1
    tally.met["abroad"] += bool(wanted) and case.question.controller != case.question.jurisdiction
    tally.met["stranger"] += bool(wanted) and "ZZ" in case.question.jurisdiction
    for what, want, got in (
        ("ways", wanted, _ways(decision)),
        ("keeping", oracle.keeping(given, case.question) if wanted else {}, _keeping(decision)),
        ("hosts", oracle.hosts(given, case.question), _hosts(decision)),
        ("walk", [name for name, _ in wanted if name not in case.down], _walk(decision, case)),
    ):
        if want != got:
            tally.wrong.append(f"{name}: {what}: oracle {want}, rules {got} {decision.reasons}")


def _ways(decision: Decision) -> tuple[oracle.Way, ...]:
    if not isinstance(decision, Allowed):
        return ()
    return tuple((name, decision.obligations.transfers[name]) for name in decision.processors)


def _keeping(decision: Decision) -> dict[str, object]:
    if not isinstance(decision, Allowed):
        return {}
    clocks = {kind: getattr(decision.obligations, kind) for kind in oracle.EVERY_CLOCK}
    return clocks | dict(decision.obligations.redact)


def _hosts(decision: Decision) -> frozenset[str]:
    egress: Mapping[str, tuple[str, ...]] = (
        decision.obligations.egress if isinstance(decision, Allowed) else {}
    )
    return frozenset(host for hosts in egress.values() for host in hosts)


def _walk(decision: Decision, case: Case) -> list[str]:
    """Return whom a fallback tries, in order, when each that is up fails in its turn."""
    left = list(decision.processors) if isinstance(decision, Allowed) else []
    have, tried = set(left), list[str]()
    while True:
        try:
            chosen = route.choose(left, admit=lambda name: name not in case.down, have=have)
        except NoProcessorError:
            return tried
        left.remove(chosen)
        tried.append(chosen)
