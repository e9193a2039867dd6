"""A cell follows its source, and nothing that the source does makes it decide worse."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.policy_world import NOW, QUESTION, tenants
from support.publishing import Publisher, expecting, small, two_laws, with_rules

from policy import archive, gate
from policy.active import Release
from policy.archive import Packed
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import BundleError, EngineError, FetchError
from policy.fetch import FileSource
from policy.follow import Follower
from policy.gate import Expected
from policy.model import Allowed
from policy.release import Releases

pytestmark = pytest.mark.anyio

OLD, NEW = two_laws()
TIGHT = small(
    tenants=tenants() | {"tight": tenants()["tight"] | {"retention": {"raw_audio_seconds": 60}}}
)


class World:
    """A source that a test publishes to, a clock it moves, and cells that follow."""

    def __init__(self, home: Path, publisher: Publisher) -> None:
        self.at = NOW
        self.publisher = publisher
        self.releases = Releases(home / "bundles")
        self.file = home / "bundle.tar.gz"
        self.told: list[tuple[str, str]] = []
        self.followers: list[Follower] = []

    def publish(self, bundle: Bundle, issued: int) -> None:
        """Publish *bundle*, signed."""
        archive.place(self.publisher.publish(bundle, issued), self.file)

    def cell(self, *, served: bool = False, opened: Callable[[Bundle], Release] | None = None,
             poll_s: float = 15.0, expected: Expected | None = None) -> Follower:  # fmt: skip
        """Return a cell that has not begun."""

        def note(event: str, *, revision: str = "", reason: str = "") -> None:
            self.told.append((event, revision or reason))

        follower = Follower(
            self.releases,
            expected=expected or expecting(OLD),
            opened=opened or embedded,
            served=served,
            now=lambda: self.at,
            told=note,
            source=FileSource(self.file),
            keys=self.publisher.keys,
            poll_s=poll_s,
            deadline_s=10,
        )
        self.followers.append(follower)
        return follower


def embedded(bundle: Bundle) -> Release:
    """Open *bundle* on an engine of its own."""
    engine = EmbeddedEngine(bundle)
    return Release(facts=bundle.facts, engine=engine, close=engine.aclose)


@pytest.fixture
async def world(tmp_path: Path, publisher: Publisher) -> AsyncIterator[World]:
    """Yield a world whose source publishes the old law."""
    found = World(tmp_path, publisher)
    found.publish(OLD, 1)
    yield found
    for follower in found.followers:
        await follower.aclose()


async def test_the_first_release_comes_from_the_source(world: World) -> None:
    """And is kept, for replays and for the next start."""
    cell = world.cell()

    await cell.begin()

    assert cell.active.facts.revision == OLD.revision
    assert world.releases.state is not None
    assert world.releases.bundle(OLD.revision)
    assert isinstance(await cell.active.decide(QUESTION), Allowed)


async def test_without_any_release_nothing_starts(world: World, stranger: Publisher) -> None:
    """A cell without law is not a cell."""
    archive.place(stranger.publish(OLD), world.file)
    with pytest.raises(BundleError, match="none of the verification keys"):
        await world.cell().begin()
    world.file.unlink()
    with pytest.raises(FetchError, match="cannot be read"):
        await world.cell().begin()
    cell = world.cell()
    with pytest.raises(EngineError, match=r"engine\.closed"):
        _ = cell.active


async def test_a_publication_is_put_in_force(world: World) -> None:
    """The next decision is the new law's."""
    cell = world.cell()
    await cell.begin()
    world.publish(NEW, 2)

    await cell.poll()

    assert cell.active.facts.revision == NEW.revision
    assert ("policy.activated", NEW.revision) in world.told
    assert set(world.releases.revisions()) == {OLD.revision, NEW.revision}


def spoilt(world: World) -> dict[str, Callable[[], bytes]]:
    """Return what nobody should enforce, by what is wrong with it."""
    publish = world.publisher.publish
    mute = with_rules(OLD, route="package vocustody.route\n\ndecision := 1\n")
    return {
        "not readable": lambda: b"<html>",
        "unsigned": lambda: archive.pack(OLD, issued=9),
        "issued 0 is not newer than 1": lambda: publish(NEW, 0),
        "issued 1 is not newer than 1": lambda: publish(NEW, 1),
        "answer.type": lambda: publish(mute, 9),
        "not in this cell's registry": lambda: publish(foreign(), 9),
    }


def foreign() -> Bundle:
    """Return the law of a cell with other processors."""
    rows = [dict(row) for row in OLD.data["processors"]]
    rows[0]["id"] = "stt.foreign"
    return small(processors=rows)


async def test_what_is_refused_changes_nothing(world: World) -> None:
    """The old release stays, ages, and the status says what was wrong."""
    cell = world.cell()
    await cell.begin()
    await cell.poll()

    for number, (match, raw) in enumerate(spoilt(world).items(), start=1):
        archive.place(raw(), world.file)
        world.at += 100
        await cell.poll()
        refusal = world.releases.refusal
        assert refusal is not None
        assert match in refusal.fault
        assert cell.active.facts.revision == OLD.revision
        assert cell.age == 100 * number
    assert len([event for event, _ in world.told if event == "policy.refused"]) == 6
    world.publish(NEW, 10)
    await cell.poll()
    assert world.releases.refusal is None
    assert cell.age == 0


async def test_a_refused_publication_confirms_nothing_later(world: World) -> None:
    """That the source still publishes rubbish says nothing for the release in force."""
    cell = world.cell()
    await cell.begin()
    archive.place(b"rubbish", world.file)

    await cell.poll()
    world.at += 60
    await cell.poll()

    assert cell.age == 60
    assert len([event for event, _ in world.told if event == "policy.refused"]) == 1


async def test_an_unchanged_publication_confirms(world: World) -> None:
    """A source that is there and says the same stands by it."""
    cell = world.cell()
    await cell.begin()
    world.at += 500
    aged = cell.age

    await cell.poll()

    assert (aged, cell.age) == (500, 0)


async def test_a_source_that_is_gone_confirms_nothing(world: World) -> None:
    """The release decides on, and its age counts."""
    cell = world.cell()
    await cell.begin()
    await cell.poll()
    world.file.unlink()
    world.at += 86_401

    with pytest.raises(FetchError):
        await cell.poll()

    assert cell.age == 86_401
    assert isinstance(await cell.active.decide(QUESTION), Allowed)


async def test_a_restart_is_no_confirmation(world: World) -> None:
    """Else a cell that is cut off could be kept young by restarting it."""
    await world.cell().begin()
    world.file.unlink()
    world.at += 1000
    again = world.cell()

    await again.begin()

    assert again.active.facts.revision == OLD.revision
    assert again.age == 1000


async def test_a_key_that_is_out_enforces_nothing(world: World, stranger: Publisher) -> None:
    """Not even from disk: the next start asks the source."""
    await world.cell().begin()
    world.publisher = stranger

    with pytest.raises(BundleError, match="none of the verification keys"):
        await world.cell().begin()


async def test_a_rollback_is_a_pin(world: World) -> None:
    """At once, whatever is published, over a restart, until it is taken away."""
    cell = world.cell()
    await cell.begin()
    world.publish(NEW, 2)
    await cell.poll()

    published = cell.offered.bundle.revision
    world.releases.pin(OLD.revision)
    await cell.poll()
    pinned = cell.active.facts.revision
    offered = cell.offered.bundle.revision
    again = world.cell()
    await again.begin()
    await again.poll()
    restarted = again.active.facts.revision
    world.releases.unpin()
    await cell.poll()

    assert (pinned, restarted) == (OLD.revision, OLD.revision)
    assert (published, offered, again.offered.bundle.revision) == (
        NEW.revision,
        *[OLD.revision] * 2,
    )
    assert cell.active.facts.revision == NEW.revision


async def test_what_is_signed_anew_is_offered(world: World, stranger: Publisher) -> None:
    """The law stays; a server that trusts the new key only must be able to load it."""
    cell = world.cell()
    await cell.begin()
    cell._keys = [*world.publisher.keys, *stranger.keys]
    again = stranger.publish(OLD, 1)

    archive.place(again, world.file)
    await cell.poll()

    assert cell.offered.raw == again
    assert cell.active.facts.revision == OLD.revision


async def test_what_is_refused_is_not_offered(world: World, stranger: Publisher) -> None:
    """A server of ours never has what the gate has not seen."""
    cell = world.cell()
    await cell.begin()
    archive.place(stranger.publish(NEW, 2), world.file)

    await cell.poll()

    assert cell.offered.bundle.revision == OLD.revision


async def test_a_rollback_needs_no_source(world: World) -> None:
    """In an incident the publisher may be the incident."""
    cell = world.cell()
    await cell.begin()
    world.publish(NEW, 2)
    await cell.poll()
    world.file.unlink()

    world.releases.pin(OLD.revision)
    with pytest.raises(FetchError):
        await cell.poll()

    assert cell.active.facts.revision == OLD.revision


async def test_it_follows_by_itself(world: World) -> None:
    """In the background, until it is closed; and says once that a release is stale."""
    cell = world.cell(poll_s=0.01)
    await cell.begin()
    cell.start()
    world.publish(NEW, 2)
    await until(lambda: cell.active.facts.revision == NEW.revision)

    world.file.unlink()
    await until(lambda: ("policy.poll_failed", "FetchError") in world.told)
    world.at += 900
    await until(lambda: ("policy.stale", NEW.revision) in world.told)
    await asyncio.sleep(0.05)

    assert world.told.count(("policy.stale", NEW.revision)) == 1


async def until(holds: Callable[[], bool]) -> None:
    """Wait until *holds*."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(0.01)


async def test_a_pin_does_not_wait_for_the_next_poll(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick is enough; an hourly poll would make it an hour."""
    monkeypatch.setattr("policy.follow.TICK_S", 0.01)
    cell = world.cell(poll_s=3600)
    await cell.begin()
    world.publish(NEW, 2)
    await cell.poll()
    cell.start()

    world.releases.pin(OLD.revision)

    await until(lambda: cell.active.facts.revision == OLD.revision)


class Served:
    """A server that answers with nothing yet."""

    name = "opa"

    async def evaluate(self, _entrypoint: str, _question: object) -> object:
        """Give no answer."""
        raise EngineError("engine.unreachable")


async def test_a_server_is_followed_to_what_it_has(world: World) -> None:
    """What it did not swap to is not confirmed: its age shows that nobody enforces the new law."""
    server = Served()
    cell = world.cell(served=True, opened=lambda b: Release(facts=b.facts, engine=server))
    await cell.begin()
    await cell.poll()
    world.publish(NEW, 2)
    world.at += 50

    await cell.poll()

    assert cell.active.facts.revision == OLD.revision
    assert cell.active.staged == NEW.facts
    assert cell.age == 50
    world.releases.pin(OLD.revision)
    await cell.poll()
    assert cell.active.staged is None
    assert cell.age == 0


async def test_after_a_restart_a_server_may_still_be_behind(world: World) -> None:
    """The release that was staged and the one before are both expected."""
    server = Served()

    def opened(bundle: Bundle) -> Release:
        return Release(facts=bundle.facts, engine=server)

    cell = world.cell(served=True, opened=opened)
    await cell.begin()
    world.publish(NEW, 2)
    await cell.poll()
    again = world.cell(served=True, opened=opened)

    await again.begin()

    assert again.active.facts == OLD.facts
    assert again.active.staged == NEW.facts


async def test_a_bundle_built_here_passes_the_gate_too(world: World) -> None:
    """Settings can be wrong as well as publications; its age is always nothing."""

    def built(bundle: Bundle) -> Packed:
        return Packed(bundle=bundle, issued=0, raw=archive.pack(bundle))

    def cell() -> Follower:
        follower = Follower(
            world.releases, expected=expecting(OLD), opened=embedded, served=False,
            now=lambda: world.at, told=lambda *_, **__: None,
        )  # fmt: skip
        world.followers.append(follower)
        return follower

    with pytest.raises(BundleError, match="not in this cell's registry"):
        await cell().begin(built(foreign()))
    ours = cell()
    await ours.begin(built(OLD))
    world.at += 10_000

    assert ours.age == 0
    assert world.releases.bundle(OLD.revision)
    later = cell()
    await later.begin(built(NEW))
    assert later.active.facts.revision == NEW.revision


async def late(*_: object, **__: object) -> None:
    """Refuse a bundle because this machine is busy."""
    raise BundleError("deny corpus: a question in order in DE: engine.late")


async def test_what_a_busy_moment_refused_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source says the same ever after: a good law that was once late would never come."""
    cell = world.cell()
    await cell.begin()
    world.publish(NEW, 2)
    with monkeypatch.context() as busy:
        busy.setattr("policy.gate.admit", late)
        await cell.poll()
    refused = cell.active.facts.revision

    world.at += 60
    await cell.poll()

    assert refused == OLD.revision
    assert cell.active.facts.revision == NEW.revision
    assert world.releases.refusal is None
    assert cell.age == 0


async def test_what_a_full_disk_refused_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody makes room: nobody should have to publish the same law anew."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cell = world.cell()
    await cell.begin()
    world.publish(NEW, 2)
    with monkeypatch.context() as busy:
        busy.setattr(world.releases, "keep", full)
        with pytest.raises(OSError, match="No space"):
            await cell.poll()

    world.at += 60
    await cell.poll()

    assert cell.active.facts.revision == NEW.revision


async def test_a_state_that_was_not_written_is_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a restart would bring the law before back, and nobody would know."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    cell = world.cell()
    await cell.begin()
    world.publish(NEW, 2)
    with monkeypatch.context() as busy:
        busy.setattr(world.releases, "activate", full)
        with pytest.raises(OSError, match="No space"):
            await cell.poll()

    await cell.poll()

    assert cell.revision == NEW.revision
    assert world.releases.state is not None
    assert world.releases.state.revision == NEW.revision


async def test_what_stays_bad_costs_one_rehearsal_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rehearsal is a process and some thousand questions."""
    held = list[int]()

    async def count(*_: object, **__: object) -> None:
        held.append(world.at)
        await late()

    cell = world.cell()
    await cell.begin()
    start = world.at
    world.publish(NEW, 2)
    monkeypatch.setattr("policy.gate.admit", count)
    for _ in range(13):
        await cell.poll()
        world.at += 15

    assert held == [start, start + 60, start + 120, start + 180]


async def test_what_nobody_signed_is_not_looked_at_again(
    world: World, stranger: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are what is wrong with it, and they stay what they are."""
    cell = world.cell()
    await cell.begin()
    archive.place(stranger.publish(NEW, 2), world.file)
    await cell.poll()
    world.at += 3600
    monkeypatch.setattr(cell, "_keys", stranger.keys)

    await cell.poll()

    assert cell.active.facts.revision == OLD.revision


async def test_nothing_that_is_published_ends_the_following(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that stopped listening would never hear of the next law."""

    def broken(*_: object, **__: object) -> None:
        raise KeyError("what nobody thought of")

    cell = world.cell(poll_s=0.01)
    await cell.begin()
    before = cell.alive
    cell.start()
    with monkeypatch.context() as spoilt:
        spoilt.setattr("policy.archive.unpack", broken)
        archive.place(b"anything", world.file)
        await until(lambda: ("policy.poll_failed", "KeyError") in world.told)
    world.publish(NEW, 2)
    await until(lambda: cell.active.facts.revision == NEW.revision)

    assert (before, cell.alive) == (False, True)
    await cell.aclose()
    assert not cell.alive


async def test_a_pin_that_cannot_be_read_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever restores the directory's rights has a cell that still follows."""

    def unreadable(_: Releases) -> str:
        raise PermissionError

    monkeypatch.setattr("policy.follow.TICK_S", 0.01)
    cell = world.cell(poll_s=3600)
    await cell.begin()
    cell.start()
    await asyncio.sleep(0.05)  # the first poll is over

    monkeypatch.setattr(Releases, "pinned", property(unreadable))

    await until(lambda: ("policy.poll_failed", "PermissionError") in world.told)
    assert cell.alive


async def test_who_follows_nothing_is_well(world: World) -> None:
    """A bundle built here has no source that could be lost."""
    cell = world.cell()
    cell._source = None

    assert cell.alive


def tightened(seconds: int = 60) -> Expected:
    """Return what a cell expects whose settings now keep recordings for *seconds*."""
    return expecting(OLD, tight={"raw_audio_seconds": seconds})


async def test_a_kept_release_that_became_too_loose_starts_nothing(world: World) -> None:
    """What the settings tighten holds from the next start on, whatever was in force before."""
    await world.cell().begin()
    again = world.cell(expected=tightened())

    with pytest.raises(BundleError, match="raw_audio_seconds is longer"):
        await again.begin()

    with pytest.raises(EngineError, match=r"engine\.closed"):
        _ = again.active
    assert world.releases.refusal is not None
    assert "raw_audio_seconds is longer" in world.releases.refusal.fault
    assert ("policy.refused", "BundleError") in world.told


async def test_a_kept_release_that_became_too_loose_gives_way_to_the_source(world: World) -> None:
    """The publisher may have followed the settings already."""
    await world.cell().begin()
    world.publish(TIGHT, 2)
    again = world.cell(expected=tightened())

    await again.begin()

    assert again.active.facts.revision == TIGHT.revision
    assert world.releases.refusal is None


async def test_a_server_is_not_followed_to_what_became_too_loose(world: World) -> None:
    """A server that still has it is undecided until it takes the new law."""
    server = Served()

    def opened(bundle: Bundle) -> Release:
        return Release(facts=bundle.facts, engine=server)

    await world.cell(served=True, opened=opened).begin()
    world.publish(TIGHT, 2)
    again = world.cell(served=True, opened=opened, expected=tightened())

    await again.begin()

    assert again.active.facts == TIGHT.facts
    assert again.active.staged is None


async def test_a_pin_stands_the_gate_too(world: World) -> None:
    """A rollback goes back in law, not behind what the settings say today."""
    await world.cell().begin()
    world.publish(TIGHT, 2)
    world.releases.pin(OLD.revision)
    again = world.cell(expected=tightened())

    await again.begin()
    begun = again.active.facts.revision
    with pytest.raises(BundleError, match="raw_audio_seconds is longer"):
        await again.poll()

    assert (begun, again.active.facts.revision) == (TIGHT.revision, TIGHT.revision)
    assert world.releases.refusal is not None
    assert "raw_audio_seconds is longer" in world.releases.refusal.fault


async def test_a_pin_that_is_set_later_stands_the_gate_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept is not admitted: what was kept under other settings may be named at any time."""
    await world.cell().begin()
    world.publish(TIGHT, 2)
    again = world.cell(expected=tightened())
    await again.begin()
    real, held = gate.admit, list[int]()

    async def count(packed: Packed, **named: Any) -> None:
        held.append(world.at)
        await real(packed, **named)

    monkeypatch.setattr("policy.gate.admit", count)
    start = world.at
    world.releases.pin(OLD.revision)
    for _ in range(5):
        with pytest.raises(BundleError):
            await again.poll()
        world.at += 15

    assert held == [start + 60]  # at its start it was refused as well
    assert again.active.facts.revision == TIGHT.revision
