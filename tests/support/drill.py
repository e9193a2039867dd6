"""
A restore drill: people on PostgreSQL, a raft OpenBao and files, and yesterday's copies of all.

Everything that a cell stores is backed up: the database by ``pg_dump``, the key service by its
raft snapshot, the objects (keysheets and journal among them) and the journal's file by copying.
"""

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Row, Table, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed, agreeing
from support.desk import ROWS, TENANT
from support.erasing import HORIZONS
from support.gateway import Clock
from support.openbao_raft import RaftBao
from support.postgres import Postgres, run

from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail
from gateway import certificates, db, erasure, migrations, remains, restored
from gateway.erasure import Erasure
from gateway.erasures import Erasures
from gateway.jobs import Jobs
from gateway.keeping import LEASE, Keeping
from gateway.metrics import Metrics
from gateway.note import SPOKEN
from gateway.persons import pseudonym
from gateway.ports import Ports
from gateway.schema import jobs, sessions
from gateway.tombstones import NAME, Journal
from gateway.whatsapp.payload import Identity
from policy.consents.sql import SqlConsents
from policy.model import Consent, ConsentState
from vault import roll
from vault.custody import Custody
from vault.errors import VaultError
from vault.keyrings.client import Transit
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.keys import Keys
from vault.model import Artifact, Kind, Label, WrappedKey
from vault.objects.local import LocalObjects
from vault.ports import Keyring, Objects
from vault.tables import subject_keys

REGION = "eu-central"
CELL = "eu-1"
BUCKETS = 4
AT_ONCE = 8
KEPT_FOR = timedelta(days=30)
T = TypeVar("T")
PASSWORD = "pw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Someone:
    """One person: where they are found, and what is kept of them."""

    identity: Identity
    subject: str
    transcript: Artifact
    conversation: str

    @property
    def words(self) -> bytes:
        """Return what they said; it tells whose it is."""
        return f"said by {self.identity.bsuid}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Everything we store, as it was at one time; *rows* is what somebody reads in the dump."""

    dump: Path
    snapshot: bytes = field(repr=False)
    objects: Path
    journal: Path
    rows: dict[str, list[Row[Any]]] = field(repr=False)

    def wrapped(self, people: Iterable[Someone]) -> list[WrappedKey]:
        """Return the keys of *people* as the dump has them."""
        of = {row.subject: row for row in self.rows["subject_keys"]}
        return [_wrapped(of[one.subject]) for one in people]


@dataclass(slots=True, kw_only=True)
class Drill:
    """A cell's parts on real servers, and the people in it; see the module."""

    home: Path
    clock: Clock
    postgres: Postgres
    bao: RaftBao
    url: str
    engine: AsyncEngine
    trail: Trail
    living: list[Someone] = field(default_factory=list)
    erased: list[Someone] = field(default_factory=list)
    idents: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def objects(self) -> LocalObjects:
        """Return the object store."""
        return LocalObjects(self.home / "objects")

    @property
    def transit(self) -> Transit:
        """Return the key service, with every right."""
        return Transit(self.bao.url, lambda: self.bao.token, timeout_s=30)

    @property
    def people(self) -> list[Someone]:
        """Return everybody."""
        return [*self.living, *self.erased]

    def ports(self) -> Ports:
        """Return the parts as another process sees them: no key in memory."""
        return ports_of(
            self.engine, TransitKeyring(self.transit), self.objects, self.trail, self.clock
        )

    def erasures(self, ports: Ports) -> Erasures:
        """Return what carries erasures out."""
        return erasures_of(ports, self.home)

    def keeping(self) -> Keeping:
        """Return a keeper that was just started."""
        return Keeping(
            self.engine,
            TransitKeeper(self.transit),
            self.objects,
            self.trail.append,
            cell=CELL,
            region=REGION,
            owner=secrets.token_hex(4),
            now=self.clock,
            agreed=agreeing(self.clock),
            roll_after=timedelta(hours=24),
            cryptoperiod=timedelta(days=3650),
        )

    async def populate(self, *, erased: int, living: int) -> None:
        """Let that many people speak to us."""
        ports = self.ports()
        found = await gathered(erased + living, lambda number: self._speaks(number, ports))
        self.erased, self.living = found[:erased], found[erased:]

    async def _speaks(self, number: int, ports: Ports) -> Someone:
        return await speaks(number, ports)

    async def roll_all(self) -> None:
        """Roll every bucket, so that there are keysheets."""
        keeper = TransitKeeper(self.transit)
        for number in range(BUCKETS):
            await roll.roll(
                self.engine,
                keeper,
                self.objects,
                f"subjects-{number:04d}",
                agreed(self.clock()),
                now=self.clock,
            )

    async def erase(self) -> None:
        """Erase those who are to be erased, and note how long each took until the soft end."""
        whole = time.perf_counter()
        ports = self.ports()
        erasures = self.erasures(ports)
        took: dict[str, float] = {}

        async def one(number: int) -> None:
            said = {"because": "Art. 17 request", "trigger": "request", "by": "dpo"}
            began = time.perf_counter()
            ident = await erasure.ask(
                self.engine, self.erased[number].subject, TENANT, at=self.clock(), urgent=True,
                **said,
            )  # fmt: skip
            self.idents.append(ident)
            await self._until_soft(erasures, ident)
            took[ident] = time.perf_counter() - began
            await erasures.advance(ident)

        await gathered(len(self.erased), one)
        self.figures["all but the roll"] = time.perf_counter() - whole
        times = sorted(took.values())
        for percent in (50, 99):
            self.figures[f"soft p{percent}"] = times[len(times) * percent // 100]

    async def replay(self) -> int:
        """Do what a cell does before its doors open; return how many were erased again."""
        ports, began = self.ports(), time.perf_counter()
        told = await restored.erased(ports, self.trail)
        count = await self.erasures(ports).replay(told)
        if count:
            self.figures["replay"] = time.perf_counter() - began
        return count

    async def _until_soft(self, erasures: Erasures, ident: str) -> None:
        while (found := await erasure.find(self.engine, ident)) and found.executed_at is None:
            await erasures._step(found, found.next_step or "")

    async def harden(self) -> None:
        """Let a new keeper do its work, and every erasure go on to its certificate."""
        began = time.perf_counter()
        self.clock.move(2 * LEASE.total_seconds())  # the one before it died with its lease
        await self.keeping().tick()
        erasures = self.erasures(self.ports())
        waiting = await erasure.unfinished(self.engine)
        await gathered(len(waiting), lambda number: erasures.advance(waiting[number].id))
        self.figures["roll and certificates"] = time.perf_counter() - began

    async def back_up(self, name: str) -> Copies:
        """Copy everything we store, but the log: a cell refuses one that went back."""
        await restored.note(self.ports(), self.trail)
        at = self.home / f"backup-{name}"
        at.mkdir(mode=0o700)
        dump = at / "cell.dump"
        await asyncio.to_thread(run, "pg_dump", "-Fc", "-f", str(dump), *self._database())
        shutil.copytree(self.home / "objects", at / "objects")
        if (self.home / NAME).exists():
            shutil.copy(self.home / NAME, at / NAME)
        return Copies(
            dump=dump,
            snapshot=await asyncio.to_thread(self.bao.snapshot),
            objects=at / "objects",
            journal=at / NAME,
            rows={table.name: await self.rows(table) for table in (sessions, subject_keys)},
        )

    async def restore_database(self, copies: Copies) -> None:
        """Put the database back; a cell does not run meanwhile."""
        await self.engine.dispose()
        name = make_url(self.url).database
        admin = await self.postgres.admin()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
        await admin.close()
        await asyncio.to_thread(run, "pg_restore", "-e", *self._database(), str(copies.dump))

    async def restore_keys(self, copies: Copies) -> None:
        """Put the key service back."""
        await asyncio.to_thread(self.bao.restore, copies.snapshot)

    def restore_objects(self, copies: Copies, *, but: str = "") -> None:
        """Put the object store back; what stands below the folder *but* stays as it is."""
        now, kept = self.home / "objects", self.home / "kept"
        if but and (now / but).exists():
            shutil.move(now / but, kept)
        shutil.rmtree(now)
        shutil.copytree(copies.objects, now)
        if kept.exists():
            shutil.rmtree(now / but, ignore_errors=True)
            shutil.move(kept, now / but)

    def restore_journal(self, copies: Copies) -> None:
        """Put the journal's file back; yesterday there may have been none."""
        (self.home / NAME).unlink(missing_ok=True)
        if copies.journal.exists():
            shutil.copy(copies.journal, self.home / NAME)

    async def rows(self, table: Table) -> list[Row[Any]]:
        """Return every row of *table*."""
        async with self.engine.connect() as tx:
            return list(await tx.execute(select(table)))

    async def found(self, ident: str) -> Erasure:
        """Return the erasure *ident*."""
        one = await erasure.find(self.engine, ident)
        assert one is not None
        return one

    async def opened(self, people: Sequence[Someone]) -> int:
        """Return how many of *people* a cell that just started can read, transcript and memory."""
        custody = self.ports().custody
        memories = {row.subject: row.sealed for row in await self.rows(sessions)}

        async def reads(number: int) -> int:
            one = people[number]
            try:
                transcript = await custody.open(one.transcript)
            except VaultError:
                transcript = b""
            try:
                sealed = memories.get(one.subject, b"")
                memory = await custody.open_small(one.subject, memory_of(one), sealed)
            except VaultError:
                memory = b""
            return (transcript == one.words) + (memory == one.words)

        return sum(await gathered(len(people), reads))

    async def stolen(self, copies: Copies, people: Sequence[Someone]) -> int:
        """
        Return how many of *people* somebody reads who has *copies* and asks the key service.

        Tried: each row of the dump and each row of every keysheet, alone against the keyring; and
        the rows put back into the live table, asked for by a process without a memory.
        """
        keyring = TransitKeyring(self.transit)
        theirs = {one.subject for one in people}
        rows = [*copies.wrapped(people), *_sheets(copies.objects, theirs)]
        rows += _sheets(self.home / "objects", theirs)
        opened = sum(isinstance(key, bytes) for key in await keyring.unwrap(rows))
        return opened + await self._smuggled(copies, people)

    async def _smuggled(self, copies: Copies, people: Sequence[Someone]) -> int:
        """Return how many memories open with the dump's rows put back into the live tables."""
        before = {row.subject: row for row in await self.rows(subject_keys)}
        old = {row.subject: row for row in copies.rows["subject_keys"]}
        sealed = {row.subject: row.sealed for row in copies.rows["sessions"]}
        await self._write(old[one.subject] for one in people)
        custody = self.ports().custody

        async def reads(number: int) -> int:
            one = people[number]
            try:
                found = await custody.open_small(one.subject, memory_of(one), sealed[one.subject])
            except VaultError:
                return 0
            return found == one.words

        count = sum(await gathered(len(people), reads))
        await self._write(before[one.subject] for one in people)
        return count

    async def _write(self, rows: Iterable[Row[Any]]) -> None:
        async with self.engine.begin() as tx:
            for row in rows:
                mine = subject_keys.c.subject == row.subject
                await tx.execute(update(subject_keys).where(mine).values(**row._mapping))

    def _database(self) -> list[str]:
        name = str(make_url(self.url).database)
        return ["-h", "127.0.0.1", "-p", str(self.postgres.port), "-U", "postgres", "-d", name]


def ports_of(
    engine: AsyncEngine, keyring: Keyring, objects: Objects, trail: Trail, clock: Clock
) -> Ports:
    """Return the parts that erasures need, with no key in memory; the others are not there."""
    keys = Keys(engine, keyring, region=REGION, now=clock, buckets=BUCKETS)
    unused: Any = None
    return Ports(
        region=REGION,
        cell=CELL,
        now=clock,
        agreed=agreeing(clock),
        engine=engine,
        jobs=Jobs(engine, now=clock, woken=lambda _woken: None),
        trail=trail,
        custody=Custody(engine, keys, objects, now=clock),
        keys=keys,
        consents=SqlConsents(engine),
        decide=unused,
        ask_access=unused,
        decisions=unused,
        processors={row.id: row for row in ROWS},
        health=unused,
        limits=unused,
        hearing={},
        speaking={},
        understanding={},
        decoder=unused,
        graphs={},
        media={},
        tenants={},
        assistants={},
        metrics=Metrics(tenants=[TENANT], processors=[row.id for row in ROWS], regions=[REGION]),
        findings=unused,
        accounts=unused,
        unknown_grace_s=0,
        egress=unused,
    )


def erasures_of(ports: Ports, home: Path) -> Erasures:
    """Return what carries erasures out, with its journal's file in *home*."""

    async def forget(_jobs: Collection[str]) -> int:
        return 0

    return Erasures(
        ports=ports,
        journal=Journal(home / NAME, ports.custody.objects),
        forget_messages=forget,
        remains=partial(remains.remains, horizons=HORIZONS),
        certify=certificates.certify,
    )


async def speaks(number: int, ports: Ports) -> Someone:
    """Let the person *number* say something: everything that is kept of a turn is kept of it."""
    identity = Identity(phone=None, bsuid=f"DE.{number:013d}")
    subject = await pseudonym(identity, TENANT, ports)
    recording, conversation = f"a_{secrets.token_hex(16)}", secrets.token_hex(16)
    label = Label(
        tenant=TENANT, subject=subject, artifact=recording, kind=Kind.TRANSCRIPT, region=REGION
    )
    words = f"said by {identity.bsuid}".encode()
    kept = await ports.custody.put(words, label, ports.now() + KEPT_FOR)
    one = Someone(identity=identity, subject=subject, transcript=kept, conversation=conversation)
    sealed = await ports.custody.seal_small(subject, memory_of(one), words)
    at = int(ports.now().timestamp())
    async with ports.engine.begin() as tx:
        row = {"conversation": conversation, "tenant": TENANT, "subject": subject}
        await tx.execute(insert(sessions).values(**row, sealed=sealed, updated_at=at * 10**6))
        job = {"id": f"j_{secrets.token_hex(16)}", "artifact": recording, "state": "done"}
        job |= {"trace": secrets.token_hex(16), "accepted_at": at * 10**6}
        await tx.execute(insert(jobs).values(**row, **job, deadline_at=at * 10**6))
    await ports.consents.record(_consent(subject, at))
    return one


async def made(home: Path, postgres: Postgres, bao: RaftBao, stack: AsyncExitStack) -> Drill:
    """Return a drill without people, on a database and a mount of its own."""
    clock = Clock()
    url = (await postgres.create(password=PASSWORD)).replace("@", f":{PASSWORD}@")
    engine = db.connect(url, pool_size=AT_ONCE)
    stack.push_async_callback(engine.dispose)
    await migrations.upgrade(engine)
    status, said = bao.call("POST", "sys/mounts/transit", {"type": "transit"})
    assert status == 204, said
    bao.call("POST", "transit/config/keys", {"disable_upsert": True})
    signer = LocalSigner.open(home / "signing-key.pem")
    trail = await Trail.open(Folder(home / "audit", REGION), signer, clock)
    stack.push_async_callback(trail.close)
    return Drill(
        home=home, clock=clock, postgres=postgres, bao=bao, url=url, engine=engine, trail=trail
    )


async def gathered(count: int, act: Callable[[int], Awaitable[T]]) -> list[T]:
    """Return what *act* returns for each number below *count*, a few at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> T:
        async with gate:
            return await act(number)

    return list(await asyncio.gather(*(one(number) for number in range(count))))


def memory_of(one: Someone) -> str:
    """Return the name under which the memory of *one* is sealed."""
    return f"session/{one.conversation}"


def _wrapped(row: Row[Any]) -> WrappedKey:
    return WrappedKey(kek=row.kek, version=row.version, ciphertext=row.ciphertext)


def _sheets(objects: Path, subjects: Collection[str]) -> list[WrappedKey]:
    """Return the keys of *subjects* in the keysheets among *objects*."""
    sheets = [
        json.loads(path.read_bytes())
        for path in (objects / "keysheets").rglob("*")
        if path.is_file()
    ]
    return [
        WrappedKey(kek=sheet["kek"], version=version, ciphertext=ciphertext)
        for sheet in sheets
        for subject, (version, ciphertext) in sheet["keys"].items()
        if subject in subjects
    ]


def _consent(subject: str, at: int) -> Consent:
    return Consent(
        id=f"c_{secrets.token_hex(16)}",
        tenant=TENANT,
        subject=subject,
        purpose=SPOKEN,
        state=ConsentState.GRANTED,
        at=at,
        expires_at=at + 86_400 * 365,
        notice_version="1",
        notice_sha256="0" * 64,
        language="en",
        channel="whatsapp",
        evidence="e" * 64,
    )
