"""
Who may take the next job: each tenant its share, all together the cell's.

- A bulkhead per tenant: with several tenants none can have every slot, so one that floods
  waits for itself.
- Slots are handed out in the order in which they were asked for, and each tenant asks for one
  at a time: who has much to do gets every n-th slot, not the next thousand.
- A rate per tenant, where one is set: what is over it waits in the queue, and is not lost.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

MINUTE_S = 60.0
URGENT = "_urgent"
"""The lane of what takes rights away from us: it waits behind nobody's flood. No tenant's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one tenant may have: *concurrency* jobs at once, *per_minute* begun (0 = any)."""

    concurrency: int
    per_minute: int = 0


class Slots:
    """The slots of one worker; *shares* by tenant id. `URGENT` has a lane of its own."""

    def __init__(self, concurrency: int, shares: Mapping[str, Share]) -> None:
        lanes = {**shares, URGENT: Share(concurrency=max(1, concurrency // 4))}
        self._all = asyncio.Semaphore(concurrency)
        self._own = {lane: asyncio.Semaphore(share.concurrency) for lane, share in lanes.items()}
        self._rates = {
            lane: AsyncLimiter(share.per_minute, MINUTE_S)
            for lane, share in lanes.items()
            if share.per_minute
        }

    @property
    def lanes(self) -> tuple[str, ...]:
        """Return the lanes there are slots for."""
        return tuple(self._own)

    async def reserve(self, lane: str) -> None:
        """Wait for one of the lane's own slots: only then is a job worth asking for."""
        await self._own[lane].acquire()

    async def enter(self, lane: str) -> None:
        """With one's own slot and a job in hand, wait for the lane's rate and for one of all."""
        if lane in self._rates:
            await self._rates[lane].acquire()
        await self._all.acquire()

    def release(self, lane: str) -> None:
        """Give back what `reserve` and `enter` gave."""
        self._all.release()
        self._own[lane].release()


def fair_share(concurrency: int, tenants: int) -> int:
    """Return how many of *concurrency* slots one of several tenants may have at most."""
    return concurrency if tenants <= 1 else max(1, concurrency - max(1, concurrency // 4))
