"""
Tombstones: who was erased, and until when nothing old of theirs may come back.

- A message that WhatsApp dates before the erasure, from a number or user id of the erased person,
  is dropped when its job is opened: a redelivery, a dead letter, a broker or a database restored.
  What the person writes afterwards is a new subject's.
- The journal stands outside of the database, beside the log: a restored database does not know
  of the erasures since its backup, the journal does.
- A tombstone holds keyed hashes (HMAC under the cell's pepper), no number, and has an end itself.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import db
from gateway.errors import JournalError
from gateway.schema import tombstones

STANDS_FOR = timedelta(days=60)  # longer than webhooks, streams and backups live together
NAME = "tombstones.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stone:
    """
    One erasure, as the journal keeps it: what a replay needs and no more.

    *erased_at* and *until* are epoch seconds; *aliases* keyed hashes of numbers and user ids.
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


class Journal:
    """The stones in a file, one JSON object a line, each durable before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, stone: Stone) -> None:
        """
        Write *stone*; durable once it returns. The same stone may come twice.

        Raises:
            JournalError: it could not be written: the erasure must not go on as if it were.

        """
        line = json.dumps(asdict(stone), sort_keys=True) + "\n"
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _ends_a_line(file.fileno()):
                    line = f"\n{line}"  # a crash cut the last one short: it never counted
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise JournalError(f"{NAME}: {type(exc).__name__}") from exc

    def read(self) -> list[Stone]:
        """
        Return every stone, once each, oldest first.

        Raises:
            JournalError: a line before the last is damaged: an erasure would be forgotten.

        """
        if not self._path.exists():
            return []
        found = {stone.erasure: stone for stone in _stones(self._path.read_bytes())}
        return list(found.values())


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _stones(content: bytes) -> Iterator[Stone]:
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                row = json.loads(line)
                lists = {name: tuple(row[name]) for name in ("subjects", "aliases")}
                yield Stone(**(row | lists))
        except (ValueError, TypeError, KeyError):
            # The writer begins a new line after one that a crash cut short; what follows it
            # was written later, so only a damaged line with no fresh start is a loss.
            if not _cut_short(line):
                raise JournalError(
                    f"{NAME}, line {number}: damaged (restore the file: an erasure is in it)"
                ) from None


def _cut_short(line: bytes) -> bool:
    return line.startswith(b"{") and not line.rstrip().endswith(b"}")


async def stand(tx: AsyncConnection, stone: Stone) -> None:
    """Within *tx*, put up the tombstone of *stone*; again is once."""
    for alias in stone.aliases:
        row = {
            "erasure": stone.erasure,
            "alias": alias,
            "tenant": stone.tenant,
            "erased_at": stone.erased_at,
            "until": stone.until,
        }
        await db.insert_new(tx, tombstones, row)


async def bars(engine: AsyncEngine, names: Sequence[str], sent_at: int) -> str | None:
    """
    Return the erasure that bars a message of *names* dated *sent_at*, and count the try.

    A message of the very second of the erasure is barred: it was on its way.
    """
    c = tombstones.c
    which = c.alias.in_(names) & (c.erased_at >= sent_at)
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


async def forget(engine: AsyncEngine, now: datetime) -> None:
    """Take down the tombstones whose time is over."""
    async with engine.begin() as tx:
        await tx.execute(delete(tombstones).where(tombstones.c.until < int(now.timestamp())))
