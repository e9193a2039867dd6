"""
The broker as JetStream promises it, and no better: told at least once, again if nobody answers.

Its disk may be lost at any moment; then nobody hears of what was published, until it is published
under another attempt. See `gateway.broker.Broker`, whose face this is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from gateway.broker import ACK_WAIT_S, Told
from gateway.slots import Slots


@dataclass(slots=True)
class Stream:
    """What the broker keeps: waiting messages, and which were published before."""

    waiting: dict[int, "Message"] = field(default_factory=dict)
    heard: set[tuple[str, int]] = field(default_factory=set)
    buried: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=count)

    def copy(self) -> "Stream":
        """Return this as a new server finds it on its disk: nobody works on anything."""
        kept = {number: Message(each.job, each.lane) for number, each in self.waiting.items()}
        return Stream(kept, set(self.heard), list(self.buried), count(max(kept, default=-1) + 1))


@dataclass(slots=True)
class Message:
    """One message; due at *at* by the loop's time."""

    job: str
    lane: str
    at: float = 0.0


@dataclass(slots=True)
class Delivery:
    """One message in the hands of a worker; the face of a `nats` message."""

    broker: "SimulatedBroker"
    number: int

    async def ack(self) -> None:
        """Take it off the stream."""
        self.broker.stream.waiting.pop(self.number, None)

    async def nak(self, delay: float = 0.0) -> None:
        """Have it told again after *delay*."""
        self.broker.put_off(self.number, delay)

    async def in_progress(self) -> None:
        """Have it not told again for a while."""
        self.broker.put_off(self.number, ACK_WAIT_S)


class SimulatedBroker:
    """See the module; *time* is the loop's."""

    connected = True

    def __init__(self, stream: Stream, time: Callable[[], float]) -> None:
        self.stream = stream
        self._time = time
        self._some = asyncio.Event()

    async def publish(self, job: str, attempt: int, lane: str) -> None:
        """See `Broker.publish`: the same attempt again is swallowed."""
        if (job, attempt) not in self.stream.heard:
            self.stream.heard.add((job, attempt))
            self.stream.waiting[next(self.stream.numbers)] = Message(job, lane, self._time())
            self._wake()

    async def pending(self) -> int:
        """See `Broker.pending`."""
        return len(self.stream.waiting)

    async def bury(self, job: str, reason: str) -> None:
        """See `Broker.bury`."""
        self.stream.buried.append(job)

    async def forget(self, jobs: Collection[str]) -> int:
        """See `Broker.forget`."""
        theirs = [number for number, each in self.stream.waiting.items() if each.job in jobs]
        for number in theirs:
            del self.stream.waiting[number]
        return len(theirs)

    async def told(self, lane: str, slots: Slots) -> AsyncIterator[Told]:
        """See `Broker.told`."""
        while True:
            await slots.reserve(lane)
            while (number := self._due(lane)) is None:
                await self._some.wait()
            self.put_off(number, ACK_WAIT_S)
            await slots.enter(lane)
            message: Any = Delivery(self, number)
            yield Told(self.stream.waiting[number].job, message)

    def put_off(self, number: int, delay: float) -> None:
        """Have the message *number* told again after *delay*."""
        if number in self.stream.waiting:
            self.stream.waiting[number].at = self._time() + delay
            asyncio.get_running_loop().call_later(delay, self._wake)

    def again(self) -> None:
        """Tell everything again, as after a network that lost the acknowledgements."""
        for each in self.stream.waiting.values():
            each.at = 0.0
        self._wake()

    def next_in(self) -> float | None:
        """Return in how many seconds something is told (again); None if nothing waits."""
        times = [each.at for each in self.stream.waiting.values()]
        return max(0.0, min(times) - self._time()) if times else None

    def _due(self, lane: str) -> int | None:
        now = self._time()
        due = (n for n, each in self.stream.waiting.items() if each.lane == lane and each.at <= now)
        return next(due, None)

    def _wake(self) -> None:
        # Everybody looks once; whoever finds nothing waits for the next time.
        self._some.set()
        self._some = asyncio.Event()
