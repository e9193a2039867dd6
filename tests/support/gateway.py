"""The gateway's tables on a real database, and a clock that a test can move."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import migrations


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 19, 14, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time it is."""
        return self.at

    def move(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 2026-11-19 14:00 UTC."""
    return Clock()


@pytest.fixture
async def cell_db(engine: AsyncEngine) -> AsyncEngine:
    """Return a database with every table a cell has, built by the migrations."""
    await migrations.upgrade(engine)
    return engine
