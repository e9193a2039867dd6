"""
Bulkheads and rates per processor, and per tenant within it.

- At most `settings.max_concurrent` calls of a row at once, `DEFAULT_CONCURRENT` where it says
  nothing, and at most ``settings.per_minute`` begun, if it says so: a vendor's quota is spent
  on purpose, not found out by its refusals.
- With several tenants none may have more than three quarters of either: one that floods a
  processor waits for itself.
- What is full is left out of the choice, never replaced by what is not on the list.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from residency.model import Processor

DEFAULT_CONCURRENT = 16
MINUTE_S = 60.0


@dataclass(slots=True)
class _Bucket:
    """
    Tokens that come back at an even rate, a minute's worth at most; *per_minute* 0 = no limit.

    A share below one token a minute is still saved up to a whole one.
    """

    per_minute: float
    tokens: float
    at: float

    @property
    def most(self) -> float:
        """Return how many tokens it holds."""
        return max(1.0, self.per_minute)

    def take(self, now: float) -> bool:
        if not self.per_minute:
            return True
        back = (now - self.at) * self.per_minute / MINUTE_S
        self.tokens, self.at = min(self.most, self.tokens + back), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def give_back(self) -> None:
        self.tokens += 1


class Limits:
    """The room that each processor of *rows* has for each of *tenants*; one per event loop."""

    def __init__(
        self,
        rows: Iterable[Processor],
        tenants: Iterable[str],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        names = list(tenants)
        part = 1.0 if len(names) <= 1 else 0.75
        now = monotonic()
        self._now = monotonic
        self._most: dict[tuple[str, str], int] = {}
        self._rate: dict[tuple[str, str], _Bucket] = {}
        self._inside: Counter[tuple[str, str]] = Counter()
        self._freed = asyncio.Event()
        for row in rows:
            most = int(row.settings.get("max_concurrent", DEFAULT_CONCURRENT))
            rate = float(row.settings.get("per_minute", 0))
            for name, share in (("", 1.0), *((name, part) for name in names)):
                self._most[row.id, name] = max(1, int(most * share))
                self._rate[row.id, name] = _Bucket(rate * share, max(1.0, rate * share), now)

    def enter(self, processor: str, tenant: str) -> bool:
        """Take a place for one call, or say that there is none; give it back with `leave`."""
        all_, own = (processor, ""), (processor, tenant)
        if any(self._inside[key] >= self._most[key] for key in (all_, own)):
            return False
        now = self._now()
        if not self._rate[own].take(now):
            return False
        if not self._rate[all_].take(now):
            self._rate[own].give_back()
            return False
        self._inside.update((all_, own))
        return True

    def leave(self, processor: str, tenant: str) -> None:
        """Give a place back."""
        self._inside.subtract(((processor, ""), (processor, tenant)))
        self._freed.set()

    async def freed(self, within_s: float) -> bool:
        """Wait until some place was given back; False if none was *within_s*."""
        self._freed.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._freed.wait()
        except TimeoutError:
            return False
        return True
