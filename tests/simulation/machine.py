"""
The machine under a cell: its disks, its power, its clocks; what a process loses, and what not.

- A write to any disk is numbered. The power may fail before or after the n-th of a process's life:
  what is on the disks at that moment is what the next process finds, and no line of the dying one
  changes it any more.
- The wall clock is a number that schedules turn as they like; the others tell the truth.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

from simulation.broker import Stream
from simulation.stores import LogDisk, Versions

T = TypeVar("T")
START = datetime(2026, 11, 19, 14, 0, tzinfo=UTC)


class PowerFailure(SystemExit):
    """The process ended here."""


@dataclass(slots=True)
class Disks:
    """Everything that outlives a process; what `copy` returns shares nothing with it."""

    database: bytes = b""
    objects: dict[str, bytes] = field(default_factory=dict)
    keks: dict[str, Versions] = field(default_factory=dict)
    logs: dict[str, LogDisk] = field(default_factory=dict)
    journal: bytes = b""
    stream: Stream = field(default_factory=Stream)

    def copy(self) -> "Disks":
        """Return these disks as they are now."""
        return Disks(
            database=self.database,
            objects=dict(self.objects),
            keks={name: replace(each, keys=dict(each.keys)) for name, each in self.keks.items()},
            logs={name: each.copy() for name, each in self.logs.items()},
            journal=self.journal,
            stream=self.stream.copy(),
        )


@dataclass(slots=True)
class Power:
    """Counts the writes of a process's life, and fails at the one that *fails_at* names."""

    image: Callable[[], Disks]
    fails_at: int = 0
    before: bool = True
    writes: int = 0
    found: Disks | None = None
    at: str = ""

    def __call__(self, what: str, do: Callable[[], T]) -> T:
        """Do the write *what*, or die before or after it."""
        if self.found is not None:
            raise OSError("the machine is off")
        self.writes += 1
        if self.writes != self.fails_at:
            return do()
        if not self.before:
            do()
        self.found, self.at = self.image(), what
        # Whoever makes another error of ours on its way out must not go on for long.
        asyncio.get_running_loop().stop()
        raise PowerFailure


@dataclass(slots=True)
class Time:
    """The true time, and what the wall clock makes of it; *ran* is the loop's, since its start."""

    true: datetime = START
    skew: timedelta = timedelta(0)
    frozen: datetime | None = None
    ran: Callable[[], float] = lambda: 0.0

    def now(self) -> datetime:
        """Return what time it is in truth."""
        return self.true + timedelta(seconds=self.ran())

    def wall(self) -> datetime:
        """Return what the wall clock shows."""
        return self.frozen or self.now() + self.skew

    def counted(self) -> float:
        """Return the seconds that the clock which nobody can set has counted."""
        return (self.now() - START).total_seconds()

    def settle(self) -> None:
        """Note how far time ran: the loop that counted it is about to go."""
        self.true, self.ran = self.now(), lambda: 0.0


@contextmanager
def entropy(draw: Random) -> Iterator[None]:
    """Let what the standard library calls secret be drawn from the seed, while the block lasts."""
    kept = secrets._sysrand
    seeded: Any = draw
    secrets._sysrand = seeded
    secrets.token_bytes.__globals__["_sysrand"] = seeded
    try:
        yield
    finally:
        secrets._sysrand = kept
