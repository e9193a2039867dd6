"""
The keeper: a process beside the gateway that ends keys, and watches the clocks from outside.

- It has an identity of its own at the key service, a log of its own and a key of its own: who
  forges the gateway's log does not forge this one.
- Once an hour it writes a signed leaf that nothing is overdue, or an alarm. Its silence is an
  alarm too: the gateway says so in /readyz.
- A sweeper that fell silent is an alarm even while nothing is overdue yet; so are clocks that
  differ, for then it destroys nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import clocks, log
from gateway.clocks import Reading
from vault import duties
from vault.agreed_time import Disagreed, length

SWEEPING = "sweeping"
WATCHING = "watching"
SILENT_AFTER = timedelta(minutes=5)
Append = Callable[[Event], Awaitable[object]]
Chore = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one look at the clocks found: *alarms* is empty if nothing is overdue."""

    at: datetime
    readings: tuple[Reading, ...]
    alarms: tuple[str, ...]


class Watchdog:
    """Looks at the clocks of *cell* in *region*, and writes what it saw with *append*."""

    def __init__(
        self,
        engine: AsyncEngine,
        append: Append,
        *,
        cell: str,
        region: str,
        owner: str,
        now: Callable[[], datetime],
        clocks_apart: Callable[[], Awaitable[Disagreed | None]],
        decisions_for: timedelta,
        every: timedelta,
    ) -> None:
        self._engine = engine
        self._append = append
        self._cell = cell
        self._region = region
        self._owner = owner
        self._now = now
        self._clocks_apart = clocks_apart
        self._decisions_for = decisions_for
        self._every = every

    async def look(self) -> Report:
        """Read every clock, put it on record, and return what was found."""
        apart = await self._clocks_apart()
        at = self._now()
        shown = await clocks.readings(self._engine, at, decisions_for=self._decisions_for)
        alarms = [
            f"{reading.clock.name}: overdue by {length(reading.overdue)}"
            for reading in shown
            if reading.alarming
        ]
        if apart is not None:
            alarms.append(f"clocks: they differ, nothing is destroyed ({apart.says})")
        if await self._sweeper_is_silent(at):
            alarms.append("sweeper: no sign of life")
        report = Report(at=at, readings=tuple(shown), alarms=tuple(alarms))
        await self._append(self._event(report))
        for alarm in alarms:
            log.get().error("retention.overdue", reason=alarm)
        # Our own sign of life comes last: only a look that is on record counts as one.
        await duties.take(self._engine, WATCHING, self._owner, now=self._now, lasts=2 * self._every)
        return report

    async def _sweeper_is_silent(self, at: datetime) -> bool:
        seen = await duties.until(self._engine, SWEEPING)
        return seen is None or at - seen > SILENT_AFTER

    def _event(self, report: Report) -> Event:
        oldest = {
            reading.clock.name: reading.first.isoformat() if reading.first else ""
            for reading in report.readings
        }
        kind = EventType.RETENTION_OVERDUE if report.alarms else EventType.RETENTION_CHECKED
        return Event(
            id=f"{self._cell}.watch.{int(report.at.timestamp())}",
            type=kind,
            at=report.at,
            tenant=self._cell,
            region=self._region,
            actor="keeper",
            outcome="alarm" if report.alarms else "nothing overdue",
            detail={
                "alarms": list(report.alarms),
                "basis": "observed",
                "count": {reading.clock.name: reading.count for reading in report.readings},
                "first": oldest,
            },
        )


async def run(
    watchdog: Watchdog,
    chores: Sequence[Chore],
    *,
    every: timedelta,
    tick: timedelta,
    stopped: asyncio.Event,
) -> None:
    """Look *every* so often, and do the *chores* each *tick*, until *stopped*."""
    loop = asyncio.get_running_loop()
    look_at = loop.time()
    while not stopped.is_set():
        if loop.time() >= look_at:
            look_at = loop.time() + every.total_seconds()
            await _guarded(watchdog.look)
        for chore in chores:
            await _guarded(chore)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), tick.total_seconds())


async def _guarded(act: Callable[[], Awaitable[object]]) -> None:
    try:
        await act()
    except Exception as exc:  # noqa: BLE001 - one that fails must not end the keeper
        log.get().error("keeper.failed", error=type(exc).__name__)
