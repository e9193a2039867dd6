"""The time, wired: which independent clocks a cell, its keeper and its commands can ask."""

import asyncio
import contextlib
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from audit.errors import AuditError
from audit.ports import Shelf
from audit.trail import Trail
from gateway.compose.identities import Identity
from gateway.settings import Settings
from gateway.timekeeping import Ask, Machine, Timekeeper
from vault.agreed_time import Rules

KEY_SERVICE = "key_service"


def rules(settings: Settings) -> Rules:
    """Return how far clocks may differ in the cell that *settings* describe."""
    given = settings.clock
    return Rules(
        bound=timedelta(seconds=given.bound_seconds),
        downtime=timedelta(days=given.downtime_days),
        settles_alone=timedelta(hours=given.alone_hours),
    )


def timekeeper(
    settings: Settings,
    engine: AsyncEngine,
    machine: Machine,
    *,
    who: Identity | None,
    shelf: Shelf | None = None,
    silent: bool = False,
) -> Timekeeper:
    """Return the time of this process: the machine's, the database's and the key service's."""
    others: dict[str, Ask] = {}
    if who is not None:
        others[KEY_SERVICE] = _asking(who)

    async def newest() -> datetime | None:
        return await _last_leaf(shelf) if shelf is not None else None

    return Timekeeper(
        engine, machine, rules=rules(settings), others=others, newest=newest, silent=silent
    )


def _asking(who: Identity) -> Ask:
    clock = who.clock()

    async def ask() -> datetime | None:
        return await asyncio.to_thread(clock)

    return ask


async def _last_leaf(shelf: Shelf) -> datetime | None:
    """Return the time of the log's last leaf; None where there is no log, or none that opens."""
    with contextlib.suppress(AuditError):
        if shelf.quarters():
            async with await Trail.read(shelf) as logs:
                return await logs.newest()
    return None
