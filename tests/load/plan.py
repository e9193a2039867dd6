"""How much is measured: enough for medians in some minutes on two cores, or just enough to run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from load import (
    appends,
    broker,
    door,
    erasing,
    fairness,
    held,
    kept_keys,
    notes,
    rules,
    sealing,
    vendors,
)
from load.fairness import Size
from load.figures import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    Counts: *deliveries* per connections, *events* per producer, notes, questions, seconds.

    *recordings* are sizes in mebibytes; *calls* of each kind and *mebibytes* go through the egress
    broker, *vendor_notes* through each adapter; *flood* is the size of the fairness run, *keys*
    that of what is done with keys, *erasing* that of what is erased and swept.
    """

    deliveries: Mapping[int, int]
    events: Mapping[int, int]
    rounds: int
    real_notes: int
    notes_alone: int
    notes_together: int
    people: int
    seal_seconds: float
    seal_rounds: int
    recordings: tuple[int, ...]
    questions: int
    calls: int
    mebibytes: int
    vendor_notes: int
    flood: Size
    keys: kept_keys.Size
    erasing: erasing.Size


FULL = Plan(
    deliveries={1: 500, 16: 2_000, 64: 4_000},
    events={1: 1_000, 64: 100, 256: 40},
    rounds=3,
    real_notes=15,
    notes_alone=40,
    notes_together=60,
    people=4,
    seal_seconds=0.15,
    seal_rounds=5,
    recordings=(16, 256),
    questions=1_000,
    calls=300,
    mebibytes=128,
    vendor_notes=20,
    flood=Size(notes=20, people=6, quota=30),
    keys=kept_keys.Size(askers=(64, 256), seconds=3.0, kept=4_800, buckets=(6_000, 24_000)),
    erasing=erasing.Size(people=3, artifacts=1_000, due=100_000),
)

Measurement = Callable[[Path], Awaitable[list[Section]]]


def measurements(plan: Plan, now: Callable[[], datetime]) -> dict[str, Measurement]:
    """Return the measurements of *plan* by name, in the page's order; each wants a directory."""

    async def webhooks(directory: Path) -> list[Section]:
        return [await door.measure(directory, now=now, loads=plan.deliveries, rounds=plan.rounds)]

    async def answers(directory: Path) -> list[Section]:
        return await notes.measure(
            directory,
            now=now,
            real=plan.real_notes,
            alone=plan.notes_alone,
            together=plan.notes_together,
            people=plan.people,
        )

    async def trail(directory: Path) -> list[Section]:
        return [await appends.measure(directory, now=now, loads=plan.events, rounds=plan.rounds)]

    async def seals(directory: Path) -> list[Section]:
        return [
            sealing.measure(seconds=plan.seal_seconds, rounds=plan.seal_rounds),
            await held.measure(directory, mebibytes=plan.recordings),
        ]

    async def policy(directory: Path) -> list[Section]:
        return [await rules.measure(directory, questions=plan.questions)]

    async def calls(directory: Path) -> list[Section]:
        return await broker.measure(
            directory, calls=plan.calls, mebibytes=plan.mebibytes, rounds=plan.rounds
        )

    async def clouds(directory: Path) -> list[Section]:
        return [await vendors.measure(directory, notes=plan.vendor_notes)]

    async def fair(directory: Path) -> list[Section]:
        return [await fairness.measure(directory, now=now, size=plan.flood)]

    return {
        "webhooks": webhooks,
        "notes": answers,
        "appends": trail,
        "seals": seals,
        "policy": policy,
        "broker": calls,
        "vendors": clouds,
        "fairness": fair,
        **_custody(plan, now),
    }


def _custody(plan: Plan, now: Callable[[], datetime]) -> dict[str, Measurement]:
    """Return the measurements of keys and of what is erased."""

    async def keys(directory: Path) -> list[Section]:
        return await kept_keys.measure(directory, size=plan.keys)

    async def erasures(directory: Path) -> list[Section]:
        return await erasing.measure(directory, now=now, size=plan.erasing)

    return {"keys": keys, "erasures": erasures}


async def run(wanted: Mapping[str, Measurement], directory: Path) -> AsyncIterator[Section]:
    """Run the *wanted* measurements one after the other, each in a directory under *directory*."""
    for name, measure in wanted.items():
        for section in await measure(directory / name):
            yield section
