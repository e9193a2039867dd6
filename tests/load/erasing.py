"""
Erasing a person, and sweeping what is due: each against deleting the same files and rows.

- A person has artifacts in a running cell; an erasure is asked for as a command does, and the
  cell's own rows say when it was executed (nothing opens any more) and certified.
- Artifacts that are due are swept in this process until none is left. They are written as rows
  and files directly: only sweeping is timed.
- The floor deletes as many files and rows, with one sync per batch, and proves nothing.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from load.figures import Aim, Section, figure, percentile
from load.town import TENANT, Town, scripted, town
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed

from gateway import db, erasure, settings
from gateway.compose import access
from gateway.schema import jobs
from vault import retention
from vault.custody import Custody
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import Kind, Label
from vault.objects.local import LocalObjects
from vault.tables import artifacts, metadata
from vault.tables import retention as clocks

AIM_S = 2.0
BYTES = 1_000
TOGETHER = 32
PAGE = 500
PATIENCE_S = 120.0
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many *people* are erased with *artifacts* each, and how many artifacts are *due*."""

    people: int
    artifacts: int
    due: int


@dataclass(frozen=True, slots=True)
class Erased:
    """Seconds from asking to the soft end and to the certificate, and of the floor."""

    soft_s: float
    certified_s: float
    floor_s: float


async def measure(directory: Path, *, now: Callable[[], datetime], size: Size) -> list[Section]:
    """Return what erasing and sweeping cost."""
    people = await _people(directory / "cell", now, size)
    swept_s, floor_s = await _swept(directory / "sweep", size.due)
    return [erasures(people, size), sweeping(size.due, swept_s, floor_s)]


def erasures(people: Sequence[Erased], size: Size) -> Section:
    """Return what erasing *people* took, as a section."""
    soft = [each.soft_s for each in people]
    return Section(
        title="10. Erasing a person",
        compared="from asking to executed, against unlinking as many files and rows (the floor).",
        said=(
            f"{len(people)} people, each with {size.artifacts:,} artifacts of {BYTES:,} bytes, in "
            "a running cell on SQLite and local files. Soft is when the keys and rows are gone: "
            "nothing opens. Certified is after every object was deleted and read back, the bucket "
            "rolled and the negative tests made. The cell looks for erasures every half second."
        ),
        head=("Person", "soft s", "certified s", "floor s"),
        rows=tuple(
            (str(at), figure(one.soft_s), figure(one.certified_s), figure(one.floor_s))
            for at, one in enumerate(people, start=1)
        ),
        aims=(
            Aim(
                what=f"soft erasure of {size.artifacts:,} artifacts, slowest",
                measured=percentile(soft, 1),
                unit=" s",
                most=AIM_S,
            ),
        ),
    )


def sweeping(count: int, swept_s: float, floor_s: float) -> Section:
    """Return what sweeping took, as a section."""
    return Section(
        title="11. Sweeping what is due",
        compared="artifacts destroyed and proven gone, against unlinking as many files and rows.",
        said=(
            f"{count:,} artifacts of {BYTES:,} bytes that are due, on SQLite and local files: "
            "leased, closed, deleted, read back, written down. One process, nothing else at work."
        ),
        head=("Artifacts", "swept s", "swept/s", "floor s", "floor/s", "ratio"),
        rows=(
            (
                f"{count:,}",
                figure(swept_s),
                figure(count / swept_s),
                figure(floor_s),
                figure(count / floor_s),
                figure(floor_s / swept_s),
            ),
        ),
    )


async def _people(directory: Path, now: Callable[[], datetime], size: Size) -> list[Erased]:
    async with town(directory, now=now, registry=scripted(directory.parent / "r")) as running:
        found = []
        for index in range(size.people):
            subject = await _known(running, f"4915112340{index:03d}")
            loaded = settings.load(running.cell.config)
            async with access.opened(loaded) as place:
                await _kept(place.custody, subject, size.artifacts)
                names = [name for _, name in await _objects(place.custody, subject)]
                floor = directory.parent / f"floor-{index}"
                floor_s = await asyncio.to_thread(_unlinked, floor, len(names))
                found.append(await _erased(place.engine, subject, floor_s))
        return found


async def _known(running: Town, phone: str) -> str:
    """Return the pseudonym of somebody who typed a message and was answered."""
    person = running.world.person(phone, line=running.line)
    await person.type("Hello")
    await person.expect(lambda message: message.kind == "text", within_s=PATIENCE_S)
    engine = db.connect(f"sqlite+aiosqlite:///{running.database}")
    try:
        async with db.reading(engine) as tx:
            newest = select(jobs.c.subject).order_by(jobs.c.seq.desc()).limit(1)
            return str((await tx.execute(newest)).scalar_one())
    finally:
        await engine.dispose()


async def _kept(custody: Custody, subject: str, count: int) -> None:
    gate = asyncio.Semaphore(TOGETHER)

    async def one(index: int) -> None:
        ident = f"a_{secrets.token_hex(16)}"
        label = Label(
            tenant=TENANT,
            subject=subject,
            artifact=ident,
            kind=Kind.TRANSCRIPT,
            region=custody.keys.region,
        )
        async with gate:
            await custody.put(
                secrets.token_bytes(BYTES), label, custody.now() + timedelta(days=1 + index % 30)
            )

    await asyncio.gather(*(one(index) for index in range(count)))


async def _objects(custody: Custody, subject: str) -> tuple[tuple[str, str], ...]:
    kept = await custody.of_subject(subject)
    return await custody.objects_of([each.label.artifact for each in kept])


async def _erased(engine: AsyncEngine, subject: str, floor_s: float) -> Erased:
    at = datetime.now(UTC)
    ident = await erasure.ask(
        engine,
        subject,
        TENANT,
        because="a benchmark",
        trigger="request",
        by="scripts/bench",
        at=at,
        urgent=True,
    )
    async with asyncio.timeout(PATIENCE_S):
        one = None
        while one is None or one.certified_at is None:
            await asyncio.sleep(0.05)
            one = await erasure.find(engine, ident)
    if one.executed_at is None or not one.certified:
        raise RuntimeError(f"the erasure was certified as {one.verdict}")
    soft_s = (one.executed_at - at).total_seconds()
    return Erased(soft_s, (one.certified_at - at).total_seconds(), floor_s)


def _unlinked(directory: Path, count: int) -> float:
    """Return how many seconds it takes to unlink *count* files that were just written."""
    directory.mkdir(parents=True)
    paths = [directory / str(index) for index in range(count)]
    for path in paths:
        path.write_bytes(secrets.token_bytes(BYTES))
    began = time.perf_counter()
    for path in paths:
        path.unlink()
    return time.perf_counter() - began


async def _swept(directory: Path, count: int) -> tuple[float, float]:
    """Return the seconds that sweeping *count* artifacts took, and the floor's."""
    await asyncio.to_thread(directory.mkdir, parents=True)
    engine = db.connect(f"sqlite+aiosqlite:///{directory / 'cell.db'}")
    try:
        async with engine.begin() as tx:
            await tx.run_sync(metadata.create_all)
        keys = Keys(engine, LocalKeyring(directory / "keys"), region="eu", now=_noon)
        custody = Custody(engine, keys, LocalObjects(directory / "objects"), now=_noon)
        floor_s = await _floor(engine, await _planted(engine, directory / "objects", count))
        await _planted(engine, directory / "objects", count)
        began = time.perf_counter()
        done = 0
        while gone := await retention.sweep(agreed(NOON), custody, owner="bench", limit=PAGE):
            done += len(gone)
        if done != count:
            raise RuntimeError(f"{done} of {count} artifacts were swept")
        return time.perf_counter() - began, floor_s
    finally:
        await engine.dispose()


async def _planted(engine: AsyncEngine, root: Path, count: int) -> list[tuple[str, Path]]:
    """Write rows and files of *count* artifacts that are due; return their ids and files."""
    named = [(f"a_{secrets.token_hex(16)}", secrets.token_hex(16)) for _ in range(count)]
    paths = [root / name[:2] / name[2:] for _, name in named]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(BYTES))
    rows = [_row(ident, f"{name[:2]}/{name[2:]}") for ident, name in named]
    async with engine.begin() as tx:
        for first in range(0, count, PAGE):
            some = rows[first : first + PAGE]
            await tx.execute(artifacts.insert(), some)
            due = [{"artifact": row["id"], "kind": row["kind"], "due_at": 1} for row in some]
            await tx.execute(clocks.insert(), due)
    return [(ident, path) for (ident, _), path in zip(named, paths, strict=True)]


def _row(ident: str, name: str) -> dict[str, Any]:
    return {
        "id": ident,
        "tenant": TENANT,
        "subject": f"s_{ident[-2:]}",
        "kind": Kind.TRANSCRIPT.value,
        "region": "eu",
        "epoch": "txt-202611",
        "object_name": name,
        "size": BYTES,
        "commitment": "0" * 64,
        "salt": bytes(32),
        "state": "kept",
        "stored_at": 1,
    }


async def _floor(engine: AsyncEngine, planted: Sequence[tuple[str, Path]]) -> float:
    """Return how many seconds unlinking and deleting takes, a page in a transaction."""
    began = time.perf_counter()
    for first in range(0, len(planted), PAGE):
        some = planted[first : first + PAGE]
        for _, path in some:
            path.unlink()
        async with engine.begin() as tx:
            idents = [ident for ident, _ in some]
            await tx.execute(delete(clocks).where(clocks.c.artifact.in_(idents)))
            await tx.execute(delete(artifacts).where(artifacts.c.id.in_(idents)))
    return time.perf_counter() - began


def _noon() -> datetime:
    return NOON
