"""
The trail of one region: a log per quarter, one after the other.

- Events go to the log of the quarter that *now* is in; the trail rolls over by itself.
- The end of a touch goes where its beginning is, and an event told again is looked for in the
  quarter of its time, so that each log can be verified by itself. The artifact chain
  (``aseq``) starts anew in each log for the same reason.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from audit.errors import NotInLogError, StoreError
from audit.log import Log
from audit.model import Event, EventType, Leaf, Receipt
from audit.ports import Shelf, Signer
from audit.reader import Reader

ORG = "vocustody.example"
PAGE = 1024  # leaves read at a time


def quarter(at: datetime) -> str:
    """Return the quarter of *at*, such as ``2026q4``."""
    return f"{at.year:04d}q{(at.month + 2) // 3}"


class Quarters:
    """The logs of one region for reading, oldest first; an async context manager."""

    def __init__(self, shelf: Shelf, logs: Mapping[str, Reader]) -> None:
        self._shelf = shelf
        self._readers = dict(logs)

    async def leaves(
        self, *, artifact: str | None = None, job: str | None = None, touch: str | None = None
    ) -> list[Leaf]:
        """Return the leaves of one artifact, job or touch (name exactly one), oldest first."""
        found = []
        for reader in self._in_order():
            found += await reader.leaves(artifact=artifact, job=job, touch=touch)
        return found

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Return each ``touch.began`` that has no ``touch.ended``, of *job* or of all."""
        return [began for reader in self._in_order() for began in await reader.unended(job)]

    async def prove(self, receipt: Receipt) -> str:
        """Return the ``.tlog-proof`` text of the leaf that *receipt* is about."""
        return await self.reader(receipt.origin.rpartition("/")[2]).prove(receipt.index)

    async def sizes(self) -> dict[str, int]:
        """Return how many leaves the log of each quarter has."""
        return {name: (await self.reader(name).head())[1].size for name in self.quarters()}

    async def newest(self) -> datetime | None:
        """Return the time of the last leaf of the newest log that has one."""
        for reader in reversed(self._in_order()):
            _, head = await reader.head()
            if head.size:
                [leaf] = await reader.span(head.size - 1, head.size)
                return leaf.event.at
        return None

    async def since(self, sizes: Mapping[str, int]) -> AsyncIterator[Leaf]:
        """
        Yield every leaf that was not there when the logs had *sizes*.

        Each quarter counts for itself: while a clock was wrong, the newest was none of today's.
        """
        for name in self.quarters():
            reader = self.reader(name)
            _, head = await reader.head()
            for first in range(sizes.get(name, 0), head.size, PAGE):
                for leaf in await reader.span(first, min(first + PAGE, head.size)):
                    yield leaf

    async def checkpoint(self) -> str:
        """Return the newest signed checkpoint of the newest quarter."""
        return await self._in_order()[-1].checkpoint()

    def quarters(self) -> list[str]:
        """Return the quarters there are, oldest first."""
        return sorted(self._readers)

    def reader(self, quarter: str | None = None) -> Reader:
        """Return the log of *quarter* (the newest by default) for export and proofs."""
        name = quarter or self.quarters()[-1]
        if name not in self._readers:
            raise NotInLogError(f"{name}: there is no log of this quarter")
        return self._readers[name]

    def vkey(self, quarter: str | None = None) -> str:
        """Return the key that verifies the log of *quarter* (the newest by default)."""
        return self._shelf.vkey(quarter or self.quarters()[-1])

    async def close(self) -> None:
        """Close every log; safe to call twice."""
        for reader in self._in_order():
            await reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _in_order(self) -> list[Reader]:
        return [self._readers[name] for name in self.quarters()]


class Trail(Quarters):
    """The logs of one region, and the right to append to them."""

    def __init__(
        self, shelf: Shelf, *, signer: Signer, now: Callable[[], datetime], org: str
    ) -> None:
        super().__init__(shelf, {})
        self._logs: dict[str, Log] = {}
        self._signer = signer
        self._now = now
        self._org = org
        self._rolling = asyncio.Lock()

    @classmethod
    async def open(
        cls, shelf: Shelf, signer: Signer, now: Callable[[], datetime], org: str = ORG
    ) -> Self:
        """
        Open the trail on *shelf*; its logs are named ``audit.<org>/<region>/<quarter>``.

        Raises: `ForkError` if a log is not what was last signed; `LockedError` if another
        process writes it; `StoreError`.
        """
        trail = cls(shelf, signer=signer, now=now, org=org)
        try:
            for name in sorted({*shelf.quarters(), quarter(now())}):
                await trail._log(name)
        except BaseException:
            await trail.close()
            raise
        return trail

    @staticmethod
    async def read(shelf: Shelf) -> Quarters:
        """Open the trail on *shelf* for reading only, also while another process writes it."""
        names = shelf.quarters()
        if not names:
            raise StoreError(f"{shelf.region}: there is no audit log here")
        return Quarters(shelf, {name: Reader(shelf.reads(name)) for name in names})

    async def append(self, event: Event) -> Receipt:
        """Append *event* to the log it belongs to; see `Log.append`."""
        return await (await self._log_of(event)).append(event)

    async def _log_of(self, event: Event) -> Log:
        current, told = quarter(self._now()), quarter(event.at)
        if event.type is EventType.TOUCH_ENDED and event.touch:
            for log in self._logs.values():
                if log.is_open(event.touch):
                    return log
        if told != current and told in self._logs and await self._logs[told].holds(event):
            return self._logs[told]
        return await self._log(current)

    async def _log(self, name: str) -> Log:
        if name in self._logs:
            return self._logs[name]
        async with self._rolling:
            if name not in self._logs:
                self._logs[name] = self._readers[name] = await self._open(name)
            return self._logs[name]

    async def _open(self, name: str) -> Log:
        store, mark = self._shelf.open(name)
        log = await Log.open(
            store,
            self._signer,
            origin=f"audit.{self._org}/{self._shelf.region}/{name}",
            region=self._shelf.region,
            now=self._now,
            mark=mark,
        )
        self._shelf.keep_vkey(name, str(log.key))
        return log
