"""
Custody: put, open and destroy artifacts.

- No due time, no artifact. Raw audio has less than 24 hours.
- Content is sealed in memory, under a key made for this label; only ciphertext leaves here, and
  it leaves in pieces: neither the content nor its container is held twice.
- The clock is committed before the object is put. After a crash in between, the clock is there
  and finds either an object or nothing.
- An artifact past its due time is closed to reads, swept or not; so is one under a legal hold,
  which stops its clock. It opens through its hold alone (`vault.holds`).
- Destroying means: deleted, and a read after it failed; only then is it recorded.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from vault import envelope, flow, ledger
from vault.epochs import epoch_of
from vault.errors import (
    CustodyError,
    GoneError,
    HeldError,
    KeyLostError,
    LabelError,
    ObjectsError,
    TamperedError,
)
from vault.held import kek_of
from vault.keys import Keys, derive
from vault.model import Artifact, HoldState, Kind, Label, Tombstone, WrappedKey
from vault.ports import Objects

LONGEST_RAW_AUDIO = timedelta(hours=24, seconds=-1)
# The caller's clock was read before ours, and may have been set back in between.
CLOCK_ALLOWANCE = timedelta(minutes=1)
MOST_ID_CHARS = 64
SALT_BYTES = 32
MOST_TRIES = 8
AT_ONCE = 16  # objects deleted at a time


class Custody:
    """Keeps artifacts: rows in *engine*, keys in *keys*, sealed containers in *objects*."""

    def __init__(
        self, engine: AsyncEngine, keys: Keys, objects: Objects, *, now: Callable[[], datetime]
    ) -> None:
        self.engine = engine
        self.keys = keys
        self.objects = objects
        self.now = now

    async def put(
        self,
        content: bytes | AsyncIterable[bytes],
        label: Label,
        due: datetime,
        *,
        instead_of: str | None = None,
    ) -> Artifact:
        """
        Seal *content*, whole or as it flows in, and keep it until *due*; durable once it returns.

        From then on the artifact *instead_of* is due: what was made of it takes its place.

        The same call may be made again after any failure. What is kept already is returned as
        it is; a second due time never prolongs the first. Raw audio whose due time is 24 hours
        away, or up to `CLOCK_ALLOWANCE` more, is kept for `LONGEST_RAW_AUDIO`.

        Raises:
            CustodyError: the same call may work later.
            GoneError: the artifact or its subject's key was destroyed.
            HeldError: it is kept already, and under a legal hold.
            KeyringError: the keyring is away.
            LabelError: the label or the due time is not acceptable, or the content differs.
            ObjectsError: the object store failed.

        """
        due = self._checked(label, due)
        row = await ledger.find(self.engine, label.artifact)
        if row is not None and row.state == "kept":
            return await self._same(content, label, row)
        if row is not None and (row.state != "storing" or self._is_due(row)):
            raise GoneError(f"{label.artifact}: destroyed")
        if row is not None:
            await self.objects.delete(row.object_name)
        return await self._store(content, label, due, instead_of)

    async def open(self, artifact: Artifact) -> bytes:
        """
        Return the content of *artifact*.

        Raises:
            GoneError: it was destroyed or is overdue, or its subject's key was destroyed.
            HeldError: it is under a legal hold.
            KeyLostError: the key of its epoch is gone before its time.
            KeyringError: the keyring is away.
            ObjectsError: the object store failed.
            TamperedError: what is stored is not what was put.

        """
        row = await ledger.find(self.engine, artifact.label.artifact)
        if row is not None and _is_closed(row):
            raise HeldError(f"{artifact.label.artifact}: under a legal hold")
        if row is None or row.state != "kept" or self._is_due(row):
            raise GoneError(f"{artifact.label.artifact}: destroyed")
        return await self.unsealed(row, await self._key(artifact.label, row.epoch))

    async def _key(self, label: Label, epoch: str) -> bytes:
        """Return the key of what is kept under *label* since *epoch*, and is not due."""
        try:
            return await self.keys.artifact_key(label, epoch)
        except GoneError:
            subjects, epochs = await self.keys.ended({label.subject}, {epoch})
            if epochs and not subjects:  # nobody was erased, and nothing was due: a fault
                raise KeyLostError(f"{epoch}: destroyed before its time") from None
            raise

    async def unsealed(self, row: Row[Any], key: bytes) -> bytes:
        """Return what is kept under *row*, opened by *key*, its own. Raises as `open`."""
        sealed = flow.Meter(row.salt)
        container = sealed.through(self.objects.stream(row.object_name))
        context = envelope.context_of(ledger.label_of(row))
        try:
            content = await flow.gathered(envelope.open_chunks(key, context, container))
        except GoneError:
            raise TamperedError(f"{row.id}: its object is missing") from None
        if sealed.digest != row.commitment:
            raise TamperedError(f"{row.id}: its object is another one")
        return content

    async def describe(self, artifact: str) -> Artifact | None:
        """Return what is kept under the id *artifact*, or None."""
        row = await ledger.find(self.engine, artifact)
        return ledger.artifact_of(row) if row is not None and row.state == "kept" else None

    async def gone(self, artifact: str) -> bool:
        """Return whether *artifact* was stored and is destroyed, being destroyed or overdue."""
        row = await ledger.find(self.engine, artifact)
        ending = row is not None and row.state in {"destroying", "destroyed"}
        return ending or (row is not None and self._is_due(row))

    async def of_subject(self, subject: str) -> list[Artifact]:
        """Return everything of *subject* that is not yet destroyed, for an erasure."""
        return [ledger.artifact_of(row) for row in await ledger.of_subject(self.engine, subject)]

    async def among(self, artifacts: Sequence[str]) -> list[Artifact]:
        """Return those of *artifacts* that are not yet destroyed, half-stored ones included."""
        return [ledger.artifact_of(row) for row in await ledger.among(self.engine, artifacts)]

    async def held(self, artifact: str) -> bool:
        """Return whether a legal hold keeps *artifact*, a proposed one included."""
        row = await ledger.find(self.engine, artifact)
        return row is not None and row.hold is not None

    async def closed(self, artifacts: Sequence[str]) -> bool:
        """Whether one of *artifacts* is under a legal hold that two people placed."""
        return any(_is_closed(row) for row in await ledger.among(self.engine, artifacts))

    async def objects_of(self, artifacts: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return (artifact, name of its object) of those that are not yet destroyed."""
        rows = await ledger.among(self.engine, artifacts)
        return tuple((row.id, row.object_name) for row in rows)

    async def hasten(self, artifacts: Sequence[str], *, reason: str) -> None:
        """Let the clocks of *artifacts* run out now, for *reason*; a hold on them goes first."""
        await ledger.hasten(self.engine, artifacts, int(self.now().timestamp()), reason)

    async def destroy(
        self, artifact: Artifact, *, reason: str, lease: str | None = None
    ) -> Tombstone:
        """
        Destroy *artifact* now, and return the proof; destroying twice returns the first proof.

        *lease* is the sweeper's: its result counts only while it holds the row.

        Raises:
            CustodyError: it is unknown or under a legal hold, or the lease was lost.
            ObjectsError: it may still be there; the clock stays due.

        """
        ident = artifact.label.artifact
        row = await ledger.find(self.engine, ident)
        if row is None:
            raise CustodyError(f"{ident}: unknown")
        if row.state != "destroyed":
            stone = await self._destroy(ident, reason)
            if await ledger.end(self.engine, stone, lease=lease):
                return stone
            row = await ledger.find(self.engine, ident)
        if row is None or row.state != "destroyed" or lease is not None:
            raise CustodyError(f"{ident}: another one is destroying it")
        return ledger.tombstone_of(row)

    async def destroy_all(
        self, artifacts: Sequence[str], *, reason: str, lease: str
    ) -> list[Tombstone]:
        """
        Destroy up to `ledger.MOST_NAMED` of *artifacts* as `destroy` does, and return the proofs.

        What somebody hastened goes for their reason, the rest for *reason*. What is held, or
        could not be deleted, is not among them and stays due.
        """
        rows = await ledger.begin_ends(self.engine, artifacts)
        gate = asyncio.Semaphore(AT_ONCE)
        gone = await asyncio.gather(*(self._deleted(row, gate) for row in rows))
        rows = [row for row, is_gone in zip(rows, gone, strict=True) if is_gone]
        subjects, epochs = await self.keys.ended(
            {row.subject for row in rows}, {row.epoch for row in rows}
        )
        stones = [
            self._stone(
                row,
                row.reason or reason,
                shredded=row.subject in subjects or row.epoch in epochs,
            )
            for row in rows
        ]
        written = await ledger.ends(self.engine, stones, lease=lease)
        return [stone for stone in stones if stone.label.artifact in written]

    async def seal_small(self, subject: str, context: str, content: bytes) -> bytes:
        """Return *content* sealed under *subject*'s key for the row *context* names."""
        key = await self.keys.small_key(subject, context, create=True)
        return envelope.seal(key, envelope.bind("small", subject, context), content)

    async def open_small(self, subject: str, context: str, sealed: bytes) -> bytes:
        """Return what `seal_small` sealed. Raises as `open`."""
        key = await self.keys.small_key(subject, context)
        return envelope.open_sealed(key, envelope.bind("small", subject, context), sealed)

    async def seal_named(self, name: str, context: str, content: bytes) -> bytes:
        """Return *content* sealed under the cell's own key *name*, for *context*."""
        bound = envelope.bind("named", name, context)
        return envelope.seal(derive(await self.keys.named(name), bound), bound, content)

    async def open_named(self, name: str, context: str, sealed: bytes) -> bytes:
        """Return what `seal_named` sealed. Raises as `open`."""
        bound = envelope.bind("named", name, context)
        return envelope.open_sealed(derive(await self.keys.named(name), bound), bound, sealed)

    def _checked(self, label: Label, due: datetime) -> datetime:
        """Return the time at which the clock is set: *due*, or what raw audio may have."""
        for name in ("tenant", "subject", "artifact", "region"):
            if not 0 < len(getattr(label, name)) <= MOST_ID_CHARS:
                raise LabelError(f"{name}: 1 to {MOST_ID_CHARS} characters")
        if due.tzinfo is None:
            raise LabelError("due: it has no time zone")
        now = self.now()
        if due <= now:
            raise LabelError("due: it is not in the future")
        if label.kind is not Kind.RAW_AUDIO:
            return due
        latest = now + LONGEST_RAW_AUDIO
        if due > latest + CLOCK_ALLOWANCE:
            raise LabelError("due: raw audio is kept for less than 24 hours")
        return min(due, latest)

    def _is_due(self, row: Row[Any]) -> bool:
        return self.now() >= ledger.moment(row.due_at)

    async def _same(
        self, content: bytes | AsyncIterable[bytes], label: Label, row: Row[Any]
    ) -> Artifact:
        kept = ledger.artifact_of(row)
        if label == kept.label:
            given = await flow.digest(flow.pieces(content))
            if given == await flow.digest(flow.pieces(await self.open(kept))):
                return kept
        raise LabelError("artifact: another one is kept under this id")

    async def _store(
        self,
        content: bytes | AsyncIterable[bytes],
        label: Label,
        due: datetime,
        instead_of: str | None,
    ) -> Artifact:
        stored_at = self.now()
        epoch, key = await self.keys.storing_key(label, epoch_of(label.kind, stored_at))
        salt = secrets.token_bytes(SALT_BYTES)
        clear, sealed = flow.Meter(), flow.Meter(salt)
        name = _object_name()
        row = {
            "id": label.artifact,
            "tenant": label.tenant,
            "subject": label.subject,
            "kind": label.kind,
            "region": label.region,
            "epoch": epoch,
            "object_name": name,
            "size": 0,  # both are known, and written, when the object is kept
            "commitment": "",
            "salt": salt,
            "state": "storing",
            "stored_at": int(stored_at.timestamp()),
        }
        await ledger.announce(self.engine, row, int(due.timestamp()))
        container = envelope.seal_chunks(
            key, envelope.context_of(label), clear.through(flow.pieces(content))
        )
        await self.objects.put(name, sealed.through(container))
        measured = {"size": clear.size, "commitment": sealed.digest}
        if not await self._keep(label.artifact, name, key, measured, instead_of):
            await self.objects.delete(name)
            raise CustodyError(f"{label.artifact}: destroyed or stored by another meanwhile")
        kept = await self.describe(label.artifact)
        if kept is None:
            raise GoneError(f"{label.artifact}: destroyed")
        return kept

    async def _keep(
        self,
        artifact: str,
        name: str,
        key: bytes,
        measured: dict[str, Any],
        instead_of: str | None,
    ) -> bool:
        """Note that the object is durable, and give each hold that covers it a copy of *key*."""
        copies: dict[str, WrappedKey] = {}
        for _ in range(MOST_TRIES):
            at = int(self.now().timestamp())
            try:
                return await ledger.keep(
                    self.engine,
                    artifact,
                    name,
                    measured,
                    instead_of=instead_of,
                    at=at,
                    copies=copies,
                )
            except ledger.UncopiedError as exc:
                for hold in exc.holds:
                    copies[hold] = await self.keys.copy(key, artifact, kek_of(hold))
        raise CustodyError(f"{artifact}: holds are placed faster than it is stored")

    async def _destroy(self, artifact: str, reason: str) -> Tombstone:
        row = await ledger.begin_end(self.engine, artifact)
        await self.objects.delete(row.object_name)
        await self._require_gone(row)
        shredded = await self.keys.destroyed(ledger.label_of(row), row.epoch)
        return self._stone(row, reason, shredded=shredded)

    async def _deleted(self, row: Row[Any], gate: asyncio.Semaphore) -> bool:
        """Delete the object of *row* and read it back; return whether it is gone."""
        async with gate:
            with contextlib.suppress(ObjectsError):  # it stays due, and is tried by itself
                await self.objects.delete(row.object_name)
                await self._require_gone(row)
                return True
        return False

    def _stone(self, row: Row[Any], reason: str, *, shredded: bool) -> Tombstone:
        label = ledger.label_of(row)
        now = ledger.moment(int(self.now().timestamp()))  # as it is written, so as it is read
        due = ledger.moment(row.due_at)
        return Tombstone(
            label=label,
            due=due,
            destroyed_at=now,
            reason=reason,
            methods=("key-destroyed", "object-deleted") if shredded else ("object-deleted",),
            verified=True,
            # A hold stopped the clock: it is late from its end on.
            late_seconds=max(0, int(now.timestamp()) - max(row.due_at, row.freed_at)),
        )

    async def _require_gone(self, row: Row[Any]) -> None:
        try:
            await self.objects.get(row.object_name)
        except GoneError:
            return
        raise ObjectsError(f"{row.id}: it can still be read after it was deleted")


def _is_closed(row: Row[Any]) -> bool:
    # A proposed hold closes nothing: it is one person's word. An unknown one might be placed.
    return row.hold is not None and row.hold_state not in {HoldState.OPENING, HoldState.PROPOSED}


def _object_name() -> str:
    """Return a random name: it tells nothing about what is in it."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name[2:]}"
