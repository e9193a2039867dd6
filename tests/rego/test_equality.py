"""Two engines, one law: every question gets the same bytes from the embedded engine and OPA."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio.from_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import policy_world
from support.policy_world import DAY, NOTICE, REGIONS, questions

from policy import canonical, consent, decide
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import ConsentState, Question, Stage
from policy.opa import OpaEngine
from policy.ports import PolicyEngine
from policy.question import as_input


class Asker:
    """An engine on an event loop of its own, to be asked from a plain function."""

    def __init__(self, engine: PolicyEngine, portal: anyio.from_thread.BlockingPortal) -> None:
        self._engine = engine
        self._portal = portal

    def __call__(self, question: Question) -> dict[str, Any]:
        """Return the raw answer."""
        answer = self._portal.call(self._engine.evaluate, decide.ENTRYPOINT, as_input(question))
        assert isinstance(answer, dict)
        return answer


@pytest.fixture(scope="module")
def portal() -> Iterator[anyio.from_thread.BlockingPortal]:
    """Yield a running event loop."""
    with anyio.from_thread.start_blocking_portal() as running:
        yield running


@pytest.fixture(scope="module")
def embedded(policy_bundle: Bundle, portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the embedded engine."""
    engine = EmbeddedEngine(policy_bundle)
    yield Asker(engine, portal)
    portal.call(engine.aclose)


@pytest.fixture(scope="module")
def opa(opa_server: str, portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the OPA server."""

    async def connect() -> OpaEngine:
        return OpaEngine(opa_server, timeout_s=10)

    engine = portal.call(connect)
    yield Asker(engine, portal)
    portal.call(engine.aclose)


def test_both_engines_give_the_same_bytes(embedded: Asker, opa: Asker) -> None:
    """A tenant that moves from one engine to the other must not change what is allowed."""
    for question in questions(400):
        assert canonical.encode(embedded(question)) == canonical.encode(opa(question)), question


def test_the_questions_reach_every_answer(embedded: Asker) -> None:
    """Equality of two engines that always say no would prove nothing."""
    seen: set[str] = set()

    for question in questions():
        seen.update(embedded(question)["reasons"] or [f"allowed.{question.stage}"])

    assert seen == {
        *(f"allowed.{stage}" for stage in Stage),
        "consent.expired",
        "consent.missing",
        "consent.refused",
        "consent.withdrawn",
        "hold.active",
        "jurisdiction.unknown",
        "minor.protected",
        "notice.unknown",
        "processor.none",
        "purpose.unknown",
        "region.foreign",
        "tenant.unknown",
    }


def narrowed(question: Question) -> Iterator[Question]:
    """Yield *question* with one reason more against it."""
    yield replace(question, held=True)
    yield replace(question, minor=True)
    yield replace(question, consent=None)
    yield replace(question, languages=question.languages[:1])
    yield replace(question, jurisdiction=f"{question.jurisdiction}+SG")
    yield replace(question, now=question.now + 400 * DAY)
    if question.consent is None:
        return
    if question.tenant == question.consent.tenant == "acme":
        given = replace(question.consent, tenant="tight")
        yield replace(question, tenant="tight", consent=given)
    for state in (ConsentState.REFUSED, ConsentState.WITHDRAWN):
        yield replace(question, consent=replace(question.consent, state=state))


def test_one_reason_more_never_allows_more(embedded: Asker) -> None:
    """Taking consent away, holding, narrowing: none of it may open a door."""
    for question in questions(100):
        before = set(embedded(question)["processors"])

        for stricter in narrowed(question):
            assert set(embedded(stricter)["processors"]) <= before, stricter


def test_nothing_leaves_the_jurisdiction(embedded: Asker) -> None:
    """Never spill: an allowed processor stands under the same law, or in the cell's region."""
    places = {row["id"]: row["region"] for row in policy_world.rows()}
    europe = {"eu-central", "eu-west"}
    homes = {"AT+DE": europe, "BR": {"sa-brazil"}, "CH": {"eu-zurich"}, "DE": europe}
    homes |= {"SG": {"ap-singapore"}}

    for question in questions():
        free = {"US": {"us-east", question.region}, "DE+US": europe & {question.region}}
        allowed = (homes | free).get(question.jurisdiction, set())
        found = {places[name] for name in embedded(question)["processors"]}
        assert found <= allowed, question


def test_the_pure_helper_agrees_with_the_rule(embedded: Asker) -> None:
    """The console shows a consent as live exactly when the rules would let it count."""
    for question in questions():
        row = question.consent
        ours = row is not None and (row.tenant, row.purpose) == (question.tenant, question.purpose)
        reasons = embedded(replace(question, stage=Stage.UNDERSTAND))["reasons"]
        held_against = [code for code in reasons if code.startswith(("consent.", "notice."))]

        live = ours and consent.live(row, question.now, accepted={"2026-10", NOTICE})

        assert live == (not held_against), question


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    places=st.lists(st.sampled_from(sorted(REGIONS)), max_size=8),
    services=st.lists(st.sampled_from(sorted(policy_world.STAGES)), min_size=8, max_size=8),
)
def test_index_equals_the_slow_rule(places: list[str], services: list[str]) -> None:
    """The index is an optimisation: it may never hold more, less or another order."""
    rows = [
        policy_world.row(f"p{number}", service, region)
        for number, (region, service) in enumerate(zip(places, services, strict=False))
    ]
    built = policy_world.build(processors=rows).data

    for code, law in built["jurisdictions"].items():
        for stage in Stage:
            slow = [
                row["id"]
                for row in rows
                if stage.value in row["stages"]
                and (law["transfers"] == "free" or row["jurisdiction"] in law["within"])
            ]
            assert [row["id"] for row in built["index"][code].get(stage.value, [])] == slow


def test_rules_without_the_index_find_the_same(
    policy_bundle: Bundle, embedded: Asker, portal: anyio.from_thread.BlockingPortal
) -> None:
    """Even if each entry of the index held the whole registry, the rules would choose alike."""
    slow = {code: {s.value: [] for s in Stage} for code in policy_bundle.data["jurisdictions"]}
    for stages in slow.values():
        for name, found in stages.items():
            found += [row for row in policy_bundle.data["processors"] if name in row["stages"]]
    whole = Bundle(modules=policy_bundle.modules, data={**policy_bundle.data, "index": slow})
    engine = EmbeddedEngine(whole)
    unindexed = Asker(engine, portal)

    for question in questions(100):
        one, other = embedded(question), unindexed(question)
        assert one["processors"] == other["processors"], question
        assert one["reasons"] == other["reasons"], question
    portal.call(engine.aclose)
