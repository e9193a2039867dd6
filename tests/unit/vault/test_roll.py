"""Rolling a bucket: whatever happens on the way, the living open and the erased never do."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed
from support.custody import Clock, FaultyObjects

from vault import keysheet, roll
from vault.errors import GoneError, KeyLostError, KeyringError
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keys import Keys
from vault.model import WrappedKey
from vault.tables import buckets, subject_keys

KEK = "subjects-0000"
STEPS = ("begun", "batch", "rewrapped", "sheet", "trimmed", "finished")
PEOPLE = [f"s{number}" for number in range(7)]


class KilledError(Exception):
    """The process died here."""


@dataclass
class World:
    """One bucket of people, and everything that a roll needs."""

    engine: AsyncEngine
    keyring: LocalKeyring
    keeper: LocalKeeper
    objects: FaultyObjects
    clock: Clock
    home: Path

    def keys(self) -> Keys:
        """Return the keys as another process sees them: nothing in memory, one bucket."""
        return Keys(self.engine, self.keyring, region="eu-1", now=self.clock, buckets=1)

    async def secret(self, subject: str) -> bytes:
        """Return what *subject*'s key derives."""
        return await self.keys().small_key(subject, "memory", create=True)

    async def roll(self, die_at: str = "") -> roll.Rolled:
        """Roll the bucket, or die at a step."""

        def reached(step: str) -> None:
            if step == die_at:
                raise KilledError(step)

        return await roll.roll(
            self.engine,
            self.keeper,
            self.objects,
            KEK,
            agreed(self.clock()),
            now=self.clock,
            reached=reached,
        )

    async def rows(self) -> Sequence[dict[str, object]]:
        """Return every row of the key table."""
        async with self.engine.connect() as connection:
            return [dict(row._mapping) for row in await connection.execute(select(subject_keys))]

    async def put_back(self, rows: Sequence[dict[str, object]]) -> None:
        """Restore *rows* from a backup of the key table."""
        async with self.engine.begin() as tx:
            for row in rows:
                mine = subject_keys.c.subject == row["subject"]
                await tx.execute(update(subject_keys).where(mine).values(**row))


@pytest.fixture
async def world(
    tables: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, vault_clock: Clock
) -> World:
    """Return a bucket with seven people in it."""
    home = keyring._keks._path
    world = World(tables, keyring, LocalKeeper(home), objects, vault_clock, home)
    for subject in PEOPLE:
        await world.secret(subject)
    return world


@pytest.mark.anyio
@pytest.mark.parametrize("step", STEPS)
async def test_a_roll_that_died_is_finished_and_nobody_is_lost(world: World, step: str) -> None:
    """Between any two steps the machine may go: the living must open, the erased must not."""
    before = {subject: await world.secret(subject) for subject in PEOPLE}
    backup = await world.rows()
    await world.keys().destroy_subject("s3")
    world.clock.pass_by(seconds=1)

    with pytest.raises(KilledError, match=step):
        await world.roll(die_at=step)
    halfway = {name: await world.secret(name) for name in PEOPLE if name != "s3"}
    done = await world.roll()

    living = {name: secret for name, secret in before.items() if name != "s3"}
    assert halfway == living
    assert {name: await world.secret(name) for name in living} == living
    assert (done.rows, done.lost) == (6, 0)
    await world.put_back([row for row in backup if row["subject"] == "s3"])
    with pytest.raises(KeyLostError):
        await world.secret("s3")
    assert await roll.due(world.engine, erased_before=0) == []


@pytest.mark.anyio
async def test_a_batch_at_a_time_is_wrapped_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket has more rows than a request: every one of them must be moved."""
    monkeypatch.setattr(roll, "BATCH", 2)
    before = [await world.secret(subject) for subject in PEOPLE]

    done = await world.roll()

    assert [await world.secret(subject) for subject in PEOPLE] == before
    assert {row["version"] for row in await world.rows()} == {done.version} == {2}


@pytest.mark.anyio
async def test_who_is_erased_during_a_roll_waits_for_the_next(world: World) -> None:
    """The sheet may hold their key under the new version: this roll proves nothing for them."""
    rolled_once = world.roll

    def erased_at(step: str) -> None:
        erased.append(step)

    erased: list[str] = []
    await roll.roll(
        world.engine,
        world.keeper,
        world.objects,
        KEK,
        agreed(world.clock()),
        now=world.clock,
        reached=erased_at,
    )
    await world.keys().destroy_subject("s1")  # the same second as the roll began

    assert await roll.hardened(world.engine, "s1") is None
    assert await roll.due(world.engine, erased_before=2**40) == [KEK]
    world.clock.pass_by(seconds=1)
    await rolled_once()
    assert await roll.hardened(world.engine, "s1") == world.clock.at
    assert await roll.due(world.engine, erased_before=2**40) == []


@pytest.mark.anyio
async def test_an_erasure_during_the_rewrap_is_not_undone(world: World) -> None:
    """Writing the new ciphertext over a row that was just erased would bring the person back."""

    class Erasing(LocalKeeper):
        async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
            anew = await super().rewrap(wrapped)
            if any(isinstance(one, WrappedKey) and one.version == 2 for one in anew):
                await world.keys().destroy_subject("s2")  # read, and not yet written
            return anew

    world.keeper = Erasing(world.home)

    done = await world.roll()

    assert done.rows == 6
    with pytest.raises(GoneError):
        await world.secret("s2")


@pytest.mark.anyio
async def test_a_key_made_during_a_roll_outlives_it(world: World) -> None:
    """A new person's key wrapped by the old version would die with the trim."""

    class Slow(LocalKeyring):
        async def wrap(self, kek: str, key: bytes) -> WrappedKey:
            made = await super().wrap(kek, key)
            if not rolled:
                rolled.append(await world.roll())
            return made

    rolled: list[roll.Rolled] = []
    world.keyring = Slow(world.home)

    secret = await world.secret("s-new")

    assert rolled[0].version == 2
    assert await world.secret("s-new") == secret


@pytest.mark.anyio
@pytest.mark.parametrize("rotated", [1, 2])
async def test_nothing_is_trimmed_while_the_key_service_is_away(world: World, rotated: int) -> None:
    """A roll that cannot wrap the living again must not kill their old rows."""

    class Away(LocalKeeper):
        async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
            if (await super().keks())[0].newest == rotated:
                return [KeyringError("away") for _ in wrapped]
            return await super().rewrap(wrapped)

    before = await world.secret("s1")
    keeper, world.keeper = world.keeper, Away(world.home)

    with pytest.raises(KeyringError):
        await world.roll()

    assert [kek.oldest for kek in await keeper.keks() if kek.name == KEK] == [1]
    assert await world.secret("s1") == before


@pytest.mark.anyio
async def test_a_damaged_row_is_counted_and_stops_nobody(world: World) -> None:
    """One row that never opened again would otherwise keep everybody's erasure waiting."""
    async with world.engine.begin() as tx:
        bad = {"ciphertext": "local:v1:AAAA"}
        await tx.execute(update(subject_keys).where(subject_keys.c.subject == "s5").values(**bad))

    done = await world.roll()

    assert (done.rows, done.lost) == (6, 1)


@pytest.mark.anyio
async def test_a_roll_is_due_when_an_erasure_is_old_enough_or_wanted_now(world: World) -> None:
    """Hard erasure has a day; whoever asks for it at once gets it at once."""
    await world.keys().destroy_subject("s1")
    stamp = int(world.clock.at.timestamp())

    assert await roll.due(world.engine, erased_before=stamp) == []
    assert await roll.due(world.engine, erased_before=stamp + 1) == [KEK]
    async with world.engine.begin() as tx:
        await roll.want(tx, "s1", world.clock())
    assert await roll.due(world.engine, erased_before=0) == [KEK]


@pytest.mark.anyio
async def test_an_older_database_serves_the_living_from_the_keysheet(world: World) -> None:
    """A backup that opens for nobody is no backup; one that opens for the erased is worse."""
    before = {subject: await world.secret(subject) for subject in PEOPLE}
    backup = await world.rows()
    await world.keys().destroy_subject("s3")
    world.clock.pass_by(seconds=1)
    await world.roll()
    async with world.engine.begin() as tx:
        await tx.execute(buckets.delete())
    await world.put_back(backup)

    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == [KEK]

    for subject in PEOPLE:
        if subject == "s3":
            with pytest.raises(KeyLostError):
                await world.secret(subject)
        else:
            assert await world.secret(subject) == before[subject]


@pytest.mark.anyio
async def test_a_restored_key_service_is_rolled_again(world: World) -> None:
    """The snapshot brings the old version back, and with it every key that was to be dead."""
    backup = await world.rows()
    shutil.copytree(world.home, world.home.with_name("snapshot"))
    await world.keys().destroy_subject("s3")
    world.clock.pass_by(seconds=1)
    await world.roll()
    shutil.rmtree(world.home)
    world.home.with_name("snapshot").rename(world.home)
    await world.put_back(backup)
    readable = await world.secret("s3")
    await world.keys().destroy_subject("s3")  # what the journal of tombstones demands first

    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == [KEK]
    assert await roll.due(world.engine, erased_before=0) == [KEK]
    world.clock.pass_by(seconds=1)
    await world.roll()

    assert readable
    await world.put_back([row for row in backup if row["subject"] == "s3"])
    with pytest.raises(KeyLostError):
        await world.secret("s3")
    assert await world.secret("s4")


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["keysheets/subjects-0000/x", "keysheets/other/3", "keysheets/a"])
async def test_what_is_no_sheet_stops_no_keeper(world: World, name: str) -> None:
    """Whoever can write beside the objects must not keep the erased alive by a file's name."""
    await world.secret("s1")
    await world.objects.put(name, b"{}")

    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == []
    assert await keysheet.kept(world.objects) == {}


@pytest.mark.anyio
async def test_a_trim_that_was_undone_is_done_again(world: World) -> None:
    """A key service restored between the sheet and the trim opens what should be dead."""
    await world.roll()
    (world.home / f"{KEK}.1.key").write_bytes(bytes(32))
    (world.home / f"{KEK}.1.key").chmod(0o600)

    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == [KEK]

    assert [kek.oldest for kek in await world.keeper.keks() if kek.name == KEK] == [2]
    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == []


@pytest.mark.anyio
async def test_only_the_newest_sheet_is_kept(world: World) -> None:
    """An older sheet is a copy of keys that nobody needs."""
    await world.roll()
    await world.roll()

    with pytest.raises(KilledError):
        await world.roll(die_at="finished")
    assert await keysheet.kept(world.objects) == {KEK: [3, 4]}
    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == []
    assert await keysheet.kept(world.objects) == {KEK: [4]}
    assert [n for n in await world.objects.names() if n.startswith(keysheet.PREFIX)] == [
        keysheet.name_of(KEK, 4)
    ]


@pytest.mark.anyio
async def test_a_trim_that_was_undone_is_known_without_a_sheet(world: World) -> None:
    """Key service and objects were put back together: the database alone knows of the roll."""
    await world.roll()
    await world.objects.delete(keysheet.name_of(KEK, 2))
    (world.home / f"{KEK}.1.key").write_bytes(bytes(32))
    (world.home / f"{KEK}.1.key").chmod(0o600)

    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == [KEK]

    assert [kek.oldest for kek in await world.keeper.keks() if kek.name == KEK] == [2]


@pytest.mark.anyio
async def test_a_key_service_behind_the_database_is_told_and_left(world: World) -> None:
    """The database of its day may still be put back: a roll would trim what that one needs."""
    await world.roll()
    await world.objects.delete(keysheet.name_of(KEK, 2))
    (world.home / f"{KEK}.2.key").rename(world.home / f"{KEK}.1.key")

    assert await roll.heal(world.engine, world.keeper, world.objects, now=world.clock) == [KEK]

    assert await roll.due(world.engine, erased_before=0) == []
    keks = [kek for kek in await world.keeper.keks() if kek.name == KEK]
    assert [(kek.oldest, kek.newest) for kek in keks] == [(1, 1)]
