"""The wrapper: whatever is not exactly a yes is not a yes."""

import asyncio
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from support.policy_world import QUESTION

from policy import canonical
from policy.decide import ENTRYPOINT, decide
from policy.errors import EngineError
from policy.model import Allowed, Asked, Denied, Facts, Undecided
from policy.question import as_input

pytestmark = pytest.mark.anyio

FACTS = Facts(
    revision="r1",
    data_sha256="d1",
    processors={"transcribe": frozenset({"a", "b"}), "speak": frozenset({"c"})},
    hosts={"a": ("a.example:443",), "b": (), "c": ()},
)

ALLOW: dict[str, Any] = {
    "allow": True,
    "obligations": {
        "egress": {"a": ["a.example:443"], "b": []},
        "options": {"a": {"opt_out": "true"}, "b": {}},
        "raw_audio_seconds": 1,
        "redact": {"analytics": ["card"], "log": [], "understand": ["card", "iban"]},
        "redacted_seconds": 2,
        "reply_audio_seconds": 3,
        "transcript_seconds": 4,
        "transfers": {"a": "scc:2", "b": "domestic"},
    },
    "processors": ["b", "a"],
    "reasons": [],
    "revision": "r1",
}
DENY = ALLOW | {"allow": False, "processors": [], "reasons": ["consent.missing"]}


class Engine:
    """A `PolicyEngine` that does what it is told."""

    name = "told"

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """Remember the question and act."""
        self.asked.append((entrypoint, question))
        found = self._act()
        return await found if asyncio.iscoroutine(found) else found


def saying(answer: Any) -> Engine:
    """Return an engine that gives *answer*."""
    return Engine(lambda: answer)


async def test_allowed_carries_everything() -> None:
    """What must be done, in which order, and what it was based on."""
    engine = saying(ALLOW)

    decision = await decide(QUESTION, engine, facts=FACTS)

    assert isinstance(decision, Allowed)
    assert decision.processors == ("b", "a")
    assert decision.obligations.redact["understand"] == frozenset({"card", "iban"})
    assert decision.obligations.options == {"a": {"opt_out": "true"}, "b": {}}
    assert decision.obligations.transcript_seconds == 4
    assert engine.asked == [(ENTRYPOINT, as_input(QUESTION))]


async def test_the_decision_can_be_replayed() -> None:
    """Engine, revision, data and input are named by digest; no two decisions share an id."""
    one = await decide(QUESTION, saying(ALLOW), facts=FACTS)
    two = await decide(QUESTION, saying(DENY), facts=FACTS)

    assert one.provenance.input_sha256 == canonical.digest(as_input(QUESTION))
    assert one.provenance.answer_sha256 == canonical.digest(ALLOW)
    assert two.provenance.answer_sha256 == canonical.digest(DENY)
    nameless = {"id": "", "answer_sha256": ""}
    assert replace(one.provenance, **nameless) == replace(two.provenance, **nameless)
    assert (one.provenance.engine, one.provenance.revision) == ("told", "r1")
    assert one.provenance.data_sha256 == "d1"
    assert one.provenance.id != two.provenance.id
    assert len(one.provenance.id.removeprefix("d_")) == 32


async def test_denied_says_why() -> None:
    """A no is final: it is audited with its reasons."""
    decision = await decide(QUESTION, saying(DENY), facts=FACTS)

    assert isinstance(decision, Denied)
    assert decision.reasons == ("consent.missing",)


async def test_a_malformed_question_is_not_asked() -> None:
    """A wrong type in a question can turn a rule round; nothing was asked, so nothing digested."""
    engine = saying(ALLOW)

    decision = await decide(replace(QUESTION, region="global"), engine, facts=FACTS)

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("question.region",)
    assert decision.provenance.input_sha256 == ""
    assert engine.asked == []


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets *path* of an answer to *value*, or removes it if that is `KeyError`."""

    def apply(answer: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for name in outer:
            answer = answer[name]
        if value is KeyError:
            del answer[last]
        else:
            answer[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("allow", "true", "allow"),
        ("allow", 1, "allow"),
        ("allow", None, "allow"),
        ("allow", KeyError, "shape"),
        ("extra", 1, "shape"),
        ("revision", "r0", "revision"),
        ("revision", None, "revision"),
        ("reasons", ["consent.missing"], "contradiction"),
        ("reasons", {}, "reasons"),
        ("reasons", [1], "reasons"),
        ("reasons", ["Free text about a person"], "reasons"),
        ("processors", [], "contradiction"),
        ("processors", ["a", "a"], "processors"),
        ("processors", [None], "processors"),
        ("processors", "ab", "processors"),
        ("processors", {"a": 1}, "processors"),
        ("processors", ["a\n"], "processors"),
        ("processors", ["a", "evil"], "unknown_processor"),
        ("processors", ["c"], "unknown_processor"),
        ("obligations", None, "obligations"),
        ("obligations", [], "obligations"),
        ("obligations.extra", 1, "obligations"),
        ("obligations.options", {"a": {}}, "obligations"),
        ("obligations.options", {"a": {}, "b": {}, "c": {}}, "obligations"),
        ("obligations.options.a", {"opt_out": True}, "obligations"),
        ("obligations.options.a", [], "obligations"),
        ("obligations.raw_audio_seconds", 0, "obligations"),
        ("obligations.raw_audio_seconds", -1, "obligations"),
        ("obligations.raw_audio_seconds", 1.0, "type"),
        ("obligations.raw_audio_seconds", True, "obligations"),
        ("obligations.raw_audio_seconds", KeyError, "obligations"),
        ("obligations.egress", {"a": ["a.example:443"]}, "obligations"),
        ("obligations.egress.a", "a.example:443", "obligations"),
        ("obligations.egress.a", ["a.example"], "obligations"),
        ("obligations.egress.a", ["evil.example:443"], "egress"),
        ("obligations.egress.a", [], "egress"),
        ("obligations.egress.b", ["a.example:443"], "egress"),
        ("obligations.transfers", {"b": "domestic"}, "obligations"),
        ("obligations.transfers.a", "because", "obligations"),
        ("obligations.transfers.a", None, "obligations"),
        ("processors", ["a", "b"], "transfers"),
        ("obligations.redact", {}, "obligations"),
        ("obligations.redact.log", KeyError, "obligations"),
        ("obligations.redact.log", "card", "obligations"),
        ("obligations.redact.log", [1], "obligations"),
        ("obligations.redact.webhook", ["card"], "obligations"),
    ],
)
async def test_an_allow_of_another_shape_is_undecided(path: str, value: Any, code: str) -> None:
    """Each of these was almost a yes."""
    answer = deepcopy(ALLOW)
    change(path, value)(answer)

    decision = await decide(QUESTION, saying(answer), facts=FACTS)

    assert isinstance(decision, Undecided)
    assert decision.reasons == (f"answer.{code}",)


@pytest.mark.parametrize("changes", [{"reasons": []}, {"processors": ["a"]}])
async def test_a_deny_that_contradicts_itself_is_undecided(changes: dict[str, Any]) -> None:
    """A no without a reason, or with processors, comes from broken rules: it is not final."""
    decision = await decide(QUESTION, saying(DENY | changes), facts=FACTS)

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("answer.contradiction",)


async def test_an_engine_error_is_undecided() -> None:
    """Its code is the reason: it is what the trail and the metrics show."""

    def fail() -> Any:
        raise EngineError("engine.failed")

    decision = await decide(QUESTION, Engine(fail), facts=FACTS)

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("engine.failed",)


async def test_a_hanging_engine_is_undecided() -> None:
    """Nobody waits for a policy server longer than the deadline."""
    decision = await decide(
        QUESTION, Engine(lambda: asyncio.sleep(60, ALLOW)), facts=FACTS, deadline_s=0.01
    )

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("engine.late",)


async def test_an_engine_that_blocks_the_loop_is_late_too() -> None:
    """A timeout cannot interrupt it; the clock still tells that its answer is late."""

    def block() -> Any:
        time.sleep(0.03)
        return ALLOW

    decision = await decide(QUESTION, Engine(block), facts=FACTS, deadline_s=0.01)

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("engine.late",)


async def test_cancelling_is_not_a_decision() -> None:
    """A worker that stops takes its question back; it does not learn "undecided"."""
    asking = asyncio.ensure_future(
        decide(QUESTION, Engine(lambda: asyncio.sleep(60)), facts=FACTS, deadline_s=60)
    )
    await asyncio.sleep(0)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_was_asked_and_said_is_kept() -> None:
    """A replay needs both; a question that was never asked, or taken back, left nothing."""
    kept: list[Asked] = []

    one = await decide(QUESTION, saying(ALLOW), facts=FACTS, kept=kept.append)
    two = await decide(QUESTION, saying(None), facts=FACTS, kept=kept.append)
    await decide(replace(QUESTION, region="global"), saying(ALLOW), facts=FACTS, kept=kept.append)

    assert [asked.provenance for asked in kept] == [one.provenance, two.provenance]
    assert [asked.answer for asked in kept] == [ALLOW, None]
    assert kept[0].question == as_input(QUESTION)
    assert kept[0].entrypoint == ENTRYPOINT
    assert two.provenance.answer_sha256 == ""


async def test_who_is_suspended_is_never_used() -> None:
    """A finding acts at once, even on rules that were written before there were findings."""
    decision = await decide(replace(QUESTION, suspended=("b",)), saying(ALLOW), facts=FACTS)

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("answer.suspended",)


@pytest.mark.parametrize(("age", "allowed"), [(86_400, True), (86_401, False)])
async def test_a_stale_bundle_sends_nothing_abroad(age: int, allowed: bool) -> None:  # noqa: FBT001
    """Its list of transfers may hold what a court has struck down since."""
    decision = await decide(replace(QUESTION, bundle_age=age), saying(ALLOW), facts=FACTS)

    assert isinstance(decision, Allowed) is allowed
    assert decision.reasons == (() if allowed else ("answer.transfers",))
