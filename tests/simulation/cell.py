"""
One life of a cell's process: the product's own parts, wired as `gateway.compose` wires them.

What is not the product's: the disks, WhatsApp, the broker, the processors and the decoder
(scripted). The rules are asked once per question, and their answer is remembered.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulation import database
from simulation.broker import SimulatedBroker
from simulation.graph import SimulatedDecoder, SimulatedGraph, SimulatedMedia, WhatsApp, anything
from simulation.machine import Disks, Power, Time
from simulation.stores import MemoryKeys, MemoryObjects, MemoryShelf
from support.desk import CONTROLLER, MEANT, RAW_AUDIO_S, REGION, ROWS, TENANT, WORDS
from support.policy_world import build

from audit.signers.local import LocalSigner
from audit.trail import Trail
from gateway import assistant, certificates, migrations, phrases, remains, restored, turns
from gateway.accounts import Accounts
from gateway.compose import times
from gateway.decisions import Decisions
from gateway.erasures import Erasures
from gateway.findings import Findings
from gateway.inbox import Inbox
from gateway.jobs import Jobs
from gateway.keeping import Keeping
from gateway.metrics import Metrics
from gateway.ports import Ports
from gateway.relay import Relay
from gateway.remains import Horizons
from gateway.settings import Tenant
from gateway.slots import Share, Slots
from gateway.sweeper import Sweeper
from gateway.timekeeping import Machine, Timekeeper
from gateway.tombstones import Journal
from gateway.worker import Worker
from policy import access, decide, jurisdictions
from policy.access import Approval, Request, Verdict
from policy.bundle import Bundle
from policy.consents.sql import SqlConsents
from policy.embedded import EmbeddedEngine
from policy.model import Asked, Decision, Question
from residency.limits import Limits
from residency.model import Service
from residency.processors.scripted import ScriptedSpeechToText, ScriptedUnderstander
from residency.registry import Registry
from residency.route import Health
from vault.custody import Custody
from vault.keys import Keys

LINE = "106540352242922"
CELL = "eu-1"
GRACE_S = 120.0
SLOTS = 4
HORIZONS = Horizons(database=timedelta(days=30), snapshots=timedelta(days=7))
OURS = [row for row in ROWS if row.region == REGION and row.service is not Service.TEXT_TO_SPEECH]


@dataclass(slots=True)
class Remembering:
    """The rules, asked once per question: an answer is a pure function of it (invariant I16)."""

    inner: EmbeddedEngine
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the engine's name."""
        return self.inner.name

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """See `PolicyEngine.evaluate`."""
        key = entrypoint + json.dumps(question, sort_keys=True)
        if key not in self.known:
            self.known[key] = await self.inner.evaluate(entrypoint, question)
        return self.known[key]

    async def aclose(self) -> None:
        """See `PolicyEngine.aclose`."""
        await self.inner.aclose()


@cache
def speech() -> bytes:
    """Return half a second of sound that passes for a voice (16 kHz mono s16le)."""
    times = np.arange(8_000) / 16_000
    voice = sum(np.sin(2 * np.pi * hertz * times) for hertz in (150, 300, 450, 600, 900))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * times)
    return bytes((voice * swell * 3_000).astype("<i2").tobytes())


class Bench:
    """What all lives share, because it has no memory of any: code, rules, and the compiled SQL."""

    def __init__(self) -> None:
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
            logger_factory=structlog.ReturnLoggerFactory(),
        )
        self.bundle: Bundle = build(
            processors=Registry(OURS).rows(),
            tenants={TENANT: {"retention": {"raw_audio_seconds": RAW_AUDIO_S}}},
            notices=[phrases.VERSION],
        )
        self.rules = Remembering(EmbeddedEngine(self.bundle))
        self.metrics = Metrics(
            tenants=[TENANT], processors=[row.id for row in OURS], regions=[REGION]
        )
        self.tenant = Tenant.model_construct(
            id=TENANT,
            controller=CONTROLLER,
            jurisdiction="DE",
            languages=("en", "de"),
            whatsapp=None,
        )
        self.assistant = assistant.load(None, languages=self.tenant.languages)
        self.signer = LocalSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
        self.laws = jurisdictions.load()
        self.connection: database.Connection | None = None
        self.disk = b""
        self.power: Power | None = None
        self.engine = database.engine(self._connect)

    def insert(self, disk: bytes, power: Power) -> None:
        """Let the engine work on *disk* from now on, under *power*."""
        self.disk, self.power = disk, power
        self.engine.sync_engine.dispose(close=False)
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def image(self) -> bytes:
        """Return what is durable of the database now."""
        if self.connection is None:
            return self.disk
        if self.connection.in_transaction:
            self.connection.rollback()
        return self.connection.serialize()

    def _connect(self) -> database.Connection:
        if self.connection is not None:
            self.disk = self.image()
            self.connection.close()
        made = database.connect()
        if self.disk:
            made.deserialize(self.disk)
        if self.power is not None:
            made.durable = self.power
        self.connection = made
        return made

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Return the rows of *sql*, read past everybody."""
        return (self.connection or self._connect()).read(sql, values)

    def fresh(self) -> bytes:
        """Return the database of a cell that never ran."""
        self.insert(b"", Power(Disks))

        async def migrate() -> bytes:
            await migrations.upgrade(self.engine)
            return self.image()

        return asyncio.run(migrate())


@dataclass(slots=True, kw_only=True)
class Plants:
    """The parts that a planted fault replaces by subclasses of its own; see `faults`."""

    worker: type[Worker] = Worker
    inbox: type[Inbox] = Inbox
    timekeeper: type[Timekeeper] = Timekeeper


class Cell:
    """One process: from its start on *disks*, which it owns, to its end or its death."""

    def __init__(
        self,
        bench: Bench,
        disks: Disks,
        power: Power,
        time: Time,
        world: WhatsApp,
        journal: Path,
        *,
        plants: Plants,
        life: int,
    ) -> None:
        self.bench = bench
        self.disks = disks
        self.power = power
        self.time = time
        self.world = world
        self.owner = f"{CELL}/{life}"
        self.journal = journal
        self._plants = plants
        bench.insert(disks.database, power)

    async def start(self, *, resumed: bool = False) -> None:
        """
        Start as `compose.cell` does: what a restore made necessary is done before a door opens.

        One that is *resumed* stopped in good order, on these very disks: it has done so already.
        """
        loop = asyncio.get_running_loop()
        self.journal.write_bytes(self.disks.journal)
        self.broker = SimulatedBroker(self.disks.stream, loop.time)
        shelf = MemoryShelf(REGION, self.disks.logs, self.power)
        self.clock = self._plants.timekeeper(
            self.bench.engine,
            Machine(wall=self.time.wall, boot="the one machine", counted=self.time.counted),
            newest=partial(times._last_leaf, shelf),
        )
        await self.clock.agreed()
        self.trail = await Trail.open(shelf, self.bench.signer, self.clock.now)
        self.keyring = MemoryKeys(self.disks.keks, self.time.now, self.power)
        self.ports = self._ports()
        self.relay = Relay(
            self.bench.engine, anything(self.broker), self.ports.jobs, now=self.clock.now
        )
        self.erasures = Erasures(
            ports=self.ports,
            journal=Journal(self.journal, self.ports.custody.objects),
            forget_messages=self.broker.forget,
            remains=partial(remains.remains, horizons=HORIZONS),
            certify=certificates.certify,
        )
        self.keeping = Keeping(
            self.ports.engine,
            self.keyring,
            self.ports.custody.objects,
            self.trail.append,
            cell=CELL,
            region=REGION,
            owner=self.owner,
            now=self.clock.now,
            agreed=self.clock.agreed,
            roll_after=timedelta(hours=24),
            cryptoperiod=timedelta(days=90),
        )
        if not resumed:
            await self.ports.jobs.release(f"{CELL}/")
            await self.erasures.replay(await restored.erased(self.ports, self.trail))
            await restored.recall(self.ports, self.trail)
        self.sweeper = Sweeper(self.ports, owner=self.owner, chores=[self.erasures.prune])
        languages = self.bench.tenant.languages
        self.inbox = self._plants.inbox(
            self.ports.engine,
            self.ports.keys,
            self.ports.custody,
            now=self.clock.now,
            committed=self.relay.wake,
            urgent=lambda _tenant, message: turns.urgent(message, languages),
        )
        slots = Slots(SLOTS, {TENANT: Share(concurrency=SLOTS)})
        self.worker = self._plants.worker(
            self.ports, anything(self.broker), owner=self.owner, slots=slots
        )
        self.worker.start()
        self.inbox.start()

    async def stop(self) -> None:
        """End in good order."""
        await self.inbox.aclose()
        await self.worker.aclose(grace_s=0)
        await self.trail.close()

    def image(self) -> Disks:
        """Return what the next process would find if this one ended here."""
        self.disks.database = self.bench.image()
        self.disks.journal = self.journal.read_bytes() if self.journal.exists() else b""
        return self.disks.copy()

    def _ports(self) -> Ports:
        bench, now = self.bench, self.clock.now
        engine = bench.engine
        keys = Keys(engine, self.keyring, region=REGION, now=now)
        custody = Custody(engine, keys, MemoryObjects(self.disks.objects, self.power), now=now)
        rows = {row.id: row for row in OURS}
        return Ports(
            region=REGION,
            cell=CELL,
            now=now,
            agreed=self.clock.agreed,
            engine=engine,
            jobs=Jobs(engine, now=now, woken=lambda woken: self.relay.wake(woken)),  # noqa: PLW0108 - made next
            trail=self.trail,
            custody=custody,
            keys=keys,
            consents=SqlConsents(engine),
            decide=self._decide,
            ask_access=self._ask_access,
            decisions=Decisions(engine, custody, bench.metrics),
            processors=rows,
            health=Health(asyncio.get_running_loop().time),
            limits=Limits(OURS, [TENANT], monotonic=asyncio.get_running_loop().time),
            hearing={
                name: ScriptedSpeechToText(rows[name], [WORDS]) for name in ("stt.one", "stt.two")
            },
            speaking={},
            understanding={"nlu.one": ScriptedUnderstander(rows["nlu.one"], [MEANT])},
            decoder=anything(SimulatedDecoder(speech())),
            graphs={LINE: anything(SimulatedGraph(self.world, self.power))},
            media={LINE: anything(SimulatedMedia(self.world, self.power))},
            tenants={TENANT: bench.tenant},
            assistants={TENANT: bench.assistant},
            metrics=bench.metrics,
            findings=Findings(engine, self.trail, bench.metrics, cell=CELL, now=now),
            accounts=Accounts(engine, bench.metrics, now=now),
            unknown_grace_s=GRACE_S,
            egress=anything(None),  # no processor of this cell is outside of it
            erasing=partial(jurisdictions.erases, laws=bench.laws),
        )

    async def _decide(
        self, question: Question, kept: Callable[[Asked], None] | None = None
    ) -> Decision:
        facts = self.bench.bundle.facts
        return await decide.decide(question, self.bench.rules, facts=facts, deadline_s=10)

    async def _ask_access(self, request: Request, approvals: Sequence[Approval] = ()) -> Verdict:
        at = int(self.clock.now().timestamp())
        return await access.verdict(
            request,
            self.bench.rules,
            facts=self.bench.bundle.facts,
            now=at,
            approvals=approvals,
            deadline_s=10,
        )
