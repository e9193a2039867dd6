"""SQLite in this thread and in memory, behind SQLAlchemy's asynchronous engine."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any

from simulation.stores import always
from sqlalchemy import create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from gateway import db


class Inline(SQLiteDialect_pysqlite):
    """The standard library's driver, called where it stands: it answers before anybody waits."""

    driver = "inline"
    is_async = True
    supports_statement_cache = True

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Execute here and now; the engine wants to see that somebody could have waited."""
        await_only(_nothing())
        cursor.execute(statement, parameters)

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: Any = None
    ) -> None:
        """See `do_execute`."""
        await_only(_nothing())
        cursor.executemany(statement, parameters)


async def _nothing() -> None:
    pass


registry.register("sqlite.inline", __name__, "Inline")


class Cursor(sqlite3.Cursor):
    """A cursor that has all rows in hand after a statement, as the asynchronous drivers' have."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._rows: deque[Any] = deque()

    def execute(self, *statement: Any) -> "Cursor":
        """Execute, and fetch what there is."""
        super().execute(*statement)
        self._rows = deque(super().fetchall()) if self.description else deque()
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return up to *size* rows."""
        return [self._rows.popleft() for _ in range(min(size or 1, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows, self._rows = list(self._rows), deque()
        return rows

    async def _async_soft_close(self) -> None:
        """Do nothing: there is nothing to fetch any more."""


class Connection(sqlite3.Connection):
    """A connection whose commits are writes to a disk: *durable* may lose its power there."""

    durable: Callable[[str, Callable[[], None]], None] = staticmethod(always)

    def cursor(self, *_factory: Any) -> Cursor:
        """Return a cursor of ours."""
        return super().cursor(Cursor)

    def read(self, sql: str, values: Any = ()) -> list[Any]:
        """Return the rows of *sql*: for whoever looks on, outside of every transaction."""
        return sqlite3.Cursor(self).execute(sql, values).fetchall()

    def commit(self) -> None:
        """Commit, if the machine lives to do so."""
        if self.in_transaction:
            self.durable("database", super().commit)


def connect() -> Connection:
    """Return a connection to an empty database in memory."""
    return sqlite3.connect(
        ":memory:", factory=Connection, isolation_level=None, check_same_thread=False
    )


def engine(connect: Callable[[], Connection]) -> AsyncEngine:
    """Return an engine over *connect*, set up as a cell's: one connection, waited for in line."""
    found = create_engine(
        "sqlite+inline://",
        creator=connect,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=db.LOCK_WAIT_S,
    )
    event.listen(found, "connect", db._prepare)
    event.listen(found, "begin", _begin)
    return AsyncEngine(found)


def _begin(connection: Any) -> None:
    await_only(asyncio.sleep(0))  # between two transactions others may have their turn
    db._begin(connection)
