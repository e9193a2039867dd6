"""Two engines, one law: every question gets the same bytes from the embedded engine and OPA."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio.from_thread
import pytest
from support import policy_world
from support.asker import Asker, embedded_asker, opa_asker, reach
from support.policy_world import DAY, NOTICE, questions

from policy import canonical, consent, explain
from policy.bundle import Bundle
from policy.model import ConsentState, Question, Stage


@pytest.fixture(scope="module")
def embedded(policy_bundle: Bundle, portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the embedded engine."""
    with embedded_asker(policy_bundle, portal) as asker:
        yield asker


@pytest.fixture(scope="module")
def opa(opa_server: str, portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the OPA server."""
    with opa_asker(opa_server, portal) as asker:
        yield asker


def test_both_engines_give_the_same_bytes(embedded: Asker, opa: Asker) -> None:
    """A tenant that moves from one engine to the other must not change what is allowed."""
    for question in questions(400):
        assert canonical.encode(embedded(question)) == canonical.encode(opa(question)), question


def test_the_questions_reach_every_answer(embedded: Asker) -> None:
    """Equality of two engines that always say no would prove nothing."""
    seen: set[str] = set()

    for question in questions(1500):
        seen.update(embedded(question)["reasons"] or [f"allowed.{question.stage}"])

    assert seen == {
        *(f"allowed.{stage}" for stage in Stage),
        "consent.expired",
        "consent.missing",
        "consent.refused",
        "consent.withdrawn",
        "controller.law_missing",
        "data_class.unexpected",
        "hold.active",
        "minor.protected",
        "notice.unknown",
        "person.declined",
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
        assert_same_law(fast, slow, question)


def assert_same_law(fast: dict[str, Any], slow: dict[str, Any], question: Question) -> None:
    """Assert that what must be kept and taken out is what the slow rules find, by whomever."""
    if not fast["allow"]:
        return
    parts = {name: part["value"] for name, part in slow["law"]["parts"].items()}
    for kind in ("raw_audio", "redacted", "reply_audio", "transcript"):
        assert fast["obligations"][f"{kind}_seconds"] == parts[f"retention.{kind}"], question
    for sink, classes in fast["obligations"]["redact"].items():
        assert classes == parts[f"redact.{sink}"], question
    assert all(part["by"] for part in slow["law"]["parts"].values()), question


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
    yield replace(question, jurisdiction=f"{question.jurisdiction}+ZZ")
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


def test_nothing_leaves_the_jurisdiction(portal: anyio.from_thread.BlockingPortal) -> None:
    """Never spill: with no ground named, all stand under the controller's law, or in the cell."""
    places = {row["id"]: row["region"] for row in policy_world.rows()}
    europe = {"eu-central", "eu-west"}
    homes = {"AT": europe, "BR": {"sa-brazil"}, "CH": {"eu-zurich"}, "DE": europe}
    homes |= {"SG": {"ap-singapore"}}

    with embedded_asker(policy_world.build(), portal) as ask:
        for question in questions():
            free = {"US": {question.region}}
            allowed = (homes | free).get(question.controller, set())
            if "XX" in question.jurisdiction:
                allowed = allowed & {question.region}
            found = {places[name] for name in ask(question)["processors"]}
            assert found <= allowed, question


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
