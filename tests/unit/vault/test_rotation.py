"""Rolling a KEK for its age: names and months live on, readers and makers notice nothing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import AFTER, agreed
from support.custody import Clock, FaultyObjects, label

from vault import keysheet, roll
from vault.errors import GoneError, KeyLostError
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keys import Keys
from vault.model import WrappedKey
from vault.tables import buckets, ending_keks, epoch_keys, hanging, named_keys, subject_keys

MONTH = "txt-202611"
PEPPER = "named-pepper"
STEPS = ("begun", "batch", "rewrapped", "sheet", "trimmed", "finished")


class KilledError(Exception):
    """The process died here."""


@dataclass
class World:
    """A cell's keys and who keeps them."""

    engine: AsyncEngine
    keyring: LocalKeyring
    keeper: LocalKeeper
    objects: FaultyObjects
    clock: Clock
    home: Path

    def keys(self) -> Keys:
        """Return the keys as another process sees them: nothing in memory."""
        return Keys(self.engine, self.keyring, region="eu-central-1", now=self.clock, buckets=1)

    async def opened(self) -> tuple[bytes, bytes]:
        """Return the pepper, and what the month's key and a person's derive."""
        keys = self.keys()
        return await keys.named("pepper"), await keys.artifact_key(label(), MONTH, create=True)

    async def roll(self, kek: str, reached: Callable[[str], None] | None = None) -> roll.Rolled:
        """Roll *kek*."""
        more = {} if reached is None else {"reached": reached}
        return await roll.roll(
            self.engine,
            self.keeper,
            self.objects,
            kek,
            agreed(self.clock()),
            now=self.clock,
            **more,
        )

    async def backup(self, table: Table) -> list[dict[str, Any]]:
        """Return the rows of *table*."""
        async with self.engine.connect() as connection:
            return [dict(row._mapping) for row in await connection.execute(select(table))]

    async def put_back(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Restore *table* from a backup."""
        async with self.engine.begin() as tx:
            await tx.execute(delete(table))
            await tx.execute(table.insert(), list(rows))

    async def heal(self) -> list[str]:
        """Do what a keeper does at its first tick."""
        return await roll.heal(self.engine, self.keeper, self.objects, now=self.clock)

    async def aged(self) -> list[str]:
        """Return what is older than a quarter."""
        before = self.clock() - timedelta(days=90)
        return await roll.aged(self.engine, await self.keeper.keks(), rotated_before=before)


@pytest.fixture
async def world(
    tables: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, vault_clock: Clock
) -> World:
    """Return keys of every kind."""
    home = keyring._keks._path
    world = World(tables, keyring, LocalKeeper(home), objects, vault_clock, home)
    await world.opened()
    return world


@pytest.mark.anyio
@pytest.mark.parametrize("kek", [PEPPER, MONTH])
@pytest.mark.parametrize("step", STEPS)
async def test_a_rotation_that_died_is_finished(world: World, kek: str, step: str) -> None:
    """The pepper finds everybody, a month opens everybody's transcripts: neither may be lost."""

    def die(at: str) -> None:
        if at == step:
            raise KilledError(at)

    before = await world.opened()
    old = (await world.backup(hanging(kek)))[0]
    with pytest.raises(KilledError, match=step):
        await world.roll(kek, die)
    halfway = await world.opened()

    await world.roll(kek)

    assert halfway == await world.opened() == before
    [found] = [each for each in await world.keeper.keks() if each.name == kek]
    assert found.oldest == found.newest >= 2
    dead = WrappedKey(kek=kek, version=old["version"], ciphertext=old["ciphertext"])
    assert not await world.keys().opens(dead)
    assert await roll.due(world.engine, erased_before=0) == []


@pytest.mark.anyio
async def test_what_is_old_and_needed_is_to_be_rotated(world: World) -> None:
    """A KEK on which nothing hangs is destroyed, not rotated; one that ends has its own end."""
    assert await world.aged() == []
    world.clock.at += timedelta(days=3650)

    assert await world.aged() == [PEPPER, "subjects-0000", MONTH]
    await world.keys().destroy_epoch(MONTH, AFTER)
    await world.keys().destroy_subject("s1")
    assert await world.aged() == [PEPPER]
    async with world.engine.begin() as tx:
        await tx.execute(ending_keks.insert().values(kek=PEPPER, since=0))
    assert await world.aged() == []


@pytest.mark.anyio
@pytest.mark.parametrize(("kek", "table"), [(PEPPER, named_keys), (MONTH, epoch_keys)])
async def test_an_older_database_finds_the_key_in_its_sheet(
    world: World, kek: str, table: Table
) -> None:
    """Else the backup of the day before the rotation would find nobody, or open nothing."""
    before, backup = await world.opened(), await world.backup(table)
    await world.roll(kek)
    await world.put_back(table, backup)
    with pytest.raises(KeyLostError):
        await world.opened()

    assert await world.heal() == [kek]

    assert await world.opened() == before


@pytest.mark.anyio
async def test_a_destroyed_key_is_not_brought_back_by_its_sheet(world: World) -> None:
    """The sheet serves the living; the row says who is not."""
    await world.roll(MONTH)
    await world.keys().destroy_epoch(MONTH, AFTER)

    assert await world.heal() == []

    with pytest.raises(GoneError):
        await world.keys().artifact_key(label(), MONTH)


@pytest.mark.anyio
async def test_who_was_erased_in_the_restored_database_stays_so(world: World) -> None:
    """The sheet is newer than their row, and may hold them: they left while it was written."""
    backup = await world.backup(subject_keys)
    await world.roll("subjects-0000")
    await world.put_back(subject_keys, backup)
    await world.keys().destroy_subject("s1")

    assert await world.heal() == []

    [row] = await world.backup(subject_keys)
    assert (row["ciphertext"], row["version"]) == (None, 1)


@pytest.mark.anyio
async def test_a_sheet_without_kek_and_rows_goes(world: World) -> None:
    """It opens nothing any more, and would be called a loss at every start."""
    await world.roll(MONTH)
    await world.keys().destroy_epoch(MONTH, AFTER)
    await world.keeper.destroy(MONTH)

    assert await world.heal() == []
    assert MONTH not in await keysheet.kept(world.objects)


@pytest.mark.anyio
async def test_a_kek_that_is_missed_keeps_its_sheet(world: World) -> None:
    """It may come back from a snapshot, and then the sheet is what serves an older database."""
    await world.roll(PEPPER)
    await world.keeper.destroy(PEPPER)

    assert await world.heal() == [PEPPER]
    assert PEPPER in await keysheet.kept(world.objects)


@pytest.mark.anyio
async def test_a_key_service_of_another_day_stops_the_roll(world: World) -> None:
    """Rolled all the same, the trim would kill the version that the right backup needs."""
    (world.home / f"{PEPPER}.2.key").unlink(missing_ok=True)
    first = (world.home / f"{PEPPER}.1.key").read_bytes()
    backup = await world.backup(named_keys)
    before = await world.opened()
    await world.roll(PEPPER)
    (world.home / f"{PEPPER}.2.key").unlink()
    (world.home / f"{PEPPER}.1.key").write_bytes(first)
    (world.home / f"{PEPPER}.1.key").chmod(0o600)

    for _ in range(2):  # the second finds what the first has left
        assert await world.heal() == [PEPPER]
        with pytest.raises(KeyLostError, match=PEPPER):
            await world.roll(PEPPER)

    [found] = [each for each in await world.keeper.keks() if each.name == PEPPER]
    assert (found.oldest, found.newest) == (1, 1)
    await world.put_back(named_keys, backup)
    assert await world.heal() == [PEPPER]
    assert await roll.due(world.engine, erased_before=0) == [PEPPER]
    await world.roll(PEPPER)
    assert await world.opened() == before


@pytest.mark.anyio
async def test_a_reader_that_a_roll_overtakes_reads_again(world: World) -> None:
    """Its row was read before the roll and unwrapped after the trim: nothing is lost."""

    class Slow(LocalKeyring):
        async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
            if not rolled:
                rolled.append(await world.roll("subjects-0000"))
            return await super().unwrap(wrapped)

    rolled: list[roll.Rolled] = []
    before = await world.keys().small_key("s1", "memory")
    world.keyring = Slow(world.home)

    assert await world.keys().small_key("s1", "memory") == before
    assert [each.version for each in rolled] == [2]


@pytest.mark.anyio
async def test_who_is_erased_while_a_roll_overtakes_the_reader_is_erased(world: World) -> None:
    """The second look must say what the row says, and not that a key was lost."""

    class Slow(LocalKeyring):
        async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
            if not rolled:
                await world.keys().destroy_subject("s1")
                rolled.append(await world.roll("subjects-0000"))
            return await super().unwrap(wrapped)

    rolled: list[roll.Rolled] = []
    world.keyring = Slow(world.home)

    with pytest.raises(GoneError):
        await world.keys().small_key("s1", "memory")
    assert rolled


@pytest.fixture
async def anywhere(
    each_db: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, vault_clock: Clock
) -> World:
    """Return the same on each database: PostgreSQL has many connections at once."""
    home = keyring._keks._path
    world = World(each_db, keyring, LocalKeeper(home), objects, vault_clock, home)
    await world.opened()
    return world


@pytest.mark.anyio
async def test_readers_and_makers_never_miss_a_key_while_all_is_rolled(anywhere: World) -> None:
    """Rotation without downtime: what is read, and what is made, opens before and after it."""
    world = anywhere
    over = asyncio.Event()
    made: dict[str, bytes] = {}
    reads = 0
    pepper, month = await world.opened()

    async def make() -> None:
        while not over.is_set():
            subject = f"s-new-{len(made)}"
            made[subject] = await world.keys().small_key(subject, "memory", create=True)

    async def read() -> None:
        nonlocal reads
        while not over.is_set():
            assert await world.opened() == (pepper, month)
            reads += 1

    async def roll_all() -> None:
        try:
            for _ in range(4):
                for kek in (PEPPER, MONTH, "subjects-0000"):
                    await world.roll(kek)
        finally:
            over.set()

    async with asyncio.TaskGroup() as group:
        for task in (roll_all(), make(), make(), read(), read()):
            group.create_task(task)

    assert reads
    assert {one: await world.keys().small_key(one, "memory") for one in made} == made
    async with world.engine.connect() as connection:
        oldest = (await connection.execute(select(func.min(subject_keys.c.version)))).scalar()
    assert made
    assert oldest == 5


@pytest.mark.anyio
async def test_a_damaged_name_is_never_rolled_over(world: World) -> None:
    """A bucket gives up one bad row; here it is the only one, and a backup may still be good."""
    [row] = await world.backup(named_keys)
    async with world.engine.begin() as tx:
        await tx.execute(update(named_keys).values(ciphertext="local:v1:AAAA"))

    with pytest.raises(KeyLostError):
        await world.roll(PEPPER)

    assert await world.keys().opens(WrappedKey(kek=PEPPER, version=1, ciphertext=row["ciphertext"]))
    async with world.engine.connect() as connection:
        begun = select(buckets.c.kek).where(buckets.c.began_at.is_not(None))
        assert (await connection.execute(begun)).all() == []
