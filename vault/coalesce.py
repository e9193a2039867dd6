"""
Many lookups in few calls.

A call to a database or a keyring costs about the same for one key as for two hundred. What is
asked for while the calls in flight are busy goes out together in the next one. There is no
timer: the time of a call is the window.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

MOST_ITEMS = 240
MOST_CALLS = 2

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Coalescer(Generic[Key, Value]):
    """
    Looks up through *fetch*: at most *calls* calls at once, of `MOST_ITEMS` keys each.

    *fetch* answers with one value, or the error that stands for it, per key and in order. A call
    is about the keys of one *group* only; the group that waited longest is next.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[Key]], Awaitable[Sequence[Value | Exception]]],
        *,
        group: Callable[[Key], Hashable] = lambda _key: None,
        calls: int = MOST_CALLS,
    ) -> None:
        self._fetch = fetch
        self._group = group
        self._most = calls
        self._waiting: dict[Hashable, dict[Key, asyncio.Future[Value]]] = {}
        # The loop keeps only weak references to tasks: without this set a call could vanish.
        self._calls: set[asyncio.Task[None]] = set()

    async def get(self, key: Key) -> Value:
        """
        Return the value of *key*, read after this call began, or raise the error for it.

        Callers share a call; one that is cancelled does not take the others along.
        """
        waiting = self._waiting.setdefault(self._group(key), {})
        future = waiting.get(key)
        if future is None:
            future = waiting[key] = asyncio.get_running_loop().create_future()
            self._send()
        return await asyncio.shield(future)

    def _send(self) -> None:
        while self._waiting and len(self._calls) < self._most:
            call = asyncio.create_task(self._call(self._next()))
            self._calls.add(call)
            call.add_done_callback(self._done)

    def _next(self) -> dict[Key, asyncio.Future[Value]]:
        """Take what the first group waits for; what is too much for a call waits on, at the end."""
        group, waiting = next(iter(self._waiting.items()))
        del self._waiting[group]
        items = list(waiting.items())
        if rest := items[MOST_ITEMS:]:
            self._waiting[group] = dict(rest)
        return dict(items[:MOST_ITEMS])

    def _done(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _call(self, batch: dict[Key, asyncio.Future[Value]]) -> None:
        try:
            answers = await self._fetch(list(batch))
        except Exception as exc:  # noqa: BLE001  # handed on to every waiter: none may hang
            answers = [exc] * len(batch)
        for future, answer in zip(batch.values(), answers, strict=True):
            _settle(future, answer)


def _settle(future: asyncio.Future[Value], answer: Value | Exception) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
        future.exception()  # read once, so that a waiter who left causes no warning
    else:
        future.set_result(answer)
