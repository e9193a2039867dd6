"""The journal of tombstones: an erasure that it forgets comes back with the next backup."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from support.agreeing import agreed
from support.custody import FaultyObjects
from support.desk import Desk
from support.erasing import Eraser, eraser_of

from audit.evidence import erasure as evidence
from audit.model import EventType
from audit.verify import parse_vkey
from gateway import erasure, restored, tombstones
from gateway.errors import JournalError
from gateway.identity import Sighting
from gateway.schema import aliases, erasures
from gateway.schema import tombstones as table
from gateway.tombstones import NAME, PREFIX, Journal, Stone
from vault.tables import subject_keys

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

    await journal.prune(agreed(datetime.fromtimestamp(2_001, UTC)))

    assert await journal.read() == [SECOND]
    assert await objects.names() == [f"{PREFIX}e_2"]


@pytest.mark.anyio
async def test_the_table_forgets_with_the_journal(desk: Desk) -> None:
    """Both say until when they stand."""
    async with desk.ports.engine.begin() as tx:
        await tombstones.stand(tx, FIRST)
        await tombstones.stand(tx, FIRST)

    await tombstones.forget(desk.ports.engine, agreed(datetime.fromtimestamp(2_000, UTC)))
    assert len(await desk.rows(table)) == 1
    await tombstones.forget(desk.ports.engine, agreed(datetime.fromtimestamp(2_001, UTC)))
    assert await desk.rows(table) == []


@pytest.mark.anyio
@pytest.mark.parametrize(("sent_at", "barred"), [(999, True), (1_000, True), (1_001, False)])
async def test_what_was_sent_until_then_is_barred(desk: Desk, sent_at: int, barred: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The second of the erasure itself was on its way; the next one is a new acquaintance."""
    async with desk.ports.engine.begin() as tx:
        await tombstones.stand(tx, FIRST)

    found = await tombstones.bars(
        desk.ports.engine, Sighting(at=sent_at, number="b" * 64, user_id="a" * 64)
    )

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


@pytest.mark.anyio
async def test_what_is_certified_again_is_told_again(eraser: Eraser) -> None:
    """A second roll, a second certificate: neither may lean on the leaf of the first."""
    desk = eraser.desk
    note = await desk.typed()
    await desk.ports.custody.seal_small(note.subject, "x", b"secret")
    backup = await desk.rows(subject_keys)
    first = await eraser.erased(note.subject)
    size = sum((await desk.trail.inner.sizes()).values())
    again = ("executed", "hardened")
    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(erasures))
        for row in backup:
            mine = subject_keys.c.subject == row.subject
            await tx.execute(update(subject_keys).where(mine).values(**row._mapping))
    assert await desk.ports.keys.lives(note.subject)

    await eraser.erasures.replay()
    await eraser.harden()

    for kind in (EventType.ERASURE_HARDENED, EventType.ERASURE_CERTIFIED):
        assert len({event.id for event in desk.trail.seen if event.type is kind}) == 2
    document = await erasure.certificate(desk.ports.engine, first.id)
    assert document is not None
    checked = evidence.verify(document, parse_vkey(desk.trail.inner.vkey()))
    assert checked.ok, checked.findings
    identity = json.loads(document)["certificate"]["identity"]
    assert identity["version"] == 2
    assert all(leaf["index"] >= size for name, leaf in identity["leaves"].items() if name in again)


@pytest.mark.anyio
@pytest.mark.parametrize("lost", ["file", "objects"])
async def test_a_place_that_was_put_back_is_mended(
    journal: Journal, tmp_path: Path, objects: FaultyObjects, lost: str
) -> None:
    """Else the other place is the only one, and the next restore takes the erasures with it."""
    await journal.append(FIRST)
    await journal.append(SECOND)
    if lost == "file":
        (tmp_path / NAME).unlink()
    else:
        await objects.delete(f"{PREFIX}e_1")

    await journal.mend(await journal.read())

    assert await objects.names() == [f"{PREFIX}e_1", f"{PREFIX}e_2"]
    for name in await objects.names():
        await objects.delete(name)
    assert await journal.read() == [FIRST, SECOND]


@pytest.mark.anyio
async def test_the_newest_lines_are_read_without_the_others(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked twice a second, and a journal may hold the erasures of sixty days."""
    assert await journal.newest() == []
    await journal.append(FIRST)
    await journal.append(SECOND)
    assert await journal.newest() == ["e_1", "e_2"]

    monkeypatch.setattr(tombstones, "TAIL_BYTES", (tmp_path / NAME).stat().st_size - 1)

    assert await journal.newest() == ["e_2"]


@pytest.mark.anyio
async def test_a_database_put_back_under_a_running_cell_is_erased_again(eraser: Eraser) -> None:
    """It should not be done, and it is: a tick notices that the newest erasure is unheard of."""
    desk = eraser.desk
    note = await desk.typed()
    before = await desk.rows(erasures)
    ident = await eraser.ask(note.subject)
    await eraser.erasures.tick()
    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(erasures))
    assert await desk.rows(erasures) == before == []

    await eraser.erasures.tick()

    assert (await eraser.found(ident)).trigger == "restore"
    assert (await eraser.found(ident)).executed_at is not None


@pytest.mark.anyio
async def test_an_erasure_that_was_begun_is_finished_not_begun_again(eraser: Eraser) -> None:
    """Who asked for it, and why, is part of its certificate; a restart must not forget that."""
    desk = eraser.desk
    note = await desk.typed()
    ident = await eraser.ask(note.subject)

    def die(name: str) -> None:
        if name == "erasure.stopped":
            raise SystemExit

    eraser.erasures.reached = die
    with pytest.raises(SystemExit):
        await eraser.erasures.advance(ident)

    assert await eraser_of(desk).erasures.replay() == 1

    one = await eraser.found(ident)
    assert (one.trigger, one.asked_by, one.executed_at is not None) == ("request", "dpo", True)


@pytest.mark.anyio
async def test_the_log_tells_when_both_places_were_put_back(eraser: Eraser) -> None:
    """Database, file and objects of one day: the log, which refuses to go back, still knows."""
    desk = eraser.desk
    note = await desk.typed()
    await restored.note(desk.ports, desk.trail.inner)
    [named] = await desk.rows(aliases)
    await eraser.erased(note.subject)
    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(erasures))
        await tx.execute(delete(table))
        await tx.execute(aliases.insert().values(**named._mapping))
    (desk.directory / NAME).unlink()
    for name in await desk.ports.custody.objects.names():
        if name.startswith(PREFIX):
            await desk.ports.custody.objects.delete(name)
    fresh = eraser_of(desk)
    assert await fresh.erasures.journal.read() == []

    told = await restored.erased(desk.ports, desk.trail.inner)
    assert await fresh.erasures.replay(told) == 1

    assert await desk.rows(aliases) == []
    [stone] = await fresh.erasures.journal.read()
    assert (stone.subject, stone.aliases) == (note.subject, (named.alias,))
    assert [row.alias for row in await desk.rows(table)] == [named.alias]
