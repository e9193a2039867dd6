"""Duties: one process has one at a time, and a dead one must not keep it."""

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from support.custody import Clock

from vault import duties

LASTS = timedelta(minutes=5)


async def took(engine: AsyncEngine, owner: str, clock: Clock) -> bool:
    """Return whether *owner* has the duty now."""
    return await duties.take(engine, "keeping", owner, now=clock, lasts=LASTS)


@pytest.mark.anyio
async def test_the_duties_of_the_dead_are_free_at_once(each_db: AsyncEngine, clock: Clock) -> None:
    """A cell that was killed while it rolled keys would make the next one wait for minutes."""
    assert await took(each_db, "eu-1/dead", clock)
    assert not await took(each_db, "eu-1/next", clock)

    await duties.release(each_db, "eu-1/", now=clock)

    assert await took(each_db, "eu-1/next", clock)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("owner", "dead"),
    [("keeper/alive", "eu-1/"), ("eu-10/alive", "eu-1/"), ("eu-1/alive", "eu_1/")],
)
async def test_the_duties_of_the_living_are_theirs(
    each_db: AsyncEngine, clock: Clock, owner: str, dead: str
) -> None:
    """The keeper beside the cell has its own, and so has another cell on the same database."""
    assert await took(each_db, owner, clock)

    await duties.release(each_db, dead, now=clock)

    assert not await took(each_db, "eu-1/next", clock)
