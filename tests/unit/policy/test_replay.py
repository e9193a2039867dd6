"""Replay: what was decided comes back byte for byte, and what a candidate would change shows."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support.policy_world import NOW, asking, build, rows, tenants

from policy import canonical, decide, replay
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import BundleError, EngineError
from policy.model import Asked, Question
from policy.replay import Fault, Gone, Judge, Kind, Report, Stored

FIRST = "stt.first.eu-west"


@dataclass(slots=True)
class Bench:
    """Engines, one per bundle, and how to make and replay decisions on them."""

    stack: AsyncExitStack
    judges: dict[str, Judge | BundleError | None] = field(default_factory=dict)

    def judge(self, bundle: Bundle) -> Judge:
        """Return the judge with *bundle*."""
        known = self.judges.get(bundle.revision)
        if not isinstance(known, Judge):
            engine = EmbeddedEngine(bundle)
            self.stack.push_async_callback(engine.aclose)
            known = self.judges[bundle.revision] = Judge(engine, bundle.facts)
        return known

    async def stored(self, bundle: Bundle, question: Question | None = None) -> Stored:
        """Return one decision on *question* under *bundle*, as it would be stored."""
        judge, asked = self.judge(bundle), list[Asked]()
        decision = await decide.decide(
            question or asking(), judge.engine, facts=judge.facts, deadline_s=10, kept=asked.append
        )
        [one] = asked
        proof = one.provenance
        return Stored(
            id=proof.id,
            outcome=type(decision).__name__.lower(),
            revision=proof.revision,
            data_sha256=proof.data_sha256,
            input_sha256=proof.input_sha256,
            answer_sha256=proof.answer_sha256,
            asked=one.question,
            answer=one.answer,
            reasons=decision.reasons,
        )

    async def replay(
        self, candidate: Bundle, *decisions: Stored | Gone | Fault, **judges: Any
    ) -> Report:
        """Return what replaying *decisions* under *candidate* finds."""

        async def judge_of(revision: str) -> Judge | BundleError | None:
            return self.judges[revision]

        return await replay.replay(_each(decisions), judge_of, self.judge(candidate))


async def _each(
    decisions: Sequence[Stored | Gone | Fault],
) -> AsyncIterator[Stored | Gone | Fault]:
    for decision in decisions:
        yield decision


@pytest.fixture(scope="module")
def here() -> Bundle:
    """Return the bundle of the world that the other bundles change in one point."""
    return build()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Yield a bench whose engines end with the test."""
    async with AsyncExitStack() as stack:
        yield Bench(stack)


def refusing(*processors: str) -> Bundle:
    """Return the world in which the tenant acme refuses *processors*."""
    return build(tenants=tenants() | {"acme": {"refused": list(processors)}})


@pytest.mark.anyio
async def test_the_same_bundle_changes_nothing(bench: Bench, here: Bundle) -> None:
    """The ground that every comparison stands on: what was decided comes back."""
    made = [await bench.stored(here, asking(**changes)) for changes in ({}, {"consent": None})]

    report = await bench.replay(here, *made)

    assert (report.seen, report.reproduced, report.status) == (2, 2, 0)
    assert (report.faults, report.changes) == ([], [])
    assert {one.outcome for one in made} == {"allowed", "denied"}


def of_old(made: Stored, answer: Any) -> Stored:
    """Return *made* as it was kept before the controller's law was a fact of a question."""
    asked = {name: value for name, value in made.asked.items() if name != "controller"}
    return replace(
        made,
        asked=asked,
        input_sha256=canonical.digest(asked),
        answer=answer,
        answer_sha256=canonical.digest(answer),
    )


@pytest.mark.anyio
@pytest.mark.parametrize("country", ["AT", "SG"])
async def test_what_was_kept_before_the_controllers_law_counted_is_replayed(
    bench: Bench, here: Bundle, country: str
) -> None:
    """Its law was the person's alone, and is read so: evidence does not end with a new fact."""
    made = await bench.stored(here, asking(controller=country, jurisdiction=country))
    old = of_old(made, made.answer)

    report = await bench.replay(here, old)

    assert (report.reproduced, report.faults, report.changes) == (1, [], [])


@pytest.mark.anyio
async def test_a_refused_processor_leaves_every_allow_list(bench: Bench, here: Bundle) -> None:
    """A tenant that refuses a vendor wants to know how much went there."""
    made = [await bench.stored(here) for _ in range(2)]
    assert FIRST in made[0].answer["processors"]

    report = await bench.replay(refusing(FIRST), *made)

    assert (report.reproduced, report.status) == (2, 1)
    assert report.processors == {FIRST: {"added": 0, "removed": 2}}
    assert report.kinds == {"processors_removed": 2}
    assert report.jurisdictions == {"DE": {"in all": 2, "processors_removed": 2}}


@pytest.mark.anyio
async def test_a_processor_that_comes_back_is_added(bench: Bench, here: Bundle) -> None:
    """A contract that was renewed opens a way: a reviewer must see which."""
    made = await bench.stored(refusing(FIRST))

    report = await bench.replay(here, made)

    assert report.processors == {FIRST: {"added": 1, "removed": 0}}
    assert report.changes[0].kinds == (Kind.PROCESSORS_ADDED,)


@pytest.mark.anyio
async def test_contracts_that_lapsed_turn_a_yes_into_a_no(bench: Bench, here: Bundle) -> None:
    """What stops working on the day of the switch is known on the day before."""
    made = await bench.stored(here)
    lapsed = build(processors=[row | {"contract_expires": NOW - 1} for row in rows()])

    report = await bench.replay(lapsed, made)

    [change] = report.changes
    assert (change.was, change.would) == ("allowed", "denied")
    assert Kind.ALLOWED_TO_DENIED in change.kinds
    assert Kind.OBLIGATIONS not in change.kinds
    assert set(change.removed) == set(made.answer["processors"])
    assert change.reasons


@pytest.mark.anyio
async def test_a_no_that_would_be_a_yes_is_told(bench: Bench, here: Bundle) -> None:
    """The dangerous direction: a bundle that opens what was closed."""
    closed = build(notices=["2030-01"])
    made = await bench.stored(closed)

    report = await bench.replay(here, made)

    [change] = report.changes
    assert (made.outcome, change.would) == ("denied", "allowed")
    assert Kind.DENIED_TO_ALLOWED in change.kinds
    assert change.added


@pytest.mark.anyio
async def test_another_reason_for_a_no_is_a_change(bench: Bench) -> None:
    """Which reason it is decides whether a person is asked."""
    made = await bench.stored(build(notices=["2030-01"]), asking(held=True))

    report = await bench.replay(build(), made)

    assert report.changes[0].kinds == (Kind.REASONS,)


@pytest.mark.anyio
async def test_another_order_is_a_change_of_its_own(bench: Bench, here: Bundle) -> None:
    """The first of the list hears the note."""
    made = await bench.stored(here)

    report = await bench.replay(build(processors=rows()[::-1]), made)

    assert report.changes[0].kinds == (Kind.REORDERED,)
    assert report.processors == {}


@pytest.mark.anyio
async def test_a_removed_processor_does_not_reorder_the_rest(bench: Bench, here: Bundle) -> None:
    """Counted twice, the one change would hide the other."""
    made = await bench.stored(here)
    middle = made.answer["processors"][1]

    report = await bench.replay(refusing(middle), made)

    assert report.changes[0].kinds == (Kind.PROCESSORS_REMOVED,)


@pytest.mark.anyio
async def test_a_shorter_life_is_a_changed_obligation(bench: Bench, here: Bundle) -> None:
    """The list is the same, and yet the recording dies earlier."""
    made = await bench.stored(here)
    brief = build(tenants=tenants() | {"acme": {"retention": {"raw_audio_seconds": 60}}})

    report = await bench.replay(brief, made)

    assert report.changes[0].kinds == (Kind.OBLIGATIONS,)


@pytest.mark.anyio
async def test_an_answer_that_is_none_is_undecided(bench: Bench, here: Bundle) -> None:
    """A candidate whose answers would be thrown away must not look like one that agrees."""
    made = await bench.stored(here)
    broken = Judge(Silent(), replace(here.facts, revision="0" * 64))

    report = await replay.replay(_each([made]), _constant(bench.judge(here)), broken)

    assert (report.changes[0].kinds[-1], report.changes[0].reasons) == (
        Kind.TO_UNDECIDED,
        ("engine.undefined",),
    )


class Silent:
    """An engine without an answer."""

    name = "silent"

    async def evaluate(self, entrypoint: str, question: Any) -> Any:
        """Raise."""
        raise EngineError("engine.undefined")


def _constant(judge: Judge) -> Any:
    async def judge_of(_revision: str) -> Judge:
        return judge

    return judge_of


@pytest.mark.anyio
async def test_an_input_of_another_shape_is_no_question_to_a_candidate(
    bench: Bench, here: Bundle
) -> None:
    """Rules would see an absent fact as false; the door would not have asked them at all."""
    made = await bench.stored(here)
    asked = {name: value for name, value in made.asked.items() if name != "held"}
    made = replace(made, asked=asked, input_sha256=canonical.digest(asked))
    old = Judge(Fixed(made.answer), here.facts)

    report = await replay.replay(_each([made]), _constant(old), bench.judge(here))

    assert report.changes[0].reasons == ("question.held",)


class Fixed:
    """An engine that always says one thing."""

    name = "fixed"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def evaluate(self, entrypoint: str, question: Any) -> Any:
        """Say it."""
        return self.answer


TAMPERED: dict[str, dict[str, Any]] = {
    "answer.digest": {"answer_sha256": "0" * 64},
    "bundle.digest": {"data_sha256": "0" * 64},
    "input.digest": {"input_sha256": "0" * 64},
    "outcome.differs": {"outcome": "denied"},
}


@pytest.mark.anyio
@pytest.mark.parametrize("why", TAMPERED)
async def test_what_was_changed_in_the_store_is_told(bench: Bench, here: Bundle, why: str) -> None:
    """A decision that is not the one that was made proves nothing about a candidate."""
    made = replace(await bench.stored(here), **TAMPERED[why])

    report = await bench.replay(refusing(FIRST), made)

    assert report.faults == [Fault(made.id, why)]
    assert (report.status, report.reproduced, report.changes) == (3, 0, [])


@pytest.mark.anyio
async def test_an_answer_that_the_bundle_does_not_give_is_told(bench: Bench, here: Bundle) -> None:
    """Digests that agree with a forged answer do not make it the rules' answer."""
    made = await bench.stored(here)
    forged = {**made.answer, "processors": made.answer["processors"][::-1]}
    made = replace(made, answer=forged, answer_sha256=canonical.digest(forged))

    report = await bench.replay(here, made)

    assert report.faults == [Fault(made.id, "answer.differs")]


@pytest.mark.anyio
async def test_an_engine_that_fails_on_the_old_bundle_is_told(here: Bundle, bench: Bench) -> None:
    """Not reproduced is not the same as unchanged."""
    made = await bench.stored(here)
    dead = Judge(Silent(), here.facts)

    report = await replay.replay(_each([made]), _constant(dead), bench.judge(here))

    assert report.faults == [Fault(made.id, "engine.undefined")]


@pytest.mark.anyio
async def test_what_cannot_be_replayed_is_counted_with_its_reason(
    bench: Bench, here: Bundle
) -> None:
    """A replay that looked at half must not read like one that looked at all."""
    made = await bench.stored(here)
    orphan = replace(made, revision="a" * 64)
    late = replace(made, outcome="undecided", answer=None, reasons=("engine.late",))
    bench.judges["a" * 64] = None

    report = await bench.replay(here, made, orphan, late, Gone("d_1", "key.destroyed"))

    assert (report.seen, report.reproduced, report.status) == (4, 1, 0)
    assert report.undecided == {"engine.late": 1}
    assert report.gone == {"bundle.missing": 1, "key.destroyed": 1}


@pytest.mark.anyio
async def test_an_altered_bundle_and_a_tampered_row_are_faults(bench: Bench, here: Bundle) -> None:
    """What is there and is not what it was has been touched by somebody."""
    made = replace(await bench.stored(here), revision="a" * 64)
    bench.judges["a" * 64] = BundleError("revision is not that of the content")

    report = await bench.replay(here, made, Fault("d_1", "row.tampered"))

    assert [fault.why for fault in report.faults] == ["bundle.altered", "row.tampered"]
    assert report.status == 3


@pytest.mark.anyio
async def test_a_report_names_a_few_examples_and_nobody(bench: Bench, here: Bundle) -> None:
    """It is pasted into a review; consents and evidence stay where they are."""
    made = [await bench.stored(here) for _ in range(5)]

    report = await bench.replay(refusing(FIRST), *made)

    shown = report.summary["examples"]["processors_removed"]
    assert [one["id"] for one in shown] == [one.id for one in made[: replay.EXAMPLES]]
    text = canonical.encode(report.summary).decode()
    assert not [word for word in ("s_1", "c_1", "e" * 64) if f'"{word}"' in text]
    assert report.summary["changed"] == 5
