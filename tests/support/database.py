"""A real database per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Yield an engine on a fresh SQLite file, set up as a cell's."""
    engine = db.connect(f"sqlite+aiosqlite:///{tmp_path}/cell.db")
    yield engine
    await engine.dispose()
