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
from gateway.compose import identities, stores, times
from gateway.compose.surroundings import MACHINE, now
from gateway.errors import MissingPartError
from gateway.keeper import Report, Watchdog
from gateway.keeping import Keeping
from gateway.settings import Settings
from gateway.timekeeping import Machine
from vault import inventory
from vault.errors import KeyringError
from vault.keyrings.transit_keeper import TransitKeeper

TICK = timedelta(seconds=15)
NO_KEEPER = (
    "services.vault names no way for the keeper to log in: no key can be listed, rolled or ended "
    "(keeper_token_file, keeper_approle or keeper_kubernetes)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A keeper: its watchdog, and its work on keys where it has the credentials for it."""

    watchdog: Watchdog
    keeping: Keeping | None


@asynccontextmanager
async def kept(settings: Settings, machine: Machine = MACHINE) -> AsyncIterator[Kept]:
    """Build the keeper of the cell that *settings* describe; it reads the clocks itself."""
    async with AsyncExitStack() as stack:
        engine = stores.existing_database(settings)
        stack.push_async_callback(engine.dispose)
        who = identities.keeper(settings, _directly)
        # Without the keeper's credentials it watches the clocks, and signs as the cell.
        signs = who or identities.worker(settings, _directly)
        shelf = stores.keeper_shelf(settings)
        time = times.timekeeper(settings, engine, machine, who=signs, shelf=shelf)
        await time.agreed()
        trail = await stores.keeper_trail(settings, signs, stack, time.now)
        cell, owner = settings.cell, f"keeper/{secrets.token_hex(8)}"
        watchdog = Watchdog(
            engine,
            trail.append,
            cell=cell.id,
            region=cell.region,
            owner=owner,
            now=time.now,
            clocks_apart=time.report,
            decisions_for=timedelta(days=settings.decisions.kept_days),
            every=timedelta(minutes=settings.keeper.every_minutes),
        )
        found = stores.keeper(settings, who)
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
                now=time.now,
                agreed=time.agreed,
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
    found = stores.keeper(settings, identities.keeper(settings, _directly))
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
    if isinstance(found, TransitKeeper):
        lines += await _mount(settings, found)
    return [asdict(line) for line in lines]


async def _mount(settings: Settings, found: TransitKeeper) -> list[inventory.Line]:
    """Return a line of the mount itself, if something is wrong with it."""
    try:
        alarm = "keys are made by encrypting: set disable_upsert" if await found.upserts() else ""
    except KeyringError as exc:
        alarm = f"whether keys are made by encrypting is not known: {exc}"
    mount = settings.services.vault.mount if settings.services.vault else ""
    return [inventory.Line(kek=f"{mount}/", alarms=(alarm,))] if alarm else []


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
