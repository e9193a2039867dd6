"""Audit appends: the trail, with its signed checkpoints, against one commit per event."""

import asyncio
import secrets
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from load import durable
from load.figures import Section, figure, percentile

from audit.model import Event, EventType
from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail

REGION = "eu-central"
LEAF_BYTES = 600  # about what a touch takes in the log
Append = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Burst:
    """One run: events per second, and each producer's waits until durable."""

    rate: float
    waits_ms: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both sides with so many *producers*."""

    producers: int
    ours: tuple[Burst, ...]
    floor: tuple[Burst, ...]


async def measure(
    directory: Path, *, now: Callable[[], datetime], loads: Mapping[int, int], rounds: int
) -> Section:
    """Return the section; *loads* maps producers to the events of each, *rounds* times."""
    pairs = []
    for producers, each in loads.items():
        ours, floor = [], []
        for number in range(rounds):
            place = directory / f"{producers}-{number}"
            place.mkdir(parents=True)
            floor.append(await _floor(place, producers, each))
            ours.append(await _ours(place, now, producers, each))
        pairs.append(Pair(producers=producers, ours=tuple(ours), floor=tuple(floor)))
    return section(pairs)


def section(pairs: list[Pair]) -> Section:
    """Return the *pairs* as a section: medians over the rounds."""
    return Section(
        title="3. Audit appends",
        compared=(
            "signed, tamper-evident appends to the audit log, against one plain SQLite commit for "
            "each event (the floor)."
        ),
        said=(
            "Tasks that each append one event, wait for its receipt, and append the next: "
            "beginnings and ends of touches, as a note makes them. Ours encodes, chains, hashes "
            "into the tree, signs a checkpoint and commits, and whoever waits shares the next "
            f"commit. The floor is one SQLite INSERT of {LEAF_BYTES} bytes and one commit (WAL, "
            "synchronous=FULL) per event, on one connection in one thread, as ours has. Medians "
            f"of {len(pairs[0].ours)} rounds, turn about, each on a fresh file."
        ),
        head=(
            "Producers", "ours /s", "floor /s", "ratio", "ours p50 ms", "p99 ms", "floor p50 ms",
            "p99 ms",
        ),
        rows=tuple(_row(pair) for pair in pairs),
    )  # fmt: skip


def _row(pair: Pair) -> tuple[str, ...]:
    ours, floor = _rate(pair.ours), _rate(pair.floor)
    waits = [
        figure(statistics.median(percentile(burst.waits_ms, share) for burst in side))
        for side in (pair.ours, pair.floor)
        for share in (0.5, 0.99)
    ]
    return str(pair.producers), figure(ours), figure(floor), figure(ours / floor), *waits


def _rate(bursts: tuple[Burst, ...]) -> float:
    return statistics.median(burst.rate for burst in bursts)


async def _ours(place: Path, now: Callable[[], datetime], producers: int, each: int) -> Burst:
    signer = LocalSigner.open(place / "signing-key.pem")
    async with await Trail.open(Folder(place / "audit", REGION), signer, now) as trail:

        def producer() -> Append:
            events = _touches(now)
            return lambda: trail.append(next(events))

        return await _burst(producer, producers, each)


async def _floor(place: Path, producers: int, each: int) -> Burst:
    content = secrets.token_bytes(LEAF_BYTES)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        db: sqlite3.Connection = await loop.run_in_executor(
            thread, durable.connect, place / "floor.db"
        )
        try:
            return await _burst(
                lambda: lambda: loop.run_in_executor(thread, durable.insert, db, content),
                producers,
                each,
            )
        finally:
            await loop.run_in_executor(thread, db.close)


async def _burst(producer: Callable[[], Append], producers: int, each: int) -> Burst:
    waits: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_produce(producer(), each, waits) for _ in range(producers)))
    return Burst(producers * each / (time.perf_counter() - began), waits)


async def _produce(append: Append, each: int, waits: list[float]) -> None:
    for _ in range(each):
        began = time.perf_counter()
        await append()
        waits.append((time.perf_counter() - began) * 1000)


def _touches(now: Callable[[], datetime]) -> Iterator[Event]:
    while True:
        touch, artifact = f"t_{secrets.token_hex(16)}", f"a_{secrets.token_hex(16)}"
        yield _event(EventType.TOUCH_BEGAN, touch, artifact, now())
        yield _event(EventType.TOUCH_ENDED, touch, artifact, now())


def _event(kind: EventType, touch: str, artifact: str, at: datetime) -> Event:
    ended = kind is EventType.TOUCH_ENDED
    return Event(
        id=f"{touch}.{kind.value.rpartition('.')[2]}",
        type=kind,
        at=at,
        tenant="fernruf",
        artifact=artifact,
        subject="s_benchmark",
        job="j_benchmark",
        touch=touch,
        action="transcribe",
        processor="stt.scripted.eu-central",
        region=REGION,
        decision="d_benchmark",
        outcome="done" if ended else None,
        detail={"basis": "observed", "host": "stt.example", "bytes": 40_000} if ended else {},
    )
