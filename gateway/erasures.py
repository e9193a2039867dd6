"""
Erasures: a person's data goes by named steps, each of which may be repeated, and is certified.

- Order: stop what is under way; list what there is; destroy the person's keys; delete their rows
  and messages. From then on nothing of ours reads them (*executed*, the soft end). Then the bytes
  go, one by one, each read back; what vendors and backups still have is written down.
- When the bucket of their key has been rolled, older copies are dead too (*hardened*). Then it is
  tried to read what was erased, and the outcome is certified.
- The tombstone and its line in the journal come first: what is not written there would come back
  with the next restored backup.
- After a crash the next tick goes on from the last step that is done.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import crashpoint, db, holdings, log, record, tombstones
from gateway.errors import GatewayError
from gateway.holdings import Holdings
from gateway.jobs import ERASED, micros
from gateway.ports import Ports
from gateway.schema import erasures
from gateway.tombstones import STANDS_FOR, Journal, Stone
from vault import roll
from vault.erasure import SHOWN_AS_DONE, Copy, Fate, Method, Result, Trial, Verdict
from vault.errors import CustodyError, VaultError
from vault.model import Artifact, WrappedKey

DUE_WITHIN = timedelta(days=30)  # GDPR Art. 12(3): one month
TRIGGERS = ("contract-end", "order", "request", "restore", "withdrawal")
STEPS = ("stopped", "listed", "keys", "rows", "messages", "objects", "residuals")
SOFT = "messages"
AT_ONCE = 16  # artifacts destroyed at a time
KEPT_AS_PROOF = {
    "consents": "proof of consent (GDPR Art. 7(1), 17(3)(e)); no number leads to it any more",
    "erasures": "proof of this erasure (GDPR Art. 5(2))",
    "inbox": "keyed hashes of message ids, for 30 days, so that nothing is answered twice",
    "tombstones": "keyed hashes of the numbers, for 60 days, so that nothing comes back",
}


class ErasureError(GatewayError):
    """The erasure cannot be begun; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What is known of one erasure so far; ids, counts and times, nothing about the person.

    *planted* is a key of nobody, wrapped as the person's was: it must not open afterwards.
    """

    steps: tuple[tuple[str, datetime], ...] = ()
    subjects: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    objects: tuple[tuple[str, str], ...] = ()
    selector_sha256: str = ""
    found: tuple[Copy, ...] = ()
    fates: tuple[Fate, ...] = ()
    trials: tuple[Trial, ...] = ()
    planted: tuple[WrappedKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One erasure: who asked for whose, why and when, and how far it is."""

    id: str
    tenant: str
    subject: str
    because: str
    trigger: str
    asked_by: str
    asked_at: datetime
    due_at: datetime
    urgent: bool
    step: str
    facts: Facts
    executed_at: datetime | None
    hardened_at: datetime | None

    @property
    def late(self) -> bool:
        """Whether it was executed after it was due."""
        return self.executed_at is not None and self.executed_at > self.due_at


Certify = Callable[[Erasure, Ports], Awaitable[tuple[Verdict, bytes, tuple[Trial, ...]]]]
Residuals = Callable[[Erasure, Ports], Awaitable[list[Fate]]]


@dataclass(slots=True, kw_only=True)
class Erasures:
    """
    Carries erasures out.

    *forget_messages* deletes a broker's messages about jobs; *residuals* tells what becomes of
    copies elsewhere; *certify* tries, judges and signs.
    """

    ports: Ports
    journal: Journal
    forget_messages: Callable[[Collection[str]], Awaitable[int]]
    residuals: Residuals
    certify: Certify
    _busy: set[str] = field(default_factory=set)

    async def tick(self) -> None:
        """Take every open erasure as far as it goes; one that fails is tried again."""
        for erasure in await unfinished(self.ports.engine):
            try:
                await self.advance(erasure)
            except Exception as exc:  # noqa: BLE001 - the others go on
                log.get().error("erasure.failed", stage=erasure.step, error=type(exc).__name__)

    async def replay(self) -> int:
        """
        Execute again what the journal knows and the database does not; return how many.

        Called before a door opens: whatever a restored database brought back goes before
        anybody can ask for it. An error here must keep the cell from serving.
        """
        count = 0
        for stone in await asyncio.to_thread(self.journal.read):
            if await self._undone(stone):
                await _again(self.ports.engine, stone, self.ports.now())
                erasure = await find(self.ports.engine, stone.erasure)
                while erasure is not None and erasure.executed_at is None:
                    await self._step(erasure, stone)
                    erasure = await find(self.ports.engine, stone.erasure)
                count += 1
        return count

    async def advance(self, erasure: Erasure) -> None:
        """Do every step of *erasure* that can be done now."""
        while True:
            current = await find(self.ports.engine, erasure.id)
            if current is None or await _certified(self.ports.engine, erasure.id):
                return
            if current.step != STEPS[-1]:
                await self._step(current)
            elif current.hardened_at is None:
                if not await self._harden(current):
                    return
            else:
                await self._certify(current)
                return

    async def _step(self, erasure: Erasure, stone: Stone | None = None) -> None:
        """Do the step after the last one, and note that it is done."""
        name = STEPS[STEPS.index(erasure.step) + 1] if erasure.step else STEPS[0]
        if not erasure.step:
            await self._request_on_record(erasure)
        facts: Facts = await getattr(self, f"_{name}")(erasure, stone)
        at = self.ports.now()
        facts = replace(facts, steps=(*facts.steps, (name, at)))
        executed = {"executed_at": micros(at)} if name == SOFT else {}
        if name == SOFT:
            await self._executed_on_record(replace(erasure, facts=facts), at)
        await _note(self.ports.engine, erasure, step=name, facts=facts, **executed)
        crashpoint.reach(f"erasure.{name}")

    async def _stopped(self, erasure: Erasure, stone: Stone | None) -> Facts:
        """Put up the tombstone, in the journal first; then stop what is under way."""
        found = await holdings.holdings(erasure.subject, erasure.tenant, self.ports)
        if stone is None:
            stone = self._stone(erasure, found)
            await asyncio.to_thread(self.journal.append, stone)
        async with self.ports.engine.begin() as tx:
            await tombstones.stand(tx, stone)
        whole = tuple(dict.fromkeys((*found.subjects, *stone.subjects)))
        ended = await self.ports.jobs.stop_all(whole, ERASED)
        for job, recording, tenant in ended:
            trail, at = self.ports.trail, self.ports.now()
            await record.discarded(job, recording, tenant, ERASED, trail, at)
        return replace(erasure.facts, subjects=whole)

    def _stone(self, erasure: Erasure, found: Holdings) -> Stone:
        at = self.ports.now()
        return Stone(
            erasure=erasure.id,
            tenant=erasure.tenant,
            subject=erasure.subject,
            subjects=found.subjects,
            aliases=found.aliases,
            because=erasure.because,
            trigger=erasure.trigger,
            erased_at=int(at.timestamp()),
            until=int((at + STANDS_FOR).timestamp()),
        )

    async def _listed(self, erasure: Erasure, _stone: Stone | None) -> Facts:
        """List every copy with the selector that an access report uses."""
        found = await holdings.holdings(erasure.subject, erasure.tenant, self.ports)
        kept = await self._kept(erasure)
        return replace(
            erasure.facts,
            found=found.copies,
            jobs=found.jobs,
            recordings=found.recordings,
            objects=await self.ports.custody.objects_of([each.label.artifact for each in kept]),
            selector_sha256=found.selector_sha256,
        )

    async def _keys(self, erasure: Erasure, _stone: Stone | None) -> Facts:
        """Destroy the keys: from here on nothing that is sealed for this person opens."""
        keys, planted = self.ports.keys, list(erasure.facts.planted)
        beside = [await keys.planted(subject) for subject in erasure.facts.subjects]
        planted += [one for one in beside if one is not None]
        facts = replace(erasure.facts, planted=tuple(planted))
        # Written down before the keys go: a second try finds no key to plant beside.
        await _note(self.ports.engine, erasure, facts=facts)
        began = self.ports.now()
        for subject in facts.subjects:
            await keys.destroy_subject(subject)
        if erasure.urgent:
            async with self.ports.engine.begin() as tx:
                for subject in facts.subjects:
                    await roll.want(tx, subject, self.ports.now())
        copy = Copy(
            kind="subject_keys",
            store="database",
            region=self.ports.region,
            idents=tuple(one.kek for one in planted),
            count=len(planted),
        )
        said = "256-bit keys, AES-256-GCM, wrapped; the row keeps no ciphertext"
        return _with(facts, self._fate(copy, Method.KEY_DESTRUCTION, Result.ERASED, began, said))

    async def _rows(self, erasure: Erasure, _stone: Stone | None) -> Facts:
        """Delete every row of theirs, but what another ground keeps."""
        found = await holdings.holdings(erasure.subject, erasure.tenant, self.ports)
        found = replace(
            found,
            subjects=erasure.facts.subjects,
            jobs=tuple(dict.fromkeys((*erasure.facts.jobs, *found.jobs))),
        )
        began, facts = self.ports.now(), erasure.facts
        counted = {copy.kind: copy for copy in facts.found if copy.store == "database"}
        async with self.ports.engine.begin() as tx:
            for table, which in holdings.rows_of(found):
                if table.name not in KEPT_AS_PROOF and table.name != "subject_keys":
                    await tx.execute(delete(table).where(which))
        for kind, copy in counted.items():
            if kind in {"subject_keys", "legal-holds"}:
                continue
            ground = KEPT_AS_PROOF.get(kind, "")
            result = Result.KEPT if ground else Result.ERASED
            fate = self._fate(copy, Method.ROW_DELETION, result, began)
            facts = _with(facts, replace(fate, ground=ground))
        return facts

    async def _messages(self, erasure: Erasure, _stone: Stone | None) -> Facts:
        """Delete what the broker still says of their jobs, by sequence."""
        began = self.ports.now()
        count = await self.forget_messages(erasure.facts.jobs)
        copy = Copy(kind="messages", store="jetstream", region=self.ports.region, count=count)
        return _with(erasure.facts, self._fate(copy, Method.MESSAGE_DELETION, Result.ERASED, began))

    async def _objects(self, erasure: Erasure, _stone: Stone | None) -> Facts:
        """Destroy the bytes, each read back; what a hold keeps goes when that is over."""
        began, facts = self.ports.now(), erasure.facts
        kept = await self._kept(erasure)
        gate = asyncio.Semaphore(AT_ONCE)
        held = [
            ident
            for ident in await asyncio.gather(*(self._destroyed(each, gate) for each in kept))
            if ident is not None
        ]
        await self.ports.custody.hasten(held)
        await record.destructions(self.ports)
        for copy in (each for each in facts.found if each.store.startswith("objects:")):
            theirs = tuple(ident for ident in copy.idents if ident in held)
            gone = tuple(ident for ident in copy.idents if ident not in held)
            if gone:
                part = replace(copy, idents=gone, count=len(gone))
                said = "deleted with every version, then read back: not there"
                facts = _with(
                    facts,
                    self._fate(part, Method.OBJECT_DELETION, Result.ERASED, began, said),
                )
            if theirs:
                part = replace(copy, idents=theirs, count=len(theirs))
                fate = self._fate(part, Method.OBJECT_DELETION, Result.HELD, began)
                said = "a legal hold; deleted within seconds of its release"
                facts = _with(facts, replace(fate, ground="GDPR Art. 17(3)(e)", detail=said))
        return facts

    async def _residuals(self, erasure: Erasure, _stone: Stone | None) -> Facts:
        """Write down what becomes of copies that are not ours to delete now."""
        return _with(erasure.facts, *await self.residuals(erasure, self.ports))

    async def _harden(self, erasure: Erasure) -> bool:
        """Note that the bucket was rolled; whether it was."""
        # Where there never was a key, no older copy of one can open anything.
        found = await self._rolled(erasure) if erasure.facts.planted else [self.ports.now()]
        if not any(found):
            return False
        at = max(each for each in found if each is not None)
        await self.ports.trail.append(
            self._event(EventType.ERASURE_HARDENED, erasure, "hardened", {"at": at.isoformat()})
        )
        await _note(self.ports.engine, erasure, hardened_at=micros(at))
        return True

    async def _rolled(self, erasure: Erasure) -> list[datetime | None]:
        """Return when each key's bucket was rolled; none of them, if one is still missing."""
        keyed = [each for each in erasure.facts.subjects if await self.ports.keys.had(each)]
        found = [await roll.hardened(self.ports.engine, each) for each in keyed]
        return found if all(found) else []

    async def _certify(self, erasure: Erasure) -> None:
        verdict, certificate, trials = await self.certify(erasure, self.ports)
        done = verdict in SHOWN_AS_DONE
        stamp = micros(self.ports.now())
        facts = replace(erasure.facts, trials=trials)
        await _note(
            self.ports.engine,
            erasure,
            facts=facts,
            verdict=verdict.value,
            certificate=certificate,
            certified_at=stamp,
        )
        (log.get().info if done else log.get().error)("erasure.certified", outcome=verdict.value)

    async def _kept(self, erasure: Erasure) -> list[Artifact]:
        whole = erasure.facts.subjects or (erasure.subject,)
        return [each for subject in whole for each in await self.ports.custody.of_subject(subject)]

    async def _destroyed(self, kept: Artifact, gate: asyncio.Semaphore) -> str | None:
        """Destroy *kept*, or return its id if a hold keeps it; any other failure is raised."""
        async with gate:
            with contextlib.suppress(CustodyError):
                await self.ports.custody.destroy(kept, reason=ERASED)
                return None
            if await self.ports.custody.held(kept.label.artifact):
                return kept.label.artifact
            if await self.ports.custody.gone(kept.label.artifact):
                return None
            raise VaultError("an artifact could not be destroyed")

    def _fate(
        self, copy: Copy, method: Method, result: Result, began: datetime, detail: str = ""
    ) -> Fate:
        return Fate(
            copy=copy,
            method=method,
            result=result,
            began=began,
            ended=self.ports.now(),
            executor=self.ports.cell,
            detail=detail,
        )

    async def _request_on_record(self, erasure: Erasure) -> None:
        told = {
            "because": erasure.because,
            "by": erasure.asked_by,
            "due": erasure.due_at.isoformat(),
            "trigger": erasure.trigger,
        }
        await self.ports.trail.append(
            self._event(EventType.ERASURE_REQUESTED, erasure, "requested", told)
        )

    async def _executed_on_record(self, erasure: Erasure, at: datetime) -> None:
        facts = erasure.facts
        told = {
            "copies": sum(copy.count for copy in facts.found),
            "late": at > erasure.due_at,
            "selector_sha256": facts.selector_sha256,
            "subjects": list(facts.subjects),
        }
        ident = "executed" if erasure.trigger != "restore" else f"executed.{int(at.timestamp())}"
        await self.ports.trail.append(self._event(EventType.ERASURE_EXECUTED, erasure, ident, told))

    def _event(self, kind: EventType, erasure: Erasure, step: str, told: dict[str, Any]) -> Event:
        return Event(
            id=f"{erasure.id}.{step}",
            type=kind,
            at=self.ports.now(),
            tenant=erasure.tenant,
            subject=erasure.subject,
            region=self.ports.region,
            actor="gateway",
            outcome="done",
            detail={"basis": "observed", "erasure": erasure.id, **told},
        )

    async def _undone(self, stone: Stone) -> bool:
        """Whether the database does not know of *stone*, or holds something of its person."""
        known = await find(self.ports.engine, stone.erasure)
        if known is None or known.executed_at is None:
            return True
        for subject in stone.subjects:
            if await self.ports.keys.lives(subject):
                return True
        return False


async def ask(
    engine: AsyncEngine,
    subject: str,
    tenant: str,
    *,
    because: str,
    trigger: str,
    by: str,
    at: datetime,
    urgent: bool = False,
) -> str:
    """
    Ask for the erasure of *subject*, and return its id; one that is open already is that.

    Raises:
        ErasureError: *trigger* is none, or *because* or *by* is empty.

    """
    if trigger not in TRIGGERS:
        raise ErasureError(f"trigger: one of {', '.join(TRIGGERS)}")
    if not because.strip() or not by.strip():
        raise ErasureError("an erasure has a reason and somebody who asks for it (--because, --by)")
    ident = f"e_{secrets.token_hex(16)}"
    row = {
        "id": ident,
        "tenant": tenant,
        "subject": subject,
        "because": because[:64],
        "trigger": trigger,
        "asked_by": by[:64],
        "asked_at": micros(at),
        "due_at": micros(at + DUE_WITHIN),
        "urgent": urgent,
    }
    open_one = (erasures.c.subject == subject) & erasures.c.executed_at.is_(None)
    async with engine.begin() as tx:
        found: str | None = (await tx.execute(select(erasures.c.id).where(open_one))).scalar()
        if found is None:
            await tx.execute(insert(erasures).values(row))
    return found or ident


async def find(engine: AsyncEngine, ident: str) -> Erasure | None:
    """Return the erasure *ident*, or None."""
    async with db.reading(engine) as tx:
        row = (await tx.execute(select(erasures).where(erasures.c.id == ident))).one_or_none()
    return None if row is None else _erasure(row)


async def unfinished(engine: AsyncEngine) -> list[Erasure]:
    """Return every erasure that has no certificate yet, the oldest first."""
    query = select(erasures).where(erasures.c.certified_at.is_(None)).order_by(erasures.c.asked_at)
    async with db.reading(engine) as tx:
        return [_erasure(row) for row in (await tx.execute(query)).all()]


async def certificate(engine: AsyncEngine, ident: str) -> bytes | None:
    """Return the certificate of erasure *ident*, or None while there is none."""
    query = select(erasures.c.certificate).where(erasures.c.id == ident)
    async with db.reading(engine) as tx:
        found: bytes | None = (await tx.execute(query)).scalar()
    return found


async def summaries(engine: AsyncEngine) -> list[dict[str, Any]]:
    """Return every erasure as a plain row, the newest first."""
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(erasures).order_by(erasures.c.asked_at.desc()))).all()
    return [_summary(row) for row in rows]


def _summary(row: Row[Any]) -> dict[str, Any]:
    shown = {
        "erasure": row.id,
        "subject": row.subject,
        "trigger": row.trigger,
        "because": row.because,
        "asked": _time(row.asked_at),
        "due": _time(row.due_at),
        "step": row.step or "requested",
        "executed": _time(row.executed_at),
        "hardened": _time(row.hardened_at),
        "certified": _time(row.certified_at),
        "verdict": row.verdict,
    }
    # Only a verdict that may be shown as done looks done.
    return shown | {"done": row.verdict in SHOWN_AS_DONE}


async def _again(engine: AsyncEngine, stone: Stone, at: datetime) -> None:
    """Have *stone* executed once more, as a restore demands."""
    row = {
        "id": stone.erasure,
        "tenant": stone.tenant,
        "subject": stone.subject,
        "because": stone.because,
        "trigger": "restore",
        "asked_by": "journal",
        "asked_at": micros(at),
        "due_at": micros(at),
        "urgent": True,
    }
    afresh = {"step": "", "executed_at": None, "hardened_at": None, "certified_at": None}
    async with engine.begin() as tx:
        if not await db.insert_new(tx, erasures, row):
            mine = erasures.c.id == stone.erasure
            await tx.execute(update(erasures).where(mine).values(row | afresh))


async def _note(engine: AsyncEngine, erasure: Erasure, **values: Any) -> None:
    if "facts" in values:
        values["facts"] = msgspec.json.encode(values["facts"])
    async with engine.begin() as tx:
        await tx.execute(update(erasures).where(erasures.c.id == erasure.id).values(**values))


async def _certified(engine: AsyncEngine, ident: str) -> bool:
    query = select(erasures.c.certified_at).where(erasures.c.id == ident)
    async with db.reading(engine) as tx:
        return (await tx.execute(query)).scalar() is not None


def _with(facts: Facts, *more: Fate) -> Facts:
    """Return *facts* with *more*; what a step says again replaces what it said before."""
    said = {(fate.copy.kind, fate.copy.store, fate.result) for fate in more}
    kept = [f for f in facts.fates if (f.copy.kind, f.copy.store, f.result) not in said]
    return replace(facts, fates=(*kept, *more))


def _erasure(row: Row[Any]) -> Erasure:
    return Erasure(
        id=row.id,
        tenant=row.tenant,
        subject=row.subject,
        because=row.because,
        trigger=row.trigger,
        asked_by=row.asked_by,
        asked_at=_moment(row.asked_at),
        due_at=_moment(row.due_at),
        urgent=row.urgent,
        step=row.step,
        facts=msgspec.json.decode(row.facts, type=Facts) if row.facts else Facts(),
        executed_at=_moment(row.executed_at) if row.executed_at else None,
        hardened_at=_moment(row.hardened_at) if row.hardened_at else None,
    )


def _moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1e6, UTC)


def _time(stamp: int | None) -> str:
    return _moment(stamp).isoformat() if stamp else ""


def told(facts: Sequence[Fate]) -> list[str]:
    """Return one line per fate, for people."""
    return [
        f"{fate.copy.kind} ({fate.copy.store}, {fate.copy.count}): {fate.result.value}"
        f"{f' until {fate.until.isoformat()}' if fate.until else ''}"
        for fate in facts
    ]
