"""
An event loop whose time is its own, and whose order of turns is drawn from a seed.

- Nothing sleeps: when no task is ready, time moves to the next timer at once.
- Of the tasks that are ready, the seed says who goes first: each order is one interleaving.
- What the product hands to a thread is done on the spot: threads would not replay.
"""

import asyncio
import selectors
from collections.abc import Callable
from random import Random
from typing import Any


class DeadlockError(Exception):
    """Nobody is ready and nobody waits for a time: what is awaited can never come."""


class _NoSockets(selectors.BaseSelector):
    """Stands where the loop waits for sockets; there are none, so it moves the time instead."""

    def __init__(self) -> None:
        self.wait: Callable[[float | None], None] = lambda _timeout: None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Take the loop's own pipe, which nobody writes to."""
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Let go of it."""
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[Any]:
        """Move the time; no socket ever has anything."""
        self.wait(timeout)
        return []

    def get_map(self) -> Any:
        """Return no sockets."""
        return {}


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module; *draw* is the seed's stream of choices."""

    def __init__(self, draw: Random) -> None:
        selector = _NoSockets()
        super().__init__(selector)
        selector.wait = self._pass
        self._draw = draw
        self._at = 0.0
        self._idle: list[asyncio.Future[None]] = []

    def time(self) -> float:
        """Return the seconds since this loop was made."""
        return self._at

    async def idle(self) -> None:
        """Return when every other task waits for something that is not there yet."""
        waiting: asyncio.Future[None] = self.create_future()
        self._idle.append(waiting)
        await waiting

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Do it now: in the thread that it belongs to, waited for, or in this one."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            found = func(*args) if executor is None else executor.submit(func, *args).result()
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever awaits it
            done.set_exception(exc)
        else:
            done.set_result(found)
        return done

    def _pass(self, timeout: float | None) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            turns = list(ready)
            self._draw.shuffle(turns)
            ready.clear()
            ready.extend(turns)
        if timeout == 0:
            return
        if self._idle:
            waiting, self._idle = self._idle, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)
        elif timeout is None:
            raise DeadlockError("nobody is ready, and no timer runs")
        else:
            self._at += timeout
