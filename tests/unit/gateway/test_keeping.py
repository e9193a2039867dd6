"""Keeping keys: KEKs that nothing needs are destroyed, buckets are rolled, both are on record."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from support.agreeing import AFTER, agreeing
from support.custody import Clock, FaultyObjects, label

from audit.errors import AppendError
from audit.model import Event, EventType
from gateway.keeping import Keeping
from vault import keysheet, roll
from vault.errors import KeyLostError, KeyringError
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keys import Keys
from vault.model import Kek
from vault.tables import buckets, duties, epoch_keys, named_keys

HOUR = "raw-2026112214"
DAY = timedelta(hours=24)


class Away(LocalKeeper):
    """A keeper's service that can be away."""

    away = False
    mute = False
    listed = 0

    async def keks(self) -> list[Kek]:
        """List, unless mute; counted."""
        self.listed += 1
        if self.mute:
            raise KeyringError("away")
        return await super().keks()

    async def destroy(self, kek: str) -> None:
        """Destroy, unless away."""
        if self.away:
            raise KeyringError("away")
        await super().destroy(kek)


class Desk:
    """What a tick needs, and the leaves it wrote."""

    def __init__(
        self, engine: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, clock: Clock
    ) -> None:
        self.home: Path = keyring._keks._path
        self.keeper = Away(self.home)
        self.engine, self.objects, self.clock = engine, objects, clock
        self.keys = Keys(engine, keyring, region="eu-central-1", now=clock, buckets=1)
        self.said: list[Event] = []
        self.deaf = False

    async def append(self, event: Event) -> None:
        """Take a leaf, unless deaf."""
        if self.deaf:
            raise AppendError("told to refuse")
        self.said.append(event)

    def keeping(self, owner: str = "k1") -> Keeping:
        """Return another process's keeping."""
        return Keeping(
            self.engine,
            self.keeper,
            self.objects,
            self.append,
            cell="eu-1",
            region="eu-central-1",
            owner=owner,
            now=self.clock,
            agreed=agreeing(self.clock),
            roll_after=DAY,
            cryptoperiod=90 * DAY,
        )

    async def names(self) -> list[str]:
        """Return the KEKs there are."""
        return [kek.name for kek in await self.keeper.keks()]


@pytest.fixture
def desk(
    tables: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, vault_clock: Clock
) -> Desk:
    """Return a desk."""
    return Desk(tables, keyring, objects, vault_clock)


@pytest.mark.anyio
async def test_the_kek_of_a_destroyed_epoch_is_destroyed(desk: Desk) -> None:
    """Until then a backup of the key table opens that hour for everybody."""
    await desk.keys.artifact_key(label(), HOUR, create=True)
    async with desk.engine.connect() as connection:
        backup = (await connection.execute(select(epoch_keys))).one()
    await desk.keys.destroy_epoch(HOUR, AFTER)
    assert HOUR in await desk.names()

    await desk.keeping().tick()

    assert HOUR not in await desk.names()
    async with desk.engine.begin() as tx:
        await tx.execute(update(epoch_keys).values(**backup._mapping))
    desk.keys._cache.drop(("epoch_keys", HOUR))
    with pytest.raises(KeyLostError):
        await desk.keys.artifact_key(label(), HOUR)
    assert [(e.type, e.detail["kek"], e.actor) for e in desk.said] == [
        (EventType.KEY_DESTROYED, HOUR, "keeper")
    ]


@pytest.mark.anyio
async def test_a_service_that_is_away_makes_it_late_not_lost(desk: Desk) -> None:
    """The row of what is to end stays until it has ended."""
    await desk.keys.artifact_key(label(), HOUR, create=True)
    await desk.keys.destroy_epoch(HOUR, AFTER)
    desk.keeper.away = True
    await desk.keeping().tick()
    assert desk.said == []
    desk.keeper.away = False

    await desk.keeping().tick()
    await desk.keeping().tick()

    assert HOUR not in await desk.names()
    assert len(desk.said) == 1


@pytest.mark.anyio
async def test_a_bucket_is_rolled_a_day_after_somebody_left(desk: Desk) -> None:
    """Hard erasure within 24 hours, and not one roll for every person."""
    await desk.keys.small_key("s1", "memory", create=True)
    await desk.keys.destroy_subject("s1")
    await desk.keeping().tick()
    assert desk.said == []
    desk.clock.pass_by(hours=24)

    await desk.keeping().tick()
    await desk.keeping().tick()

    assert [(e.type, e.detail["version"]) for e in desk.said] == [(EventType.KEY_ROLLED, 2)]
    assert [kek.oldest for kek in await desk.keeper.keks()] == [2]


@pytest.mark.anyio
async def test_a_roll_that_could_not_be_told_is_told_later(desk: Desk) -> None:
    """The certificate of an erasure refers to that leaf."""
    await desk.keys.small_key("s1", "memory", create=True)
    await desk.keys.destroy_subject("s1")
    desk.clock.pass_by(hours=25)
    desk.deaf = True
    with pytest.raises(AppendError):
        await desk.keeping().tick()
    desk.deaf = False

    await desk.keeping().tick()

    assert [event.type for event in desk.said] == [EventType.KEY_ROLLED]
    assert [kek.newest for kek in await desk.keeper.keks()] == [2]


@pytest.mark.anyio
async def test_one_process_at_a_time_keeps(desk: Desk) -> None:
    """Two that roll one bucket at once would rotate it twice."""
    await desk.keeping("k1").tick()
    await desk.keys.artifact_key(label(), HOUR, create=True)
    await desk.keys.destroy_epoch(HOUR, AFTER)

    await desk.keeping("k2").tick()
    assert desk.said == []
    desk.clock.pass_by(minutes=6)
    await desk.keeping("k2").tick()

    assert len(desk.said) == 1
    async with desk.engine.connect() as connection:
        assert (await connection.execute(select(duties.c.owner))).scalar_one() == "k2"


@pytest.mark.anyio
async def test_what_is_older_than_its_cryptoperiod_is_rolled_and_on_record(desk: Desk) -> None:
    """Nobody was erased, and the pepper never is: without this their KEKs would stay for ever."""
    await desk.keys.named("pepper")
    await desk.keys.artifact_key(label(), "txt-202611", create=True)
    await desk.keeping().tick()
    assert desk.said == []
    desk.clock.at = datetime.now(UTC) + 90 * DAY  # the files of the keys are of today

    keeping = desk.keeping()
    for _ in range(3):
        await keeping.tick()

    assert desk.keeper.listed == 6, "two keepers' first looks, before and after healing, at ages"
    rolled = ["named-pepper", "subjects-0000", "txt-202611"]
    assert {e.type for e in desk.said} == {EventType.KEY_ROLLED}
    assert sorted(str(e.detail["kek"]) for e in desk.said) == rolled
    keks = await desk.keeper.keks()
    assert [(kek.name, kek.oldest, kek.newest) for kek in keks] == [(k, 2, 2) for k in rolled]


@pytest.mark.anyio
async def test_ages_are_asked_for_again_after_an_outage(desk: Desk) -> None:
    """The hour until the next look begins with an answer."""
    await desk.keys.named("pepper")
    keeping = desk.keeping()
    await keeping.tick()
    desk.clock.at = datetime.now(UTC) + 90 * DAY
    desk.keeper.mute = True
    await keeping.tick()
    assert desk.said == []
    desk.keeper.mute = False

    await keeping.tick()

    assert [event.type for event in desk.said] == [EventType.KEY_ROLLED]


@pytest.mark.anyio
async def test_a_destroyed_kek_leaves_no_sheet_and_no_roll_behind(desk: Desk) -> None:
    """Its roll was cut short: begun for ever, it would be called lost at every tick."""
    await desk.keys.artifact_key(label(), "txt-202611", create=True)
    desk.clock.at = datetime.now(UTC) + 90 * DAY
    keeping = desk.keeping()
    await keeping.tick()
    assert "txt-202611" in await keysheet.kept(desk.objects)
    async with desk.engine.begin() as tx:
        begun = {"began_at": 1, "least": 3}
        await tx.execute(update(buckets).where(buckets.c.kek == "txt-202611").values(begun))
    await desk.keys.destroy_epoch("txt-202611", AFTER)

    await keeping.tick()

    assert "txt-202611" not in await keysheet.kept(desk.objects)
    async with desk.engine.connect() as connection:
        assert "txt-202611" not in (await connection.execute(select(buckets.c.kek))).scalars().all()
    assert "txt-202611" not in await desk.names()


@pytest.mark.anyio
async def test_a_lost_kek_is_said_aloud(desk: Desk) -> None:
    """A named key that does not open is nobody's erasure, and no passing outage."""
    await desk.keys.named("pepper")
    desk.clock.at = datetime.now(UTC) + 90 * DAY
    async with desk.engine.begin() as tx:
        await tx.execute(update(named_keys).values(ciphertext="local:v1:AAAA"))

    with capture_logs() as said:
        await desk.keeping().tick()

    lost = [(line["log_level"], line["stage"]) for line in said if line["event"] == "keys.lost"]
    assert lost == [("error", "named-pepper")]
    assert desk.said == []


@pytest.fixture
def large(desk: Desk) -> Desk:
    """Return a desk where s1 and s3 are a tenant's that has buckets of its own."""

    async def owner(subject: str) -> str:
        return "fernruf" if subject in {"s1", "s3"} else "lautwerk"

    desk.keys = Keys(
        desk.engine,
        LocalKeyring(desk.home),
        region="eu-central-1",
        now=desk.clock,
        buckets=1,
        own={"fernruf": 1},
        owner=owner,
    )
    return desk


OWN = "subjects-fernruf-0000"


@pytest.mark.anyio
async def test_a_bucket_that_everybody_left_is_ended_and_may_begin_anew(large: Desk) -> None:
    """People erased one by one leave a KEK that opens nothing but old copies."""
    await large.keys.small_key("s1", "memory", create=True)
    await large.keys.small_key("s2", "memory", create=True)
    keeping = large.keeping()
    await keeping.tick()
    assert OWN in await large.names()
    for subject in ("s1", "s2"):
        await large.keys.destroy_subject(subject)
    large.clock.pass_by(hours=1)

    await keeping.tick()
    await keeping.tick()

    assert await large.names() == ["subjects-0000"], "shared buckets are rolled, never ended"
    assert await roll.hardened(large.engine, "s1") == large.clock.at
    made = await large.keys.small_key("s3", "memory", create=True)
    large.clock.pass_by(hours=1)
    await keeping.tick()
    await keeping.tick()
    assert await large.keys.small_key("s3", "memory") == made
    assert OWN in await large.names()


@pytest.mark.anyio
async def test_a_key_service_put_back_under_a_running_keeper_is_noticed(desk: Desk) -> None:
    """Nobody restarts the keeper for it, and until it looks the erased open again."""
    await desk.keys.small_key("s1", "memory", create=True)
    await desk.keys.small_key("s2", "memory", create=True)
    keeping, home = desk.keeping(), desk.keeper._keks._path
    await keeping.tick()
    snapshot = {path.name: path.read_bytes() for path in home.glob("subjects-*")}
    await desk.keys.destroy_subject("s1")
    desk.clock.pass_by(hours=25)
    await keeping.tick()
    assert [(kek.oldest, kek.newest) for kek in await desk.keeper.keks()] == [(2, 2)]
    for name, content in snapshot.items():
        (home / name).write_bytes(content)
        (home / name).chmod(0o600)
    assert [kek.oldest for kek in await desk.keeper.keks()] == [1]
    desk.clock.pass_by(minutes=1)

    await keeping.tick()

    assert [kek.oldest for kek in await desk.keeper.keks()] == [2]


@pytest.mark.anyio
async def test_what_is_as_the_last_roll_left_it_is_not_looked_at_again(desk: Desk) -> None:
    """To heal, the object store is listed: that may be many millions of names."""
    await desk.keys.small_key("s1", "memory", create=True)
    keeping, listed = desk.keeping(), []
    inner = desk.objects.names

    async def names() -> list[str]:
        listed.append(True)
        return await inner()

    desk.objects.names = names  # type: ignore[method-assign]
    for _ in range(3):
        await keeping.tick()

    assert listed == [True]
