"""Two engines, one law: every question gets the same bytes from the embedded engine and OPA."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio.from_thread
import pytest
from support import policy_world
from support.policy_world import DAY, NOTICE, questions

from policy import canonical, consent, decide, explain
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import GROUNDS, ConsentState, Question, Stage
from policy.opa import OpaEngine
from policy.ports import PolicyEngine
from policy.question import as_input


class Asker:
    """An engine on an event loop of its own, to be asked from a plain function."""

    def __init__(self, engine: PolicyEngine, portal: anyio.from_thread.BlockingPortal) -> None:
        self._engine = engine
        self._portal = portal

    def __call__(self, question: Question, entrypoint: str = decide.ENTRYPOINT) -> dict[str, Any]:
        """Return the raw answer."""
        answer = self._portal.call(self._engine.evaluate, entrypoint, as_input(question))
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
        "data_class.unexpected",
        "hold.active",
        "jurisdiction.unknown",
        "minor.protected",
        "notice.unknown",
        "processor.none",
        "purpose.refused",
        "purpose.unknown",
        "region.foreign",
        "tenant.unknown",
    }


def test_the_fast_answer_is_the_slow_one(embedded: Asker, opa: Asker) -> None:
    """The index is an optimisation: the rules that walk the whole registry choose the same."""
    for question in questions(400):
        slow = embedded(question, explain.ENTRYPOINT)
        assert canonical.encode(slow) == canonical.encode(opa(question, explain.ENTRYPOINT))
        rows = slow["processors"]
        chosen = sorted(
            (name for name in rows if rows[name]["rank"]), key=lambda n: rows[n]["rank"]
        )
        fast = embedded(question)
        assert fast["processors"] == chosen, question
        grounds = {name: rows[name]["ground"] for name in chosen}
        assert fast["obligations"]["transfers"] == grounds, question


def narrowed(question: Question) -> Iterator[Question]:
    """Yield *question* with one reason more against it."""
    yield replace(question, held=True)
    yield replace(question, minor=True)
    yield replace(question, consent=None)
    yield replace(question, transfer_consent=None)
    yield replace(question, bundle_age=86_401)
    yield replace(
        question, suspended=(*question.suspended, "spee.eu-central", "stt.clauses.us-east")
    )
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


@pytest.mark.parametrize("name", ["embedded", "opa"])
def test_one_reason_more_never_allows_more(name: str, embedded: Asker, opa: Asker) -> None:
    """Taking consent away, holding, narrowing: none of it may open a door."""
    ask = {"embedded": embedded, "opa": opa}[name]
    for question in questions(100):
        before = reach(ask(question))

        for stricter in narrowed(question):
            assert reach(ask(stricter)) <= before, stricter


def reach(answer: dict[str, Any]) -> set[str]:
    """Return the processors and hosts of *answer*."""
    hosts = {host for found in answer["obligations"]["egress"].values() for host in found}
    return {*answer["processors"], *hosts}


STRICTER_WORLDS: dict[str, dict[str, Any]] = {
    "expired contract": {"processors": {"contract_expires": 1}},
    "no filed tool": {"processors": {"transfers": []}},
    "removed ground": {"grounds": ["bcr", "explicit-consent", "scc"]},
    "tenant refuses": {
        "tenants": {
            "acme": {"refused": ["spee.eu-central"], "refused_grounds": ["scc"]},
            "loose": {"refused_grounds": ["explicit-consent"]},
            "tight": {**policy_world.tenants()["tight"], "refused_purposes": ["transfer_abroad"]},
        }
    },
}


@pytest.mark.parametrize("name", STRICTER_WORLDS)
def test_one_deny_more_in_the_data_never_allows_more(
    name: str, embedded: Asker, portal: anyio.from_thread.BlockingPortal
) -> None:
    """A bundle that is stricter anywhere is looser nowhere."""
    changes = dict(STRICTER_WORLDS[name])
    if spoilt := changes.pop("processors", None):
        rows = policy_world.rows()
        changes["processors"] = [row | (spoilt if n % 2 else {}) for n, row in enumerate(rows)]
        changes["processors"] = [
            row | ({"hosts": []} if row["contract_expires"] == 0 else {})
            for row in changes["processors"]
        ]
    engine = EmbeddedEngine(policy_world.build(**({"grounds": GROUNDS} | changes)))
    stricter = Asker(engine, portal)

    for question in questions(150):
        assert reach(stricter(question)) <= reach(embedded(question)), question
    portal.call(engine.aclose)


def test_nothing_leaves_the_jurisdiction(portal: anyio.from_thread.BlockingPortal) -> None:
    """Never spill: with no ground named, all stand under one law or in the cell's region."""
    engine = EmbeddedEngine(policy_world.build())
    embedded = Asker(engine, portal)
    places = {row["id"]: row["region"] for row in policy_world.rows()}
    europe = {"eu-central", "eu-west"}
    homes = {"AT+DE": europe, "BR": {"sa-brazil"}, "CH": {"eu-zurich"}, "DE": europe}
    homes |= {"SG": {"ap-singapore"}}

    for question in questions():
        free = {"US": {"us-east", question.region}, "DE+US": europe & {question.region}}
        allowed = (homes | free).get(question.jurisdiction, set())
        found = {places[name] for name in embedded(question)["processors"]}
        assert found <= allowed, question
    portal.call(engine.aclose)


def test_the_pure_helper_agrees_with_the_rule(embedded: Asker) -> None:
    """The console shows a consent as live exactly when the rules would let it count."""
    for question in questions():
        if question.purpose == "answer_typed":
            continue  # it needs no consent
        row = question.consent
        ours = row is not None and (row.tenant, row.purpose) == (question.tenant, question.purpose)
        reasons = embedded(replace(question, stage=Stage.UNDERSTAND))["reasons"]
        held_against = [code for code in reasons if code.startswith(("consent.", "notice."))]

        live = ours and consent.live(row, question.now, accepted={"2026-10", NOTICE})

        assert live == (not held_against), question
