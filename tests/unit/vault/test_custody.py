"""Custody: nothing without a clock, nothing in clear, nothing after its time."""

import asyncio
import gzip
import hashlib
import secrets
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import AFTER, agreed
from support.custody import START, Clock, FaultyObjects, label

from gateway import db
from policy import jurisdictions
from vault import envelope
from vault import retention as clocks
from vault.custody import Custody
from vault.errors import (
    CustodyError,
    GoneError,
    HeldError,
    KeyringError,
    LabelError,
    ObjectsError,
    TamperedError,
)
from vault.flow import PIECE
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import Artifact, Kind, Label
from vault.tables import artifacts, epoch_keys, retention

NOTE = b"OggS where was this recording at 14:14"
DUE = START + timedelta(hours=6)


async def states(engine: AsyncEngine) -> list[tuple[str, str]]:
    """Return (state of the artifact, state of its clock) of every row."""
    both = select(artifacts.c.state, retention.c.state).join(retention)
    async with engine.connect() as connection:
        return [(row[0], row[1]) for row in await connection.execute(both)]


@pytest.mark.anyio
async def test_what_was_put_is_opened(custody: Custody) -> None:
    """The one thing custody is for."""
    artifact = await custody.put(NOTE, label(), DUE)

    assert await custody.open(artifact) == NOTE
    assert await custody.describe("a1") == artifact
    assert (artifact.due, artifact.size, artifact.epoch) == (DUE, len(NOTE), "raw-2026112214")
    assert await custody.of_subject("s1") == [artifact]


async def flowing(content: bytes) -> AsyncIterator[bytes]:
    """Yield *content* as a network would bring it."""
    for at in range(0, len(content), 70_000):
        yield content[at : at + 70_000]


@pytest.mark.anyio
@pytest.mark.parametrize("length", [0, 1, 16_384, 200_000, 3_000_000])
async def test_what_flows_in_is_kept_like_any_other(
    custody: Custody, objects: FaultyObjects, tables: AsyncEngine, length: int
) -> None:
    """Size and commitment are what was measured on the way, and the ledger has them."""
    content = secrets.token_bytes(length)

    artifact = await custody.put(flowing(content), label(), DUE)

    assert artifact.size == length
    async with tables.connect() as connection:
        row = (await connection.execute(select(artifacts))).one()
    sealed = await objects.get(row.object_name)
    assert artifact.commitment == hashlib.sha256(row.salt + sealed).hexdigest()
    assert await custody.open(artifact) == content
    assert await custody.put(flowing(content), label(), DUE) == artifact
    with pytest.raises(LabelError, match="another one"):
        await custody.put(flowing(content + b"x"), label(), DUE)


@pytest.mark.anyio
async def test_a_flow_that_breaks_is_put_again(custody: Custody, objects: FaultyObjects) -> None:
    """The line broke in the middle of a recording: the next try stores it whole."""

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await custody.put(broken(), label(), DUE)
    assert await objects.names() == []
    assert await custody.describe("a1") is None

    artifact = await custody.put(flowing(NOTE), label(), DUE)

    assert await custody.open(artifact) == NOTE


@pytest.mark.anyio
async def test_a_recording_is_in_memory_once(custody: Custody) -> None:
    """Sealing and opening hold a few pieces beside it: no second copy, sealed or clear."""
    content = secrets.token_bytes(24 * PIECE)

    def peak() -> float:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return most / len(content)

    tracemalloc.start()
    try:
        artifact = await custody.put(content, label(), DUE)
        put = peak()
        opened = await custody.open(artifact)
        taken = peak()
    finally:
        tracemalloc.stop()

    assert opened == content
    assert put < 0.4  # beside the content, which was there before
    assert taken < 1.4  # the content that is returned


@pytest.mark.anyio
async def test_nothing_is_known_of_the_unknown(custody: Custody) -> None:
    """An id that was never stored is no error to ask about."""
    assert await custody.describe("never") is None
    assert await custody.of_subject("never") == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("due", "kind"),
    [
        (datetime(2026, 11, 22, 20), Kind.RAW_AUDIO),  # noqa: DTZ001  # the fault under test
        (START, Kind.TRANSCRIPT),
        (START - timedelta(seconds=1), Kind.TRANSCRIPT),
        (START + timedelta(hours=24, minutes=1), Kind.RAW_AUDIO),
        (START + timedelta(days=30), Kind.RAW_AUDIO),
    ],
)
async def test_a_due_time_that_is_none_is_refused(
    custody: Custody, tables: AsyncEngine, due: datetime, kind: Kind
) -> None:
    """No due time, no artifact; and raw audio has a day, whatever a policy says."""
    with pytest.raises(LabelError, match="due"):
        await custody.put(NOTE, label(kind=kind), due)

    assert await states(tables) == []


@pytest.mark.anyio
async def test_the_longest_shipped_clock_is_kept_as_it_is(
    custody: Custody, vault_clock: Clock
) -> None:
    """A clock that stands still between the caller's reading and ours is an ordinary clock."""
    ceiling = max(law["retention"]["raw_audio_seconds"] for law in jurisdictions.load().values())
    due = vault_clock() + timedelta(seconds=ceiling)

    artifact = await custody.put(NOTE, label(), due)

    assert artifact.due == due


@pytest.mark.anyio
async def test_a_clock_set_back_costs_no_note_and_prolongs_none(
    custody: Custody, vault_clock: Clock
) -> None:
    """The caller read a clock that was corrected since: the note is kept, for under a day."""
    due = vault_clock() + timedelta(hours=24, seconds=-1)
    vault_clock.pass_by(seconds=-60)

    artifact = await custody.put(NOTE, label(), due)

    assert artifact.due == vault_clock() + timedelta(hours=24, seconds=-1)
    assert (await custody.put(NOTE, label("t1", kind=Kind.TRANSCRIPT), due)).due == due


@pytest.mark.anyio
async def test_gone_is_not_the_same_as_unknown(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """A job that is retried must not fetch again what was destroyed; nor lose what never was."""
    destroyed = await custody.put(NOTE, label("a1"), DUE)
    halfway = await custody.put(NOTE, label("a2"), DUE)
    await custody.put(NOTE, label("a3"), DUE)
    await custody.destroy(destroyed, reason="message.revoked")
    objects.fail_before.add("delete")
    with pytest.raises(ObjectsError):
        await custody.destroy(halfway, reason="erasure")

    before = [await custody.gone(each) for each in ("a1", "a2", "a3", "never")]
    vault_clock.at = DUE
    after = [await custody.gone(each) for each in ("a1", "a2", "a3", "never")]

    assert before == [True, True, False, False]
    assert after == [True, True, True, False]


@pytest.mark.anyio
async def test_an_announced_note_is_gone_only_when_its_clock_ran_out(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """The put that failed is made again; too late, it would be refused."""
    objects.fail_before.add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)

    assert not await custody.gone("a1")
    vault_clock.at = DUE
    assert await custody.gone("a1")


@pytest.mark.anyio
async def test_reads_wait_for_no_writer(custody: Custody, keys: Keys, vault_clock: Clock) -> None:
    """SQLite has one writer, the webhook most of the time: a read must not queue behind it."""
    artifact = await custody.put(NOTE, label(), DUE)
    cold = Custody(
        custody.engine,
        Keys(custody.engine, keys._keyring, region="eu-central-1", now=vault_clock),
        custody.objects,
        now=vault_clock,
    )

    writer = db.connect(custody.engine.url.render_as_string())

    async with writer.begin():
        assert await cold.open(artifact) == NOTE
        assert await custody.describe("a1") == artifact
        assert await custody.of_subject("s1") == [artifact]
        assert not await custody.gone("a1")
        assert not await keys.destroyed(label(), artifact.epoch)
        assert await clocks.overdue(vault_clock(), custody.engine) == 0
        assert await clocks.unrecorded(custody.engine) == []
        assert await clocks.reconcile(custody) == clocks.Reconciled(strays=0, missing=())
        assert await clocks._spent(custody.engine, 0) == []
    await writer.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("field", ["tenant", "subject", "artifact", "region"])
@pytest.mark.parametrize("value", ["", "x" * 65])
async def test_an_incomplete_label_is_refused(custody: Custody, field: str, value: str) -> None:
    """An empty field binds nothing: the container would open under any."""
    fields = {name: getattr(label(), name) for name in Label.__slots__} | {field: value}

    with pytest.raises(LabelError, match=field):
        await custody.put(NOTE, Label(**fields), DUE)


@pytest.mark.anyio
async def test_the_clock_is_committed_before_the_object_exists(
    custody: Custody, objects: FaultyObjects, tables: AsyncEngine
) -> None:
    """A crash between the two must never leave an object that nobody will delete."""
    seen: list[tuple[list[tuple[str, str]], list[str]]] = []

    async def look() -> None:
        seen.append((await states(tables), await objects.names()))

    objects.on_put = look
    await custody.put(NOTE, label(), DUE)

    assert seen == [([("storing", "due")], [])]
    assert await states(tables) == [("kept", "due")]


@pytest.mark.anyio
@pytest.mark.parametrize("moment", ["fail_before", "fail_after"])
async def test_a_failed_put_can_be_made_again(
    custody: Custody, objects: FaultyObjects, moment: str
) -> None:
    """The store may fail before the work or after it: one object must stand in the end."""
    getattr(objects, moment).add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)
    assert await custody.describe("a1") is None
    getattr(objects, moment).clear()

    artifact = await custody.put(NOTE, label(), DUE)

    assert await custody.open(artifact) == NOTE
    assert len(await objects.names()) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("moment", ["fail_before", "fail_after"])
async def test_a_put_that_never_came_back_is_swept(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock, moment: str
) -> None:
    """The writer died between the row and the note that it is kept: the clock is there."""
    getattr(objects, moment).add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)

    vault_clock.pass_by(hours=6)
    stones = await clocks.sweep(agreed(vault_clock()), custody, owner="w1")

    assert [stone.label for stone in stones] == [label()]
    assert await objects.names() == []


@pytest.mark.anyio
async def test_putting_again_never_prolongs(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """A job retried for a day would otherwise keep its audio for two."""
    objects.fail_after.add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)
    objects.fail_after.clear()
    vault_clock.pass_by(hours=1)

    artifact = await custody.put(NOTE, label(), DUE + timedelta(hours=1))

    assert artifact.due == DUE
    assert (await custody.put(NOTE, label(), DUE + timedelta(hours=2))).due == DUE


@pytest.mark.anyio
async def test_putting_again_after_the_clock_ran_out_is_too_late(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """The clock is about the voice note, not about our attempts to store it."""
    objects.fail_before.add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)
    objects.fail_before.clear()
    vault_clock.pass_by(hours=6)

    with pytest.raises(GoneError):
        await custody.put(NOTE, label(), DUE + timedelta(hours=1))


@pytest.mark.anyio
async def test_putting_what_is_kept_returns_it(custody: Custody, objects: FaultyObjects) -> None:
    """A job delivered twice stores once."""
    first = await custody.put(NOTE, label(), DUE)

    again = await custody.put(NOTE, label(), DUE)

    assert again == first
    assert len(await objects.names()) == 1


@pytest.mark.anyio
async def test_an_id_is_about_one_content_and_one_label(custody: Custody) -> None:
    """Returning the old one for other content would lose the new one without a word."""
    await custody.put(NOTE, label(), DUE)

    for content, other in ((b"other", label()), (NOTE, label(subject="s2"))):
        with pytest.raises(LabelError, match="artifact"):
            await custody.put(content, other, DUE)


@pytest.mark.anyio
async def test_a_crashed_put_is_not_taken_over_by_another_person(
    custody: Custody, objects: FaultyObjects
) -> None:
    """An id that collides must not move a row from one subject to another."""
    objects.fail_before.add("put")
    with pytest.raises(ObjectsError):
        await custody.put(NOTE, label(), DUE)
    objects.fail_before.clear()

    with pytest.raises(LabelError, match="artifact"):
        await custody.put(NOTE, label(subject="s2"), DUE)


@pytest.mark.anyio
async def test_a_writer_that_lost_its_row_removes_its_object(
    custody: Custody, objects: FaultyObjects
) -> None:
    """A slow writer finishes after a second one: its object has no row and no vault_clock."""

    async def overtake() -> None:
        objects.on_put = None
        await custody.put(NOTE, label(), DUE)

    objects.on_put = overtake
    with pytest.raises(CustodyError):
        await custody.put(NOTE, label(), DUE)

    kept = await custody.describe("a1")
    assert kept is not None
    assert await custody.open(kept) == NOTE
    assert len(await objects.names()) == 1


@pytest.mark.anyio
async def test_a_row_is_kept_only_with_its_own_object(
    custody: Custody, objects: FaultyObjects, tables: AsyncEngine
) -> None:
    """A second writer took the row and failed: the first one's object is not the row's."""

    async def take_and_fail() -> None:
        objects.on_put = None
        objects.fail_before.add("put")
        with pytest.raises(ObjectsError):
            await custody.put(NOTE, label(), DUE)
        objects.fail_before.clear()

    objects.on_put = take_and_fail
    with pytest.raises(CustodyError):
        await custody.put(NOTE, label(), DUE)

    assert await states(tables) == [("storing", "due")]
    assert await objects.names() == []
    assert await custody.open(await custody.put(NOTE, label(), DUE)) == NOTE


@pytest.mark.anyio
async def test_an_epoch_that_closes_meanwhile_refuses_the_artifact(
    tables: AsyncEngine, keyring: LocalKeyring, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """Sealed under a key that is already dead, the note would be lost and nobody told."""
    other = Keys(tables, keyring, region="eu-central-1", now=vault_clock)
    keys = Keys(tables, keyring, region="eu-central-1", now=vault_clock)
    custody = Custody(tables, keys, objects, now=vault_clock)
    await custody.put(NOTE, label(), DUE)
    await other.destroy_epoch("raw-2026112214", AFTER)

    with pytest.raises(CustodyError, match="closed"):
        await custody.put(NOTE, label("a2"), DUE)

    assert await custody.describe("a2") is None


@pytest.mark.anyio
async def test_the_epoch_remembers_its_last_clock(custody: Custody, tables: AsyncEngine) -> None:
    """Its key is destroyed after that vault_clock, and not before it."""
    await custody.put(NOTE, label("a1"), DUE + timedelta(hours=2))
    await custody.put(NOTE, label("a2"), DUE)

    async with tables.connect() as connection:
        last = (await connection.execute(select(epoch_keys.c.last_due))).scalar()

    assert last == int((DUE + timedelta(hours=2)).timestamp())


@pytest.mark.anyio
async def test_an_overdue_artifact_is_closed_to_reads(custody: Custody, vault_clock: Clock) -> None:
    """The sweeper may be down for two days; the right to read ends on time."""
    artifact = await custody.put(NOTE, label(), DUE)
    vault_clock.at = DUE - timedelta(seconds=1)
    assert await custody.open(artifact) == NOTE

    vault_clock.at = DUE

    with pytest.raises(GoneError):
        await custody.open(artifact)


@pytest.mark.anyio
async def test_another_label_does_not_open(custody: Custody) -> None:
    """Whoever asks with another person's label must not get this person's note."""
    artifact = await custody.put(NOTE, label(), DUE)
    await custody.put(NOTE, label("a2", subject="s2"), DUE)
    moved = Artifact(
        label=label(subject="s2"),
        due=artifact.due,
        size=artifact.size,
        commitment=artifact.commitment,
        epoch=artifact.epoch,
        stored_at=artifact.stored_at,
    )

    with pytest.raises(TamperedError):
        await custody.open(moved)


@pytest.mark.anyio
async def test_an_older_container_of_the_same_artifact_is_refused(
    custody: Custody, objects: FaultyObjects, keys: Keys
) -> None:
    """It authenticates, and is still not what was recorded: the commitment tells."""
    artifact = await custody.put(NOTE, label(), DUE)
    sealed_elsewhere = Custody(custody.engine, keys, objects, now=custody.now)
    [name] = await objects.names()
    key = await keys.artifact_key(label(), artifact.epoch)
    other = envelope.seal(key, envelope.context_of(label()), b"other words")
    (objects.directory / name).write_bytes(other)

    with pytest.raises(TamperedError, match="another one"):
        await sealed_elsewhere.open(artifact)


@pytest.mark.anyio
async def test_a_missing_object_of_a_kept_artifact_is_a_fault(
    custody: Custody, objects: FaultyObjects
) -> None:
    """Nobody decided to destroy it: to call it "destroyed" would hide a loss."""
    artifact = await custody.put(NOTE, label(), DUE)
    [name] = await objects.names()
    (objects.directory / name).unlink()

    with pytest.raises(TamperedError, match="missing"):
        await custody.open(artifact)


@pytest.mark.anyio
async def test_a_keyring_that_is_away_is_not_gone(
    tables: AsyncEngine,
    custody: Custody,
    objects: FaultyObjects,
    vault_clock: Clock,
    tmp_path: Path,
) -> None:
    """The job must wait and try again, not conclude that the note was destroyed."""
    artifact = await custody.put(NOTE, label(), DUE)
    away = LocalKeyring(tmp_path / "away")
    (tmp_path / "away").rmdir()
    keys = Keys(tables, away, region="eu-central-1", now=vault_clock)

    with pytest.raises(KeyringError):
        await Custody(tables, keys, objects, now=vault_clock).open(artifact)


@pytest.mark.anyio
async def test_destroying_leaves_a_verified_tombstone(
    custody: Custody, objects: FaultyObjects
) -> None:
    """The tombstone is what we show: it says what was done, and that a read then failed."""
    artifact = await custody.put(NOTE, label(), DUE)

    stone = await custody.destroy(artifact, reason="message.revoked")

    assert (stone.methods, stone.verified, stone.late_seconds) == (("object-deleted",), True, 0)
    assert (stone.label, stone.reason, stone.destroyed_at) == (label(), "message.revoked", START)
    assert await objects.names() == []
    with pytest.raises(GoneError):
        await custody.open(artifact)
    with pytest.raises(GoneError):
        await custody.put(NOTE, label(), DUE)
    assert await custody.of_subject("s1") == []


@pytest.mark.anyio
async def test_a_tombstone_names_a_destroyed_key(custody: Custody, keys: Keys) -> None:
    """How it died is part of the proof."""
    artifact = await custody.put(NOTE, label(), DUE)
    await keys.destroy_subject("s1")

    stone = await custody.destroy(artifact, reason="erasure")

    assert stone.methods == ("key-destroyed", "object-deleted")


@pytest.mark.anyio
async def test_destroying_again_returns_the_first_proof(
    custody: Custody, vault_clock: Clock
) -> None:
    """The second caller must not overwrite when and why it was destroyed."""
    artifact = await custody.put(NOTE, label(), DUE)
    first = await custody.destroy(artifact, reason="message.revoked")
    vault_clock.pass_by(hours=1)

    assert await custody.destroy(artifact, reason="erasure") == first


@pytest.mark.anyio
async def test_an_object_that_can_still_be_read_is_not_destroyed(
    custody: Custody, objects: FaultyObjects, tables: AsyncEngine
) -> None:
    """A store that says "deleted" and keeps it must not get a tombstone written."""
    artifact = await custody.put(NOTE, label(), DUE)
    objects.keep_deleted = True

    with pytest.raises(ObjectsError, match="still be read"):
        await custody.destroy(artifact, reason="erasure")

    assert await states(tables) == [("destroying", "due")]
    with pytest.raises(GoneError):
        await custody.open(artifact)


@pytest.mark.anyio
async def test_the_salt_dies_with_the_artifact(custody: Custody, tables: AsyncEngine) -> None:
    """With it, whoever holds a copy could prove that this person said these words."""
    artifact = await custody.put(NOTE, label(), DUE)

    await custody.destroy(artifact, reason="erasure")

    async with tables.connect() as connection:
        assert (await connection.execute(select(artifacts.c.salt))).scalar() is None


@pytest.mark.anyio
async def test_a_held_artifact_is_not_destroyed(
    custody: Custody, tables: AsyncEngine, objects: FaultyObjects
) -> None:
    """Evidence under a legal hold is lost for good if anybody can delete it."""
    artifact = await custody.put(NOTE, label(), DUE)
    async with tables.begin() as tx:
        await tx.execute(update(retention).values(hold="case-1"))

    with pytest.raises(CustodyError, match="hold"):
        await custody.destroy(artifact, reason="erasure")

    assert await custody.held("a1")
    assert len(await objects.names()) == 1


@pytest.mark.anyio
async def test_what_an_unknown_hold_keeps_is_closed(custody: Custody, tables: AsyncEngine) -> None:
    """A row that names a hold we know nothing of may be of one that two people placed."""
    artifact = await custody.put(NOTE, label(), DUE)
    async with tables.begin() as tx:
        await tx.execute(update(retention).values(hold="case-1"))

    with pytest.raises(HeldError):
        await custody.open(artifact)


@pytest.mark.anyio
async def test_an_unknown_artifact_cannot_be_destroyed(custody: Custody) -> None:
    """A tombstone for what we never had would be a false statement."""
    artifact = await custody.put(NOTE, label(), DUE)
    unknown = Artifact(
        label=label("never"),
        due=artifact.due,
        size=1,
        commitment="",
        epoch=artifact.epoch,
        stored_at=START,
    )

    with pytest.raises(CustodyError, match="unknown"):
        await custody.destroy(unknown, reason="erasure")


@pytest.mark.anyio
async def test_small_content_opens_for_its_row_only(custody: Custody) -> None:
    """A sealed address moved to another row or person must not open there."""
    sealed = await custody.seal_small("s1", "address", b"12025550143")
    await custody.seal_small("s2", "address", b"x")

    assert await custody.open_small("s1", "address", sealed) == b"12025550143"
    for subject, context in (("s1", "memory"), ("s2", "address")):
        with pytest.raises(TamperedError):
            await custody.open_small(subject, context, sealed)


@pytest.mark.anyio
async def test_small_content_dies_with_its_subject(custody: Custody, keys: Keys) -> None:
    """One key per person is what makes an erasure one step."""
    sealed = await custody.seal_small("s1", "address", b"12025550143")

    await keys.destroy_subject("s1")

    with pytest.raises(GoneError):
        await custody.open_small("s1", "address", sealed)
    with pytest.raises(GoneError):
        await custody.seal_small("s1", "address", b"x")


@pytest.mark.anyio
async def test_named_content_opens_for_its_context_only(custody: Custody) -> None:
    """A webhook body sealed for one row must not pass for another's."""
    sealed = await custody.seal_named("intake-20261122", "row-1", NOTE)

    assert await custody.open_named("intake-20261122", "row-1", sealed) == NOTE
    for name, context in (("intake-20261122", "row-2"), ("intake-20261123", "row-1")):
        with pytest.raises(TamperedError):
            await custody.open_named(name, context, sealed)


def traces(content: bytes, directory: Path) -> list[str]:
    """Return the files under *directory* that hold *content* in one of its usual forms."""
    half = content[: len(content) // 2]
    forms = (content, half, content.hex().encode(), content.decode("latin-1").encode("utf-16-le"))
    found = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data += gzip.decompress(data)
        found += [str(path.relative_to(directory))] if any(f in data for f in forms) else []
    return found


@pytest.mark.anyio
async def test_nothing_is_ever_on_disk_in_clear(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock, tmp_path: Path
) -> None:
    """Database, write-ahead log, objects, keyring: at every step, also when a step fails."""
    canary = secrets.token_hex(24).encode()
    artifact = await custody.put(canary, label(), DUE)
    await custody.open(artifact)
    await custody.seal_small("s1", "address", canary)
    await custody.seal_named("intake-20261122", "row-1", canary)
    objects.fail_after.add("put")
    with pytest.raises(ObjectsError):
        await custody.put(canary, label("a2"), DUE)
    before = traces(canary, tmp_path)
    vault_clock.pass_by(hours=6)
    await clocks.sweep(agreed(vault_clock()), custody, owner="w1")

    after = traces(canary, tmp_path)

    assert (before, after) == ([], [])
    assert traces(b"artifacts", tmp_path) != []
    (tmp_path / "control").write_bytes(b"x" + canary + b"x")
    (tmp_path / "control.gz").write_bytes(gzip.compress(canary))
    assert traces(canary, tmp_path) == ["control", "control.gz"]


@pytest.mark.anyio
async def test_many_at_once(custody: Custody) -> None:
    """Workers share one custody: their writes must not disturb one another."""
    notes = {f"a{number}": secrets.token_bytes(50_000) for number in range(12)}

    kept = await asyncio.gather(
        *(
            custody.put(content, label(name, subject=f"s{name}"), DUE)
            for name, content in notes.items()
        )
    )

    opened = await asyncio.gather(*(custody.open(artifact) for artifact in kept))
    assert opened == list(notes.values())
