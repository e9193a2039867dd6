"""The cell's database: durable, one writer at a time, and readers that wait for nobody."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db
from gateway.schema import aliases

ROW = {"alias": "x", "tenant": "t", "subject": "s_1"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1), ("foreign_keys", 1)],
)
async def test_every_connection_is_set_up(engine: AsyncEngine, pragma: str, value: object) -> None:
    """FULL is what makes 200 mean durable; the driver's defaults are weaker."""
    for connecting in (engine.connect(), db.reading(engine)):
        async with connecting as connection:
            found = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one()
        assert found == value


@pytest.mark.anyio
async def test_a_transaction_holds_the_write_lock_from_its_start(cell_db: AsyncEngine) -> None:
    """Else two that read and then write meet half-way, and one fails at once."""
    entered = asyncio.Event()

    async def second() -> None:
        async with cell_db.begin() as tx:
            entered.set()
            await db.insert_new(tx, aliases, ROW)

    async with cell_db.begin() as tx:
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.05)
        assert not entered.is_set()
        await db.insert_new(tx, aliases, ROW)
    await waiting

    assert entered.is_set()


@pytest.mark.anyio
async def test_transactions_are_served_in_the_order_they_came(cell_db: AsyncEngine) -> None:
    """SQLite's own waiting is a lottery; a note that waits longest must not lose it."""
    order: list[int] = []

    async def take(number: int) -> None:
        async with cell_db.begin():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(take(number) for number in range(20)))

    assert order == list(range(20))


@pytest.mark.anyio
async def test_insert_new_says_whether_it_inserted(cell_db: AsyncEngine) -> None:
    """The second of two is told that it is the second."""
    async with cell_db.begin() as tx:
        found = [await db.insert_new(tx, aliases, ROW) for _ in range(2)]

    assert found == [True, False]


@pytest.mark.anyio
async def test_what_is_deleted_is_overwritten(cell_db: AsyncEngine, tmp_path: Path) -> None:
    """Free pages are read by whoever steals the file."""
    canary = "canary-" + "c" * 40
    async with cell_db.begin() as tx:
        await db.insert_new(tx, aliases, ROW | {"alias": canary})
    async with cell_db.begin() as tx:
        await tx.execute(text("DELETE FROM aliases"))
    await cell_db.dispose()

    assert canary.encode() not in (tmp_path / "cell.db").read_bytes()


@pytest.mark.anyio
async def test_a_cancelled_writer_keeps_no_lock(tmp_path: Path) -> None:
    """A task may be cancelled in the middle of a transaction: the next writer must not wait."""
    engine = db.connect(f"sqlite+aiosqlite:///{tmp_path}/cell.db")
    async with engine.begin() as tx:
        await tx.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))

    async def write() -> None:
        async with engine.begin() as tx:
            await tx.execute(text("INSERT INTO t DEFAULT VALUES RETURNING n"))
            await tx.execute(text("INSERT INTO t DEFAULT VALUES RETURNING n"))

    for steps in range(60):
        task = asyncio.create_task(write())
        for _ in range(steps):
            await asyncio.sleep(0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5), engine.begin() as tx:
            await tx.execute(text("INSERT INTO t DEFAULT VALUES"))
    await engine.dispose()
