"""
Duties that one process at a time may have, by a lease in the database.

Nothing may depend on the lease alone: it saves work, and its end shows who fell silent.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from vault.tables import duties, insert_new, reading


async def take(
    engine: AsyncEngine, name: str, owner: str, *, now: Callable[[], datetime], lasts: timedelta
) -> bool:
    """Take or renew the duty *name* for *owner*; False while it is another's."""
    at = int(now().timestamp())
    values = {"owner": owner[:128], "until": at + int(lasts.total_seconds())}
    async with engine.begin() as tx:
        if await insert_new(tx, duties, {"name": name, **values}):
            return True
        free = or_(duties.c.owner == owner[:128], duties.c.until <= at)
        mine = update(duties).where(duties.c.name == name, free).values(**values)
        return (await tx.execute(mine)).rowcount == 1


async def release(engine: AsyncEngine, prefix: str, *, now: Callable[[], datetime]) -> None:
    """End the leases of owners whose names begin with *prefix*: they are known to be dead."""
    at = int(now().timestamp())
    theirs = duties.c.owner.startswith(prefix, autoescape=True) & (duties.c.until > at)
    async with engine.begin() as tx:
        await tx.execute(update(duties).where(theirs).values(until=at))


async def until(engine: AsyncEngine, name: str) -> datetime | None:
    """Return when the lease of *name* ends or ended; None if nobody ever had it."""
    async with reading(engine) as connection:
        query = select(duties.c.until).where(duties.c.name == name)
        found = (await connection.execute(query)).scalar()
    return None if found is None else datetime.fromtimestamp(found, UTC)
