"""A swap is one assignment: old or new, never a mixture, never a gap."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from support.policy_world import NOW, QUESTION
from support.publishing import two_laws

from policy.access import Action, Permitted, Reading, Request, Role
from policy.active import Active, Release
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import EngineError
from policy.model import Allowed, Asked, Undecided

pytestmark = pytest.mark.anyio

OLD, NEW = two_laws()


class Gated:
    """The real engine, which answers when told to, and says when it was closed."""

    def __init__(self, bundle: Bundle) -> None:
        self._engine = EmbeddedEngine(bundle)
        self.name = self._engine.name
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.closed = False

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """Answer after *go*."""
        self.asked.set()
        await self.go.wait()
        return await self._engine.evaluate(entrypoint, question)

    async def aclose(self) -> None:
        """Close."""
        self.closed = True
        await self._engine.aclose()


class Server:
    """A server that has one bundle at a time, as OPA does, and counts its answers."""

    name = "opa"

    def __init__(self, bundle: Bundle) -> None:
        self.engines = {b.revision: EmbeddedEngine(b) for b in (OLD, NEW)}
        self.bundle = bundle
        self.answers = 0

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """Answer with the bundle that is loaded now."""
        self.answers += 1
        return await self.engines[self.bundle.revision].evaluate(entrypoint, question)

    async def aclose(self) -> None:
        """Close every engine."""
        for engine in self.engines.values():
            await engine.aclose()


def released(bundle: Bundle) -> tuple[Release, Gated]:
    """Return a release with an engine of its own."""
    engine = Gated(bundle)
    return Release(facts=bundle.facts, engine=engine, close=engine.aclose), engine


async def test_a_decision_ends_on_the_engine_it_began_with() -> None:
    """And the engine is closed after that, not under it."""
    old, slow = released(OLD)
    new, quick = released(NEW)
    active = Active(old, deadline_s=10)
    quick.go.set()

    before = asyncio.create_task(active.decide(QUESTION))
    await slow.asked.wait()
    await active.swap(new)
    after = await active.decide(QUESTION)
    open_meanwhile = not slow.closed
    slow.go.set()
    found = await before
    await active.aclose()

    assert isinstance(found, Allowed)
    assert isinstance(after, Allowed)
    assert found.provenance.revision == OLD.revision
    assert after.provenance.revision == NEW.revision
    assert "stt.first.eu-west" in found.processors
    assert "stt.first.eu-west" not in after.processors
    assert open_meanwhile
    assert slow.closed
    assert quick.closed


async def test_an_unused_engine_is_closed_at_once() -> None:
    """Each holds a thread and the whole registry."""
    old, engine = released(OLD)
    new, other = released(NEW)
    active = Active(old, deadline_s=10)

    await active.swap(new)

    assert engine.closed
    assert not other.closed
    await active.aclose()


async def test_a_server_may_swap_before_or_after_us() -> None:
    """Each answer is held against the facts of the revision that gave it, and asked for once."""
    server = Server(OLD)
    active = Active(Release(facts=OLD.facts, engine=server), deadline_s=10)

    await active.stage(Release(facts=NEW.facts, engine=server))
    still = await active.decide(QUESTION)
    expected = active.staged
    server.bundle = NEW
    swapped = await active.decide(QUESTION)
    await server.aclose()

    assert still.provenance.revision == OLD.revision
    assert expected == NEW.facts
    assert swapped.provenance.revision == NEW.revision
    assert swapped.provenance.data_sha256 == NEW.data_sha256
    assert isinstance(swapped, Allowed)
    assert active.facts == NEW.facts
    assert active.staged is None
    assert server.answers == 2


async def test_a_server_does_not_swap_back() -> None:
    """Once the new law has answered, an answer by the old one is of another revision."""
    server, strange = Server(NEW), []
    active = Active(
        Release(facts=OLD.facts, engine=server),
        strange=lambda: strange.append("asked"),
        deadline_s=10,
    )
    await active.stage(Release(facts=NEW.facts, engine=server))

    await active.decide(QUESTION)
    server.bundle = OLD
    found = await active.decide(QUESTION)
    await server.aclose()

    assert isinstance(found, Undecided)
    assert found.reasons == ("answer.revision",)
    assert strange == ["asked"]


ERASE = Request(
    actor="u_1",
    role=Role.DPO,
    tenant="acme",
    action=Action.ERASE,
    object="s_1",
    owner="acme",
    purpose=Reading.RIGHTS,
)


async def test_who_may_do_what_follows_the_same_swap() -> None:
    """A role that a new release took away must not live on beside it."""
    server, strange = Server(NEW), []
    active = Active(
        Release(facts=OLD.facts, engine=server),
        strange=lambda: strange.append("asked"),
        deadline_s=10,
    )

    unexpected = await active.access(ERASE, now=NOW)
    await active.stage(Release(facts=NEW.facts, engine=server))
    swapped = await active.access(ERASE, now=NOW)
    await server.aclose()

    assert isinstance(unexpected, Undecided)
    assert unexpected.reasons == ("answer.revision",)
    assert strange == ["asked"]
    assert isinstance(swapped, Permitted)
    assert swapped.provenance.revision == NEW.revision
    assert active.facts == NEW.facts


async def test_what_was_unstaged_is_not_expected() -> None:
    """A publication that was withdrawn before the server had it is not the law."""
    server = Server(OLD)
    active = Active(Release(facts=OLD.facts, engine=server), deadline_s=10)
    await active.stage(Release(facts=NEW.facts, engine=server))

    await active.unstage()
    server.bundle = NEW
    found = await active.decide(QUESTION)
    await server.aclose()

    assert found.reasons == ("answer.revision",)


async def test_what_is_kept_is_the_decision_that_counts() -> None:
    """A replay reproduces one answer of one revision: the one that was used."""
    server, asked = Server(NEW), list[Asked]()
    active = Active(Release(facts=OLD.facts, engine=server), deadline_s=10)
    await active.stage(Release(facts=NEW.facts, engine=server))

    found = await active.decide(QUESTION, asked.append)
    await server.aclose()

    (kept,) = asked
    assert kept.provenance == found.provenance
    assert kept.provenance.revision == NEW.revision


async def test_a_fault_is_asked_once() -> None:
    """A server that is down is not asked again for the other release."""

    class Down(Server):
        async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
            self.answers += 1
            raise EngineError("engine.unreachable")

    server = Down(OLD)
    active = Active(Release(facts=OLD.facts, engine=server), deadline_s=10)
    await active.stage(Release(facts=NEW.facts, engine=server))

    found = await active.decide(QUESTION)
    await server.aclose()

    assert found.reasons == ("engine.unreachable",)
    assert server.answers == 1


async def test_hundreds_of_decisions_across_a_swap() -> None:
    """Every one is of one law, whole; none fails for being in between."""
    active = Active(_opened(OLD), deadline_s=10)

    async def some() -> list[Any]:
        return [await active.decide(QUESTION) for _ in range(25)]

    tasks = [asyncio.create_task(some()) for _ in range(16)]
    for bundle in (NEW, OLD, NEW, OLD, NEW):
        await asyncio.sleep(0.02)
        await active.swap(_opened(bundle))
    found = [decision for some in await asyncio.gather(*tasks) for decision in some]
    await active.aclose()

    assert len(found) == 400
    assert {type(decision) for decision in found} == {Allowed}, {d.reasons for d in found}
    for decision in found:
        old = decision.provenance.revision == OLD.revision
        assert ("stt.first.eu-west" in decision.processors) == old
        assert decision.provenance.data_sha256 == (OLD if old else NEW).data_sha256


def _opened(bundle: Bundle) -> Release:
    engine = EmbeddedEngine(bundle)
    return Release(facts=bundle.facts, engine=engine, close=engine.aclose)
