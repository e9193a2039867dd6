"""Time in the simulated world: a base clock, and how far the world was moved ahead of it."""

from collections.abc import Callable
from datetime import datetime, timedelta


class Clock:
    """The world's clock. *base* may stand still (tests) or run (the demonstration)."""

    def __init__(self, base: Callable[[], datetime]) -> None:
        self._base = base
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the world's time, aware and in UTC."""
        return self._base() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the world ahead."""
        self._ahead += timedelta(seconds=seconds)


class Bucket:
    """A token bucket on a `Clock`: *burst* tokens at most, refilled at *per_second*."""

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at: datetime | None = None

    def take(self, now: datetime) -> bool:
        """Take one token; return whether there was one."""
        if self._at is not None:
            gained = (now - self._at).total_seconds() * self._per_second
            self._tokens = min(self._burst, self._tokens + gained)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
