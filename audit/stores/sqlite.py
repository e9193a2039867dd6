"""
A log in one SQLite file: WAL, ``synchronous=FULL``, one thread per connection.

Trust: not trusted for integrity. Whoever can write the file can at most be caught.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from audit.errors import LockedError, StoreError
from audit.model import Event
from audit.ports import Batch, Known, Query
from audit.stores import tables
from audit.tiles import Tile

_T = TypeVar("_T")


class SqliteReads:
    """A log file opened read-only; see `LogReads`."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StoreError(f"{path.name}: there is no such log")
        self._reading = _Thread(path, "ro")

    async def checkpoint(self) -> str | None:
        """See `LogReads.checkpoint`."""
        row = await self._reading.run(lambda db: db.execute("SELECT note FROM head").fetchone())
        return row[0] if row else None

    async def tiles(self, places: Sequence[Tile]) -> dict[Tile, bytes]:
        """See `LogReads.tiles`."""
        sql = "SELECT hashes FROM tile WHERE level = ? AND n = ?"

        def read(db: sqlite3.Connection) -> dict[Tile, bytes]:
            found = {place: db.execute(sql, place).fetchone() for place in places}
            return {place: row[0] for place, row in found.items() if row}

        return await self._reading.run(read)

    async def entries(self, query: Query) -> list[tuple[int, bytes]]:
        """See `LogReads.entries`."""
        return await self._reading.run(lambda db: tables.entries(db, query))

    async def close(self) -> None:
        """See `LogReads.close`."""
        await self._reading.close()


class SqliteStore(SqliteReads):
    """A log file with this process as its only writer; see `LogStore`."""

    def __init__(self, path: Path) -> None:
        self._lock = _lock(path.with_name(f"{path.name}.lock"))
        try:
            with _ours():
                tables.create(path)
            super().__init__(path)
        except StoreError:
            os.close(self._lock)
            raise
        self._writing = _Thread(path, "rw")

    async def known(self, events: Sequence[Event]) -> Known:
        """See `LogStore.known`."""
        return await self._writing.run(lambda db: tables.known(db, events))

    async def commit(self, batch: Batch) -> None:
        """See `LogStore.commit`."""
        await self._writing.run(lambda db: tables.commit(db, batch))

    async def close(self) -> None:
        """See `LogReads.close`; the lock goes last."""
        await super().close()
        await self._writing.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class _Thread:
    """One connection and the one thread that uses it."""

    def __init__(self, path: Path, mode: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit-log")
        self._place = path, mode
        self._db: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return what *work* returns; SQLite's errors become `StoreError`."""
        try:
            done = self._pool.submit(self._do, work)
        except RuntimeError:
            raise StoreError("the log is closed") from None
        return await asyncio.wrap_future(done)

    async def close(self) -> None:
        """Let the work under way end, then close."""
        await asyncio.to_thread(self._pool.shutdown)
        if self._db is not None:
            self._db.close()
            self._db = None

    def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with _ours():
            if self._db is None:
                self._db = tables.connect(*self._place)
            return work(self._db)


@contextmanager
def _ours() -> Iterator[None]:
    """Turn SQLite's errors into ours; its text may quote a value, so only its kind is kept."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        kind = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
        raise StoreError(f"the log's file: {kind}") from None


def _lock(path: Path) -> int:
    """Return the descriptor that holds *path* exclusively (released with the process)."""
    with _ours():
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LockedError(f"{path.name}: another writer holds this log") from None
    return descriptor
