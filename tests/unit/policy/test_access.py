"""Who may do what: the door to the access rules, on the real rules."""

from dataclasses import replace
from typing import Any

import pytest
from support.policy_world import CONSENT, NOW

from policy import access
from policy.access import Action, Approval, Permitted, Reading, Request, Role
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import Denied, Undecided

pytestmark = pytest.mark.anyio

EXPORT = Request(
    actor="u_1",
    role=Role.EXPORTER,
    tenant="acme",
    action=Action.EXPORT,
    object="a_1",
    owner="acme",
    purpose=Reading.RIGHTS,
)


def approval(who: str, request: Request = EXPORT) -> Approval:
    """Return *who*'s yes to *request*."""
    named = access.digest(request)
    return Approval(
        approver=who, role=Role.APPROVER, tenant="acme", at=NOW - 1, request_digest=named
    )


async def test_two_people_approve_exactly_this(policy_bundle: Bundle) -> None:
    """An approval of one export is none of another."""
    engine, facts = EmbeddedEngine(policy_bundle), policy_bundle.facts
    two = [approval("u_2"), approval("u_3")]
    other = replace(EXPORT, object="a_2")

    alone = await access.verdict(EXPORT, engine, facts=facts, now=NOW, deadline_s=10)
    done = await access.verdict(EXPORT, engine, facts=facts, now=NOW, approvals=two, deadline_s=10)
    else_ = await access.verdict(other, engine, facts=facts, now=NOW, approvals=two, deadline_s=10)

    assert isinstance(alone, Denied)
    assert alone.reasons == ("approval.missing",)
    assert isinstance(done, Permitted)
    assert set(done.approvers) == {"u_2", "u_3"}
    assert isinstance(else_, Denied)
    await engine.aclose()


async def test_review_needs_its_own_consent(policy_bundle: Bundle) -> None:
    """Agreeing to be answered is not agreeing to be listened to by a supervisor."""
    engine, facts = EmbeddedEngine(policy_bundle), policy_bundle.facts
    play = replace(EXPORT, role=Role.AGENT, action=Action.PLAY_AUDIO, purpose=Reading.HUMAN_REVIEW)
    agreed = replace(play, consent=replace(CONSENT, purpose="human_review"))

    none = await access.verdict(
        replace(play, consent=CONSENT), engine, facts=facts, now=NOW, deadline_s=10
    )
    given = await access.verdict(agreed, engine, facts=facts, now=NOW, deadline_s=10)

    assert isinstance(none, Denied)
    assert none.reasons == ("consent.missing",)
    assert isinstance(given, Permitted)
    await engine.aclose()


class Told:
    """An engine with one answer."""

    name = "told"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def evaluate(self, _entrypoint: str, _question: Any) -> Any:
        """Return the answer."""
        return self.answer


GOOD: dict[str, Any] = {"allow": True, "approvers": [], "reasons": [], "revision": "r"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"revision": "old"}, "revision"),
        ({"allow": 1}, "allow"),
        ({"reasons": ["a.b"]}, "contradiction"),
        ({"allow": False}, "contradiction"),
        ({"approvers": ["u_9"]}, "approvers"),
        ({"extra": 1}, "shape"),
    ],
)
async def test_an_answer_that_is_no_yes_is_none(
    policy_bundle: Bundle, changes: dict[str, Any], code: str
) -> None:
    """The same guards as for a decision: whatever is not exactly a yes is not a yes."""
    facts = replace(policy_bundle.facts, revision="r")

    good = await access.verdict(EXPORT, Told(GOOD), facts=facts, now=NOW)
    found = await access.verdict(EXPORT, Told(GOOD | changes), facts=facts, now=NOW)

    assert isinstance(good, Permitted)
    assert isinstance(found, Undecided)
    assert found.reasons == (f"answer.{code}",)


async def test_a_malformed_request_is_not_asked(policy_bundle: Bundle) -> None:
    """A name in place of an id does not reach an engine's log."""
    found = await access.verdict(
        replace(EXPORT, actor="Ada L."), Told(GOOD), facts=policy_bundle.facts, now=NOW
    )

    assert isinstance(found, Undecided)
    assert found.reasons == ("question.actor",)
