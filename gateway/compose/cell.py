"""
One cell: built in the order in which its parts need each other, taken down in reverse.

The door opens last and closes first; what was begun is finished.
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from gateway import assistant, crashpoint, log, turns, webhook
from gateway.assistant import Assistant
from gateway.audio.decode import Decoder
from gateway.broker import Broker
from gateway.compose import stores
from gateway.compose.channels import channels, door
from gateway.compose.engines import engines, rehearse
from gateway.compose.rules import Rules, probe, rules
from gateway.compose.surroundings import crash_at, now
from gateway.console import health
from gateway.console.health import Check, Vitals
from gateway.errors import DoorError
from gateway.inbox import Inbox
from gateway.jobs import Jobs
from gateway.metrics import Metrics
from gateway.ports import Ports
from gateway.relay import Relay
from gateway.sections import Tenant
from gateway.settings import Settings
from gateway.sweeper import Sweeper
from gateway.webhook import Doors
from gateway.worker import Worker
from policy.consents.sql import SqlConsents
from policy.model import Undecided
from residency.route import Health
from vault.custody import Custody
from vault.keys import Keys
from vault.ports import Keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A running cell: what its doors need, and the parts that a caller may ask about."""

    ports: Ports
    doors: Doors
    vitals: Vitals


def app(settings: Settings) -> Starlette:
    """Return the ASGI application; the cell lives as long as its lifespan."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with cell(settings) as built:
            log.get().info("cell.ready", cell=settings.cell.id, region=settings.cell.region)
            yield {"doors": built.doors, "vitals": built.vitals}
            log.get().info("cell.stopping", cell=settings.cell.id)

    return Starlette(
        routes=[
            *webhook.routes(),
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
        ],
        exception_handlers={DoorError: webhook.refused},
        lifespan=lifespan,
    )


@asynccontextmanager
async def cell(settings: Settings) -> AsyncIterator[Cell]:
    """Build the cell that *settings* describe, run it, and take it down."""
    if not settings.production and (name := crash_at()):
        crashpoint.arm(name)
    async with AsyncExitStack() as stack:
        yield await _run(settings, stack)


async def _run(settings: Settings, stack: AsyncExitStack) -> Cell:
    ports, broker, relay, keyring = await _parts(settings, stack)
    owner = f"{settings.cell.id}/{secrets.token_hex(8)}"
    inbox = Inbox(
        ports.engine,
        ports.keys,
        ports.custody,
        now=now,
        committed=relay.wake,
        urgent=lambda tenant, message: turns.urgent(message, ports.tenants[tenant].languages),
    )
    worker = Worker(ports, broker, owner=owner, concurrency=settings.worker.concurrency)
    sweeper = Sweeper(ports, owner=owner, chores=[relay.forget])
    for part in (relay, worker, sweeper, inbox):
        part.start()
        stack.push_async_callback(part.aclose)
    doors = Doors(
        tenants={tenant.id: door(tenant) for tenant in settings.tenants},
        inbox=inbox,
        metrics=ports.metrics,
    )
    running: dict[str, Inbox | Relay | Worker | Sweeper] = {
        "inbox": inbox,
        "relay": relay,
        "worker": worker,
        "clocks": sweeper,
    }
    return Cell(ports=ports, doors=doors, vitals=_vitals(settings, ports, broker, keyring, running))


async def _parts(settings: Settings, stack: AsyncExitStack) -> tuple[Ports, Broker, Relay, Keyring]:
    stores.lock(settings.cell.data, stack)
    ruled: Rules = await rules(settings, stack)
    ours = [row for row in ruled.registry if row.region == settings.cell.region]
    settings.refuse_development({row.id: row.adapter for row in ours})
    engine = await stores.database(settings, stack)
    keyring = stores.keyring(settings)
    keys = Keys(engine, keyring, region=settings.cell.region, now=now)
    objects = await stores.objects(settings)
    settings.refuse_development({"keyring": keyring.name, "objects": objects.name})
    found = await engines(settings, ruled.registry, stack)
    channel = channels(settings, stack)
    broker = await stores.broker(settings, stack)
    jobs = Jobs(engine, now=now, woken=lambda woken: relay.wake(woken))  # noqa: PLW0108 - made next
    relay = Relay(engine, broker, jobs, now=now)
    if engine.dialect.name == "sqlite":
        await jobs.release(f"{settings.cell.id}/")  # the lock on the data proves them dead
    assistants = {tenant.id: _assistant(tenant) for tenant in settings.tenants}
    await rehearse(found, assistants.values())
    ports = Ports(
        region=settings.cell.region,
        cell=settings.cell.id,
        now=now,
        engine=engine,
        jobs=jobs,
        trail=await stores.trail(settings, stack),
        custody=Custody(engine, keys, objects, now=now),
        keys=keys,
        consents=SqlConsents(engine),
        decide=ruled.decide,
        processors={row.id: row for row in ruled.registry},
        health=Health(),
        hearing=found.hearing,
        speaking=found.speaking,
        understanding=found.understanding,
        decoder=await stack.enter_async_context(Decoder()),
        graphs=channel.graphs,
        media=channel.media,
        tenants={tenant.id: tenant for tenant in settings.tenants},
        assistants=assistants,
        metrics=_metrics(settings, ruled),
        unknown_grace_s=settings.outbox.unknown_grace_seconds,
    )
    return ports, broker, relay, keyring


def _assistant(tenant: Tenant) -> Assistant:
    return assistant.load(tenant.assistant, languages=tenant.languages)


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
    running: Mapping[str, Inbox | Relay | Worker | Sweeper],
) -> Vitals:
    async def keys_ready() -> bool:
        await keyring.ready()
        return True

    async def trail_open() -> bool:
        return bool(await ports.trail.checkpoint())

    def alive(part: Inbox | Relay | Worker | Sweeper) -> Check:
        async def check() -> bool:
            return part.alive

        return check

    async def connected() -> bool:
        return broker.connected and await broker.pending() >= 0

    async def decidable() -> bool:
        # A question that the rules deny for lack of facts is still an answer.
        return not isinstance(await ports.decide(probe(ports.region, now())), Undecided)

    checks: dict[str, Check] = {name: alive(part) for name, part in running.items()}
    checks |= {
        "broker": connected,
        "database": lambda: stores.writable(ports.engine),
        "keyring": keys_ready,
        "policy": decidable,
        "trail": trail_open,
    }
    token = settings.admin.token_file
    return Vitals(checks=checks, metrics=ports.metrics, token=token.value if token else None)
