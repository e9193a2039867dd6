"""The journal of tombstones: an erasure that it forgets comes back with the next backup."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete
from support.custody import FaultyObjects
from support.desk import Desk
from support.erasing import Eraser, eraser_of

from gateway import erasure, tombstones
from gateway.errors import JournalError
from gateway.schema import erasures
from gateway.schema import tombstones as table
from gateway.tombstones import NAME, PREFIX, Journal, Stone

FIRST = Stone(
    erasure="e_1",
    tenant="fernruf",
    subject="s_1",
    subjects=("s_1", "s_0"),
    aliases=("a" * 64,),
    because="request",
    trigger="request",
    erased_at=1_000,
    until=2_000,
)
SECOND = Stone(
    erasure="e_2",
    tenant="fernruf",
    subject="s_2",
    subjects=("s_2",),
    aliases=(),
    because="request",
    trigger="request",
    erased_at=1_500,
    until=9_000,
)


@pytest.fixture
def journal(tmp_path: Path, objects: FaultyObjects) -> Journal:
    """Return a journal in both of its places."""
    return Journal(tmp_path / NAME, objects)


@pytest.mark.anyio
async def test_what_was_written_is_read(journal: Journal) -> None:
    """A replay needs who, why and since when, and nothing else."""
    await journal.append(SECOND)
    await journal.append(FIRST)
    await journal.append(FIRST)

    assert await journal.read() == [FIRST, SECOND]


@pytest.mark.anyio
@pytest.mark.parametrize("lost", ["file", "objects"])
async def test_one_place_is_enough(
    journal: Journal, tmp_path: Path, objects: FaultyObjects, lost: str
) -> None:
    """Restoring the cell's disk, or the object store, takes one of them back to yesterday."""
    await journal.append(FIRST)
    if lost == "file":
        (tmp_path / NAME).unlink()
    else:
        await objects.delete(f"{PREFIX}e_1")

    assert await journal.read() == [FIRST]


@pytest.mark.anyio
@pytest.mark.parametrize("kept", [10, 40])
async def test_a_line_cut_short_never_counted(journal: Journal, tmp_path: Path, kept: int) -> None:
    """A crash while writing: the erasure did not go on, and asks again."""
    await journal.append(FIRST)
    path = tmp_path / NAME
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])

    await journal.append(SECOND)

    assert await journal.read() == [FIRST, SECOND]


@pytest.mark.anyio
@pytest.mark.parametrize("damage", [b'{"erasure": 1}\n', b"[]\n", b"null\n", b'"x"\n'])
async def test_a_damaged_line_is_told(journal: Journal, tmp_path: Path, damage: bytes) -> None:
    """An erasure that cannot be read must not be one that is forgotten."""
    await journal.append(FIRST)
    with (tmp_path / NAME).open("ab") as file:
        file.write(damage)

    with pytest.raises(JournalError, match="line 2: damaged"):
        await journal.read()


@pytest.mark.anyio
@pytest.mark.parametrize("call", ["put", "delete"])
async def test_both_places_or_none(journal: Journal, objects: FaultyObjects, call: str) -> None:
    """With one place missing, the erasure must wait."""
    objects.fail_before.add(call)

    with pytest.raises(JournalError):
        await journal.append(FIRST)


@pytest.mark.anyio
async def test_a_stone_whose_time_is_over_goes(journal: Journal, objects: FaultyObjects) -> None:
    """A keyed hash of a number is personal data: it has an end as well."""
    await journal.append(FIRST)
    await journal.append(SECOND)

    await journal.prune(datetime.fromtimestamp(2_001, UTC))

    assert await journal.read() == [SECOND]
    assert await objects.names() == [f"{PREFIX}e_2"]


@pytest.mark.anyio
async def test_the_table_forgets_with_the_journal(desk: Desk) -> None:
    """Both say until when they stand."""
    async with desk.ports.engine.begin() as tx:
        await tombstones.stand(tx, FIRST)
        await tombstones.stand(tx, FIRST)

    await tombstones.forget(desk.ports.engine, datetime.fromtimestamp(2_000, UTC))
    assert len(await desk.rows(table)) == 1
    await tombstones.forget(desk.ports.engine, datetime.fromtimestamp(2_001, UTC))
    assert await desk.rows(table) == []


@pytest.mark.anyio
@pytest.mark.parametrize(("sent_at", "barred"), [(999, True), (1_000, True), (1_001, False)])
async def test_what_was_sent_until_then_is_barred(desk: Desk, sent_at: int, barred: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The second of the erasure itself was on its way; the next one is a new acquaintance."""
    async with desk.ports.engine.begin() as tx:
        await tombstones.stand(tx, FIRST)

    found = await tombstones.bars(desk.ports.engine, ["a" * 64, "b" * 64], sent_at)

    assert found == ("e_1" if barred else None)
    assert await tombstones.barred(desk.ports.engine, "e_1") == int(barred)


@pytest.mark.anyio
async def test_a_restored_database_is_erased_again_before_it_serves(eraser: Eraser) -> None:
    """The backup knows the person and not the erasure: the journal knows it."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.typed()
    sealed = await desk.ports.custody.seal_small(note.subject, "x", b"secret")
    ident = await eraser.ask(note.subject)
    await eraser.erasures.tick()
    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(erasures))
    fresh = eraser_of(desk)

    assert await fresh.erasures.replay() == 1

    one = await fresh.found(ident)
    assert (one.trigger, one.executed_at is not None) == ("restore", True)
    assert sealed
    assert await fresh.erasures.replay() == 0
    assert await erasure.unfinished(desk.ports.engine) == [one]
