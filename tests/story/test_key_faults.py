"""
Keys on a real OpenBao (raft, audited) that is hurt: what is lost by fault is never called erased.

Every test asserts that its fault happened before it asserts what followed from it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed
from support.custody import Clock, FaultyObjects, label
from support.openbao_raft import RaftBao

from vault import inventory, roll
from vault.errors import GoneError, KeyLostError, KeyringError
from vault.inventory import Expected
from vault.keyrings.client import Transit
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.keys import Keys
from vault.model import WrappedKey
from vault.tables import buckets, named_keys, subject_keys

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

BUCKET = "subjects-0000"
PEPPER = "named-pepper"
MONTH = "txt-202611"
STEPS = ("begun", "batch", "rewrapped", "sheet", "trimmed", "finished")
PEOPLE = ("s1", "s2", "s3")
Rows = list[dict[str, Any]]


class KilledError(Exception):
    """The process died here."""


@dataclass
class World:
    """A cell's keys in one bucket, on a mount of the test's own."""

    server: RaftBao
    mount: str
    engine: AsyncEngine
    objects: FaultyObjects
    clock: Clock

    def transit(self, token: str | None = None, **more: Any) -> Transit:
        """Return requests with *token*'s rights (root's by default)."""
        return Transit(
            self.server.url, lambda: token or self.server.token, mount=self.mount, **more
        )

    @property
    def keeper(self) -> TransitKeeper:
        """Return the keeper's half."""
        return TransitKeeper(self.transit())

    def keys(self, token: str | None = None) -> Keys:
        """Return the keys as another process sees them: nothing in memory."""
        keyring = TransitKeyring(self.transit(token))
        return Keys(self.engine, keyring, region="eu-central-1", now=self.clock, buckets=1)

    async def secret(self, subject: str, token: str | None = None) -> bytes:
        """Return what *subject*'s key derives."""
        return await self.keys(token).small_key(subject, "memory", create=True)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        """Do something to the mount as root; return the status."""
        return self.server.call(method, f"{self.mount}/{path}", body)[0]

    def destroy(self, kek: str) -> None:
        """Destroy *kek* behind everybody's back."""
        assert self.call("POST", f"keys/{kek}/config", {"deletion_allowed": True}) == 200
        assert self.call("DELETE", f"keys/{kek}") == 204

    def trim(self, kek: str) -> None:
        """Rotate and trim *kek* behind everybody's back."""
        assert self.call("POST", f"keys/{kek}/rotate", {}) == 200
        least = {"min_decryption_version": 2, "min_encryption_version": 2}
        assert self.call("POST", f"keys/{kek}/config", least) == 200
        assert self.call("POST", f"keys/{kek}/trim", {"min_available_version": 2}) < 300

    async def roll(self, kek: str = BUCKET, die_at: str = "") -> roll.Rolled:
        """Roll *kek*, or die at a step."""

        def reached(step: str) -> None:
            if step == die_at:
                raise KilledError(step)

        return await roll.roll(
            self.engine,
            self.keeper,
            self.objects,
            kek,
            agreed(self.clock()),
            now=self.clock,
            reached=reached,
        )

    async def heal(self) -> list[str]:
        """Do what the keeper does at its first tick."""
        return await roll.heal(self.engine, self.keeper, self.objects, now=self.clock)

    async def alarms(self) -> dict[str, tuple[str, ...]]:
        """Return what ``vocustody keys`` calls wrong, by KEK."""
        keks = await self.keeper.keks()
        known = await inventory.expected(self.engine)
        for kek in keks:
            if known.get(kek.name, Expected()).keys:
                known[kek.name] = await inventory.tried(
                    self.engine, self.keeper, kek.name, known[kek.name]
                )
        period = timedelta(days=90)
        lines = inventory.lines(keks, known, at=self.clock(), cryptoperiod=period)
        return {line.kek: line.alarms for line in lines if line.alarms}

    async def backup(self) -> tuple[Rows, Rows, Rows]:
        """Return a backup of the database's keys."""
        tables = (subject_keys, named_keys, buckets)
        async with self.engine.connect() as connection:
            found = [
                [dict(row._mapping) for row in await connection.execute(select(table))]
                for table in tables
            ]
        return found[0], found[1], found[2]

    async def put_back(self, backup: tuple[Rows, Rows, Rows]) -> None:
        """Restore the database."""
        async with self.engine.begin() as tx:
            for table, rows in zip((subject_keys, named_keys, buckets), backup, strict=True):
                await tx.execute(delete(table))
                if rows:
                    await tx.execute(table.insert(), rows)


@pytest.fixture
async def world(
    openbao_raft: RaftBao, tables: AsyncEngine, objects: FaultyObjects, vault_clock: Clock
) -> World:
    """Return three people, a pepper and a month on a fresh mount."""
    mount = f"transit-{secrets.token_hex(4)}"
    assert openbao_raft.call("POST", f"sys/mounts/{mount}", {"type": "transit"})[0] == 204
    world = World(openbao_raft, mount, tables, objects, vault_clock)
    assert world.call("POST", "config/keys", {"disable_upsert": True}) < 300
    for subject in PEOPLE:
        await world.secret(subject)
    await world.keys().named("pepper")
    await world.keys().artifact_key(label(), MONTH, create=True)
    return world


def hangs(server: RaftBao) -> bool:
    """Whether *server* takes a request and does not answer it."""
    try:
        server.call("GET", "sys/health", limit_s=0.3)
    except TimeoutError:
        return True
    return False


def copy_of(rows: Sequence[dict[str, Any]], subject: str) -> WrappedKey:
    """Return *subject*'s key as a backup has it."""
    [row] = [row for row in rows if row["subject"] == subject]
    return WrappedKey(kek=row["kek"], version=row["version"], ciphertext=row["ciphertext"])


async def test_all_is_well_without_a_fault(world: World) -> None:
    """Every alarm below means something only if none sounds here."""
    assert await world.alarms() == {}


async def test_a_sealed_server_loses_and_erases_nothing(world: World) -> None:
    """V-01. Sealed is a state that ends: nothing may be written off meanwhile."""
    before = {one: await world.secret(one) for one in PEOPLE}
    world.server.seal()
    assert world.server.health() == 503

    with pytest.raises(KeyringError) as refused:
        await world.secret("s1")
    with pytest.raises(KeyringError):
        await world.roll()
    world.server.unseal()

    assert not isinstance(refused.value, KeyLostError)
    assert {one: await world.secret(one) for one in PEOPLE} == before
    assert (await world.roll()).lost == 0


@pytest.mark.timeout(30)  # eight calls of 3 s at most, one after the other on four sessions
async def test_a_server_that_hangs_is_given_up_call_by_call(world: World) -> None:
    """V-02. It takes every connection and answers none: each call ends by its own limit."""
    before = await world.secret("s1")
    world.server.freeze()
    try:
        while not hangs(world.server):
            pass  # the signal is under way
        with pytest.raises(KeyringError, match="Timeout") as refused:
            await world.secret("s1")
        with pytest.raises(KeyringError, match="Timeout"):
            await world.keeper.keks()
    finally:
        world.server.thaw()

    assert not isinstance(refused.value, KeyLostError)
    assert await world.secret("s1") == before


async def test_a_permission_that_was_lost_is_no_lost_key(world: World) -> None:
    """V-04. A changed policy reads as "not now": the keys are where they were."""
    policy = f'path "{world.mount}/*" {{ capabilities = ["create", "read", "update"] }}'
    name = f"worker-{world.mount}"
    world.server.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
    _, made = world.server.call("POST", "auth/token/create", {"policies": [name]})
    token = made["auth"]["client_token"]
    before = await world.secret("s1", token)
    world.server.call("PUT", f"sys/policies/acl/{name}", {"policy": 'path "none" {}'})
    status, _ = world.server.call("GET", f"{world.mount}/keys/{BUCKET}", token=token)
    assert status == 403

    with pytest.raises(KeyringError, match="403") as refused:
        await world.secret("s1", token)

    assert not isinstance(refused.value, KeyLostError)
    assert await world.keys(token).lives("s1")
    world.server.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
    assert await world.secret("s1", token) == before


async def test_a_kek_that_somebody_destroyed_is_a_fault(world: World) -> None:
    """V-04. Our rows live, so nobody erased these people: loud, and never on a certificate."""
    world.destroy(BUCKET)

    with pytest.raises(KeyLostError, match="s1"):
        await world.keys().small_key("s1", "memory")

    assert not await world.keys().destroyed(label(), MONTH)
    assert await world.keys().lives("s1")
    assert await world.alarms() == {BUCKET: ("missing: living keys are wrapped by it",)}
    await world.keys().destroy_subject("s2")
    world.clock.pass_by(hours=25)
    with pytest.raises((KeyLostError, GoneError)):
        await world.roll()
    assert await roll.hardened(world.engine, "s2") is None


async def test_a_kek_made_again_under_the_name_does_not_hide_the_loss(world: World) -> None:
    """V-04. In every list it looks well, and new people's keys open: only trying shows it."""
    world.destroy(BUCKET)
    await world.secret("s-new")
    assert BUCKET in [kek.name for kek in await world.keeper.keks()]

    with pytest.raises(KeyLostError, match="s1"):
        await world.keys().small_key("s1", "memory")

    assert await world.alarms() == {BUCKET: ("3 of 4 keys that were tried do not open",)}


async def test_a_version_that_somebody_trimmed_is_a_fault(world: World) -> None:
    """V-04. The name is there, newer than ever, and opens nothing that we have."""
    world.trim(BUCKET)

    with pytest.raises(KeyLostError, match="s1"):
        await world.keys().small_key("s1", "memory")

    alarms = (await world.alarms())[BUCKET]
    assert "living keys of destroyed versions" in alarms
    assert "3 of 3 keys that were tried do not open" in alarms
    with pytest.raises(KeyLostError):
        await world.roll()


async def test_an_erased_person_is_not_a_lost_one(world: World) -> None:
    """The other state, beside the faults above: gone by erasure, without an alarm."""
    await world.keys().destroy_subject("s1")
    world.clock.pass_by(seconds=1)
    await world.roll()

    with pytest.raises(GoneError):
        await world.keys().small_key("s1", "memory")

    assert await world.alarms() == {}
    assert await roll.hardened(world.engine, "s1") == world.clock.at


@pytest.mark.parametrize("kek", [BUCKET, PEPPER, MONTH])
@pytest.mark.parametrize("step", STEPS)
async def test_a_roll_that_died_on_a_real_server_is_finished(
    world: World, kek: str, step: str
) -> None:
    """Between any two calls the keeper may go: the living open, and older copies never do."""
    before = {one: await world.secret(one) for one in PEOPLE}
    pepper = await world.keys().named("pepper")
    people, names, _ = await world.backup()
    if kek == BUCKET:
        await world.keys().destroy_subject("s2")
        del before["s2"]
        world.clock.pass_by(seconds=1)

    with pytest.raises(KilledError, match=step):
        await world.roll(kek, step)
    halfway = {one: await world.secret(one) for one in before}
    await world.roll(kek)

    assert halfway == {one: await world.secret(one) for one in before} == before
    assert await world.keys().named("pepper") == pepper
    if kek == BUCKET:
        assert not await world.keys().opens(copy_of(people, "s2"))
    if kek == PEPPER:
        dead = WrappedKey(kek=kek, version=1, ciphertext=names[0]["ciphertext"])
        assert not await world.keys().opens(dead)
    assert await world.alarms() == {}


async def test_a_snapshot_from_before_the_trim_is_trimmed_again(world: World) -> None:
    """V-05. It brings back the version that opens the erased; the keeper's first tick ends it."""
    people, _, _ = await world.backup()
    before = await world.secret("s1")
    await world.keys().destroy_subject("s2")
    world.clock.pass_by(seconds=1)
    with pytest.raises(KilledError):
        await world.roll(die_at="sheet")
    snapshot = world.server.snapshot()
    await world.roll()
    assert not await world.keys().opens(copy_of(people, "s2"))
    world.server.restore(snapshot)
    assert await world.keys().opens(copy_of(people, "s2")), "the fault did not happen"

    assert await world.heal() == [BUCKET]

    assert not await world.keys().opens(copy_of(people, "s2"))
    assert await world.secret("s1") == before
    assert await world.heal() == []


async def test_a_snapshot_and_a_database_of_one_day_are_rolled_again(world: World) -> None:
    """R-02. Both of yesterday open everybody, the erased too, until the keeper has been there."""
    before = {one: await world.secret(one) for one in PEOPLE}
    pepper = await world.keys().named("pepper")
    backup, snapshot = await world.backup(), world.server.snapshot()
    await world.keys().destroy_subject("s2")
    world.clock.pass_by(seconds=1)
    await world.roll()
    await world.roll(PEPPER)
    world.server.restore(snapshot)
    await world.put_back(backup)
    assert await world.secret("s2") == before["s2"], "the fault did not happen"
    await world.keys().destroy_subject("s2")  # what the journal of tombstones demands first

    assert await world.heal() == [PEPPER, BUCKET]
    world.clock.pass_by(seconds=1)
    for kek in await roll.due(world.engine, erased_before=0):
        await world.roll(kek)

    assert not await world.keys().opens(copy_of(backup[0], "s2"))
    with pytest.raises(GoneError):
        await world.secret("s2")
    assert await world.secret("s1") == before["s1"]
    assert await world.keys().named("pepper") == pepper
    assert await world.heal() == []


async def test_a_snapshot_without_its_database_stops_the_keeper_and_kills_nothing(
    world: World,
) -> None:
    """R-02. Rolled on, the trim would kill the version that the right backup still needs."""
    before = {one: await world.secret(one) for one in PEOPLE}
    backup, snapshot = await world.backup(), world.server.snapshot()
    await world.roll()
    world.server.restore(snapshot)
    with pytest.raises(KeyLostError):
        await world.secret("s1")

    for _ in range(2):
        assert await world.heal() == [BUCKET]
        with pytest.raises(KeyLostError):
            await world.roll()
    alarms = (await world.alarms())[BUCKET]
    await world.put_back(backup)
    await world.heal()
    await world.roll()

    assert "living keys of versions it does not have" in alarms
    assert {one: await world.secret(one) for one in PEOPLE} == before


async def test_an_older_database_is_served_by_the_sheets(world: World) -> None:
    """R-01. The backup of the day before a roll opens nothing by itself; the living need it."""
    before = {one: await world.secret(one) for one in PEOPLE}
    pepper = await world.keys().named("pepper")
    backup = await world.backup()
    await world.keys().destroy_subject("s2")
    world.clock.pass_by(seconds=1)
    await world.roll()
    await world.roll(PEPPER)
    await world.put_back(backup)
    with pytest.raises(KeyLostError):
        await world.secret("s1")
    with pytest.raises(KeyLostError):
        await world.keys().named("pepper")

    assert await world.heal() == [PEPPER, BUCKET]

    assert await world.keys().named("pepper") == pepper
    assert {one: await world.secret(one) for one in ("s1", "s3")} == {
        one: before[one] for one in ("s1", "s3")
    }
    with pytest.raises(KeyLostError):  # the journal says later that this one is an erasure
        await world.secret("s2")


@pytest.mark.parametrize(
    ("planted", "alarm"),
    [
        ({"exportable": True}, "exportable"),
        ({"allow_plaintext_backup": True}, "plaintext backup allowed"),
    ],
)
async def test_a_key_that_could_leave_is_an_alarm(
    world: World, planted: dict[str, bool], alarm: str
) -> None:
    """Somebody made the next month's KEK first, so that it can be taken out and kept."""
    kek = "txt-202612"
    body = {"type": "aes256-gcm96", **planted}
    assert world.call("POST", f"keys/{kek}", body) < 300
    _, answer = world.server.call("GET", f"{world.mount}/keys/{kek}")
    assert answer["data"][next(iter(planted))] is True
    await world.keys().artifact_key(label(), kek, create=True)

    assert await world.alarms() == {kek: (alarm,)}


async def test_what_nobody_needs_and_what_is_not_trimmed_is_an_alarm(world: World) -> None:
    """Both are keys that should have died: one opens an old copy, the other perhaps all of them."""
    assert world.call("POST", "keys/hold-forgotten", {"type": "aes256-gcm96"}) < 300
    for _ in range(2):
        assert world.call("POST", f"keys/{PEPPER}/rotate", {}) == 200
    assert world.call("POST", "keys/raw-2026112214", {"type": "rsa-2048"}) < 300

    assert await world.alarms() == {
        "hold-forgotten": ("nothing hangs on it: destroy it",),
        PEPPER: ("versions are not trimmed",),
        "raw-2026112214": ("nothing hangs on it: destroy it", "not aes256-gcm96"),
    }


async def test_a_damaged_row_is_an_alarm_and_stops_nobody_elses_roll(world: World) -> None:
    """One bad row must not keep everybody's erasure waiting, nor be passed over in silence."""
    async with world.engine.begin() as tx:
        theirs = subject_keys.c.subject == "s3"
        await tx.execute(update(subject_keys).where(theirs).values(ciphertext="vault:v1:AAAA"))

    assert await world.alarms() == {BUCKET: ("1 of 3 keys that were tried do not open",)}
    done = await world.roll()

    assert (done.rows, done.lost) == (2, 1)
    assert (await world.alarms())[BUCKET] == (
        "living keys of destroyed versions",
        "1 of 3 keys that were tried do not open",
    )
