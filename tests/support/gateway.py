"""The gateway's tables on a real database, and a clock that a test can move."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import migrations
from gateway.timekeeping import Machine

YEAR = datetime(2020, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved, and that can be wrong: no time passes in a `jump`."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 19, 14, 0, tzinfo=UTC)
        self.wrong = timedelta(0)
        self.work: Callable[[], datetime] = self  # what a desk works by: its timekeeper

    def __call__(self) -> datetime:
        """Return the time it is."""
        return self.at

    def move(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.at += timedelta(seconds=seconds)

    def jump(self, by: timedelta) -> None:
        """Show another time from now on."""
        self.at += by
        self.wrong += by

    @property
    def true(self) -> datetime:
        """Return the time that it really is."""
        return self.at - self.wrong

    def machine(self, boot: str = "boot-1") -> Machine:
        """Return the clocks of a machine whose wall clock this is."""

        def counted() -> float:
            return (self.true - YEAR).total_seconds()

        return Machine(wall=self, boot=boot, counted=counted)


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 2026-11-19 14:00 UTC."""
    return Clock()


@pytest.fixture
async def cell_db(engine: AsyncEngine) -> AsyncEngine:
    """Return a database with every table a cell has, built by the migrations."""
    await migrations.upgrade(engine)
    return engine
