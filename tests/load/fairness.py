"""
Fairness: what one tenant's flood costs another in the same cell.

A quiet tenant's people speak at a fixed rate, whether or not they were answered (open loop), so
that a slow answer cannot hide the ones behind it. Answered is the first text after the note.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import httpx2
from load import door
from load.figures import Aim, Section, figure, largest, percentile
from load.journey import Journey
from load.notes import RECORDINGS, Said, gaps_ms, journeys
from load.town import TENANT, Town, scripted, town

from gateway.demo.graph import wire
from gateway.demo.graph.person import Person
from gateway.demo.story import recording

AIM = 20.0
DELAY_MS = 300
FACTOR = 10
NOISY = "lautwerk"
QUIET_PEOPLE = 8
QUIET_EVERY_S = 0.8
PATIENCE_S = 60.0
LEAD_S = 4.0  # of flood before anybody is timed: what is left of the quota's burst is spent
ALONE = "alone"
LIMITED = "beside a flood, its quota set"
SHARED = "beside a flood, one lane for both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """
    One stretch of time: the quiet tenant's notes, from delivery to their text.

    *flooded* notes came meanwhile from the noisy one; *busy* is the cell's processor time by
    the time that passed, *accepted_ms* how long half of the flood's deliveries took.
    """

    name: str
    ways: tuple[Journey, ...]
    flooded: int = 0
    busy: float = 0.0
    accepted_ms: float = 0.0

    @property
    def waits_ms(self) -> list[float]:
        """Return how long each note waited for its text."""
        return [way.window.ms for way in self.ways]

    @property
    def p95_ms(self) -> float:
        """Return what one note in twenty exceeded."""
        return percentile(self.waits_ms, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much: quiet *notes* per stretch, *people* who flood, their *quota* per minute."""

    notes: int
    people: int
    quota: int
    lead_s: float = LEAD_S


async def measure(directory: Path, *, now: Callable[[], datetime], size: Size) -> Section:
    """Return the section: alone and beside a flood in one cell, then the contrast."""
    quota = f"[tenants.limits]\nnotes_per_minute = {size.quota}"
    turns = await _cell(directory / "limited", now, size, quota, (ALONE, LIMITED))
    half = replace(size, notes=-(-size.notes // 2))  # its queue only grows
    turns += await _cell(directory / "shared", now, half, "", (SHARED,))
    return section(turns, size)


def section(turns: Sequence[Turn], size: Size) -> Section:
    """Return the *turns* as a section; the first is the yardstick of the others."""
    alone = turns[0]
    return Section(
        title="8. Fairness between tenants",
        compared=(
            "a quiet tenant's first response beside a neighbour's flood, against the same "
            "tenant alone in the same cell; and against the same flood with neither quota nor "
            "lanes."
        ),
        said=(
            f"One cell, scripted engines, speech-to-text of {DELAY_MS} ms. {QUIET_PEOPLE} people "
            f"of the quiet tenant send a note each {QUIET_EVERY_S} s in turn, answered or not. "
            f"{size.people} people of the other send {FACTOR * size.quota} a minute, "
            f"{FACTOR} times the {size.quota} of its `tenants.limits.notes_per_minute`, from "
            f"{size.lead_s:.0f} s before. *One lane for both*: the flood writes to the quiet "
            "tenant's own number, so that all wait in one queue without a rate; it grows with "
            "each second, and so does the figure. WhatsApp, its people and the cell share the "
            "cores. "
            "Busy is the cell's processor time by the time that passed."
        ),
        head=(
            "The quiet tenant", "notes", "p50 ms", "p95 ms", "p50 growth %", "p95 growth %",
            "flood notes", "flood accepted p50 ms", "busy",
        ),
        rows=tuple(_row(turn, alone) for turn in turns),
        aims=tuple(_aim(turn, alone) for turn in turns if turn.name == LIMITED),
    )  # fmt: skip


def growth(measured: float, alone: float) -> float:
    """Return by how many percent *measured* is more than *alone*."""
    return (measured / alone - 1) * 100


def _row(turn: Turn, alone: Turn) -> tuple[str, ...]:
    halves, mine = percentile(alone.waits_ms, 0.5), percentile(turn.waits_ms, 0.5)
    return (
        turn.name,
        str(len(turn.waits_ms)),
        figure(mine),
        figure(turn.p95_ms),
        figure(growth(mine, halves)),
        figure(growth(turn.p95_ms, alone.p95_ms)),
        str(turn.flooded),
        figure(turn.accepted_ms) if turn.flooded else "-",
        figure(turn.busy),
    )


def _aim(turn: Turn, alone: Turn) -> Aim:
    return Aim(
        what=f"growth of the quiet tenant's p95 beside {FACTOR} times a neighbour's quota",
        measured=growth(turn.p95_ms, alone.p95_ms),
        unit=" %",
        most=AIM,
        why=(
            f"The cell used {figure(turn.busy)} of a core, {figure(alone.busy)} without the "
            f"flood; half of the flood's {turn.flooded} deliveries took "
            f"{figure(turn.accepted_ms)} ms to be accepted. What grew most, on average: "
            f"{largest(_grown(turn, alone), 3, ' ms')}."
        ),
    )


def _grown(turn: Turn, alone: Turn) -> dict[str, list[float]]:
    """Return by how much each gap of the gateway's own time grew, on average."""
    before = {name: fmean(gaps) for name, gaps in gaps_ms(alone.ways).items()}
    after = {name: fmean(gaps) for name, gaps in gaps_ms(turn.ways).items()}
    return {name: [after[name] - before.get(name, 0.0)] for name in after}


async def _cell(
    directory: Path, now: Callable[[], datetime], size: Size, limits: str, names: Sequence[str]
) -> list[Turn]:
    registry = scripted(directory, delay_ms=DELAY_MS)
    neighbours = {NOISY: limits}
    async with town(
        directory / "cell", now=now, registry=registry, neighbours=neighbours
    ) as running:
        few = min(QUIET_PEOPLE, size.notes)
        quiet = _people(running, TENANT, range(few))
        others = range(few, few + size.people)
        noisy = _people(running, TENANT if SHARED in names else NOISY, others)
        sound = recording(RECORDINGS[0])
        await asyncio.gather(*(_agree(person, sound) for person in (*quiet, *noisy)))
        turns = [await _turn(running, now, size, name, quiet, noisy) for name in names]
        await running.cell.kill()  # a queue that has grown must not be waited for
    return turns


def _people(running: Town, tenant: str, numbers: Iterable[int]) -> list[Person]:
    line = running.lines[tenant]
    return [running.world.person(f"120255501{number:02d}", line=line) for number in numbers]


async def _agree(person: Person, sound: bytes) -> None:
    await person.say(sound)
    await person.expect(lambda found: found.kind == "buttons", within_s=PATIENCE_S)
    await person.press("consent.grant")
    await person.expect(lambda found: found.kind == "voice", within_s=PATIENCE_S)


async def _turn(
    running: Town,
    now: Callable[[], datetime],
    size: Size,
    name: str,
    quiet: Sequence[Person],
    noisy: Sequence[Person],
) -> Turn:
    if name == ALONE:
        busy, said = await _timed(running, now, quiet, size.notes)
        return Turn(name=name, ways=await journeys(running, said), busy=busy)
    async with _flood(noisy, every_s=60 / (FACTOR * size.quota)) as accepted:
        await asyncio.sleep(size.lead_s)
        accepted.clear()
        busy, said = await _timed(running, now, quiet, size.notes)
        took = tuple(accepted)
    return Turn(
        name=name,
        ways=await journeys(running, said),
        flooded=len(took),
        busy=busy,
        accepted_ms=percentile(took, 0.5),
    )


async def _timed(
    running: Town, now: Callable[[], datetime], people: Sequence[Person], count: int
) -> tuple[float, list[Said]]:
    """Let *people* send *count* notes; return how busy the cell was, and what was said."""
    loop = asyncio.get_running_loop()
    spent, began = door.cpu_ms(running.cell.pid), loop.time()
    had, asked = [_texts(person) for person in people], []
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number * QUIET_EVERY_S - loop.time()))
        turn, at = divmod(number, len(people))
        asked.append(asyncio.create_task(_answered(people[at], had[at] + turn, now)))
    said = await asyncio.gather(*asked)
    passed_ms = (loop.time() - began) * 1000
    return (door.cpu_ms(running.cell.pid) - spent) / passed_ms, said


async def _answered(person: Person, before: int, now: Callable[[], datetime]) -> Said:
    """Let *person* speak and wait for a text; *before* of them come from earlier."""
    began = now()
    await person.say(recording(RECORDINGS[0]))
    await person.expect(lambda _found: _texts(person) > before, within_s=PATIENCE_S)
    return Said(began, [found for found in person.inbox if found.kind == "text"][before])


def _texts(person: Person) -> int:
    return sum(found.kind == "text" for found in person.inbox)


@asynccontextmanager
async def _flood(people: Sequence[Person], *, every_s: float) -> AsyncIterator[list[float]]:
    """Let *people* send in turn, one note *every_s*, until the block ends; yield the waits."""
    waits: list[float] = []
    task = asyncio.create_task(_pour(people, every_s, waits))
    try:
        yield waits
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _pour(people: Sequence[Person], every_s: float, waits: list[float]) -> None:
    loop = asyncio.get_running_loop()
    began, sound = loop.time(), recording(RECORDINGS[0])
    async with httpx2.AsyncClient(trust_env=False) as http, asyncio.TaskGroup() as group:
        for number, person in enumerate(itertools.cycle(people)):
            await asyncio.sleep(max(0.0, began + number * every_s - loop.time()))
            group.create_task(_deliver(http, person, sound, waits))


async def _deliver(
    http: httpx2.AsyncClient, person: Person, sound: bytes, waits: list[float]
) -> None:
    """Deliver one note beside the world's courier, who carries one parcel at a time."""
    who, line = str(person.phone), person.line
    wrote = int(datetime.now(UTC).timestamp())
    head = {"from": who, "id": wire.wamid(who), "timestamp": str(wrote)}
    contact = {"profile": {"name": person.name}, "wa_id": who}
    value = line.value(contacts=[contact], messages=[head | person.audio(person.attach(sound))])
    body = wire.encode(wire.envelope(line.waba_id, [{"value": value, "field": "messages"}]))
    signature = {"X-Hub-Signature-256": wire.signature(body, line.app_secret)}
    began = time.perf_counter()
    answer = await http.post(line.callback_url, content=body, headers=signature)
    answer.raise_for_status()
    waits.append((time.perf_counter() - began) * 1000)
