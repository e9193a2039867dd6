"""
One cell: built in the order in which its parts need each other, taken down in reverse.

The door opens last and closes first; what was begun is finished.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.routing import Route

from audit.trail import Trail
from gateway import (
    approvals,
    assistant,
    certificates,
    crashpoint,
    log,
    remains,
    restored,
    tombstones,
    turns,
    webhook,
)
from gateway.accounts import Accounts
from gateway.assistant import Assistant
from gateway.audio.decode import Decoder
from gateway.broker import Broker
from gateway.compose import crossings, identities, steps, stores, times
from gateway.compose import egress as exits
from gateway.compose.channels import channels, door
from gateway.compose.egress import WORLD, Outside
from gateway.compose.engines import engines, rehearse
from gateway.compose.rules import Rules, probe, registry, rules
from gateway.compose.surroundings import crash_at
from gateway.console import admin, bundle, health, wire
from gateway.console.bundle import Offer
from gateway.console.call import Console
from gateway.console.health import Check, Vitals
from gateway.console.people import People
from gateway.crossing import Arriving, Departures
from gateway.erasures import Erasures
from gateway.errors import DoorError, ProblemError
from gateway.findings import Findings
from gateway.forwards import Forwards
from gateway.groups import Doorkeeper
from gateway.inbox import Inbox
from gateway.jobs import Jobs
from gateway.keeping import Keeping
from gateway.metrics import Metrics
from gateway.ports import Ports
from gateway.probe import Probe
from gateway.relay import Relay
from gateway.remains import Horizons
from gateway.sections import Tenant
from gateway.settings import Settings
from gateway.slots import Share, Slots, fair_share
from gateway.sweeper import Sweeper
from gateway.timekeeping import Timekeeper
from gateway.tombstones import Journal
from gateway.webhook import Doors
from gateway.worker import Worker
from policy import jurisdictions
from policy.consents.sql import SqlConsents
from policy.follow import STALE_S
from policy.model import Undecided
from residency.limits import Limits
from residency.route import Health
from vault import duties
from vault.custody import Custody
from vault.ports import Keyring

Part = Inbox | Relay | Worker | Sweeper | Departures | Arriving | Findings | Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A running cell: what its doors need, and the parts that a caller may ask about."""

    ports: Ports
    doors: Doors
    vitals: Vitals
    offer: Offer
    console: Console


def app(settings: Settings) -> Starlette:
    """Return the ASGI application; the cell lives as long as its lifespan."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with cell(settings) as built:
            log.get().info("cell.ready", cell=settings.cell.id, region=settings.cell.region)
            yield {
                "doors": built.doors,
                "vitals": built.vitals,
                "offer": built.offer,
                "console": built.console,
            }
            log.get().info("cell.stopping", cell=settings.cell.id)

    return Starlette(
        routes=[
            *webhook.routes(),
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
            Route(bundle.PATH, bundle.serve),
            *(admin.routes() if settings.admin.people else ()),
        ],
        exception_handlers={DoorError: webhook.refused, ProblemError: wire.refused},
        lifespan=lifespan,
    )


@asynccontextmanager
async def cell(settings: Settings, outside: Outside = WORLD) -> AsyncIterator[Cell]:
    """Build the cell that *settings* describe, run it *outside*, and take it down."""
    if not settings.production and (name := crash_at()):
        crashpoint.arm(name)
    async with AsyncExitStack() as stack:
        yield await _run(settings, outside, stack)


async def _run(settings: Settings, outside: Outside, stack: AsyncExitStack) -> Cell:
    ports, broker, relay, keyring, ruled, trail, time = await _parts(settings, outside, stack)
    owner = f"{settings.cell.id}/{secrets.token_hex(8)}"
    inbox = Inbox(
        ports.engine,
        ports.keys,
        ports.custody,
        now=ports.now,
        committed=relay.wake,
        urgent=lambda tenant, message: turns.urgent(message, ports.tenants[tenant].languages),
        admits=Doorkeeper(tenants=ports.tenants, metrics=ports.metrics, now=ports.now).admits,
    )
    worker = Worker(ports, broker, owner=owner, slots=_slots(settings))
    sweeper = await _clocks(settings, ports, relay, broker, trail, owner)
    departures = Departures(
        ports.engine, ports.trail, crossings.streams(settings), cell=ports.cell, now=ports.now
    )
    probing = _probe(settings, ports, outside)
    running: dict[str, Part] = {
        "findings": ports.findings,  # first to start and last to stop: every touch tells it
        "inbox": inbox,
        "relay": relay,
        "worker": worker,
        "clocks": sweeper,
        "departures": departures,
        "probe": probing,
    }
    if key := crossings.private_key(settings):
        running["arrivals"] = Arriving(
            broker,
            inbox,
            ports.trail,
            crossings.receivers(settings),
            key=key,
            cell=ports.cell,
            region=ports.region,
            now=ports.now,
        )
    for part in sorted(running.values(), key=lambda part: part is inbox):
        part.start()
        stack.push_async_callback(part.aclose)
    doors = Doors(
        tenants={tenant.id: door(tenant) for tenant in settings.tenants},
        inbox=inbox,
        forwards=Forwards(
            ports.engine,
            crossings.posts(settings),
            cell=ports.cell,
            now=ports.now,
            wake=departures.wake,
        ),
        metrics=ports.metrics,
    )
    vitals = _vitals(settings, ports, broker, keyring, ruled, running)
    vitals.warnings = {
        "account_closed": lambda: bool(ports.accounts.faults()),
        "clocks_disagree": lambda: time.apart is not None,
        "policy_stale": lambda: ruled.age() >= STALE_S,
        "probe_ended": lambda: not probing.alive,
        "processor_suspended": lambda: bool(ports.findings.suspended()),
        "updates_unattributed": lambda: sweeper.unattributed > 0,
    }
    console = Console(ports=ports, people=People(settings.admin.people))
    return Cell(ports=ports, doors=doors, vitals=vitals, offer=ruled.offer, console=console)


async def _clocks(
    settings: Settings, ports: Ports, relay: Relay, broker: Broker, trail: Trail, owner: str
) -> Sweeper:
    """Return the sweeper, after what a restored backup made necessary is done."""
    keeping = _keeping(settings, ports, owner)
    erasures = _erasures(settings, ports, broker)
    # What a restored backup brought back goes, and what it forgot comes, before a door opens.
    await erasures.replay(await restored.erased(ports, trail))
    if count := await restored.recall(ports, trail):
        log.get().warning("consents.recalled", count=count)

    async def noted() -> None:
        await restored.note(ports, trail)

    return Sweeper(
        ports,
        owner=owner,
        chores=[relay.forget, erasures.prune, partial(approvals.forget, ports.engine)],
        noting=noted,
        keeping=keeping.tick if keeping else None,
        erasing=erasures.tick,
    )


async def _parts(
    settings: Settings, outside: Outside, stack: AsyncExitStack
) -> tuple[Ports, Broker, Relay, Keyring, Rules, Trail, Timekeeper]:
    stores.lock(settings.cell.data, stack)
    known = registry(settings)
    ours = [row for row in known if row.region == settings.cell.region]
    settings.refuse_development({row.id: row.adapter for row in ours})
    exits.check(settings, known)
    egress = await exits.egress(settings, stack, outside)
    ruled = await rules(settings, stack, await exits.source_way(settings, egress, stack))
    worker = identities.worker(settings, await exits.vault_mount(settings, egress, stack))
    engine = await stores.database(settings, stack)
    shelf = stores.shelf(settings)
    time = times.timekeeper(settings, engine, outside.machine, who=worker, shelf=shelf)
    await time.agreed()  # what begins now is dated by it
    now = time.now
    await steps.demand(settings, ruled, now())
    keyring = stores.keyring(settings, worker)
    keys = stores.keys(settings, engine, keyring, clock=now)
    objects = await stores.objects(settings)
    settings.refuse_development({"keyring": keyring.name, "objects": objects.name})
    found = await engines(settings, ruled.registry, stack, roots=outside.roots)
    channel = channels(settings, stack)
    broker = await stores.broker(settings, stack)
    jobs = Jobs(engine, now=now, woken=lambda woken: relay.wake(woken))  # noqa: PLW0108 - made next
    relay = Relay(engine, broker, jobs, now=now)
    if engine.dialect.name == "sqlite":
        # The lock on the data proves them dead.
        await jobs.release(f"{settings.cell.id}/")
        await duties.release(engine, f"{settings.cell.id}/", now=now)
    assistants = {tenant.id: _assistant(tenant) for tenant in settings.tenants}
    await rehearse(found, assistants.values())
    custody = Custody(engine, keys, objects, now=now)
    metrics = _metrics(settings, ruled)
    metrics.watch_policy(ruled.age)
    metrics.watch_clocks(lambda: time.apart.worst_s if time.apart else 0.0)
    decisions = stores.decisions(settings, engine, custody, metrics, stack)
    trail = await stores.trail(settings, worker, stack, now)
    ports = Ports(
        region=settings.cell.region,
        cell=settings.cell.id,
        now=now,
        agreed=time.agreed,
        engine=engine,
        jobs=jobs,
        trail=trail,
        custody=custody,
        keys=keys,
        consents=SqlConsents(engine),
        decide=ruled.decide,
        ask_access=ruled.ask_access,
        asks_transfer_consent=ruled.asks_transfer_consent,
        decisions=decisions,
        processors={row.id: row for row in ruled.registry},
        health=Health(),
        limits=Limits(ruled.registry, [tenant.id for tenant in settings.tenants]),
        hearing=found.hearing,
        speaking=found.speaking,
        understanding=found.understanding,
        decoder=await stack.enter_async_context(Decoder()),
        graphs=channel.graphs,
        media=channel.media,
        tenants={tenant.id: tenant for tenant in settings.tenants},
        assistants=assistants,
        metrics=metrics,
        findings=await _findings(settings, engine, trail, metrics, now),
        accounts=await _accounts(engine, metrics, now),
        unknown_grace_s=settings.outbox.unknown_grace_seconds,
        egress=egress,
        simulators=exits.simulators(settings),
        unlisted=ruled.unlisted,
        erasing=partial(jurisdictions.erases, laws=jurisdictions.load()),
    )
    return ports, broker, relay, keyring, ruled, trail, time


def _keeping(settings: Settings, ports: Ports, owner: str) -> Keeping | None:
    """Return the keeper's work on keys where this cell has to do it: in development only."""
    if settings.production:
        return None
    keeper = stores.keeper(settings, identities.keeper(settings, lambda _session: None))
    if keeper is None:
        return None
    return Keeping(
        ports.engine,
        keeper,
        ports.custody.objects,
        ports.trail.append,
        cell=ports.cell,
        region=ports.region,
        owner=owner,
        now=ports.now,
        agreed=ports.agreed,
        roll_after=timedelta(hours=settings.keys.roll_hours),
        cryptoperiod=timedelta(days=settings.keys.cryptoperiod_days),
    )


def _erasures(settings: Settings, ports: Ports, broker: Broker) -> Erasures:
    horizons = Horizons(
        database=timedelta(days=settings.backups.database_days),
        snapshots=timedelta(days=settings.backups.snapshot_days),
    )
    return Erasures(
        ports=ports,
        journal=Journal(settings.cell.data / tombstones.NAME, ports.custody.objects),
        forget_messages=broker.forget,
        remains=partial(remains.remains, horizons=horizons),
        certify=partial(certificates.certify, backup=stores.newest_backup(settings)),
    )


async def _findings(
    settings: Settings,
    engine: AsyncEngine,
    trail: Trail,
    metrics: Metrics,
    now: Callable[[], datetime],
) -> Findings:
    found = Findings(engine, trail, metrics, cell=settings.cell.id, now=now)
    await found.load()  # a suspension holds before the first decision
    return found


async def _accounts(engine: AsyncEngine, metrics: Metrics, now: Callable[[], datetime]) -> Accounts:
    found = Accounts(engine, metrics, now=now)
    await found.load()
    return found


def _probe(settings: Settings, ports: Ports, outside: Outside) -> Probe:
    return Probe(
        [row for row in ports.processors.values() if row.region == ports.region],
        ports.hearing,
        ports.egress,
        ports.findings,
        ports.trail,
        cell=ports.cell,
        every_s=settings.probe_every_s,
        now=ports.now,
        trust=outside.trust,
    )


def _assistant(tenant: Tenant) -> Assistant:
    return assistant.load(tenant.assistant, languages=tenant.languages)


def _slots(settings: Settings) -> Slots:
    total, tenants = settings.worker.concurrency, settings.tenants
    return Slots(
        total,
        {
            tenant.id: Share(
                concurrency=tenant.limits.concurrency or fair_share(total, len(tenants)),
                per_minute=tenant.limits.notes_per_minute or 0,
            )
            for tenant in tenants
        },
    )


def _metrics(settings: Settings, ruled: Rules) -> Metrics:
    return Metrics(
        tenants=[tenant.id for tenant in settings.tenants],
        processors=[row.id for row in ruled.registry],
        regions=sorted({row.region for row in ruled.registry}),
    )


def _vitals(
    settings: Settings,
    ports: Ports,
    broker: Broker,
    keyring: Keyring,
    ruled: Rules,
    running: Mapping[str, Part],
) -> Vitals:
    async def keys_ready() -> bool:
        await keyring.ready()
        return True

    async def trail_open() -> bool:
        return bool(await ports.trail.checkpoint())

    def alive(part: Part) -> Check:
        async def check() -> bool:
            return part.alive

        return check

    async def connected() -> bool:
        return broker.connected and await broker.pending() >= 0

    async def followed() -> bool:
        return ruled.following()

    async def decidable() -> bool:
        # A question that the rules deny for lack of facts is still an answer.
        return not isinstance(await ports.decide(probe(ports.region, ports.now())), Undecided)

    # Without the probe notes are answered and touches looked at all the same: it is a warning.
    parts = {name: part for name, part in running.items() if not isinstance(part, Probe)}
    checks: dict[str, Check] = {name: alive(part) for name, part in parts.items()}
    checks |= {
        "broker": connected,
        "database": lambda: stores.writable(ports.engine),
        "egress": lambda: exits.ready(ports.egress),
        "keyring": keys_ready,
        "policy": decidable,
        "policy_source": followed,
        "trail": trail_open,
    }
    token = settings.admin.token_file
    return Vitals(checks=checks, metrics=ports.metrics, token=token.value if token else None)
