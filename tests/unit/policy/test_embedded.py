"""The embedded engine's own rules; what every engine promises is in the contract."""

import gc

import pytest
from support import policy_world
from support.policy_world import QUESTION, asking

from policy.bundle import Bundle
from policy.decide import decide
from policy.embedded import EmbeddedEngine
from policy.errors import BundleError
from policy.model import Allowed, Denied, Undecided

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("text", ["package", "package vocustody.a\n\nx := {", "not rego"])
def test_rules_that_do_not_parse_are_refused(text: str) -> None:
    """At start, by name; not at the first note of the day."""
    with pytest.raises(BundleError, match="regorus"):
        EmbeddedEngine(Bundle(modules={"a.rego": text}, data={}))


async def test_another_bundle_is_another_engine(policy_bundle: Bundle) -> None:
    """A swap is one assignment: a question sees the old law or the new one, never a mixture."""
    later = policy_world.build(notices=["2027-01"])
    old, new = EmbeddedEngine(policy_bundle), EmbeddedEngine(later)

    before = await decide(QUESTION, old, facts=policy_bundle.facts, deadline_s=10)
    after = await decide(QUESTION, new, facts=later.facts, deadline_s=10)
    mixed = await decide(QUESTION, old, facts=later.facts, deadline_s=10)
    await old.aclose()
    await new.aclose()

    assert isinstance(before, Allowed)
    assert isinstance(after, Denied)
    assert after.reasons == ("notice.unknown",)
    assert isinstance(mixed, Undecided)
    assert mixed.reasons == ("answer.revision",)


async def test_an_engine_dropped_without_closing_does_no_harm(policy_bundle: Bundle) -> None:
    """It may only die in its own thread; elsewhere it would panic into the log."""
    engine = EmbeddedEngine(policy_bundle)
    await decide(asking(held=True), engine, facts=policy_bundle.facts, deadline_s=10)
    thread = next(iter(engine._thread._threads))

    del engine
    gc.collect()
    thread.join(10)

    assert not thread.is_alive()


def test_the_name_says_which_regorus() -> None:
    """A decision is replayed with the engine that made it."""
    engine = EmbeddedEngine(Bundle(modules={"a.rego": "package vocustody.a\n"}, data={}))

    assert engine.name.startswith("embedded/regorus-0.")
