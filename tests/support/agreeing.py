"""Agreed times for tests of what they are needed for: made by `agree`, as everywhere."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from vault.agreed_time import AgreedTime, Readings, agree


def agreed(at: datetime) -> AgreedTime:
    """Return *at*, on which a wall clock and a second one agree."""
    found = agree(Readings(wall=at, others={"database": at}))
    assert isinstance(found, AgreedTime)
    return found


def agreeing(now: Callable[[], datetime]) -> Callable[[], Awaitable[AgreedTime | None]]:
    """Return what always agrees on what *now* says."""

    async def ask() -> AgreedTime | None:
        return agreed(now())

    return ask


AFTER = agreed(datetime(2030, 1, 1, tzinfo=UTC))
"""When every epoch of these tests is over."""
