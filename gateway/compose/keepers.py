"""The keeper, wired: what `vocustody keeper` and `vocustody keys` run on."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import requests

from gateway import keeper, log
from gateway.compose import stores
from gateway.compose.surroundings import now
from gateway.errors import MissingPartError
from gateway.keeper import Report, Watchdog
from gateway.keeping import Keeping
from gateway.settings import Settings
from vault import inventory

TICK = timedelta(seconds=15)
NO_KEEPER = "services.vault.keeper_token_file is not set: no key can be listed, rolled or ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A keeper: its watchdog, and its work on keys where it has the credentials for it."""

    watchdog: Watchdog
    keeping: Keeping | None


@asynccontextmanager
async def kept(settings: Settings) -> AsyncIterator[Kept]:
    """Build the keeper of the cell that *settings* describe."""
    async with AsyncExitStack() as stack:
        engine = stores.existing_database(settings)
        stack.push_async_callback(engine.dispose)
        trail = await stores.keeper_trail(settings, _directly, stack)
        cell, owner = settings.cell, f"keeper/{secrets.token_hex(8)}"
        watchdog = Watchdog(
            engine,
            trail.append,
            cell=cell.id,
            region=cell.region,
            owner=owner,
            now=now,
            decisions_for=timedelta(days=settings.decisions.kept_days),
            every=timedelta(minutes=settings.keeper.every_minutes),
        )
        found = stores.keeper(settings, _directly)
        keeping = None
        if found is not None:
            keeping = Keeping(
                engine,
                found,
                await stores.objects(settings),
                trail.append,
                cell=cell.id,
                region=cell.region,
                owner=owner,
                now=now,
                roll_after=timedelta(hours=settings.keys.roll_hours),
                cryptoperiod=timedelta(days=settings.keys.cryptoperiod_days),
            )
        yield Kept(watchdog=watchdog, keeping=keeping)


def run(settings: Settings) -> None:
    """Keep until SIGTERM or SIGINT."""
    log.configure(human=False)
    asyncio.run(_run(settings))


async def once(settings: Settings) -> Report:
    """Do what is to be done on keys, look at the clocks once, and return what was found."""
    async with kept(settings) as built:
        if built.keeping is not None:
            await built.keeping.tick()
        return await built.watchdog.look()


async def keys(settings: Settings) -> list[dict[str, Any]]:
    """Return the key inventory, a row per KEK; raise `MissingPartError` without a keeper."""
    found = stores.keeper(settings, _directly)
    if found is None:
        raise MissingPartError(NO_KEEPER)
    engine = stores.existing_database(settings)
    try:
        keks = await found.keks()
        known = await inventory.expected(engine)
        for name in {kek.name for kek in keks} & {name for name, is_ in known.items() if is_.keys}:
            known[name] = await inventory.tried(engine, found, name, known[name])
        lines = inventory.lines(
            keks,
            known,
            at=now(),
            cryptoperiod=timedelta(days=settings.keys.cryptoperiod_days),
            development=found.name == "local",
        )
    finally:
        await engine.dispose()
    return [asdict(line) for line in lines]


async def _run(settings: Settings) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    async with kept(settings) as built:
        if built.keeping is None:
            log.get().warning("keeper.watches_only")
        await keeper.run(
            built.watchdog,
            [built.keeping.tick] if built.keeping else [],
            every=timedelta(minutes=settings.keeper.every_minutes),
            tick=TICK,
            stopped=stopped,
        )


def _directly(_session: requests.Session) -> None:
    """Reach the key service without the egress broker: the keeper is no part of the cell."""
