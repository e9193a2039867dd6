"""
Parts of deliveries that name nobody: nobody can be answered, but nothing vanishes unseen.

- Each is kept sealed for `KEPT_FOR`, under a key of its day of its own kind, and counted; while
  any is kept, ``/readyz`` warns. Delivered again, it is the same row.
- At most `MOST` of them, and `MOST_BYTES`, are kept for one tenant: who can flood the door fills
  no disk. What is beyond is counted and told.
- No person can be found by them, so an erasure does not reach them: they go by the clock.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import db
from gateway.schema import unattributed
from vault.agreed_time import AgreedTime

KEPT_FOR = timedelta(days=1)
KEY_DAYS = 2  # what came at the end of its first day is kept to the end of the second
MOST = 1_000
MOST_BYTES = 8 * 1024 * 1024

Row = Mapping[str, Any]


def key(day: datetime) -> str:
    """Return the name of the key that seals what arrives on *day*."""
    return f"unattributed-{day.astimezone(UTC):%Y%m%d}"


async def keep(tx: AsyncConnection, rows: Sequence[Row]) -> int:
    """Write those of *rows* that are new and that there is room for; return for how many not."""
    refused = 0
    for tenant in sorted({row["tenant"] for row in rows}):
        count, size = await _kept(tx, tenant)
        for row in (row for row in rows if row["tenant"] == tenant):
            if count >= MOST or size + row["size"] > MOST_BYTES:
                refused += 1
            elif await db.insert_new(tx, unattributed, dict(row)):
                count, size = count + 1, size + row["size"]
    return refused


async def forget(engine: AsyncEngine, time: AgreedTime) -> None:
    """Drop what was kept for long enough."""
    old = int(time.before(KEPT_FOR).timestamp() * 1_000_000)
    async with engine.begin() as tx:
        await tx.execute(delete(unattributed).where(unattributed.c.received_at <= old))


async def waiting(engine: AsyncEngine) -> int:
    """Return how many are kept."""
    async with db.reading(engine) as tx:
        counted = await tx.execute(select(func.count()).select_from(unattributed))
        return int(counted.scalar_one())


async def _kept(tx: AsyncConnection, tenant: str) -> tuple[int, int]:
    sizes = func.coalesce(func.sum(unattributed.c.size), 0)
    query = select(func.count(), sizes).where(unattributed.c.tenant == tenant)
    count, size = (await tx.execute(query)).one()
    return int(count), int(size)
