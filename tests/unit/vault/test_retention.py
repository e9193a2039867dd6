"""The clocks: late rather than never, once rather than twice."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed
from support.custody import START, Clock, FaultyObjects, label

from gateway import db
from vault.custody import Custody
from vault.errors import GoneError, ObjectsError
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import Artifact, Kind, Tombstone
from vault.retention import LEASE_S, Reconciled, overdue, reconcile, recorded, sweep, unrecorded
from vault.tables import epoch_keys, retention

NOTE = b"OggS"
DUE = START + timedelta(hours=6)


async def clock_row(engine: AsyncEngine, artifact: str = "a1") -> dict[str, object]:
    """Return the clock of *artifact*."""
    async with engine.connect() as connection:
        found = await connection.execute(select(retention).where(retention.c.artifact == artifact))
        return dict(found.one()._mapping)


async def epochs(engine: AsyncEngine) -> dict[str, bool]:
    """Return which epochs still have a key."""
    async with engine.connect() as connection:
        rows = await connection.execute(select(epoch_keys))
        return {row.epoch: row.ciphertext is not None for row in rows}


@pytest.mark.anyio
async def test_only_what_is_due_is_destroyed(custody: Custody, vault_clock: Clock) -> None:
    """A sweep too early destroys somebody's answer; too late breaks the promise."""
    soon = await custody.put(NOTE, label("a1"), DUE)
    later = await custody.put(NOTE, label("a2"), DUE + timedelta(hours=1))
    assert await sweep(agreed(DUE - timedelta(seconds=1)), custody, owner="w1") == []
    vault_clock.at = DUE

    stones = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert [stone.label for stone in stones] == [soon.label]
    assert stones[0].reason == "retention.expired"
    assert await custody.open(later) == NOTE
    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []


@pytest.mark.anyio
async def test_two_days_of_downtime_are_made_up_and_said(
    custody: Custody, vault_clock: Clock
) -> None:
    """Everything was down for 48 hours: the next sweep deletes, and does not hide the delay."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE + timedelta(hours=48)
    assert await overdue(vault_clock(), custody.engine) == 48 * 3600

    [stone] = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert (stone.late_seconds, stone.due) == (48 * 3600, DUE)
    assert await overdue(vault_clock(), custody.engine) == 0


@pytest.mark.anyio
async def test_two_sweepers_share_the_work(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """Two replicas tick at once: each row has one proof, and one deletion."""
    names = {f"a{number}" for number in range(12)}
    for name in sorted(names):
        await custody.put(NOTE, label(name), DUE)
    vault_clock.at = DUE

    swept = await asyncio.gather(
        *(sweep(agreed(vault_clock()), custody, owner=f"w{number}", limit=5) for number in range(4))
    )

    found = [stone.label.artifact for stones in swept for stone in stones]
    assert sorted(found) == sorted(names)
    assert len(objects.deletions) == len(set(objects.deletions)) == len(names)


@pytest.mark.anyio
async def test_a_failure_is_tried_again_after_a_pause(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """The store is down: the row stays due, and does not keep the sweeper busy."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE
    objects.fail_before.add("delete")

    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    first = await clock_row(custody.engine)
    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    second = await clock_row(custody.engine)
    objects.fail_before.clear()
    vault_clock.pass_by(seconds=2)
    stones = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert (first["state"], first["attempts"], first["lease_owner"]) == ("due", 1, "")
    assert first["next_try_at"] == int(DUE.timestamp()) + 2
    assert second["attempts"] == 1
    assert [stone.late_seconds for stone in stones] == [2]


@pytest.mark.anyio
async def test_nothing_is_ever_given_up(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """A row that failed two hundred times is still somebody's voice."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE
    async with custody.engine.begin() as tx:
        await tx.execute(update(retention).values(attempts=200))
    objects.fail_before.add("delete")
    await sweep(agreed(vault_clock()), custody, owner="w1")
    pause = int(str((await clock_row(custody.engine))["next_try_at"])) - int(DUE.timestamp())
    objects.fail_before.clear()

    vault_clock.pass_by(seconds=pause)

    assert pause <= 900
    assert len(await sweep(agreed(vault_clock()), custody, owner="w1")) == 1


@pytest.mark.anyio
async def test_deleted_but_told_it_failed(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """The store did it and the answer was lost: the next try must succeed, not stumble."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE
    objects.fail_after.add("delete")
    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    objects.fail_after.clear()
    vault_clock.pass_by(seconds=2)

    assert len(await sweep(agreed(vault_clock()), custody, owner="w1")) == 1


@pytest.mark.anyio
async def test_a_destruction_is_listed_until_it_is_recorded(
    custody: Custody, vault_clock: Clock
) -> None:
    """A crash between the row and the audit trail must not lose the only proof there is."""
    vault_clock.at += timedelta(microseconds=1500)
    early = await custody.put(NOTE, label("z1"), DUE)
    await custody.put(NOTE, label("a1"), DUE)
    first = await custody.destroy(early, reason="erasure")
    vault_clock.at = DUE + timedelta(microseconds=2500)
    [second] = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert await unrecorded(custody.engine) == [first, second]
    assert await unrecorded(custody.engine, limit=1) == [first]
    assert await custody.destroy(early, reason="again") == first

    await recorded(custody.engine, ["z1"], vault_clock())
    assert await unrecorded(custody.engine) == [second]
    await recorded(custody.engine, [], vault_clock())
    assert await unrecorded(custody.engine) == [second]
    await recorded(custody.engine, ["z1", "a1"], vault_clock() + timedelta(hours=1))
    assert await unrecorded(custody.engine) == []
    assert (await clock_row(custody.engine, "z1"))["recorded_at"] == int(DUE.timestamp())


@pytest.mark.anyio
async def test_only_what_was_destroyed_can_be_recorded(
    custody: Custody, vault_clock: Clock
) -> None:
    """Confirmed too soon, a destruction would later pass for one that the trail holds."""
    await custody.put(NOTE, label(), DUE)
    await recorded(custody.engine, ["a1"], vault_clock())
    vault_clock.at = DUE

    stones = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert await unrecorded(custody.engine) == stones


class Refusing(Custody):
    """
    A custody in which the database is lost at *artifact*, and, if so told, from there on.

    It cannot take many together, so each is tried by itself.
    """

    artifact = "a1"
    drops_engine = False

    async def destroy_all(self, *_: object, **__: object) -> list[Tombstone]:
        """Fail as a driver does."""
        raise OperationalError("update", None, RuntimeError("lost"))

    async def destroy(
        self, artifact: Artifact, *, reason: str, lease: str | None = None
    ) -> Tombstone:
        """Destroy, or fail as a driver does: with an error that is not ours."""
        if artifact.label.artifact != self.artifact:
            return await super().destroy(artifact, reason=reason, lease=lease)
        if self.drops_engine:
            self.engine = db.connect("sqlite+aiosqlite:////nowhere/cell.db")
        raise OperationalError("update", None, RuntimeError("lost"))


@pytest.mark.anyio
async def test_an_unexpected_error_is_put_off_as_any_other(
    custody: Custody, vault_clock: Clock
) -> None:
    """A database error at one row: the row is tried again, and the others are not lost."""
    for name in ("a0", "a1", "a2"):
        await custody.put(NOTE, label(name), DUE)
    faulty = Refusing(custody.engine, custody.keys, custody.objects, now=vault_clock)
    vault_clock.at = DUE

    stones = await sweep(agreed(vault_clock()), faulty, owner="w1")

    assert {stone.label.artifact for stone in stones} == {"a0", "a2"}
    assert (await clock_row(custody.engine))["next_try_at"] == int(DUE.timestamp()) + 2


@pytest.mark.anyio
async def test_what_goes_together_goes_without_what_cannot(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """A hundred thousand that are due go many at a time; one that is held or stuck stays due."""
    for name in ("a0", "a1", "a2"):
        await custody.put(NOTE, label(name), DUE)
    [(_, stuck)] = await custody.objects_of(["a1"])
    async with custody.engine.begin() as tx:
        lease = {"lease_owner": "w1"}
        await tx.execute(update(retention).values(lease))
        held = update(retention).where(retention.c.artifact == "a2")
        await tx.execute(held.values(hold="case-1"))
    vault_clock.at = DUE
    inner, tried = objects.delete, []

    async def delete(name: str) -> None:
        tried.append(name)
        if name == stuck:
            raise ObjectsError("told to fail")
        await inner(name)

    objects.delete = delete  # type: ignore[method-assign]

    stones = await custody.destroy_all(["a0", "a1", "a2"], reason="due", lease="w1")

    assert [stone.label.artifact for stone in stones] == ["a0"]
    assert len(tried) == 2
    assert await custody.destroy_all(["a1"], reason="due", lease="another's") == []


@pytest.mark.anyio
async def test_a_database_lost_in_the_middle_loses_no_proof(
    custody: Custody, vault_clock: Clock
) -> None:
    """Not even putting off works then: what was destroyed before is still returned."""
    await custody.put(NOTE, label("a0"), DUE - timedelta(seconds=1))
    await custody.put(NOTE, label("a1"), DUE)
    faulty = Refusing(custody.engine, custody.keys, custody.objects, now=vault_clock)
    faulty.drops_engine = True
    vault_clock.at = DUE

    stones = await sweep(agreed(vault_clock()), faulty, owner="w1")
    await faulty.engine.dispose()

    assert [stone.label.artifact for stone in stones] == ["a0"]
    assert (await clock_row(custody.engine))["state"] == "due"


@pytest.mark.anyio
async def test_a_key_that_cannot_be_destroyed_stops_no_deletion(
    custody: Custody, vault_clock: Clock
) -> None:
    """An epoch row nobody can read must not keep everybody's bytes."""
    await custody.put(NOTE, label(), DUE)
    odd = {"epoch": "odd", "kek": "odd", "version": 1, "ciphertext": "x"}
    async with custody.engine.begin() as tx:
        await tx.execute(epoch_keys.insert().values(odd))
    vault_clock.at = DUE

    stones = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert [stone.label for stone in stones] == [label()]
    assert (await epochs(custody.engine))["raw-2026112214"] is False


class Overtaken(Custody):
    """A custody in which the note is stored again just before it is closed to reads."""

    async def _destroy(self, *args: Any) -> Tombstone:
        sound = Custody(self.engine, self.keys, self.objects, now=self.now)
        await sound.put(NOTE, label(), DUE - timedelta(hours=1))
        return await super()._destroy(*args)


@pytest.mark.anyio
async def test_a_row_taken_over_before_its_end_is_proved_as_it_ended(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """Its object is another one by then and its clock a sooner one: those are what must end."""
    objects.fail_before.add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)
    objects.fail_before.clear()
    [announced] = await custody.of_subject("s1")
    overtaken = Overtaken(custody.engine, custody.keys, objects, now=vault_clock)

    stone = await overtaken.destroy(announced, reason="erasure")

    assert stone.due == DUE - timedelta(hours=1)
    assert await unrecorded(custody.engine) == [stone]
    assert await objects.names() == []


@pytest.mark.anyio
async def test_the_rows_of_a_dead_sweeper_come_back(custody: Custody, vault_clock: Clock) -> None:
    """It was killed with rows in hand: after the lease another one takes them."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE
    at = int(DUE.timestamp())
    async with custody.engine.begin() as tx:
        leased = {"lease_owner": "dead/1", "lease_until": at + LEASE_S}
        await tx.execute(update(retention).values(leased))

    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    vault_clock.pass_by(seconds=LEASE_S)

    assert len(await sweep(agreed(vault_clock()), custody, owner="w1")) == 1


@pytest.mark.anyio
async def test_a_sweeper_that_lost_its_lease_writes_no_proof(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """It hung past its lease: the proof belongs to whoever holds the row now."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE

    class Slow(FaultyObjects):
        """Loses the lease while it deletes."""

        async def delete(self, name: str) -> None:
            """Delete, after somebody else took the row."""
            async with custody.engine.begin() as tx:
                await tx.execute(update(retention).values(lease_owner="w2/1"))
            await FaultyObjects.delete(self, name)

    slow = Custody(custody.engine, custody.keys, Slow(objects.directory), now=vault_clock)

    assert await sweep(agreed(vault_clock()), slow, owner="w1") == []
    row = await clock_row(custody.engine)
    assert (row["state"], row["lease_owner"]) == ("due", "w2/1")


@pytest.mark.anyio
async def test_a_held_row_is_not_swept_and_not_overdue(
    custody: Custody, vault_clock: Clock
) -> None:
    """A legal hold stops the clock and keeps the bytes; the hour's key dies all the same."""
    await custody.put(NOTE, label(), DUE)
    async with custody.engine.begin() as tx:
        await tx.execute(update(retention).values(hold="case-1"))
    vault_clock.at = DUE + timedelta(days=3)

    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    assert await overdue(vault_clock(), custody.engine) == 0
    assert await epochs(custody.engine) == {"raw-2026112214": False}
    assert (await clock_row(custody.engine))["state"] == "due"


@pytest.mark.anyio
async def test_a_spent_epoch_loses_its_key(custody: Custody, vault_clock: Clock) -> None:
    """Whatever copy of that hour's audio is left somewhere can be read by nobody."""
    first = await custody.put(NOTE, label("a1"), DUE)
    await custody.put(NOTE, label("a2"), DUE + timedelta(hours=1))
    await custody.put(NOTE, label("t1", kind=Kind.TRANSCRIPT), DUE + timedelta(days=30))
    vault_clock.at = DUE
    [early] = await sweep(agreed(vault_clock()), custody, owner="w1")
    assert all((await epochs(custody.engine)).values())

    vault_clock.at = DUE + timedelta(hours=1)
    [last] = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert early.methods == ("object-deleted",)
    assert last.methods == ("key-destroyed", "object-deleted")
    assert await epochs(custody.engine) == {"raw-2026112214": False, "txt-202611": True}
    with pytest.raises(GoneError):
        await custody.keys.artifact_key(first.label, first.epoch)


@pytest.mark.anyio
async def test_the_key_dies_on_time_even_if_the_object_does_not(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """An object store that is down for a week must not prolong anybody's audio."""
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE
    objects.fail_before.add("delete")

    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []

    assert await epochs(custody.engine) == {"raw-2026112214": False}
    assert len(await objects.names()) == 1


@pytest.mark.anyio
async def test_an_epoch_that_is_not_over_keeps_its_key(
    custody: Custody, vault_clock: Clock
) -> None:
    """All that was stored so far is due, and the next note of this hour is on its way."""
    await custody.put(NOTE, label("a1"), START + timedelta(minutes=5))
    vault_clock.pass_by(minutes=10)

    await sweep(agreed(vault_clock()), custody, owner="w1")

    assert await epochs(custody.engine) == {"raw-2026112214": True}
    assert (await custody.put(NOTE, label("a2"), DUE)).epoch == "raw-2026112214"


@pytest.mark.anyio
async def test_bytes_are_deleted_while_the_keyring_is_away(
    tables: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """Deleting needs no key: an outage of the keyring must not stop the clocks."""
    keys = Keys(tables, keyring, region="eu-central-1", now=vault_clock)
    custody = Custody(tables, keys, objects, now=vault_clock)
    await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE
    home = keyring._keks._path
    home.rename(home.with_name("away"))

    [stone] = await sweep(agreed(vault_clock()), custody, owner="w1")

    assert stone.methods == ("key-destroyed", "object-deleted")
    assert await epochs(tables) == {"raw-2026112214": False}


@pytest.mark.anyio
async def test_objects_without_a_row_are_found(custody: Custody, objects: FaultyObjects) -> None:
    """A writer that was killed after it lost its row leaves one: nothing else points to it."""
    kept: Artifact = await custody.put(NOTE, label(), DUE)
    await objects.put("ab/stray", b"sealed")

    await objects.put("keysheets/subjects-0000/2", b"sheet")

    assert await reconcile(custody) == Reconciled(strays=1, missing=())

    assert await custody.open(kept) == NOTE
    assert len(await objects.names()) == 2


@pytest.mark.anyio
async def test_a_row_without_its_object_is_named(custody: Custody, objects: FaultyObjects) -> None:
    """Unreadable by fault: if nobody says so, it looks like a deletion that nobody ordered."""
    await custody.put(NOTE, label("a1"), DUE)
    await custody.put(NOTE, label("a2"), DUE)
    await custody.destroy((await custody.of_subject("s1"))[1], reason="erasure")
    for name in await objects.names():
        await objects.delete(name)

    assert await reconcile(custody) == Reconciled(strays=0, missing=("a1",))


@pytest.mark.anyio
async def test_a_clock_before_1970_or_far_away_is_no_trap(custody: Custody) -> None:
    """Nothing is due at the beginning of time, and sweeping then must not fail."""
    await custody.put(NOTE, label(), DUE)

    assert await sweep(agreed(datetime(1970, 1, 1, tzinfo=UTC)), custody, owner="w1") == []
    assert await overdue(datetime(1970, 1, 1, tzinfo=UTC), custody.engine) == 0
