"""
Between cells: sealed updates out of the front door, and into the cell they are for.

- Out: what `forwards` committed is put on record and published to the other cell's stream until
  that stream has it; then the row goes. A cell that is away delays its own updates only.
- In: an update is opened, accepted by the inbox like any other, put on record, and overwritten
  in the stream (JetStream's ``delete_msg`` with erasure), because acknowledged payloads stay
  readable on its disk. Delivered twice is accepted once: the inbox knows its message id.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.errors import AuditError
from audit.model import Event, EventType
from gateway import log
from gateway.broker import Arrivals, Broker
from gateway.errors import ForwardError, MissingPartError, NotAcceptedError
from gateway.forwards import unseal
from gateway.inbox import Inbox
from gateway.schema import forwards
from gateway.touch import Trail
from gateway.whatsapp.payload import Parsed

TICK_S = 1.0
BATCH = 64
AGAIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One tenant here: its numbers, and the app secrets its updates may be vouched for with."""

    phone_number_ids: frozenset[str]
    app_secrets: tuple[bytes, ...] = field(repr=False)


class Departures:
    """Publishes committed forwards; *streams* opens the broker of each other cell by its id."""

    def __init__(
        self,
        engine: AsyncEngine,
        trail: Trail,
        streams: Mapping[str, Callable[[], Awaitable[Arrivals]]],
        *,
        cell: str,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._trail = trail
        self._streams = streams
        self._cell = cell
        self._now = now
        self._open: dict[str, Arrivals] = {}
        self._work = {cell_id: asyncio.Event() for cell_id in streams}
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """Publish soon: something was committed."""
        for event in self._work.values():
            event.set()

    def start(self) -> None:
        """Start publishing, to each cell on its own."""
        self._tasks = [
            asyncio.create_task(self._run(cell), name=f"forward-{cell}") for cell in self._streams
        ]

    @property
    def alive(self) -> bool:
        """Whether committed forwards would be published."""
        return all(not task.done() for task in self._tasks)

    async def aclose(self) -> None:
        """Stop; what is unpublished stays in the table."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in self._open.values():
            await stream.aclose()

    async def _run(self, cell: str) -> None:
        while True:
            self._work[cell].clear()
            try:
                while await self.publish(cell):
                    pass
            except (OSError, TimeoutError, NatsError, SQLAlchemyError) as exc:
                log.get().warning("forward.delayed", cell=cell, error=type(exc).__name__)
            except (AuditError, MissingPartError) as exc:
                log.get().warning("forward.delayed", cell=cell, error=type(exc).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._work[cell].wait()

    async def publish(self, cell: str) -> int:
        """Publish what waits for *cell*, oldest first; return how many went."""
        waiting = select(forwards).where(forwards.c.cell == cell).order_by(forwards.c.created_at)
        async with self._engine.connect() as tx:
            rows = (await tx.execute(waiting.limit(BATCH))).all()
        for row in rows:
            await self._trail.append(self._event(row))
            stream = await self._stream(cell)
            await stream.put(row.id, row.tenant, self._cell, row.sealed)
            async with self._engine.begin() as tx:
                await tx.execute(delete(forwards).where(forwards.c.id == row.id))
        return len(rows)

    async def _stream(self, cell: str) -> Arrivals:
        if cell not in self._open:
            self._open[cell] = await self._streams[cell]()
        return self._open[cell]

    def _event(self, row: Any) -> Event:
        return Event(
            id=f"{row.id}.forwarded",
            type=EventType.UPDATE_FORWARDED,
            at=self._now(),
            tenant=row.tenant,
            region=row.region,
            detail={
                "basis": "configured",
                "cell": row.cell,
                "sealed_sha256": hashlib.sha256(row.sealed).hexdigest(),
            },
        )


class Arriving:
    """Takes sealed updates from our own stream into the inbox."""

    def __init__(
        self,
        broker: Broker,
        inbox: Inbox,
        trail: Trail,
        receivers: Mapping[str, Receiver],
        *,
        key: X25519PrivateKey,
        cell: str,
        region: str,
        now: Callable[[], datetime],
    ) -> None:
        self._broker = broker
        self._inbox = inbox
        self._trail = trail
        self._receivers = receivers
        self._key = key
        self._cell = cell
        self._region = region
        self._now = now
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start taking."""
        self._task = asyncio.create_task(self._run(), name="arriving")

    @property
    def alive(self) -> bool:
        """Whether forwarded updates would be taken."""
        return self._task is not None and not self._task.done()

    async def aclose(self) -> None:
        """Stop; what was not accepted stays in the stream."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                arrivals = await self._broker.arrivals(self._cell)
                async for message in arrivals.taken():
                    await self.take(arrivals, message)
            except (TimeoutError, NatsError, NotFoundError, OSError) as exc:
                log.get().warning("arrival.delayed", error=type(exc).__name__)
                await asyncio.sleep(TICK_S)

    async def take(self, arrivals: Arrivals, message: Msg) -> None:
        """Accept one update, or refuse it for good; leave it in the stream if we cannot tell."""
        try:
            await self._accept(message)
        except ForwardError as exc:
            # Whoever may write to the stream can write nonsense: it must not come round for ever.
            log.get().error("arrival.refused", reason=exc.code)
            await arrivals.erase(message)
        except (NotAcceptedError, AuditError) as exc:
            log.get().warning("arrival.delayed", error=type(exc).__name__)
            await message.nak(delay=AGAIN_S)
        else:
            await arrivals.erase(message)

    async def _accept(self, message: Msg) -> None:
        headers = message.headers or {}
        forward, tenant, sender = (headers.get(name, "") for name in Arrivals.HEADERS)
        receiver = self._receivers.get(tenant)
        if receiver is None:
            raise ForwardError("forward.tenant")
        update = unseal(
            message.data,
            forward=forward,
            tenant=tenant,
            sender=sender,
            cell=self._cell,
            key=self._key,
            secrets_=receiver.app_secrets,
        )
        if update.phone_number_id not in receiver.phone_number_ids:
            raise ForwardError("forward.number")
        jobs = await self._inbox.accept(tenant, Parsed(updates=(update,), dropped={}))
        await self._trail.append(
            Event(
                id=f"{forward}.arrived",
                type=EventType.UPDATE_ARRIVED,
                at=self._now(),
                tenant=tenant,
                region=self._region,
                detail={
                    "basis": "observed",
                    "cell": sender,
                    "jobs": jobs,
                    "sealed_sha256": hashlib.sha256(message.data).hexdigest(),
                },
            )
        )
