"""
Keeping the time: reads every clock there is, and says what may be believed (`vault.agreed_time`).

- What was agreed last is kept in the database with what the machine's counting clock showed, so
  that a process that starts again knows how much time has passed, whatever the wall clock says.
  That clock counts from the machine's start, sleep included, and nobody can set it.
- `now` is what work goes by. While the wall clock is within the bound of what was counted it is
  the wall clock; beyond that it is what was counted: a wall clock that jumps moves no deadline.
- `agreed` is what destroying needs. Where the clocks differ it is None, and that is said: in the
  log, in /readyz, in the metrics, by the doctor.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.leaf import instant, micros
from gateway import db, log
from gateway.schema import agreed_times
from vault.agreed_time import WALL, AgreedTime, Disagreed, Readings, Rules, agree, believed

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
UPTIME = Path("/proc/uptime")
ASKED_EVERY_S = 30.0  # in between, the time that a service told is counted on
ANSWERS_WITHIN_S = 3.0
FRESH_S = 120.0  # what a service said longer ago is no reading
NOTED_EVERY_S = 30.0
MICROS = 1_000_000
MOST_DRIFT = 0.001  # NTP slews by half of that at most; a clock that runs faster is wrong
MOST_STARTS = 16  # of machines, whose last agreed time is kept
Ask = Callable[[], Awaitable[datetime | None]]
Agreed = Callable[[], Awaitable[AgreedTime | None]]


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()[:64]
    except OSError:  # no Linux: what is counted lasts as long as the process
        return secrets.token_hex(16)


@cache
def _uptime() -> int | None:
    try:
        return os.open(UPTIME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _since_boot() -> float:
    """Return the seconds since the start; from a file, which no preloaded library can fake."""
    if (file := _uptime()) is not None:
        return float(os.pread(file, 64, 0).split()[0])
    counting = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(counting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """
    The clocks of this machine: one that can be set, and one that cannot.

    *boot* names the time between two of its starts; *counted* are seconds since the start.
    """

    wall: Callable[[], datetime]
    boot: str = field(default_factory=_boot)
    counted: Callable[[], float] = _since_boot


@dataclass(frozen=True, slots=True)
class _Anchor:
    """*at* is a time that was believed when the counting clock showed *counted* seconds."""

    at: datetime
    counted: float

    def on(self, counted: float) -> datetime:
        """Return the time at which the counting clock shows *counted*."""
        return self.at + timedelta(seconds=counted - self.counted)


class Timekeeper:
    """
    The time of one process; one instance per event loop, and `agreed` once before any work.

    *others* are independent clocks by name; each answers None, or raises, when it is away.
    *newest* is the time of the newest thing that was written, such as the log's last leaf. A
    *silent* one writes no log lines: it is asked by a command, which says it itself.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        machine: Machine,
        *,
        rules: Rules | None = None,
        others: Mapping[str, Ask] | None = None,
        newest: Ask | None = None,
        silent: bool = False,
    ) -> None:
        self._engine = engine
        self._machine = machine
        self._rules = rules or Rules()
        self._others = dict(others or {})
        if engine.dialect.name == "postgresql":
            self._others["database"] = self._of_database
        self._newest = newest
        self._silent = silent
        self._agreed: _Anchor | None = None  # the last agreement since the machine started
        self._work: _Anchor | None = None  # what work goes by
        self._known: datetime | None = None
        self._told: dict[str, _Anchor] = {}  # what the others said
        self._even: _Anchor | None = None  # since when the clocks run evenly
        self._asked_at: float | None = None
        self._noted_at: float | None = None
        self._reading = asyncio.Lock()
        self.apart: Disagreed | None = None

    def now(self) -> datetime:
        """Return the time that work goes by; see the module."""
        wall = self._machine.wall()
        if self._work is None:
            return wall
        counted = self._work.on(self._machine.counted())
        return wall if abs(wall - counted) <= self._rules.bound else counted

    async def agreed(self) -> AgreedTime | None:
        """Return the time that every clock agrees on; None where they do not, which is said."""
        async with self._reading:
            await self._ask()
            if self._agreed is None or self.apart is not None:
                await self._recall()
            found = self._read()
            said = agree(found, self._rules)
            if isinstance(said, AgreedTime):
                await self._believe(found.wall)
                return said
            self._doubt(said, found)
            return None

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the clocks that are read, sorted; one that does not answer is left out."""
        return (WALL, *sorted(self._told))

    async def report(self) -> Disagreed | None:
        """Read the clocks, and return how they differ; None if they agree."""
        await self.agreed()
        return self.apart

    async def _ask(self) -> None:
        """Ask the others what time it is: seldom while all is well, each time while it is not."""
        counted = self._machine.counted()
        lately = self._asked_at is not None and counted - self._asked_at < ASKED_EVERY_S
        if lately and self.apart is None:
            return
        self._asked_at = counted
        await asyncio.gather(*(self._ask_one(name, ask) for name, ask in self._others.items()))

    async def _ask_one(self, name: str, ask: Ask) -> None:
        # One that is away says nothing: what is left must agree without it.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                at = await ask()
            if at is not None:
                self._told[name] = _Anchor(at, self._machine.counted())

    async def _recall(self) -> None:
        """Take up what was agreed before, also by another process or by an operator."""
        async with db.reading(self._engine) as tx:
            rows = (await tx.execute(select(agreed_times))).all()
        known = [instant(row.at) for row in rows]
        if self._known is None and self._newest is not None:
            newest = await self._newest()
            known += [newest] if newest is not None else []
        self._known = max([*known, self._known] if self._known else known, default=None)
        counted = self._machine.counted()
        for row in rows:
            anchor = _Anchor(instant(row.at), row.counted / MICROS)
            later = self._agreed is None or anchor.counted > self._agreed.counted
            if row.boot == self._machine.boot and anchor.counted <= counted and later:
                self._agreed = anchor

    def _read(self) -> Readings:
        counted = self._machine.counted()
        others = {
            name: anchor.on(counted)
            for name, anchor in self._told.items()
            if counted - anchor.counted <= FRESH_S
        }
        wall = self._machine.wall()
        earliest = min([wall, *others.values()])
        if self._even is None or abs(earliest - self._even.on(counted)) > self._rules.bound:
            self._even = _Anchor(earliest, counted)
        return Readings(
            wall=wall,
            others=others,
            counted=None if self._agreed is None else self._agreed.on(counted),
            known=self._known,
            even_for=timedelta(seconds=counted - self._even.counted),
        )

    async def _believe(self, wall: datetime) -> None:
        doubted = self.apart is not None
        self._agreed = self._work = self._followed(wall)
        self._known, self.apart = self._agreed.at, None
        counted = self._agreed.counted
        if doubted and not self._silent:
            log.get().warning("clock.agreed")
        if doubted or self._noted_at is None or counted - self._noted_at >= NOTED_EVERY_S:
            await note(self._engine, self._machine, self._known, bound=self._rules.bound)
            self._noted_at = counted

    def _followed(self, wall: datetime) -> _Anchor:
        """Let what is counted follow *wall* no faster than a clock that is well can go wrong."""
        counted = self._machine.counted()
        if self._agreed is None:
            return _Anchor(wall, counted)
        expected = self._agreed.on(counted)
        if abs(wall - expected) > self._rules.bound:  # believed again, after it ran evenly
            return _Anchor(wall, counted)
        most = timedelta(seconds=(counted - self._agreed.counted) * MOST_DRIFT)
        return _Anchor(expected + min(max(wall - expected, -most), most), counted)

    def _doubt(self, said: Disagreed, found: Readings) -> None:
        if self._work is None or self._agreed is not None:
            self._work = self._agreed or _Anchor(
                believed(found, self._rules), self._machine.counted()
            )
        news = self.apart is None or set(said.apart) != set(self.apart.apart)
        if news and not self._silent:
            for name, apart in sorted(said.apart.items()):
                log.get().error("clock.disagrees", kind=name, apart_s=int(apart.total_seconds()))
        self.apart = said

    async def _of_database(self) -> datetime | None:
        async with db.reading(self._engine) as tx:
            found: datetime = (await tx.execute(select(func.now()))).scalar_one()
        return found.astimezone(UTC)


async def note(
    engine: AsyncEngine, machine: Machine, at: datetime, *, bound: timedelta, by: str = ""
) -> None:
    """
    Keep that *at* is agreed, by the clocks or by an operator's word, while *machine* runs.

    What was noted of a later time was wrong, or it could not be earlier now: it goes.
    """
    row = {"at": micros(at), "counted": int(machine.counted() * MICROS), "by": by[:64]}
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    newest = select(agreed_times.c.boot).order_by(agreed_times.c.at.desc()).limit(MOST_STARTS)
    async with engine.begin() as tx:
        await tx.execute(
            insert(agreed_times)
            .values(boot=machine.boot, **row)
            .on_conflict_do_update(index_elements=[agreed_times.c.boot], set_=row)
        )
        wrong = agreed_times.c.at > micros(at + bound)
        await tx.execute(delete(agreed_times).where(wrong))
        kept = list((await tx.execute(newest)).scalars())
        await tx.execute(delete(agreed_times).where(agreed_times.c.boot.not_in(kept)))
