"""
Rolls of a bucket, and what a person's key takes in the table and in the sheet.

A roll that lost a key, or left an older copy open, is no figure.
"""

import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from load import sealed_keys
from load.figures import Section, figure
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from support import postgres
from support.agreeing import agreed
from support.openbao_raft import RaftBao

from gateway import db
from vault import roll
from vault.keyrings.transit_keeper import TransitKeeper
from vault.keys import Keys
from vault.model import Kek, WrappedKey
from vault.objects.local import LocalObjects
from vault.ports import Keyring
from vault.tables import metadata, subject_keys

EVERYBODY = 100_000_000
KEK = "subjects-{:04d}"
REGION = "eu-central-1"
NO_POSTGRES = "keys in PostgreSQL: not measured: no PostgreSQL (apt-get install postgresql)"
Value = TypeVar("Value")


@dataclass(slots=True)
class TimedKeeper:
    """A keeper that adds up how long its service took."""

    keeper: TransitKeeper
    name: str = "transit"
    seconds: float = 0.0

    async def rotate(self, kek: str) -> int:
        """See `Keeper.rotate`."""
        return await self._timed(self.keeper.rotate(kek))

    async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
        """See `Keeper.rewrap`."""
        return await self._timed(self.keeper.rewrap(wrapped))

    async def trim(self, kek: str, oldest: int) -> None:
        """See `Keeper.trim`."""
        await self._timed(self.keeper.trim(kek, oldest))

    async def destroy(self, kek: str) -> None:
        """See `Keeper.destroy`."""
        await self._timed(self.keeper.destroy(kek))

    async def keks(self) -> list[Kek]:
        """See `Keeper.keks`."""
        return await self._timed(self.keeper.keks())

    async def _timed(self, call: Awaitable[Value]) -> Value:
        began = time.perf_counter()
        try:
            return await call
        finally:
            self.seconds += time.perf_counter() - began


async def measure(server: RaftBao, directory: Path, *, buckets: Sequence[int]) -> list[Section]:
    """Return the sections: *buckets* of so many people are filled and rolled."""
    rolled, weighed, missing = await _rolled(server, directory, buckets)
    return [_rolled_section(rolled, missing), _weighed_section(weighed)]


async def dead(keyring: Keyring, old: WrappedKey) -> None:
    """Raise `RuntimeError` unless *old*, a copy from before the roll, opens no more."""
    [answer] = await keyring.unwrap([old])
    if isinstance(answer, bytes):
        raise RuntimeError("a copy from before the roll still opens")  # noqa: TRY004 - no type error


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """A roll of *people*: seconds in all, at the key service, and in the objects."""

    people: int
    seconds: float
    service: float
    objects: float
    sheet: int


async def _rolled(
    server: RaftBao, directory: Path, buckets: Sequence[int]
) -> tuple[dict[str, Roll], dict[str, float], tuple[str, ...]]:
    """Return the rolls, the bytes per person, and what could not be measured."""
    rolls: dict[str, Roll] = {}
    weighed: dict[str, float] = {}
    missing: tuple[str, ...] = ()
    number = itertools.count(1000)
    for name, database in (("SQLite", _sqlite), ("PostgreSQL", _postgresql)):
        for people in buckets:
            try:
                async with database(directory) as engine:
                    kek, home = KEK.format(next(number)), directory / secrets.token_hex(4)
                    empty = await _bytes(engine)
                    old = await _fill(server, engine, kek, people)
                    filled = await _bytes(engine)
                    done = await _roll(server, engine, kek, home, old)
            except pytest.fail.Exception:
                missing = (NO_POSTGRES,)
                break
            rolls[f"{people:,} people, {name}"] = done
            weighed[f"key table, {name}"] = (filled - empty) / people
            weighed["keysheet"] = done.sheet / people
    return rolls, weighed, missing


async def _roll(
    server: RaftBao, engine: AsyncEngine, kek: str, home: Path, old: dict[str, WrappedKey]
) -> Roll:
    keeper, objects = TimedKeeper(sealed_keys.keeper(server)), LocalObjects(home)
    took: dict[str, float] = {}
    began = time.perf_counter()
    done = await roll.roll(
        engine,
        keeper,
        objects,
        kek,
        agreed(_now()),
        now=_now,
        reached=lambda step: took.setdefault(step, time.perf_counter() - began) and None,
    )
    seconds = time.perf_counter() - began
    if (done.rows, done.lost) != (len(old), 0):
        raise RuntimeError(f"{done.rows} of {len(old)} keys were rolled, {done.lost} were lost")
    keyring, (subject, first) = sealed_keys.keyring(server), next(iter(old.items()))
    await dead(keyring, first)
    await Keys(engine, keyring, region=REGION, now=_now).small_key(subject, "benchmark")
    [sheet] = await objects.names()
    return Roll(
        people=len(old),
        seconds=seconds,
        service=keeper.seconds,
        objects=took["sheet"] - took["rewrapped"],
        sheet=len(await objects.get(sheet)),
    )


def _rolled_section(found: dict[str, Roll], missing: tuple[str, ...]) -> Section:
    return Section(
        title="9.1 A bucket rolled",
        compared="what a roll costs us, beside what the key service took of it (the floor).",
        said=(
            "`vault.roll`: rotate, rewrap every living key, write it back, write the keysheet, "
            "trim. *Key service* is the time in OpenBao's calls, *sheet* reading the rows once "
            "more and writing the file, *database* the rest. Afterwards a copy from before the "
            "roll does not open and a living key does, or there is no figure. SQLite with "
            "`synchronous=FULL`; PostgreSQL with fsync off, as a test's server is."
        ),
        head=("Bucket", "ms", "key service ms", "sheet ms", "database ms", "people /s"),
        rows=tuple(
            (
                name,
                *(
                    figure(seconds * 1000)
                    for seconds in (
                        done.seconds,
                        done.service,
                        done.objects,
                        done.seconds - done.service - done.objects,
                    )
                ),
                figure(done.people / done.seconds),
            )
            for name, done in found.items()
        ),
        missing=missing,
    )


def _weighed_section(found: dict[str, float]) -> Section:
    return Section(
        title="9.2 What a person's key takes",
        compared="bytes per person as measured, and the same for 100 million people.",
        said=(
            "Bytes that the database grew by for one person's key as it was filled, its primary "
            "key and both indexes included: the file of SQLite (with its write-ahead log folded "
            "in), `pg_total_relation_size` of PostgreSQL. PostgreSQL grows by as much again while "
            "a roll rewrites the rows, until its vacuum has run. The third column is the first "
            f"times {EVERYBODY:,}, in GB of 10^9 bytes: nobody filled such a table here."
        ),
        head=("What", "bytes per person", f"times {EVERYBODY:,}"),
        rows=tuple(
            (
                name,
                figure(each),
                f"{figure(each)} B x {EVERYBODY:,} = {figure(each * EVERYBODY / 1e9)} GB",
            )
            for name, each in sorted(found.items())
        ),
    )


async def _fill(
    server: RaftBao, engine: AsyncEngine, kek: str, people: int
) -> dict[str, WrappedKey]:
    """Give *people* random persons a key under *kek*; return their rows' keys."""
    subjects = [f"s_{secrets.token_hex(16)}" for _ in range(people)]
    wrapped = sealed_keys.wrapped(server, kek, people, subjects)
    rows = [
        {"subject": subject, "kek": kek, "version": one.version, "ciphertext": one.ciphertext}
        for subject, one in zip(subjects, wrapped, strict=True)
    ]
    async with engine.begin() as tx:
        await tx.execute(subject_keys.insert(), rows)
    return dict(zip(subjects, wrapped, strict=True))


@asynccontextmanager
async def _sqlite(directory: Path) -> AsyncIterator[AsyncEngine]:
    engine = db.connect(f"sqlite+aiosqlite:///{directory}/{secrets.token_hex(4)}.db")
    async with _tables(engine):
        yield engine


@asynccontextmanager
async def _postgresql(_directory: Path) -> AsyncIterator[AsyncEngine]:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres.running())
        url = await server.create(password="bench")
        engine = db.connect(url.replace("@", ":bench@"))
        await stack.enter_async_context(_tables(engine))
        yield engine


@asynccontextmanager
async def _tables(engine: AsyncEngine) -> AsyncIterator[None]:
    async with engine.begin() as tx:
        await tx.run_sync(metadata.create_all)
    try:
        yield
    finally:
        await engine.dispose()


async def _bytes(engine: AsyncEngine) -> int:
    """Return what the key table and its indexes take on the disk."""
    if engine.dialect.name == "postgresql":
        query = "SELECT pg_total_relation_size('subject_keys')"
        async with engine.connect() as connection:
            return int((await connection.execute(text(query))).scalar_one())
    async with engine.execution_options(reading=True).connect() as connection:
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        return int(pages) * int((await connection.execute(text("PRAGMA page_size"))).scalar_one())


def _now() -> datetime:
    return datetime.now(UTC)
