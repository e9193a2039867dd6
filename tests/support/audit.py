"""A signed log to test on: a clock that the test moves, events, and faults on demand."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import StoreError
from audit.log import Log
from audit.model import Event, EventType
from audit.ports import Batch, HighWater, Known, LogStore, Query, Signer
from audit.signers.local import LocalSigner
from audit.stores.mark import FileMark
from audit.stores.sqlite import SqliteStore
from audit.tiles import Tile

ORIGIN = "audit.vocustody.example/eu-central/2026q4"
REGION = "eu-central"
START = datetime(2026, 11, 19, 14, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """Return the time it shows."""
        return self.at

    def move(self, **by: float) -> datetime:
        """Move it by a `timedelta` and return the new time."""
        self.at += timedelta(**by)
        return self.at


_numbers = count()


def an_event(kind: EventType = EventType.POLICY_DECIDED, **fields: Any) -> Event:
    """Return an event that the log accepts, with *fields* in place of the defaults."""
    event: dict[str, Any] = {"id": f"e-{next(_numbers)}", "at": START, "tenant": "fernruf"}
    if kind in (EventType.TOUCH_BEGAN, EventType.TOUCH_ENDED):
        event |= {
            "touch": "t_1",
            "artifact": "a_1",
            "action": "transcribe",
            "processor": "stt.example.eu-central",
            "region": REGION,
            "decision": "d_1",
        }
    if kind is EventType.TOUCH_ENDED:
        event["outcome"] = "done"
    return Event(type=kind, **(event | fields))


@dataclass
class FaultyStore:
    """A real store that fails `commit` on demand: before it persisted, or after."""

    inner: LogStore
    fail_before: int = 0
    fail_after: int = 0
    failed: int = 0
    commits: list[Batch] = field(default_factory=list)

    async def checkpoint(self) -> str | None:
        """Pass through."""
        return await self.inner.checkpoint()

    async def tiles(self, places: Sequence[Tile]) -> dict[Tile, bytes]:
        """Pass through."""
        return await self.inner.tiles(places)

    async def entries(self, query: Query) -> list[tuple[int, bytes]]:
        """Pass through."""
        return await self.inner.entries(query)

    async def known(self, events: Sequence[Event]) -> Known:
        """Pass through."""
        return await self.inner.known(events)

    async def commit(self, batch: Batch) -> None:
        """Commit, or fail as asked."""
        if self.fail_before:
            self.fail_before -= 1
            self.failed += 1
            raise StoreError("planted: nothing was written")
        await self.inner.commit(batch)
        self.commits.append(batch)
        if self.fail_after:
            self.fail_after -= 1
            self.failed += 1
            raise StoreError("planted: it was written")

    async def close(self) -> None:
        """Pass through."""
        await self.inner.close()


class Place:
    """One log's files under a directory, to open as often as a test likes."""

    def __init__(self, home: Path) -> None:
        self.db = home / "log.db"
        self.mark = home / "elsewhere.mark"
        self.clock = Clock()
        self.signer = LocalSigner(Ed25519PrivateKey.generate())

    async def open(
        self,
        *,
        store: LogStore | None = None,
        signer: Signer | None = None,
        mark: HighWater | None = None,
    ) -> Log:
        """Open the log, with any part replaced."""
        return await Log.open(
            store or SqliteStore(self.db),
            signer or self.signer,
            origin=ORIGIN,
            region=REGION,
            now=self.clock,
            mark=mark or FileMark(self.mark),
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return where a fresh log can be opened."""
    return Place(tmp_path)


@pytest.fixture
async def log(place: Place) -> AsyncIterator[Log]:
    """Yield a fresh open log."""
    log = await place.open()
    yield log
    await log.close()
