"""
The log: events in, receipts out, one writer.

- Group commit: one task drains the queue into one batch, signs one checkpoint and makes both
  durable in one transaction; the time of that is the only window, there is no timer.
- A receipt means: durable in the store, covered by a signed checkpoint, and remembered by the
  high-water mark.
- An event the log does not accept fails its own producer; a batch that cannot be made durable
  fails all of its producers, and may be appended again under the same ids.
- A checkpoint is signed before it is stored, and leaves this process only through the store.
  After a failed commit the state is read back; if that is not what was signed, the log
  accepts nothing more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from audit import leaf, merkle, note
from audit.draft import Draft, Placed, same
from audit.errors import AppendError, AuditError, EventError, StoreError
from audit.model import Event, Receipt
from audit.note import Checkpoint, Key
from audit.ports import HighWater, Known, LogStore, Signer
from audit.reader import Reader
from audit.state import State, recover

MAX_BATCH = 1000
FUTURE_LIMIT = timedelta(minutes=5)
_NOTHING = Known(ids={}, chains={}, touches=frozenset())


class _Waiting(NamedTuple):
    event: Event
    receipt: asyncio.Future[Receipt]


class Log(Reader):
    """One log, and the right to append to it."""

    def __init__(
        self,
        store: LogStore,
        signer: Signer,
        mark: HighWater,
        *,
        key: Key,
        region: str,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(store)
        self.key = key
        self._store = store
        self._signer = signer
        self._mark = mark
        self._region = region
        self._now = now
        self._state = State()
        self._unmarked: str | None = None
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._broken: str | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        store: LogStore,
        signer: Signer,
        *,
        origin: str,
        region: str,
        now: Callable[[], datetime],
        mark: HighWater,
    ) -> Self:
        """
        Recover the log of *origin* from *store*, which the log owns from here on.

        Raises: `ForkError` if the store is not what was last signed; `StoreError`.
        """
        try:
            key = Key(origin, signer.public_key)
            log = cls(store, signer, mark, key=key, region=region, now=now)
            await log._begin()
        except BaseException:
            await store.close()
            raise
        return log

    async def append(self, event: Event) -> Receipt:
        """
        Return once *event* is durable; the same id again returns the same receipt.

        Being cancelled stops the wait, not the append.

        Raises: `EventError` if the log does not accept the event; `AppendError` if it could
        not be made durable: what it announces must not happen.
        """
        leaf.check(event)
        if self._closing or self._broken:
            raise AppendError(self._broken or "the log is closed")
        waiting = _Waiting(event, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.receipt

    def is_open(self, touch: str) -> bool:
        """Return whether *touch* began here and has not ended."""
        return touch in self._state.touches

    async def holds(self, event: Event) -> bool:
        """Return whether an event of this id is in the log."""
        return event.id in (await self._store.known([event])).ids

    async def close(self) -> None:
        """Write what is queued, then release the store; safe to call twice."""
        self._closing = True
        self._wake.set()
        if self._task:
            await asyncio.shield(self._task)
        await self._store.close()

    async def _begin(self) -> None:
        mark = await self._mark.read()
        self._state, self._unmarked = await recover(self._store, self.key, mark)
        if self._unmarked is None:
            await self._make_durable(Draft(self._state, _NOTHING, region=self._region, latest=0))
        await self._remember()
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._queue or not self._closing:
            if self._queue:
                count = min(len(self._queue), MAX_BATCH)
                await self._settle([self._queue.popleft() for _ in range(count)])
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._commit([each.event for each in batch])
        except AuditError as exc:
            self._fail(batch, f"{type(exc).__name__}: {exc}")
        except Exception as exc:  # noqa: BLE001 - the writer must answer its producers
            self._broken = f"the log stopped: {type(exc).__name__}"
            self._fail(batch, self._broken)
        else:
            for each, outcome in zip(batch, outcomes, strict=True):
                _resolve(each.receipt, outcome)

    def _fail(self, batch: Sequence[_Waiting], why: str) -> None:
        for each in batch:
            _resolve(each.receipt, AppendError(why))

    async def _commit(self, events: Sequence[Event]) -> list[Receipt | EventError]:
        if self._broken:
            raise AppendError(self._broken)
        await self._remember()
        known = await self._store.known(events)
        latest = leaf.micros(self._now() + FUTURE_LIMIT)
        draft = Draft(self._state, known, region=self._region, latest=latest)
        places = [await self._place(draft, known, event) for event in events]
        if len(draft):
            await self._make_durable(draft)
        return [self._receipt(place, known) for place in places]

    async def _place(self, draft: Draft, known: Known, event: Event) -> Placed | EventError:
        try:
            if event.id not in known.ids:
                return draft.add(event)
            index, _ = known.ids[event.id]
            [data] = await self.entries(index, index + 1)
            stored = leaf.decode(index, data)
            return same(event, Placed(index, merkle.leaf_hash(data), stored.event))
        except EventError as exc:
            return exc

    def _receipt(self, place: Placed | EventError, known: Known) -> Receipt | EventError:
        if isinstance(place, EventError):
            return place
        _, size = known.ids.get(place.event.id, (place.at, self._state.tree.size))
        return Receipt(origin=self.key.name, index=place.at, leaf_hash=place.hash.hex(), size=size)

    async def _make_durable(self, draft: Draft) -> None:
        tree = draft.state.tree
        head = Checkpoint(self.key.name, tree.size, tree.root())
        text = note.assemble(head, self.key, await self._signer.sign(head.text().encode()))
        note.verify(text, self.key)
        try:
            await self._store.commit(draft.batch(text))
        except StoreError:
            await self._read_back()
            raise
        self._state, self._unmarked = draft.state, text
        await self._remember()

    async def _read_back(self) -> None:
        try:
            mark = await self._mark.read()
            self._state, self._unmarked = await recover(self._store, self.key, mark)
        except AuditError as exc:
            self._broken = f"the log stopped: {type(exc).__name__}: {exc}"

    async def _remember(self) -> None:
        if self._unmarked is not None:
            await self._mark.write(self._unmarked)
            self._unmarked = None


def _resolve(receipt: asyncio.Future[Receipt], outcome: Receipt | AuditError) -> None:
    if receipt.done():  # its producer was cancelled
        return
    if isinstance(outcome, AuditError):
        receipt.set_exception(outcome)
    else:
        receipt.set_result(outcome)
