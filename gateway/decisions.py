"""
Stored decisions: what was asked and answered, sealed, so that it can be decided again.

- The log's leaf is the record of a decision; this is what a replay needs beside it. So it is
  written behind, in batches: a crash may lose the last 200 ms of replay inputs, and when the
  database does not keep up the oldest are dropped and counted. No job ever waits for it.
- Input and answer are sealed under the subject's key and die with it; what stands in clear are
  ids, codes and digests, as in the log.
- Whoever holds the database can change an outcome or a digest here: a replay then says so.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db, log
from gateway.jobs import micros
from gateway.metrics import Metrics
from gateway.schema import decisions as table
from policy import canonical
from policy.replay import Fault, Gone, Stored
from vault.agreed_time import AgreedTime
from vault.custody import Custody
from vault.errors import GoneError, KeyLostError, KeyringError, TamperedError
from vault.tables import alive

FLUSH_S = 0.2
RETRY_S = 5.0
BATCH = 100
MOST_WAITING = 5_000
PAGE = 500
KEPT_FOR = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One decision as it was made, about *subject*; see `policy.replay.Stored` for the rest."""

    id: str
    at: datetime
    tenant: str
    subject: str
    stage: str
    jurisdiction: str
    outcome: str
    revision: str
    data_sha256: str
    engine: str
    input_sha256: str
    answer_sha256: str
    reasons: tuple[str, ...]
    asked: Mapping[str, Any] = field(repr=False)
    answer: Any = field(repr=False)


class Decisions:
    """Keeps decisions for *kept_for*; `start` runs its one writer, `aclose` ends it."""

    def __init__(
        self,
        engine: AsyncEngine,
        custody: Custody,
        metrics: Metrics,
        *,
        kept_for: timedelta = KEPT_FOR,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._engine = engine
        self._custody = custody
        self._metrics = metrics
        self._kept_for = kept_for
        self._most = most_waiting
        self._waiting: deque[Made] = deque()
        self._some = asyncio.Event()
        self._now = asyncio.Event()  # a full batch, or the end
        self._ending = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the writer."""
        self._writer = asyncio.create_task(self._write(), name="decisions")

    async def aclose(self) -> None:
        """Write what waits and stop: the writer is waited for, never cut in a transaction."""
        for event in (self._ending, self._some, self._now):
            event.set()
        if self._writer:
            await asyncio.wait([self._writer])
        self._metrics.unkept("store.closed", len(self._waiting))
        self._waiting.clear()

    def keep(self, made: Made) -> None:
        """Have *made* written soon; returns at once, and never fails."""
        self._waiting.append(made)
        self._trim()
        self._some.set()
        if len(self._waiting) >= BATCH:
            self._now.set()

    async def flush(self) -> None:
        """
        Write what waits, `BATCH` rows in a transaction.

        Raises `VaultError` or `SQLAlchemyError`; what is not written goes on waiting.
        """
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                # Sealed before the transaction begins: keys come over the same connection.
                await self._insert([row for made in batch if (row := await self._sealed(made))])
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                self._trim()
                raise

    async def _sealed(self, made: Made) -> dict[str, Any] | None:
        """Return the row of *made*, or None for one that can never be written: others wait."""
        try:
            return await self._row(made)
        except GoneError:
            return None  # erased meanwhile: what is left of it stands in the log
        except KeyLostError:
            # Only this person's: waiting for it, everybody else's would be lost as well.
            log.get().error("decisions.unkept", error="KeyLostError")
            self._metrics.unkept("key.lost", 1)
            return None
        except (KeyringError, SQLAlchemyError, OSError):
            raise
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, it is wrong for good
            log.get().error("decisions.unkept", error=type(exc).__name__)
            self._metrics.unkept("row.unusable", 1)
            return None

    async def forget(self, time: AgreedTime) -> None:
        """Delete what is older than it needs to be."""
        old = table.c.at < micros(time.before(self._kept_for))
        async with self._engine.begin() as tx:
            await tx.execute(delete(table).where(old))

    def _trim(self) -> None:
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self._metrics.unkept("store.full", 1)

    async def _write(self) -> None:
        ending = False
        while not ending:
            await self._some.wait()
            await _first(self._now, FLUSH_S)
            ending = (
                self._ending.is_set()
            )  # asked before the flush: what waits is written once more
            self._some.clear()
            self._now.clear()
            try:
                await self.flush()
            except Exception as exc:  # noqa: BLE001 - a bad moment must not end the writer
                log.get().warning("decisions.delayed", error=type(exc).__name__)
                self._some.set()
                await _first(self._ending, RETRY_S)

    async def _row(self, made: Made) -> dict[str, Any]:
        content = canonical.encode(
            {"answer": made.answer, "asked": made.asked, "reasons": made.reasons}
        )
        row = {name: getattr(made, name) for name in _CLEAR}
        sealed = await self._custody.seal_small(made.subject, context(made.id), content)
        await asyncio.sleep(0)  # sealing takes 0.1 ms: let others have their turn
        return row | {"at": micros(made.at), "sealed": sealed}

    async def _insert(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        async with self._engine.begin() as tx:
            # An erasure deletes what it finds: after that, nothing about its person is added.
            living = await alive(tx, [row["subject"] for row in rows])
            if kept := [row for row in rows if row["subject"] in living]:
                await tx.execute(insert(table).on_conflict_do_nothing(), kept)


_CLEAR = (
    "answer_sha256",
    "data_sha256",
    "engine",
    "id",
    "input_sha256",
    "jurisdiction",
    "outcome",
    "revision",
    "stage",
    "subject",
    "tenant",
)


def context(decision: str) -> str:
    """Return the name under which *decision*'s row is sealed."""
    return f"decision/{decision}"


async def count(engine: AsyncEngine, *, since: datetime | None = None) -> int:
    """Return how many decisions are kept that were made at *since* or after."""
    async with db.reading(engine) as tx:
        query = select(func.count()).select_from(table).where(_since(since))
        return int((await tx.execute(query)).scalar_one())


async def find(engine: AsyncEngine, ident: str) -> Row[Any] | None:
    """Return the row of the decision *ident*, or None."""
    async with db.reading(engine) as tx:
        return (await tx.execute(select(table).where(table.c.id == ident))).one_or_none()


async def newest(
    engine: AsyncEngine, custody: Custody, *, since: datetime | None, limit: int
) -> AsyncIterator[Stored | Gone | Fault]:
    """Yield the newest *limit* decisions made at *since* or after, newest first, opened."""
    query = select(table).where(_since(since)).order_by(table.c.at.desc(), table.c.id.desc())
    page, left = query, limit
    while left > 0:
        async with db.reading(engine) as tx:
            rows = (await tx.execute(page.limit(min(PAGE, left)))).all()
        # No connection is held here: keys are fetched over the only one that SQLite has.
        for found in await asyncio.gather(*(opened(row, custody) for row in rows)):
            yield found
        if len(rows) < PAGE:
            return
        left -= len(rows)
        page = query.where(tuple_(table.c.at, table.c.id) < (rows[-1].at, rows[-1].id))


async def opened(row: Row[Any], custody: Custody) -> Stored | Gone | Fault:
    """
    Return the decision in *row*.

    Raises `VaultError` if the keyring is away: that says nothing about the decision.
    """
    if row.sealed is None:
        return Gone(row.id, "key.destroyed")
    try:
        content = await custody.open_small(row.subject, context(row.id), row.sealed)
    except GoneError:
        return Gone(row.id, "key.destroyed")
    except KeyLostError as exc:
        return Fault(row.id, exc.code)
    except TamperedError:
        return Fault(row.id, "row.tampered")
    held = msgspec.json.decode(content)
    return Stored(
        id=row.id,
        outcome=row.outcome,
        revision=row.revision,
        data_sha256=row.data_sha256,
        input_sha256=row.input_sha256,
        answer_sha256=row.answer_sha256,
        asked=held["asked"],
        answer=held["answer"],
        reasons=tuple(held["reasons"]),
    )


def _since(since: datetime | None) -> Any:
    return table.c.at >= (micros(since) if since else 0)


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
