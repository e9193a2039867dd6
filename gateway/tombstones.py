"""
Tombstones: who was erased, and until when nothing old of theirs may come back.

- A message that WhatsApp dates before the erasure, from a number or user id of the erased person,
  is dropped when its job is opened: a redelivery, a dead letter, a broker or a database restored.
  What the person writes afterwards is a new subject's.
- The journal stands outside of the database, and twice: in a file beside the log, and as one
  object per erasure beside the sealed content. A restored database does not know of the erasures
  since its backup; the journal does, unless all three are restored to the same day.
- A tombstone holds keyed hashes (HMAC under the cell's pepper), no number, and has an end itself.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import db
from gateway.errors import JournalError
from gateway.identity import Sighting
from gateway.schema import tombstones
from vault.agreed_time import AgreedTime
from vault.errors import VaultError
from vault.ports import Objects

STANDS_FOR = timedelta(days=60)  # longer than webhooks, streams and backups live together
NAME = "tombstones.jsonl"
PREFIX = "tombstones/"
TAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Stone:
    """
    One erasure, as the journal keeps it: what a replay needs and no more.

    *erased_at* and *until* are epoch seconds; *aliases* keyed hashes of numbers and user ids, and
    *held* when each of them was this person's: (alias, since, until or 0, a number's user id).
    Where the *scope* is less than the person, *artifacts* are what was erased.
    """

    erasure: str
    tenant: str
    subject: str
    subjects: tuple[str, ...]
    aliases: tuple[str, ...]
    because: str
    trigger: str
    erased_at: int
    until: int
    scope: str = "person"
    artifacts: tuple[str, ...] = ()
    held: tuple[tuple[str, int, int, str], ...] = ()


class Journal:
    """The stones in the file *path*, one JSON object a line, and in *objects*, one object each."""

    def __init__(self, path: Path, objects: Objects) -> None:
        self._path = path
        self._objects = objects

    async def append(self, stone: Stone) -> None:
        """
        Write *stone* in both places; durable once it returns. The same stone may come twice.

        Raises:
            JournalError: it could not be written: the erasure must not go on as if it were.

        """
        line = json.dumps(asdict(stone), sort_keys=True)
        await asyncio.to_thread(self._write, line)
        name = f"{PREFIX}{stone.erasure}"
        try:
            await self._objects.delete(name)  # of a try that a crash cut short
            await self._objects.put(name, line.encode())
        except VaultError as exc:
            raise JournalError(f"{name}: {type(exc).__name__}") from exc

    async def read(self) -> list[Stone]:
        """
        Return every stone of either place, once each, oldest first.

        Raises:
            JournalError: one is damaged or cannot be read: an erasure would be forgotten.

        """
        found = {stone.erasure: stone for stone in await asyncio.to_thread(self._lines)}
        try:
            for name in await self._objects.names():
                erasure = name.removeprefix(PREFIX)
                if name.startswith(PREFIX) and erasure not in found:
                    found[erasure] = _stone(await self._objects.get(name), name)
        except VaultError as exc:
            raise JournalError(f"{PREFIX}: {type(exc).__name__}") from exc
        return sorted(found.values(), key=lambda stone: (stone.erased_at, stone.erasure))

    async def mend(self, stones: Sequence[Stone]) -> None:
        """
        Write those of *stones* that one of the two places lacks, as after a restore of that place.

        Raises `JournalError`.
        """
        written = {stone.erasure for stone in await asyncio.to_thread(self._lines)}
        try:
            there = {name.removeprefix(PREFIX) for name in await self._objects.names()}
        except VaultError as exc:
            raise JournalError(f"{PREFIX}: {type(exc).__name__}") from exc
        for stone in stones:
            if stone.erasure not in written or stone.erasure not in there:
                await self.append(stone)

    async def newest(self) -> list[str]:
        """Return the erasures in the last lines of the file, some dozens at most."""
        return await asyncio.to_thread(self._tail)

    async def prune(self, time: AgreedTime) -> None:
        """Take out the stones whose time is over: they are data of persons, too."""
        stones = await self.read()
        over = {stone.erasure for stone in stones if stone.until < time.seconds}
        if over:
            for erasure in over:
                await self._objects.delete(f"{PREFIX}{erasure}")
            await asyncio.to_thread(self._rewrite, [s for s in stones if s.erasure not in over])

    def _write(self, line: str) -> None:
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # A crash cut the last one short: it never counted.
                begin = "" if _ends_a_line(file.fileno()) else "\n"
                file.write(f"{begin}{line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            _sync(self._path.parent)
        except OSError as exc:
            raise JournalError(f"{NAME}: {type(exc).__name__}") from exc

    def _rewrite(self, stones: Sequence[Stone]) -> None:
        fresh = self._path.with_suffix(".new")
        lines = [json.dumps(asdict(stone), sort_keys=True) + "\n" for stone in stones]
        try:
            with fresh.open("wb") as file:
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            _sync(self._path.parent)
        except OSError as exc:
            raise JournalError(f"{NAME}: {type(exc).__name__}") from exc

    def _tail(self) -> list[str]:
        if not self._path.exists():
            return []
        try:
            with self._path.open("rb") as file:
                skipped = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
                file.seek(skipped)
                content = file.read()
        except OSError as exc:
            raise JournalError(f"{NAME}: {type(exc).__name__}") from exc
        if skipped:  # it begins within a line
            content = content.partition(b"\n")[2]
        return list(dict.fromkeys(stone.erasure for stone in _stones(content)))

    def _lines(self) -> list[Stone]:
        if not self._path.exists():
            return []
        try:
            return list(_stones(self._path.read_bytes()))
        except OSError as exc:
            raise JournalError(f"{NAME}: {type(exc).__name__}") from exc


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _stones(content: bytes) -> Iterator[Stone]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        # The writer begins a new line after one that a crash cut short: that one never counted.
        if line and not _cut_short(line):
            yield _stone(line, f"{NAME}, line {number}")


def _stone(line: bytes, where: str) -> Stone:
    try:
        row = json.loads(line)
        lists = {name: tuple(row[name]) for name in ("aliases", "artifacts", "subjects")}
        held = tuple((str(a), int(b), int(c), str(d)) for a, b, c, d in row.get("held", ()))
        return Stone(**(row | lists | {"held": held}))
    except (ValueError, TypeError, KeyError):
        raise JournalError(f"{where}: damaged (restore it: an erasure is in it)") from None


def _cut_short(line: bytes) -> bool:
    return line.startswith(b"{") and not line.rstrip().endswith(b"}")


async def stand(tx: AsyncConnection, stone: Stone) -> None:
    """Within *tx*, put up the tombstone of *stone*; again is once."""
    dated = {alias for alias, *_ in stone.held}
    held = [*stone.held, *((alias, 0, 0, "") for alias in stone.aliases if alias not in dated)]
    for alias, since, ended, user_id in held:
        row = {
            "erasure": stone.erasure,
            "alias": alias,
            "since": since,
            "user_id": user_id,
            "tenant": stone.tenant,
            # What came from that name later is not of this person: it must not be barred.
            "erased_at": min(stone.erased_at, ended - 1) if ended else stone.erased_at,
            "until": stone.until,
        }
        await db.insert_new(tx, tombstones, row)


async def bars(engine: AsyncEngine, seen: Sighting) -> str | None:
    """
    Return the erasure that bars a message of who was *seen*, and count the try.

    A message of the very second of the erasure is barred: it was on its way. A number bars what
    was written while it was the erased person's, unless another's user id came with it.
    """
    c = tombstones.c
    names = [name for name in (seen.number, seen.user_id) if name]
    which = c.alias.in_(names) & (c.since <= seen.at) & (c.erased_at >= seen.at)
    if seen.user_id:
        which &= (c.alias == seen.user_id) | c.user_id.in_(["", seen.user_id])
    async with db.reading(engine) as tx:
        found: str | None = (await tx.execute(select(c.erasure).where(which).limit(1))).scalar()
    if found is not None:
        async with engine.begin() as tx:
            counted = update(tombstones).where(which).values(barred=c.barred + 1)
            await tx.execute(counted)
    return found


async def barred(engine: AsyncEngine, erasure: str) -> int:
    """Return how often something old was barred because of *erasure*."""
    query = select(tombstones.c.barred).where(tombstones.c.erasure == erasure)
    async with db.reading(engine) as tx:
        return max((await tx.execute(query)).scalars(), default=0)


async def forget(engine: AsyncEngine, time: AgreedTime) -> None:
    """Take down the tombstones whose time is over."""
    async with engine.begin() as tx:
        await tx.execute(delete(tombstones).where(tombstones.c.until < time.seconds))
