"""
The cell's database: SQLite in WAL with ``synchronous=FULL`` by default, PostgreSQL by URL.

- A transaction takes SQLite's write lock when it begins (``BEGIN IMMEDIATE``), so that it
  never fails half-way for want of it.
- ``secure_delete`` is on; what makes deletion true is that only ciphertext is ever stored.
"""

from typing import Any

from sqlalchemy import Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

LOCK_WAIT_S = 10


def connect(url: str, *, pool_size: int = 5) -> AsyncEngine:
    """
    Return an engine for *url* (``sqlite+aiosqlite:///...`` or ``postgresql+asyncpg://...``).

    SQLite gets one connection: it has one writer, and waiting in line for the connection is
    fair and prompt, while SQLite's own busy handler sleeps. So nobody may open a transaction
    within another.
    """
    if not url.startswith("sqlite"):
        engine = create_async_engine(url, pool_size=pool_size, pool_pre_ping=True)
        event.listen(engine.sync_engine, "do_connect", _reach)
        return engine
    engine = create_async_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=LOCK_WAIT_S,
        connect_args={"timeout": LOCK_WAIT_S},
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine.pool, "invalidate", _let_go)
    return engine


def _reach(dialect: Dialect, _entry: ConnectionPoolEntry, args: Any, parameters: Any) -> Any:
    """Connect; where nobody listens asyncpg raises `OSError`, which callers do not expect."""
    try:
        return dialect.connect(*args, **parameters)
    except Exception as exc:  # noqa: BLE001 - drivers have roots of their own
        # Its text may hold the address; its class says enough.
        raise OperationalError("connect", None, RuntimeError(type(exc).__name__)) from None


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own "BEGIN" comes too late and is not IMMEDIATE: switch it off.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Any) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN DEFERRED" if reading else "BEGIN IMMEDIATE")


def _let_go(connection: Any, _entry: ConnectionPoolEntry, _exc: BaseException | None) -> None:
    """
    Roll back on a connection that was given up because its task was cancelled.

    aiosqlite closes it in a thread of its own, and SQLite keeps a closed connection with an open
    cursor alive, with its write lock: the next writer would wait for garbage to be collected.
    """
    driver = connection.driver_connection
    if driver is not None and driver._connection is not None:  # noqa: SLF001 - it has no such method
        driver._tx.put_nowait((None, driver._connection.rollback))  # noqa: SLF001 - same


def reading(engine: AsyncEngine) -> AsyncConnection:
    """Return a connection for reads only: it takes no write lock. Use it with ``async with``."""
    return engine.execution_options(reading=True).connect()


async def insert_new(tx: AsyncConnection, table: Table, row: dict[str, Any]) -> bool:
    """Insert *row* unless one of its unique keys is taken; return whether it was inserted."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    result = await tx.execute(insert(table).values(**row).on_conflict_do_nothing())
    return bool(result.rowcount)
