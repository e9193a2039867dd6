"""
Restore drills (reliability rows R-01 and R-02): yesterday comes back, and the erased do not.

Yesterday's copies are of everything we store. Each drill puts some of them back over a cell that
has erased people since, makes sure that they really brought the people back, starts what a cell
and a keeper start, and tries every way to read. It leaves everything well for the next one.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select
from support.drill import Copies, Drill, made
from support.openbao_raft import raft_server
from support.postgres import Postgres

from audit.evidence import erasure as evidence
from audit.verify import parse_vkey
from gateway import erasure
from gateway.schema import aliases, jobs, sessions
from gateway.tombstones import NAME, PREFIX
from vault.tables import artifacts, subject_keys

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

DAY_S = 86_400
PLACES = 2  # of each person: a transcript and a memory


@dataclass(frozen=True, slots=True)
class Stage:
    """A cell whose people were erased today, and yesterday's copies of all it stores."""

    drill: Drill
    yesterday: Copies


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the module on one loop: its servers and people are made once."""
    return "asyncio"


FEW, MANY = (12, 4), (500, 100)  # erased, living
_FEW = pytest.param(FEW, id="12")
_MANY = pytest.param(MANY, id="500", marks=pytest.mark.long)
few = pytest.mark.parametrize("stage", [_FEW], indirect=True, scope="module")
few_or_many = pytest.mark.parametrize("stage", [_FEW, _MANY], indirect=True, scope="module")


@pytest.fixture(scope="module")
async def stage(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    record_testsuite_property: Callable[[str, object], None],
) -> AsyncIterator[Stage]:
    """Yield a cell that erased so many of its people since its backups, and kept the others."""
    erased, living = request.param
    with raft_server(tmp_path_factory.mktemp("bao")) as bao:
        async with AsyncExitStack() as stack:
            drill = await made(tmp_path_factory.mktemp("cell"), postgres, bao, stack)
            await drill.populate(erased=erased, living=living)
            await drill.roll_all()
            yesterday = await drill.back_up("yesterday")
            assert await drill.opened(drill.people) == PLACES * len(drill.people)
            assert await drill.stolen(yesterday, drill.erased) > 0
            drill.clock.move(DAY_S)
            await drill.erase()
            await drill.harden()
            await well(drill, yesterday)
            yield Stage(drill, yesterday)
            for name, seconds in drill.figures.items():
                record_testsuite_property(f"{name} of {erased}", f"{seconds:.3f} s")


async def well(drill: Drill, copies: Copies) -> None:
    """Assert that nobody erased is readable by any way, everybody else is, and all is proven."""
    assert await drill.opened(drill.erased) == 0
    assert await drill.opened(drill.living) == PLACES * len(drill.living)
    assert await drill.stolen(copies, drill.erased) == 0
    for ident in drill.idents:
        assert (await drill.found(ident)).certified
        document = await erasure.certificate(drill.engine, ident)
        assert document is not None
        checked = evidence.verify(document, parse_vkey(drill.trail.vkey()))
        assert checked.ok, checked.findings


async def counted(drill: Drill, table: object) -> int:
    """Return how many rows of *table* are about people who were erased."""
    theirs = [one.subject for one in drill.erased]
    query = select(func.count()).where(table.c.subject.in_(theirs))  # type: ignore[attr-defined]
    if table is subject_keys:
        query = query.where(subject_keys.c.ciphertext.is_not(None))
    if table is artifacts:
        query = query.where(artifacts.c.state != "destroyed")
    async with drill.engine.connect() as tx:
        return int((await tx.execute(query)).scalar_one())


async def brought_back(drill: Drill) -> None:
    """Assert that the restored database knows everybody, and nothing of an erasure."""
    for table in (aliases, artifacts, jobs, sessions, subject_keys):
        assert await counted(drill, table) == len(drill.erased), table.name
    assert await erasure.unfinished(drill.engine) == []


async def replayed(drill: Drill) -> None:
    """Do what a cell does before its doors open: afterwards its tables lead to nobody erased."""
    assert await drill.replay() == len(drill.erased)
    for table in (aliases, jobs, sessions, subject_keys):
        assert await counted(drill, table) == 0, table.name
    assert await drill.opened(drill.erased) == 0
    assert await drill.replay() == 0


@few_or_many
async def test_only_the_database_comes_back(stage: Stage) -> None:
    """R-01. Its keys were dead before it came; the living get theirs from the keysheets."""
    drill, yesterday = stage.drill, stage.yesterday
    await drill.restore_database(yesterday)
    await brought_back(drill)
    assert await drill.opened(drill.people) == 0

    await replayed(drill)
    await drill.harden()

    await well(drill, yesterday)


@few_or_many
async def test_the_key_service_comes_back_with_it(stage: Stage) -> None:
    """R-02. The keys that were destroyed are there again, until the keeper has been there."""
    drill, yesterday = stage.drill, stage.yesterday
    await drill.restore_database(yesterday)
    await drill.restore_keys(yesterday)
    await brought_back(drill)
    assert await drill.opened(drill.erased) == len(drill.erased), "their memories, not their bytes"

    await replayed(drill)
    assert await drill.stolen(yesterday, drill.erased) > 0, "the snapshot's keys open the dump's"
    await drill.harden()

    await well(drill, yesterday)


@few_or_many
async def test_the_objects_come_back_too(stage: Stage) -> None:
    """R-02. Database, keys, objects and keysheets of yesterday: what is left is the journal."""
    drill, yesterday = stage.drill, stage.yesterday
    await drill.restore_database(yesterday)
    await drill.restore_keys(yesterday)
    drill.restore_objects(yesterday)
    await brought_back(drill)
    assert await drill.opened(drill.erased) == PLACES * len(drill.erased)
    assert not list((drill.home / "objects" / PREFIX).rglob("*"))

    await replayed(drill)
    await drill.harden()

    await well(drill, yesterday)
    kept = {path.name for path in (drill.home / "objects" / PREFIX).iterdir()}
    assert kept == set(drill.idents), "the journal is in both places again"


@few
async def test_the_journals_file_comes_back_and_its_objects_stay(stage: Stage) -> None:
    """R-02. Whoever restores the cell's disk takes the file along; the other place is enough."""
    drill, yesterday = stage.drill, stage.yesterday
    await drill.restore_database(yesterday)
    await drill.restore_keys(yesterday)
    drill.restore_objects(yesterday, but=PREFIX)
    drill.restore_journal(yesterday)
    await brought_back(drill)
    assert not (drill.home / NAME).exists()

    await replayed(drill)
    await drill.harden()

    await well(drill, yesterday)
    lines = (drill.home / NAME).read_text().splitlines()
    assert {json.loads(line)["erasure"] for line in lines} == set(drill.idents)


@few
async def test_the_whole_journal_comes_back_with_everything_else(stage: Stage) -> None:
    """R-02. Every copy is of yesterday: the log, which a cell refuses to take back, still knows."""
    drill, yesterday = stage.drill, stage.yesterday
    await drill.restore_database(yesterday)
    await drill.restore_keys(yesterday)
    drill.restore_objects(yesterday)
    drill.restore_journal(yesterday)
    await brought_back(drill)
    assert await drill.erasures(drill.ports()).journal.read() == []

    await replayed(drill)
    await drill.harden()

    await well(drill, yesterday)
    assert len(await drill.erasures(drill.ports()).journal.read()) == len(drill.erased)


@few
async def test_the_keeper_comes_before_the_cell(stage: Stage) -> None:
    """R-02. It takes the erased for living, and wraps them again: the cell has to undo that."""
    drill, yesterday = stage.drill, stage.yesterday
    await drill.restore_database(yesterday)
    await drill.restore_keys(yesterday)
    await brought_back(drill)
    await drill.keeping().tick()
    assert await drill.opened(drill.erased) == len(drill.erased)

    await replayed(drill)
    await drill.harden()

    await well(drill, yesterday)


@few
async def test_the_key_service_comes_back_under_a_running_keeper(stage: Stage) -> None:
    """R-02. Nobody restarts a keeper because the key service was restored: it has to notice."""
    drill, yesterday = stage.drill, stage.yesterday
    keeper = drill.keeping()
    await keeper.tick()
    await drill.restore_database(yesterday)
    await drill.restore_keys(yesterday)
    drill.restore_objects(yesterday, but="keysheets")
    await replayed(drill)
    assert await drill.stolen(yesterday, drill.erased) > 0

    drill.clock.move(60)
    await keeper.tick()

    assert await drill.stolen(yesterday, drill.erased) == 0
    await drill.harden()
    await well(drill, yesterday)
