"""
Erasures: a person's data goes by named steps, each of which may be repeated, and is certified.

- Order: put up the tombstone and stop what is under way; list what there is; destroy the person's
  keys; delete their rows. From then on nothing of ours reads them (*executed*, the soft end). Then
  messages and bytes go, one by one, each read back; what others still have is written down.
- When the bucket of their key has been rolled, older copies are dead too (*hardened*). Then it is
  tried to read what was erased, and the outcome is certified.
- The tombstone's line in the journal comes first: what is not written there would come back with
  the next restored backup. The person's number stops leading to them in the same transaction, so
  that what they write afterwards is somebody new's, and nothing of it is lost.
- After a crash the next tick goes on from the last step that is done.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete

from audit.model import Event, EventType
from gateway import crashpoint, erasure, holdings, log, own_erasure, record, tombstones
from gateway.erasure import RESTORE, SOFT, TRIED_AGAIN_AFTER, Erasure, Facts, Scope
from gateway.errors import JournalError
from gateway.holdings import KEPT_AS_PROOF, Holdings
from gateway.jobs import ERASED, REVOKED, WITHDRAWN, micros
from gateway.persons import Held
from gateway.ports import Ports
from gateway.schema import aliases
from gateway.tombstones import STANDS_FOR, Journal, Stone
from vault import roll
from vault.agreed_time import AgreedTime
from vault.erasure import Copy, Fate, Method, Result
from vault.errors import CustodyError, VaultError
from vault.model import Artifact

REASONS = {Scope.CONSENT: WITHDRAWN, Scope.PERSON: ERASED, Scope.RECORDING: REVOKED}
"""What the log says of an artifact that goes with an erasure, whoever destroys it."""

AT_ONCE = 16  # artifacts destroyed, or erasures executed again, at a time

Remains = Callable[[Erasure, Ports], Awaitable[list[Fate]]]
Certify = Callable[[Erasure, Ports], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Erasures:
    """
    Carries erasures out.

    *forget_messages* deletes a broker's messages about jobs; *remains* tells what becomes of
    copies elsewhere; *certify* tries, judges and signs.
    """

    ports: Ports
    journal: Journal
    forget_messages: Callable[[Collection[str]], Awaitable[int]]
    remains: Remains
    certify: Certify
    reached: Callable[[str], None] = crashpoint.reach

    async def tick(self) -> None:
        """
        Take every open erasure as far as it goes; one that fails is tried again.

        A database that was put back while the cell runs is noticed here, and erased again first.
        """
        try:
            if await self._set_back():
                await self.replay()
        except JournalError as exc:  # told each time; new erasures go on
            log.get().error("erasure.journal", error=exc)
        before = self.ports.now() - TRIED_AGAIN_AFTER
        for one in await erasure.unfinished(self.ports.engine, tried_before=before):
            try:
                await self.advance(one.id)
            except Exception as exc:  # noqa: BLE001 - the others go on
                log.get().error("erasure.failed", stage=one.step, error=exc)
        await own_erasure.wake(self.ports)

    async def prune(self, time: AgreedTime) -> None:
        """Take down the tombstones whose time is over, in the database and in the journal."""
        await tombstones.forget(self.ports.engine, time)
        await self.journal.prune(time)

    async def replay(self, told: Sequence[Stone] = ()) -> int:
        """
        Execute again what the journal knows and the database does not; return how many.

        *told* are erasures that somebody else knows of, such as the log: they join the journal.

        Called before a door opens: whatever a restored database brought back goes before
        anybody can ask for it. An error here must keep the cell from serving.
        """
        stones = await self.journal.read()
        known = {stone.erasure for stone in stones}
        stones += [await self._named(stone) for stone in told if stone.erasure not in known]
        # A place that was put back with the rest would be the only one left at the next restore.
        await self.journal.mend(stones)
        undone = await self._undone(stones)
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._replayed(stone, gate) for stone in undone))
        return len(undone)

    async def _named(self, stone: Stone) -> Stone:
        """Return *stone* with the aliases that lead to its subjects, and all those subjects."""
        found = await holdings.holdings(
            stone.subject, stone.tenant, self.ports, known=stone.subjects
        )
        return replace(
            stone, subjects=found.subjects, aliases=found.aliases, held=_times(found.held)
        )

    async def _replayed(self, stone: Stone, gate: asyncio.Semaphore) -> None:
        """Execute *stone* once more, or to its end if the database has it begun."""
        ports = self.ports
        async with gate:
            known = await erasure.find(ports.engine, stone.erasure)
            if known is None or known.executed_at is not None:
                facts = Facts(objects=await ports.custody.objects_of(stone.artifacts))
                await erasure.again(ports.engine, stone, facts, ports.now())
            await self._execute(stone)
            log.get().warning("erasure.replayed", erasure=stone.erasure)

    async def _execute(self, stone: Stone) -> None:
        """Do every step up to the soft end."""
        while (one := await erasure.find(self.ports.engine, stone.erasure)) and not one.executed_at:
            await self._step(one, one.next_step or "", stone)

    async def advance(self, ident: str) -> None:
        """Do every step of the erasure *ident* that can be done now."""
        while (one := await erasure.find(self.ports.engine, ident)) and not one.certified:
            if one.next_step:
                await self._step(one, one.next_step)
            elif one.hardened_at is None:
                if not await self._harden(one):
                    return
            else:
                await self.certify(one, self.ports)
                return

    async def _step(self, one: Erasure, name: str, stone: Stone | None = None) -> None:
        """Do the step *name*, the one after the last, and note that it is done."""
        if not one.step:
            await self._requested_on_record(one)
        facts: Facts = await getattr(self, f"_{name}")(one, stone)
        at = self.ports.now()
        facts = replace(facts, steps=(*facts.steps, (name, at)))
        soft = name == SOFT[one.scope]
        executed = {"executed_at": micros(at)} if soft else {}
        if soft:
            await self._executed_on_record(replace(one, facts=facts), at)
        await erasure.note(self.ports.engine, one.id, step=name, facts=facts, **executed)
        self.reached(f"erasure.{name}")

    async def _stopped(self, one: Erasure, stone: Stone | None) -> Facts:
        """Put up the tombstone, the journal's line first; then stop what is under way."""
        found = await self._found(one)
        if stone is None:
            stone = self._stone(one, found)
            await self.journal.append(stone)
        whole = tuple(dict.fromkeys((*found.subjects, *stone.subjects)))
        async with self.ports.engine.begin() as tx:
            await tombstones.stand(tx, stone)
            # From here on the number leads to nobody: who writes again is somebody new.
            await tx.execute(delete(aliases).where(aliases.c.subject.in_(whole)))
        for job, recording, tenant in await self.ports.jobs.stop_all(whole, ERASED):
            trail, at = self.ports.trail, self.ports.now()
            await record.discarded(job, recording, tenant, ERASED, trail, at)
        # A second try finds no alias any more: what the first one listed stays.
        copies = erasure.united(one.facts.found, found.copies)
        return replace(one.facts, subjects=whole, found=copies, stone=stone.erased_at)

    def _stone(self, one: Erasure, found: Holdings | None) -> Stone:
        at = self.ports.now()
        return Stone(
            erasure=one.id,
            tenant=one.tenant,
            subject=one.subject,
            subjects=found.subjects if found else (),
            aliases=found.aliases if found else (),
            held=_times(found.held) if found else (),
            because=one.because,
            trigger=one.trigger,
            erased_at=int(at.timestamp()),
            until=int((at + STANDS_FOR).timestamp()),
            scope=one.scope.value,
            artifacts=() if found else tuple(ident for ident, _ in one.facts.objects),
        )

    async def _journaled(self, one: Erasure, stone: Stone | None) -> Facts:
        """Write down which artifacts go, so that a restore does not bring them back."""
        if stone is None:
            stone = self._stone(one, None)
            await self.journal.append(stone)
        return replace(one.facts, stone=stone.erased_at)

    async def _listed(self, one: Erasure, _stone: Stone | None) -> Facts:
        """List every copy with the selector that an access report uses."""
        found = await self._found(one)
        kept = await self._kept(one)
        return replace(
            one.facts,
            found=erasure.united(one.facts.found, found.copies),
            jobs=found.jobs,
            recordings=found.recordings,
            objects=await self.ports.custody.objects_of([each.label.artifact for each in kept]),
            selector_sha256=found.selector_sha256,
        )

    async def _keys(self, one: Erasure, _stone: Stone | None) -> Facts:
        """Destroy the keys: from here on nothing that is sealed for this person opens."""
        keys, planted = self.ports.keys, list(one.facts.planted)
        beside = [await keys.planted(subject) for subject in one.facts.subjects]
        planted += [each for each in beside if each is not None]
        facts = replace(one.facts, planted=tuple(planted))
        # Written down before the keys go: a second try finds no key to plant beside.
        await erasure.note(self.ports.engine, one.id, facts=facts)
        began = self.ports.now()
        for subject in facts.subjects:
            await keys.destroy_subject(subject)
        if one.urgent:
            async with self.ports.engine.begin() as tx:
                for subject in facts.subjects:
                    await roll.want(tx, subject, self.ports.now())
        copy = self._copy("subject_keys", "database", tuple(each.kek for each in planted))
        said = "256 bits, wrapped by AES-256-GCM keys of the key service; no ciphertext is left"
        return erasure.told(
            facts, self._fate(copy, Method.KEY_DESTRUCTION, Result.ERASED, began, said)
        )

    async def _rows(self, one: Erasure, _stone: Stone | None) -> Facts:
        """Delete every row of theirs, but what another ground keeps."""
        found = await self._found(one)
        began, facts = self.ports.now(), one.facts
        async with self.ports.engine.begin() as tx:
            for table, which in holdings.rows_of(found):
                if table.name not in KEPT_AS_PROOF and table.name != "subject_keys":
                    await tx.execute(delete(table).where(which))
        for copy in facts.found:
            if copy.store == "database" and copy.kind not in {"subject_keys", "legal-holds"}:
                ground = KEPT_AS_PROOF.get(copy.kind, "")
                result = Result.KEPT if ground else Result.ERASED
                fate = self._fate(copy, Method.ROW_DELETION, result, began)
                facts = erasure.told(facts, replace(fate, ground=ground))
        # A second try finds no rows any more: what the first one knew stays.
        recordings = tuple(dict.fromkeys((*facts.recordings, *found.recordings)))
        return replace(facts, jobs=found.jobs, recordings=recordings)

    async def _messages(self, one: Erasure, _stone: Stone | None) -> Facts:
        """Delete what the broker still says of their jobs, by sequence."""
        began = self.ports.now()
        count = await self.forget_messages(one.facts.jobs)
        copy = self._copy("messages", "jetstream", count=count)
        said = "random job ids; deleted by sequence from the stream of work and the dead letters"
        return erasure.told(
            one.facts, self._fate(copy, Method.MESSAGE_DELETION, Result.ERASED, began, said)
        )

    async def _objects(self, one: Erasure, _stone: Stone | None) -> Facts:
        """Destroy the bytes, each read back; what a hold keeps goes when that is over."""
        began, facts = self.ports.now(), one.facts
        gate = asyncio.Semaphore(AT_ONCE)
        kept = await self._kept(one)
        reason = REASONS[one.scope]
        tried = await asyncio.gather(*(self._destroyed(each, reason, gate) for each in kept))
        held = {ident for ident in tried if ident is not None}
        await self.ports.custody.hasten(sorted(held), reason=reason)
        await record.destructions(self.ports)
        for copy in facts.found:
            if copy.store.startswith("objects:"):
                facts = self._bytes(facts, copy, held, began)
        return facts

    def _bytes(self, facts: Facts, copy: Copy, held: set[str], began: datetime) -> Facts:
        """Return *facts* with what became of the objects of *copy*."""
        gone = tuple(ident for ident in copy.idents if ident not in held)
        theirs = tuple(ident for ident in copy.idents if ident in held)
        if gone:
            part = replace(copy, idents=gone, count=len(gone))
            said = "deleted with every version, then read back: not there"
            fate = self._fate(part, Method.OBJECT_DELETION, Result.ERASED, began, said)
            facts = erasure.told(facts, fate)
        if theirs:
            part = replace(copy, idents=theirs, count=len(theirs))
            said = "a legal hold; it is due the moment the hold is released"
            fate = self._fate(part, Method.OBJECT_DELETION, Result.HELD, began, said)
            facts = erasure.told(facts, replace(fate, ground="GDPR Art. 17(3)(e)"))
        return facts

    async def _remains(self, one: Erasure, _stone: Stone | None) -> Facts:
        """Write down what becomes of copies that are not ours to delete now."""
        return erasure.told(one.facts, *await self.remains(one, self.ports))

    async def _harden(self, one: Erasure) -> bool:
        """Note that every bucket concerned was rolled since; return whether that is so."""
        if one.scope is not Scope.PERSON:  # the person's key lives: what backups hold is dated
            await erasure.note(self.ports.engine, one.id, hardened_at=micros(self.ports.now()))
            return True
        rolled = [
            await roll.hardened(self.ports.engine, subject)
            for subject in one.facts.subjects
            if await self.ports.keys.had(subject)
        ]
        # Where there never was a key, no older copy of one can open anything.
        at = max((each for each in rolled if each is not None), default=self.ports.now())
        if None in rolled:
            return False
        told = {"at": at.isoformat(), "keks": sorted({each.kek for each in one.facts.planted})}
        await self._on_record(EventType.ERASURE_HARDENED, one, _told_as("hardened", one, at), told)
        await erasure.note(self.ports.engine, one.id, hardened_at=micros(at))
        return True

    async def _found(self, one: Erasure) -> Holdings:
        return await holdings.holdings(
            one.subject, one.tenant, self.ports, known=one.facts.subjects, jobs_of=one.facts.jobs
        )

    async def _kept(self, one: Erasure) -> list[Artifact]:
        if one.scope is not Scope.PERSON:
            return await self.ports.custody.among([ident for ident, _ in one.facts.objects])
        whole = one.facts.subjects or (one.subject,)
        return [each for subject in whole for each in await self.ports.custody.of_subject(subject)]

    async def _destroyed(self, kept: Artifact, reason: str, gate: asyncio.Semaphore) -> str | None:
        """Destroy *kept*, or return its id if a hold keeps it; any other failure is raised."""
        ident = kept.label.artifact
        async with gate:
            with contextlib.suppress(CustodyError):
                await self.ports.custody.destroy(kept, reason=reason)
                return None
            if await self.ports.custody.held(ident):
                return ident
            if await self.ports.custody.gone(ident):
                return None
            raise VaultError(f"{ident}: it could not be destroyed")

    def _copy(self, kind: str, store: str, idents: tuple[str, ...] = (), count: int = 0) -> Copy:
        return Copy(
            kind=kind,
            store=store,
            region=self.ports.region,
            idents=idents,
            count=count or len(idents),
        )

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

    async def _requested_on_record(self, one: Erasure) -> None:
        told = {
            "because": one.because,
            "by": one.asked_by,
            "due": one.due_at.isoformat(),
            "trigger": one.trigger,
        }
        await self._on_record(EventType.ERASURE_REQUESTED, one, "requested", told)

    async def _executed_on_record(self, one: Erasure, at: datetime) -> None:
        told = {
            "copies": sum(copy.count for copy in one.facts.found),
            "late": at > one.due_at,
            "scope": one.scope.value,
            "selector_sha256": one.facts.selector_sha256,
            "subjects": list(one.facts.subjects[:16]),
        }
        await self._on_record(EventType.ERASURE_EXECUTED, one, _told_as("executed", one, at), told)

    async def _on_record(
        self, kind: EventType, one: Erasure, step: str, told: dict[str, Any]
    ) -> None:
        await self.ports.trail.append(
            Event(
                id=f"{one.id}.{step}",
                type=kind,
                at=self.ports.now(),
                tenant=one.tenant,
                artifact=one.id,
                subject=one.subject,
                region=self.ports.region,
                outcome="done",
                detail={"basis": "observed", **told},
            )
        )

    async def _undone(self, stones: Sequence[Stone]) -> list[Stone]:
        """Return those that the database did not execute, or of which it still has something."""
        done = await erasure.executed(self.ports.engine, [stone.erasure for stone in stones])
        theirs = [subject for stone in stones for subject in stone.subjects]
        living = await self.ports.keys.living(theirs)
        kept = await self._unheld([each for stone in stones for each in stone.artifacts])
        return [
            stone
            for stone in stones
            if not done.get(stone.erasure)
            or not living.isdisjoint(stone.subjects)
            or not kept.isdisjoint(stone.artifacts)
        ]

    async def _unheld(self, artifacts: Sequence[str]) -> set[str]:
        """Return those of *artifacts* that are not destroyed and that no hold keeps."""
        found = [kept.label.artifact for kept in await self.ports.custody.among(artifacts)]
        return {ident for ident in found if not await self.ports.custody.held(ident)}

    async def _set_back(self) -> bool:
        """Whether the database has not even heard of an erasure that is among the newest."""
        newest = await self.journal.newest()
        return len(await erasure.executed(self.ports.engine, newest)) < len(newest)


def _times(held: Sequence[Held]) -> tuple[tuple[str, int, int, str], ...]:
    """Return *held* as a tombstone keeps it."""
    return tuple((each.alias, each.since, each.until or 0, each.user_id) for each in held)


def _told_as(step: str, one: Erasure, at: datetime) -> str:
    """Return what *step* is told as: again after a restore is another fact, not the same twice."""
    return f"{step}.{int(at.timestamp())}" if one.trigger == RESTORE else step
