"""Agreed times for tests of what they are needed for: made by `agree`, as everywhere."""

from datetime import datetime

from vault.agreed_time import AgreedTime, Readings, agree


def agreed(at: datetime) -> AgreedTime:
    """Return *at*, on which a wall clock and a second one agree."""
    found = agree(Readings(wall=at, others={"database": at}))
    assert isinstance(found, AgreedTime)
    return found
