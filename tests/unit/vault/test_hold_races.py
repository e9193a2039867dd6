"""
A hold against a deletion, an erasure and a store, on both databases: one of two is first.

Each side has an engine of its own, as another process has; who is let go first is drawn.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from support.agreeing import agreed
from support.custody import START, Clock, label
from support.postgres import Postgres

from gateway import db, migrations
from vault import held, holds, ledger, orders
from vault.custody import Custody
from vault.errors import CustodyError, GoneError
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import Hold, HoldState, Kind, Scope, Taken
from vault.objects.local import LocalObjects
from vault.retention import sweep
from vault.tables import held as copies
from vault.tables import retention

RACES = 500  # on each database
STORED = 100
ERASED = 100
PAUSE_S = 0.5  # longer than a proposal takes
NOTE = b"OggS where was this recording at 14:14"
DAY = timedelta(hours=12)
LATER = START + timedelta(days=30)


@dataclass(slots=True, kw_only=True)
class Sides:
    """Who holds and who ends: the same tables, keys and objects, seen from two processes."""

    holder: Custody
    ender: Custody
    clock: Clock
    chance: random.Random
    url: str
    outcomes: list[str] = field(default_factory=list)
    took: float = 0.01

    async def race(self, one: Awaitable[object], other: Awaitable[object]) -> None:
        """Let both run; *other* begins before *one*, beside it or after it, as it is drawn."""
        loop = asyncio.get_running_loop()
        # As long as the last one took, however busy the machine is.
        shift = self.chance.uniform(-1.5, 1.5) * self.took

        async def timed() -> None:
            await asyncio.sleep(max(0.0, -shift))
            began = loop.time()
            await one
            self.took = loop.time() - began

        async def after() -> None:
            await asyncio.sleep(max(0.0, shift))
            await other

        await asyncio.gather(timed(), after())


@pytest.fixture(params=["sqlite", "postgresql"])
async def sides(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sides]:
    """Yield both sides on each database in turn."""
    url = f"sqlite+aiosqlite:///{tmp_path}/cell.db"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = (await server.create(password="pw")).replace("@", ":pw@")
    engines = [db.connect(url), db.connect(url)]
    await migrations.upgrade(engines[0])
    clock = Clock()
    holder, ender = (_custody(engine, tmp_path, clock) for engine in engines)
    seed = random.randrange(2**32)
    yield Sides(holder=holder, ender=ender, clock=clock, chance=random.Random(seed), url=url)
    for engine in engines:
        await engine.dispose()


def _custody(engine: AsyncEngine, home: Path, clock: Clock) -> Custody:
    keys = Keys(engine, LocalKeyring(home / "keys"), region="eu-central-1", now=clock)
    return Custody(engine, keys, LocalObjects(home / "objects"), now=clock)


def order(clock: Clock, number: int, **about: tuple[str, ...]) -> Hold:
    """Return the hold of case *number*."""
    scope, until = Scope(tenant="fernruf", **about), LATER + timedelta(days=30)  # type: ignore[arg-type]
    case = f"case-{number}"
    return Hold(
        id=orders.ident_of(case, "BGB", scope, clock.at, until),
        case=case,
        ground="BGB",
        scope=scope,
        state=HoldState.OPENING,
        placed_by="p_1",
        placed_role="dpo",
        proposed_at=clock.at,
        expires_at=until,
    )


async def proposed(sides: Sides, hold: Hold, into: list[Taken]) -> None:
    """Propose *hold*, and put what it keeps into *into*."""
    into.append(await holds.propose(sides.holder, hold))


async def held_by(engine: AsyncEngine, artifact: str) -> tuple[str | None, int]:
    """Return the hold on *artifact*'s clock, and how many copies of its key holds have."""
    async with db.reading(engine) as tx:
        hold = select(retention.c.hold).where(retention.c.artifact == artifact)
        named = (await tx.execute(hold)).scalar()
        mine = select(copies).where(copies.c.artifact == artifact)
        return named, len((await tx.execute(mine)).all())


@pytest.mark.timeout(600)
@pytest.mark.anyio
async def test_a_thousand_holds_against_deletions(sides: Sides) -> None:
    """D-04: held is intact and opens through the hold; deleted is "too late"; never both."""
    for number in range(RACES):
        name = f"a{number}"
        # The deletion is a sweep by a clock that is a second ahead, or somebody's order.
        swept = number % 2 == 0
        due = sides.clock.at + timedelta(seconds=1) if swept else LATER
        artifact = await sides.ender.put(NOTE, label(name, kind=Kind.TRANSCRIPT), due)
        hold, taken = order(sides.clock, number, artifacts=(name,)), list[Taken]()
        refused: list[bool] = []

        async def end(
            due: object = due, artifact: object = artifact, refused: list[bool] = refused
        ) -> None:
            if due != LATER:
                refused.append(not await sweep(agreed(due), sides.ender, owner="w2"))  # type: ignore[arg-type]
                return
            try:
                await sides.ender.destroy(artifact, reason="erasure")  # type: ignore[arg-type]
                refused.append(False)
            except CustodyError:
                refused.append(True)

        await sides.race(proposed(sides, hold, taken), end())

        await _one_of_two(sides, hold, taken[0], name, ended=not refused[0])
    counted = {outcome: sides.outcomes.count(outcome) for outcome in ("held", "too late")}
    assert min(counted.values()) > RACES // 20, counted


async def _one_of_two(sides: Sides, hold: Hold, taken: Taken, name: str, *, ended: bool) -> None:
    row = await ledger.find(sides.ender.engine, name)
    assert row is not None
    state, kept = row.state, taken.kept == (name,)
    assert (kept, ended) in {(True, False), (False, True)}, (name, state, taken)
    assert taken.too_late == (() if kept else (name,))
    if kept:
        sides.outcomes.append("held")
        await holds.place(sides.holder.engine, hold.id, by="p_2", at=sides.clock.at)
        assert await holds.read(sides.holder, hold.id, name) == NOTE
        assert (state, await held_by(sides.holder.engine, name)) == ("kept", (hold.id, 1))
        return
    sides.outcomes.append("too late")
    assert (state, await held_by(sides.holder.engine, name)) == ("destroyed", (None, 0))
    with pytest.raises(GoneError):
        await sides.ender.objects.get(row.object_name)


@pytest.mark.timeout(300)
@pytest.mark.anyio
async def test_what_is_stored_while_its_person_is_put_under_a_hold_is_held(sides: Sides) -> None:
    """Stored before or after, it is in the hold's scope: no order of the two misses it."""
    for number in range(STORED):
        name, subject = f"a{number}", f"s{number}"
        first = await sides.ender.put(NOTE, label(f"b{number}", subject=subject), START + DAY)
        hold, taken = order(sides.clock, number, subjects=(subject,)), list[Taken]()
        stored = sides.ender.put(NOTE, label(name, subject=subject), START + DAY)

        await sides.race(proposed(sides, hold, taken), stored)

        assert await held_by(sides.ender.engine, first.label.artifact) == (hold.id, 1)
        assert await held_by(sides.ender.engine, name) == (hold.id, 1), number
        sides.outcomes.append("found" if name in taken[0].kept else "stored later")
        await holds.place(sides.holder.engine, hold.id, by="p_2", at=sides.clock.at)
        assert await holds.read(sides.holder, hold.id, name) == NOTE
    assert {"found", "stored later"} <= set(sides.outcomes)


@pytest.mark.anyio
async def test_a_hold_waits_for_what_is_being_stored(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store asked for holds before there was one, and commits after that: still held."""
    looked, inner = asyncio.Semaphore(0), held.covering

    async def slow(tx: AsyncConnection, artifact: str) -> set[str]:
        found = await inner(tx, artifact)
        looked.release()
        await asyncio.sleep(PAUSE_S)
        return found

    monkeypatch.setattr(held, "covering", slow)
    hold, taken = order(sides.clock, 1, subjects=("s1",)), list[Taken]()

    async def then_propose() -> None:
        for _ in range(2):
            await looked.acquire()
        await proposed(sides, hold, taken)

    await asyncio.gather(sides.ender.put(NOTE, label("a1"), START + DAY), then_propose())

    assert await held_by(sides.ender.engine, "a1") == (hold.id, 1)
    assert taken[0].kept == ("a1",)


@pytest.mark.anyio
async def test_a_hold_ends_after_what_is_being_stored_for_it(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that names a hold which is over would never run again."""
    looked, inner = asyncio.Semaphore(0), held.covering

    async def slow(tx: AsyncConnection, artifact: str) -> set[str]:
        found = await inner(tx, artifact)
        looked.release()
        await asyncio.sleep(PAUSE_S)
        return found

    hold = order(sides.clock, 1, subjects=("s1",))
    await holds.propose(sides.holder, hold)
    monkeypatch.setattr(held, "covering", slow)

    async def then_end() -> None:
        for _ in range(4):  # the second time with a copy
            await looked.acquire()
        await holds.end_due(sides.holder.engine, agreed(sides.clock.at + timedelta(hours=24)))

    await asyncio.gather(sides.ender.put(NOTE, label("a1"), START + DAY), then_end())

    assert await held_by(sides.ender.engine, "a1") == (None, 0)


@pytest.mark.timeout(300)
@pytest.mark.anyio
async def test_a_hold_against_an_erasure_of_the_key(sides: Sides) -> None:
    """Erased first, nothing of the person comes back; held first, the evidence opens."""
    for number in range(ERASED):
        name, subject = f"a{number}", f"s{number}"
        await sides.holder.put(NOTE, label(name, subject=subject), START + DAY)
        hold, taken = order(sides.clock, number, artifacts=(name,)), list[Taken]()

        await sides.race(proposed(sides, hold, taken), sides.ender.keys.destroy_subject(subject))

        kept = taken[0].kept == (name,)
        sides.outcomes.append("held" if kept else "too late")
        assert await held_by(sides.ender.engine, name) == ((hold.id, 1) if kept else (None, 0))
        if kept:
            await holds.place(sides.holder.engine, hold.id, by="p_2", at=sides.clock.at)
            assert await holds.read(sides.ender, hold.id, name) == NOTE
    assert {"held", "too late"} == set(sides.outcomes)


@pytest.mark.timeout(300)
@pytest.mark.anyio
async def test_a_hold_that_ends_while_something_is_stored_keeps_nothing(sides: Sides) -> None:
    """A clock that names a hold which is over would never run again."""
    for number in range(STORED):
        name, subject = f"a{number}", f"s{number}"
        hold = order(sides.clock, number, subjects=(subject,))
        await holds.propose(sides.holder, hold)
        stored = sides.ender.put(NOTE, label(name, subject=subject), START + DAY)
        lapsed = holds.end_due(sides.holder.engine, agreed(sides.clock.at + timedelta(hours=24)))

        await sides.race(lapsed, stored)

        assert await held_by(sides.ender.engine, name) == (None, 0), number
