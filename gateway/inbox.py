"""
The inbox: an update is durable before WhatsApp hears 200.

- One transaction holds the inbox row, its job, its relay row and the statuses; several
  deliveries share one transaction when they arrive together (group commit), and if that one
  fails each delivery is tried alone, so that nobody pays for a neighbour.
- The idempotency key is an HMAC of the message id under the tenant's key: the id itself
  contains the sender's number.
- The body is sealed under a daily intake key before it is written.
- What names no sender is kept beside, for a day (`gateway.unattributed`).
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import crashpoint, db, log, schema, unattributed
from gateway.errors import NotAcceptedError
from gateway.whatsapp.payload import Identity, Message, Parsed, Status, Unattributed
from vault.custody import Custody
from vault.errors import VaultError
from vault.keys import Keys

WINDOW_S = 24 * 3600  # WhatsApp's customer service window: no free-form answer after it
INTAKE_DAYS = 8  # how long the key of a day's bodies is kept: a parked note's is needed for 6
BATCH = 2000
MOST_WAITING = 4096  # deliveries
ANSWER_S = 15.0
JobId = str


@dataclass(slots=True)
class _Rows:
    inbox: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    unattributed: list[dict[str, Any]] = field(default_factory=list)


class Inbox:
    """
    Accepts parsed deliveries; `start` runs its one writer, `aclose` ends it.

    *admits* tells the messages that are taken in at all; what it does not is acknowledged, no more.
    *urgent* tells the updates that only take rights away from us: they wait for no earlier turn.
    More than *most_waiting* deliveries, or one that waits for *answer_s* seconds, are refused.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        keys: Keys,
        custody: Custody,
        *,
        now: Callable[[], datetime],
        committed: Callable[[Sequence[JobId]], None],
        urgent: Callable[[str, Message], bool] = lambda _tenant, _message: False,
        admits: Callable[[str, Message], bool] = lambda _tenant, _message: True,
        most_waiting: int = MOST_WAITING,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._custody = custody
        self._now = now
        self._committed = committed
        self._urgent = urgent
        self._admits = admits
        self._queue: asyncio.Queue[tuple[_Rows, asyncio.Future[list[JobId]]]] = asyncio.Queue(
            most_waiting
        )
        self._answer_s = answer_s
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self._idle = asyncio.Event()  # no transaction is open

    def start(self) -> None:
        """Start the writer."""
        self._closing = False
        self._writer = asyncio.create_task(self._write(), name="inbox")

    async def aclose(self) -> None:
        """Stop the writer after its transaction; deliveries that still wait are not accepted."""
        self._closing = True
        if self._writer and not self._writer.done():
            with contextlib.suppress(TimeoutError):  # a database that hangs must not keep us
                async with asyncio.timeout(self._answer_s):
                    await self._idle.wait()
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        while not self._queue.empty():
            _refuse([self._queue.get_nowait()])

    @property
    def alive(self) -> bool:
        """Whether a delivery would be written."""
        return self._writer is not None and not self._writer.done() and not self._closing

    async def accept(self, tenant: str, parsed: Parsed) -> list[JobId]:
        """
        Return the jobs that *parsed* newly opened, all durable.

        Raises `NotAcceptedError` if the database or the keyring does not answer: WhatsApp then
        delivers again.
        """
        if not self.alive:
            raise NotAcceptedError("inbox.stopped")
        try:
            rows = await self._rows(tenant, parsed)
        except VaultError:
            raise NotAcceptedError("keyring.unavailable") from None
        except (SQLAlchemyError, OSError):
            raise NotAcceptedError("database.unavailable") from None
        if not rows.inbox and not rows.statuses and not rows.unattributed:
            return []
        done: asyncio.Future[list[JobId]] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((rows, done))
            async with asyncio.timeout(self._answer_s):
                return await done
        except (asyncio.QueueFull, TimeoutError):
            # It may still be committed: WhatsApp delivers again and the key makes it one.
            raise NotAcceptedError("database.slow") from None

    async def _rows(self, tenant: str, parsed: Parsed) -> _Rows:
        key = await self._keys.named(f"idempotency-{tenant}")
        now = self._now()
        rows = _Rows()
        for update in parsed.updates:
            if isinstance(update, Message):
                if not self._admits(tenant, update):
                    continue
                await self._message(rows, tenant, update, key, now)
            elif isinstance(update, Status) and update.opaque:
                rows.statuses.append(_status(update, now))
            elif isinstance(update, Unattributed):
                rows.unattributed.append(await self._unattributed(tenant, update, key, now))
        return rows

    async def _unattributed(
        self, tenant: str, update: Unattributed, key: bytes, now: datetime
    ) -> dict[str, Any]:
        ident = keyed(key, "unattributed", update.raw)
        body_key = await self._keys.day_key(unattributed.key(now))
        sealed = await self._custody.seal_named(body_key, ident, update.raw)
        return {
            "id": ident,
            "tenant": tenant,
            "body_key": body_key,
            "sealed": sealed,
            "size": len(sealed),
            "reason": update.reason,
            "received_at": _micros(now),
        }

    async def _message(
        self, rows: _Rows, tenant: str, update: Message, key: bytes, now: datetime
    ) -> None:
        at = _micros(now)
        update = _dated(update, now)
        job = f"j_{secrets.token_hex(16)}"
        body = msgspec.json.encode(update)
        body_key = await self._keys.day_key(intake_key(now))
        rows.inbox.append(
            {
                "key": keyed(key, "message", update.id),
                "tenant": tenant,
                "job": job,
                "digest": keyed(key, "digest", body),
                "body_key": body_key,
                "sealed": await self._custody.seal_named(body_key, job, body),
                "received_at": at,
            }
        )
        rows.jobs.append(
            {
                "id": job,
                "tenant": tenant,
                "conversation": conversation(key, update.phone_number_id, update.sender),
                "artifact": f"a_{secrets.token_hex(16)}",
                "trace": secrets.token_hex(16),
                "urgent": self._urgent(tenant, update),
                "state": "accepted",
                "accepted_at": at,
                "sent_at": update.sent_at * 1_000_000,
                "deadline_at": (update.sent_at + WINDOW_S) * 1_000_000,
            }
        )

    async def _write(self) -> None:
        while True:
            self._idle.set()
            batch = [await self._queue.get()]
            self._idle.clear()
            while not self._queue.empty() and len(batch) < BATCH:
                batch.append(self._queue.get_nowait())
            try:
                await self._commit(batch)
            except asyncio.CancelledError:
                _refuse(batch)
                raise
            except Exception as exc:  # noqa: BLE001 - no delivery may close the door to the others
                log.get().warning("inbox.batch_failed", error=type(exc).__name__)
                await self._one_by_one(batch)

    async def _one_by_one(self, batch: list[tuple[_Rows, asyncio.Future[list[JobId]]]]) -> None:
        for item in batch:
            try:
                await self._commit([item])
            except Exception as exc:  # noqa: BLE001 - same
                log.get().error("inbox.refused", error=type(exc).__name__)
                _refuse([item])

    async def _commit(self, batch: list[tuple[_Rows, asyncio.Future[list[JobId]]]]) -> None:
        async with self._engine.begin() as tx:
            fresh = await _insert(tx, [rows for rows, _ in batch])
            parts = [row for rows, _ in batch for row in rows.unattributed]
            refused = await unattributed.keep(tx, parts)
            crashpoint.reach("accept.before_commit")
        crashpoint.reach("accept.committed")
        if parts:
            log.get().error("updates.unattributed", count=len(parts), dropped=refused)
        for rows, done in batch:
            if not done.done():
                done.set_result([job["id"] for job in rows.jobs if job["id"] in fresh])
        self._committed(sorted(fresh))


async def bar(tx: AsyncConnection, tenant: str, key: str, now: datetime) -> None:
    """Within *tx*, have the update of *key* count as one that came in, if it has not yet."""
    row = {
        "key": key,
        "tenant": tenant,
        "job": f"j_{secrets.token_hex(16)}",
        "digest": "",
        "body_key": "",
        "received_at": _micros(now),
    }
    await db.insert_new(tx, schema.inbox, row)


def intake_key(day: datetime) -> str:
    """Return the name of the key that seals what arrives on *day*."""
    return f"intake-{day.astimezone(UTC):%Y%m%d}"


def keyed(key: bytes, purpose: str, content: str | bytes) -> str:
    """Return the hex HMAC-SHA256 of *content* for one *purpose*, so that uses cannot meet."""
    message = content.encode() if isinstance(content, str) else content
    return hmac.new(key, purpose.encode() + b"\x00" + message, hashlib.sha256).hexdigest()


def conversation(key: bytes, phone_number_id: str, sender: Identity) -> str:
    """Return the opaque name under which this person's turns on this number are ordered."""
    return keyed(key, "conversation", f"{phone_number_id}|{sender.bsuid or sender.phone}")


def _dated(update: Message, now: datetime) -> Message:
    """Return *update* with a time of writing that is neither unknown nor still to come."""
    at = int(now.timestamp())
    return msgspec.structs.replace(update, sent_at=min(update.sent_at or at, at))


def _status(update: Status, now: datetime) -> dict[str, Any]:
    return {
        "reply": update.opaque[:34],
        "state": update.state[:16],
        "error_code": update.error_codes[0] if update.error_codes else 0,
        "number": update.phone_number_id[:32],
        "at": update.at * 1_000_000 or _micros(now),
    }


def _micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _refuse(batch: Sequence[tuple[_Rows, asyncio.Future[list[JobId]]]]) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(NotAcceptedError("database.unavailable"))


async def _insert(tx: AsyncConnection, deliveries: Sequence[_Rows]) -> set[JobId]:
    unique = {row["key"]: row for rows in reversed(deliveries) for row in reversed(rows.inbox)}
    fresh = await _insert_new(tx, schema.inbox, list(unique.values()), schema.inbox.c.job)
    jobs = [job for rows in deliveries for job in rows.jobs if job["id"] in fresh]
    if jobs:
        await tx.execute(insert(schema.jobs), jobs)
        await tx.execute(
            insert(schema.relay),
            [{"job": job["id"], "attempt": 0, "created_at": job["accepted_at"]} for job in jobs],
        )
    statuses = {(row["reply"], row["state"]): row for rows in deliveries for row in rows.statuses}
    await _insert_new(tx, schema.statuses, list(statuses.values()), schema.statuses.c.reply)
    return fresh


async def _insert_new(
    tx: AsyncConnection, table: Table, rows: list[dict[str, Any]], returning: Any
) -> set[str]:
    if not rows:
        return set()
    dialect = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    statement = dialect(table).on_conflict_do_nothing().returning(returning)
    return set((await tx.execute(statement, rows)).scalars())
