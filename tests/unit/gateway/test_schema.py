"""The tables: what the migrations build is what the code declares, and times are integers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DefaultClause,
    Integer,
    insert,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from support.desk import Desk

from gateway import migrations, schema
from gateway.jobs import micros
from gateway.migrations import METADATA


def _difference(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


def _defaults(connection: Connection) -> dict[tuple[str, str], str]:
    """Return the default that each column of our tables has in the database, without quotes."""
    look = inspect(connection)
    return {
        (table, column["name"]): column["default"].strip("'")
        for metadata in METADATA
        for table in metadata.tables
        for column in look.get_columns(table)
        if column["default"] is not None
    }


@pytest.mark.anyio
async def test_the_migrations_build_what_the_metadata_declares(cell_db: AsyncEngine) -> None:
    """A column that only one of the two has is a crash in production, or a leak."""
    async with cell_db.begin() as tx:
        assert await tx.run_sync(_difference) == []


@pytest.mark.anyio
async def test_defaults_are_those_that_are_declared(cell_db: AsyncEngine) -> None:
    """Alembic compares none by itself, and a counter without its zero is a NULL."""
    async with cell_db.connect() as tx:
        built = await tx.run_sync(_defaults)

    words = {"false": "0", "true": "1"}
    declared = {
        (table.name, column.name): words.get(said := str(column.server_default.arg), said)
        for metadata in METADATA
        for table in metadata.tables.values()
        for column in table.c
        if isinstance(column.server_default, DefaultClause)
    }
    assert built == declared


@pytest.mark.anyio
async def test_the_comparison_sees_a_difference(cell_db: AsyncEngine) -> None:
    """A comparison that finds nothing anywhere proves nothing."""
    async with cell_db.begin() as tx:
        await tx.exec_driver_sql("ALTER TABLE replies DROP COLUMN sent_at")
        [found] = await tx.run_sync(_difference)

    assert found[0] == "add_column"


@pytest.mark.anyio
async def test_upgrading_again_keeps_the_rows(cell_db: AsyncEngine) -> None:
    """Every start upgrades."""
    row = {"alias": "x", "tenant": "t", "subject": "s_1"}
    async with cell_db.begin() as tx:
        await tx.execute(insert(schema.aliases).values(row))

    await migrations.upgrade(cell_db)

    async with cell_db.connect() as tx:
        assert (await tx.execute(select(schema.aliases.c.subject))).scalars().all() == ["s_1"]


def _times() -> list[Column[Any]]:
    names = {"at", "updated_at", "lease_until"}
    columns = [column for table in schema.metadata.tables.values() for column in table.c]
    return [each for each in columns if each.name in names or each.name.endswith("_at")]


def test_times_are_whole_microseconds() -> None:
    """Floats round, and strings compare as text: order of turns hangs on these columns."""
    assert len(_times()) >= 12
    assert all(type(column.type) in {BigInteger, Integer} for column in _times())
    assert micros(datetime(2026, 11, 19, 14, 0, 0, 1, tzinfo=UTC)) == 1_795_096_800_000_001


@pytest.mark.anyio
async def test_every_time_that_a_note_leaves_behind_is_now_in_microseconds(desk: Desk) -> None:
    """A column in seconds among others in microseconds is a deletion 50,000 years late."""
    job = await desk.hear(desk.recording())
    await desk.status("r_1")
    await desk.claim(job)
    now = micros(desk.clock())

    [box], [row], [told], [status] = [
        await desk.rows(table)
        for table in (schema.inbox, schema.jobs, schema.relay, schema.statuses)
    ]

    assert {box.received_at, row.accepted_at, told.created_at, status.at} == {now}
    assert row.deadline_at - now == 24 * 3600 * 10**6
    assert 0 < row.lease_until - now <= 3600 * 10**6


@pytest.mark.anyio
async def test_the_store_has_no_table_that_nobody_declared(cell_db: AsyncEngine) -> None:
    """What is not declared is not swept."""
    async with cell_db.connect() as tx:
        found = set(await tx.run_sync(lambda connection: inspect(connection).get_table_names()))

    declared = {name for metadata in METADATA for name in metadata.tables}
    assert found == declared | {"alembic_version"}
