"""The keys of a cell: made once, wrapped, cached for a moment, destroyed for good."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import AFTER, agreed
from support.custody import START, Clock, label

from vault.epochs import day_end, epoch_end, epoch_of
from vault.errors import GoneError, KeyLostError, KeyringError, LabelError, TamperedError
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keys import BUCKETS, Keys
from vault.model import Kind, Label, WrappedKey
from vault.tables import epoch_keys, named_keys, subject_keys

HOUR = "raw-2026112214"


class CountingKeyring(LocalKeyring):
    """Counts calls, and can be away."""

    def __init__(self, keyring: LocalKeyring) -> None:
        super().__init__(keyring._keks._path)
        self.batches: list[int] = []
        self.asked = asyncio.Event()
        self.away = False
        self.gate: asyncio.Event | None = None

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """Unwrap, counted."""
        self.batches.append(len(wrapped))
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise KeyringError("away")
        return await super().unwrap(wrapped)


@pytest.fixture
def counting(keyring: LocalKeyring) -> CountingKeyring:
    """Return the test's keyring, counted."""
    return CountingKeyring(keyring)


def fresh(
    engine: AsyncEngine,
    keyring: LocalKeyring,
    clock: Clock,
    ttl_s: float = 60.0,
    buckets: int = BUCKETS,
) -> Keys:
    """Return the keys as another process sees them: nothing in memory."""
    return Keys(engine, keyring, region="eu-central-1", now=clock, ttl_s=ttl_s, buckets=buckets)


@pytest.mark.parametrize(
    ("kind", "at", "epoch"),
    [
        (Kind.RAW_AUDIO, START, HOUR),
        (Kind.REPLY_AUDIO, START, HOUR),
        (Kind.TRANSCRIPT, START, "txt-202611"),
        (Kind.REDACTED_TRANSCRIPT, START, "txt-202611"),
        (Kind.RAW_AUDIO, START.astimezone(timezone(timedelta(hours=9))), HOUR),
    ],
)
def test_epochs_are_named_by_utc(kind: Kind, at: datetime, epoch: str) -> None:
    """A local hour repeats in autumn: two hours would then share one key."""
    assert epoch_of(kind, at) == epoch


@pytest.mark.parametrize(
    ("epoch", "end"),
    [
        (HOUR, datetime(2026, 11, 22, 15, tzinfo=UTC)),
        ("raw-2026123123", datetime(2027, 1, 1, tzinfo=UTC)),
        ("txt-202612", datetime(2027, 1, 1, tzinfo=UTC)),
        ("txt-202602", datetime(2026, 3, 1, tzinfo=UTC)),
        ("txt-202602-2", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_an_epoch_ends(epoch: str, end: datetime) -> None:
    """Its key must outlive every write into it, and not by a month."""
    assert epoch_end(epoch) == end


@pytest.mark.anyio
async def test_a_key_survives_the_process(
    tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """The table and the keyring are enough to open everything after a restart."""
    key = await fresh(tables, keyring, vault_clock).artifact_key(label(), HOUR, create=True)

    assert await fresh(tables, keyring, vault_clock).artifact_key(label(), HOUR) == key


@pytest.mark.anyio
async def test_every_artifact_has_its_own_key(keys: Keys) -> None:
    """One leaked artifact key opens one artifact: not the person's, not the hour's."""
    found = {
        await keys.artifact_key(label("a1"), HOUR, create=True),
        await keys.artifact_key(label("a2"), HOUR, create=True),
        await keys.artifact_key(label("a1", subject="s2"), HOUR, create=True),
        await keys.artifact_key(label("a1"), "raw-2026112215", create=True),
        await keys.small_key("s1", "memory", create=True),
        await keys.small_key("s1", "address", create=True),
        await keys.named("pepper"),
    }

    assert len(found) == 7


@pytest.mark.anyio
async def test_only_wrapped_keys_are_stored(keys: Keys, tables: AsyncEngine) -> None:
    """A stolen database without the keyring must be worth nothing."""
    key = await keys.named("pepper")
    await keys.artifact_key(label(), HOUR, create=True)

    async with tables.connect() as connection:
        stored = [
            str(row)
            for table in (subject_keys, epoch_keys, named_keys)
            for row in await connection.execute(select(table))
        ]

    assert len(stored) == 3
    assert key.hex() not in str(stored)
    assert str(key) not in str(stored)


@pytest.mark.anyio
async def test_two_makers_end_with_one_key(
    tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Two workers meet a new person at once: what one seals the other must open."""
    workers = [fresh(tables, keyring, vault_clock) for _ in range(4)]

    found = await asyncio.gather(
        *(worker.artifact_key(label(), HOUR, create=True) for worker in workers)
    )

    assert len(set(found)) == 1


@pytest.mark.anyio
async def test_reading_makes_no_key(keys: Keys, tables: AsyncEngine) -> None:
    """To read what was never stored must not leave a trace of the person."""
    with pytest.raises(GoneError):
        await keys.artifact_key(label(), HOUR)

    async with tables.connect() as connection:
        assert (await connection.execute(select(subject_keys))).first() is None


@pytest.mark.anyio
async def test_another_region_is_refused(keys: Keys) -> None:
    """A cell seals for its own region only."""
    here = label()
    elsewhere = Label(
        tenant=here.tenant, subject="s1", artifact="a1", kind=here.kind, region="us-east-1"
    )

    with pytest.raises(LabelError, match="region"):
        await keys.artifact_key(elsewhere, HOUR, create=True)


@pytest.mark.anyio
async def test_a_destroyed_subject_stays_destroyed(keys: Keys) -> None:
    """A worker that is late must not bring an erased person back with a new key."""
    await keys.artifact_key(label(), HOUR, create=True)

    await keys.destroy_subject("s1")

    for create in (False, True):
        with pytest.raises(GoneError):
            await keys.artifact_key(label(), HOUR, create=create)
    assert await keys.destroyed(label(), HOUR)
    assert not await keys.destroyed(label(subject="s2"), HOUR)


@pytest.mark.anyio
async def test_erasing_somebody_unknown_holds_for_later(keys: Keys) -> None:
    """The erasure may overtake the first note of a conversation."""
    await keys.destroy_subject("s1")

    with pytest.raises(GoneError):
        await keys.artifact_key(label(), HOUR, create=True)


@pytest.mark.anyio
async def test_a_destroyed_epoch_stays_destroyed(
    keys: Keys, tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Nobody makes that hour's key again, and its KEK is named for the keeper to destroy."""
    await keys.artifact_key(label(), HOUR, create=True)

    await keys.destroy_epoch(HOUR, AFTER)

    with pytest.raises(GoneError):
        await fresh(tables, keyring, vault_clock).artifact_key(label(), HOUR, create=True)
    async with tables.connect() as connection:
        row = (await connection.execute(select(epoch_keys))).one()
    assert (row.ciphertext, row.kek) == (None, HOUR)


@pytest.mark.anyio
async def test_a_living_row_without_its_kek_is_a_fault_and_no_erasure(
    keys: Keys, tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Who takes a lost KEK for an erasure writes people's data off, and tells nobody."""
    await keys.artifact_key(label(), HOUR, create=True)
    await LocalKeeper(keyring._keks._path).destroy(HOUR)

    with pytest.raises(KeyLostError, match=HOUR):
        await fresh(tables, keyring, vault_clock).artifact_key(label(), HOUR)

    assert not issubclass(KeyLostError, GoneError)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["destroyed row", "lost KEK"])
async def test_an_epoch_whose_key_is_gone_gets_another(
    how: str, tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Else nothing can be stored until it is over, which for words is the month's end."""
    told: list[tuple[str, str]] = []

    def replaced(lost: str, instead: str) -> None:
        told.append((lost, instead))

    keys = Keys(tables, keyring, region="eu-central-1", now=vault_clock, ttl_s=0, replaced=replaced)
    _, first = await keys.storing_key(label(), HOUR)
    if how == "lost KEK":
        await LocalKeeper(keyring._keks._path).destroy(HOUR)
    else:
        await keys.destroy_epoch(HOUR, AFTER)

    again = [await keys.storing_key(label(), HOUR) for _ in range(2)]

    assert {name for name, _ in again} == {f"{HOUR}-2"}
    assert len({first, *(key for _, key in again)}) == 2
    assert await keys.artifact_key(label(), f"{HOUR}-2") == again[0][1]
    assert told == [(HOUR, f"{HOUR}-2")]
    assert await keys.replacements() == [f"{HOUR}-2"]


@pytest.mark.anyio
async def test_a_gone_subject_is_not_replaced(keys: Keys) -> None:
    """A lost epoch is a fault; an erased person is gone, and no epoch's number brings them back."""
    await keys.storing_key(label(), HOUR)
    await keys.destroy_subject("s1")

    with pytest.raises(GoneError):
        await keys.storing_key(label(), HOUR)

    assert await keys.replacements() == []


@pytest.mark.anyio
async def test_what_is_open_by_the_agreed_time_is_not_destroyed(keys: Keys) -> None:
    """Not the last second of an hour or a day: somebody may be storing in it."""
    day = "intake-20261121"
    await keys.storing_key(label(), HOUR)
    await keys.named(day)

    early = agreed(epoch_end(HOUR) - timedelta(seconds=1))
    assert not await keys.destroy_epoch(HOUR, early)
    assert not await keys.destroy_day(day, agreed(day_end(day) - timedelta(seconds=1)))

    assert await keys.destroy_epoch(HOUR, agreed(epoch_end(HOUR)))
    assert await keys.destroy_day(day, agreed(day_end(day)))


@pytest.mark.anyio
async def test_a_day_ends_with_what_replaced_its_key(
    tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """A second key that is never destroyed would open that day's updates for ever."""
    keys, day = fresh(tables, keyring, vault_clock), "intake-20261121"
    assert await keys.day_key(day) == day
    await keys.destroy_day(day, AFTER)
    assert await keys.day_key(day) == f"{day}-2"

    await keys.destroy_day(day, AFTER)

    with pytest.raises(GoneError):
        await keys.named(f"{day}-2")


@pytest.mark.anyio
async def test_a_destroyed_named_key_stays_destroyed(keys: Keys) -> None:
    """Yesterday's intake key dies with yesterday's sealed bodies."""
    await keys.named("intake-20261121")

    await keys.destroy_day("intake-20261121", AFTER)

    with pytest.raises(GoneError):
        await keys.named("intake-20261121")


@pytest.mark.anyio
async def test_a_row_copied_over_another_is_refused(
    tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Whoever can write the table must not make one person's data open as another's."""
    keys = fresh(tables, keyring, vault_clock)
    for subject in ("s1", "s2"):
        await keys.small_key(subject, "memory", create=True)
    async with tables.begin() as tx:
        row = (await tx.execute(select(subject_keys).where(subject_keys.c.subject == "s1"))).one()
        copied = {"kek": row.kek, "version": row.version, "ciphertext": row.ciphertext}
        await tx.execute(update(subject_keys).where(subject_keys.c.subject == "s2").values(copied))

    with pytest.raises(TamperedError):
        await fresh(tables, keyring, vault_clock).small_key("s2", "memory")


@pytest.mark.anyio
async def test_many_callers_make_few_calls(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """One call per person would make the keyring the bottleneck of the cell."""
    people = [f"s{number}" for number in range(60)]
    keys = fresh(tables, counting, vault_clock, buckets=2)
    made = {one: await keys.small_key(one, "memory", create=True) for one in people}
    counting.batches.clear()
    other = fresh(tables, counting, vault_clock)

    found = await asyncio.gather(*(other.small_key(one, "memory") for one in people * 3))

    assert found == [made[one] for one in people * 3]
    assert len(counting.batches) <= 8
    assert sum(counting.batches) <= 120


@pytest.mark.anyio
async def test_a_failed_call_answers_everybody(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """A keyring that is away must not leave a caller waiting for ever."""
    keys = fresh(tables, counting, vault_clock)
    for subject in ("s1", "s2", "s3"):
        await keys.small_key(subject, "memory", create=True)
    counting.away = True
    other = fresh(tables, counting, vault_clock)

    answers = await asyncio.gather(
        *(other.small_key(subject, "memory") for subject in ("s1", "s2", "s3")),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [KeyringError] * 3
    counting.away = False
    assert await other.small_key("s1", "memory")


@pytest.mark.anyio
async def test_a_keyring_that_is_away_hides_no_erasure(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """To say "not now" of an erased person would keep their job alive until the keyring is back."""
    keys = fresh(tables, counting, vault_clock)
    for subject in ("s1", "s2", "s3", "s4"):
        await keys.small_key(subject, "memory", create=True)
    await keys.destroy_subject("s3")
    counting.away = True
    other = fresh(tables, counting, vault_clock)

    answers = await asyncio.gather(
        *(other.small_key(subject, "memory") for subject in ("s1", "s2", "s3", "s4")),
        return_exceptions=True,
    )

    kinds = [type(answer) for answer in answers]
    assert kinds == [KeyringError, KeyringError, GoneError, KeyringError]


@pytest.mark.anyio
async def test_a_cancelled_caller_does_not_take_others_along(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """Callers share a call: one that gives up must not cancel it for the others."""
    key = await fresh(tables, counting, vault_clock).small_key("s1", "memory", create=True)
    counting.gate = asyncio.Event()
    other = fresh(tables, counting, vault_clock)
    first = asyncio.create_task(other.small_key("s1", "memory"))
    second = asyncio.create_task(other.small_key("s1", "memory"))
    counting.asked.clear()
    await counting.asked.wait()

    first.cancel()
    counting.gate.set()

    assert await second == key


@pytest.mark.anyio
async def test_keys_are_cached_for_a_moment_only(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """The cache is what an erasure elsewhere has to wait for: it must end."""
    lasting = fresh(tables, counting, vault_clock)
    await lasting.small_key("s1", "memory", create=True)
    counting.batches.clear()

    await lasting.small_key("s1", "memory")
    cached = len(counting.batches)
    passing = fresh(tables, counting, vault_clock, ttl_s=0.0)
    await passing.small_key("s1", "memory")
    await passing.small_key("s1", "memory")

    assert (cached, len(counting.batches)) == (0, 2)


@pytest.mark.anyio
async def test_a_forgotten_subject_is_not_cached_by_who_began_before(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """An unwrap under way while the erasure runs must not outlive it in memory."""
    await fresh(tables, counting, vault_clock).small_key("s1", "memory", create=True)
    counting.gate = asyncio.Event()
    counting.asked.clear()
    keys = fresh(tables, counting, vault_clock)
    reading = asyncio.create_task(keys.small_key("s1", "memory"))
    await counting.asked.wait()

    await keys.destroy_subject("s1")
    counting.gate.set()
    await reading

    with pytest.raises(GoneError):
        await keys.small_key("s1", "memory")


@pytest.mark.anyio
async def test_forget_drops_a_key_from_memory(
    tables: AsyncEngine, counting: CountingKeyring, vault_clock: Clock
) -> None:
    """An erasure announced by another process acts here at once."""
    keys = fresh(tables, counting, vault_clock)
    await keys.small_key("s1", "memory", create=True)
    counting.batches.clear()

    keys.forget("s1")
    await keys.small_key("s1", "memory")

    assert counting.batches == [1]
