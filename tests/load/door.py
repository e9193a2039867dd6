"""
Webhooks accepted: a real cell against the bare webhook of `floor.py`, turn about, one run.

Ours is measured twice: alone (its broker is stopped, so that accepted jobs wait) and at work (the
worker goes on with the jobs during the measurement). Every run has a fresh process on a fresh
directory. What was answered 200 is counted in the database afterwards: a figure that lost
something is no figure.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from load import durable, sender
from load.figures import Aim, Section, figure, percentile
from load.sender import Volley
from load.town import TENANT, scripted, town

from gateway.demo.graph import Line, wire

AIM = 0.8
ALONE = "alone"
OURS = (ALONE, "at work")
LIMIT_S = 15.0
PEOPLE = 100
PATH = f"/webhooks/whatsapp/{TENANT}"
TESTS = Path(__file__).parents[1]
SECRET = "a benchmark's app secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One side's run: the load, its processor time, and what else its process did meanwhile."""

    volley: Volley
    cpu_ms: float
    jobs_ended: int = 0

    @property
    def rate(self) -> float:
        """Return the deliveries accepted per second."""
        return self.volley.ok / self.volley.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both sides at one number of connections."""

    connections: int
    name: str
    ours: tuple[Round, ...]
    floor: tuple[Round, ...]


async def measure(
    directory: Path,
    *,
    now: Callable[[], datetime],
    loads: Mapping[int, int],
    rounds: int,
) -> Section:
    """Return the section; *loads* maps connections to requests, each sent *rounds* times."""
    pairs = []
    for connections, count in loads.items():
        sides: dict[str, list[Round]] = {name: [] for name in ("floor", *OURS)}
        for number in range(rounds):
            place = directory / f"{connections}-{number}"
            place.mkdir(parents=True)
            sides["floor"].append(await _floor(place / "floor.db", connections, count, now()))
            for name in OURS:
                sides[name].append(await _ours(place / name, connections, count, now, name))
        floor = tuple(sides["floor"])
        pairs += [
            Pair(connections=connections, name=name, ours=tuple(sides[name]), floor=floor)
            for name in OURS
        ]
    return section(pairs)


def section(pairs: list[Pair]) -> Section:
    """Return the *pairs* as a section: medians over the rounds."""
    return Section(
        title="1. Webhooks accepted",
        compared=(
            "deliveries a second that `vocustody serve` has made durable, against a bare webhook "
            "that writes one row for each (the floor)."
        ),
        said=(
            "Signed deliveries of one reaction each, with distinct message ids, from "
            f"{PEOPLE} people, over keep-alive connections; the generator shares the cores with "
            "what it measures. Ours is `vocustody serve`: strict parsing, sealing, one group "
            "commit of inbox, job and relay rows. *alone*: its broker is stopped, so that accepted "
            "jobs wait and the relay tries again each second. *at work*: relay, worker and audit "
            "log go on with the accepted jobs during "
            "the measurement, in the same process and the same database. The floor is uvicorn, an "
            "HMAC and one SQLite INSERT and commit (WAL, synchronous=FULL) per request; it parses "
            "nothing, batches nothing and does nothing afterwards. Every delivery that was "
            "answered 200 was found in the database. Medians of "
            f"{len(pairs[0].ours)} rounds, turn about, each on a fresh process and directory."
        ),
        head=(
            "Connections, ours", "ours /s", "floor /s", "ratio", "ours p50 ms", "p99 ms",
            "floor p50 ms", "p99 ms", "not 200", "CPU ms each", "floor", "jobs ended meanwhile",
        ),
        rows=tuple(_row(pair) for pair in pairs),
        aims=tuple(_aim(pair) for pair in pairs),
    )  # fmt: skip


def _row(pair: Pair) -> tuple[str, ...]:
    return (
        f"{pair.connections}, {pair.name}",
        figure(_rate(pair.ours)),
        figure(_rate(pair.floor)),
        figure(_rate(pair.ours) / _rate(pair.floor)),
        figure(_wait(pair.ours, 0.5)),
        figure(_wait(pair.ours, 0.99)),
        figure(_wait(pair.floor, 0.5)),
        figure(_wait(pair.floor, 0.99)),
        str(sum(each.volley.others for each in (*pair.ours, *pair.floor))),
        figure(_cpu_ms(pair.ours)),
        figure(_cpu_ms(pair.floor)),
        str(sum(each.jobs_ended for each in pair.ours)),
    )


def _aim(pair: Pair) -> Aim:
    ended = sum(each.jobs_ended for each in pair.ours)
    accepted = sum(each.volley.ok for each in pair.ours)
    return Aim(
        what=f"webhooks accepted, ours to floor, {pair.connections} connection(s), {pair.name}",
        measured=_rate(pair.ours) / _rate(pair.floor),
        least=AIM,
        why=(
            f"Our process spent {figure(_cpu_ms(pair.ours))} ms of processor time per delivery, "
            f"the floor {figure(_cpu_ms(pair.floor))} ms. While it accepted {accepted}, it also "
            f"ended {ended} jobs; half of the deliveries took {figure(_wait(pair.ours, 0.5))} ms, "
            f"one in a hundred over {figure(_wait(pair.ours, 0.99))} ms."
        ),
    )


def _rate(rounds: tuple[Round, ...]) -> float:
    return statistics.median(each.rate for each in rounds)


def _wait(rounds: tuple[Round, ...], share: float) -> float:
    return statistics.median(percentile(each.volley.waits_ms, share) for each in rounds)


def _cpu_ms(rounds: tuple[Round, ...]) -> float:
    return statistics.median(each.cpu_ms / max(1, each.volley.ok) for each in rounds)


async def _ours(
    place: Path, connections: int, count: int, now: Callable[[], datetime], name: str
) -> Round:
    async with town(place / "cell", now=now, registry=scripted(place)) as running:
        port = urlsplit(running.cell.url).port or 0
        requests = deliveries(running.line, count, now())
        with _stopped(_broker(running.cell.pid)) if name == ALONE else contextlib.nullcontext():
            before = cpu_ms(running.cell.pid)
            volley = await sender.fire(port, requests, connections=connections, limit_s=LIMIT_S)
            spent = cpu_ms(running.cell.pid) - before
            ended = durable.count(running.database, "jobs", "ended_at IS NOT NULL")
            all_kept(volley, durable.count(running.database, "inbox"))
        await running.cell.kill()  # what is left of its jobs must not run beside the next round
    return Round(volley=volley, cpu_ms=spent, jobs_ended=ended)


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _broker(cell: int) -> int:
    """Return the process id of the nats-server that is a child of process *cell*."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # processes come and go
            name, _, rest = path.read_text().partition("(")[2].rpartition(") ")
            if name == "nats-server" and int(rest.split()[1]) == cell:
                return int(path.parent.name)
    raise RuntimeError("the cell has no broker")


async def _floor(database: Path, connections: int, count: int, at: datetime) -> Round:
    line = Line(
        phone_number_id=wire.number(15), display="12025550100", token="", waba_id=wire.number(15),
        app_secret=SECRET.encode(), verify_token="",
    )  # fmt: skip
    requests = deliveries(line, count, at)
    async with bare(database) as (pid, port):
        before = cpu_ms(pid)
        volley = await sender.fire(port, requests, connections=connections, limit_s=LIMIT_S)
        spent = cpu_ms(pid) - before
        all_kept(volley, durable.count(database, "entry"))
    return Round(volley=volley, cpu_ms=spent)


@contextlib.asynccontextmanager
async def bare(database: Path) -> AsyncIterator[tuple[int, int]]:
    """Run the bare webhook; yield its process id and port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load.floor", str(database), SECRET,
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe to the floor")
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


def all_kept(volley: Volley, rows: int) -> None:
    """Raise `RuntimeError` unless each delivery that was answered 200 left a row."""
    if rows != volley.ok:
        raise RuntimeError(f"{volley.ok} deliveries were answered 200, {rows} are in the database")


def cpu_ms(pid: int) -> float:
    """Return the processor time that process *pid* has used, in milliseconds (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def deliveries(line: Line, count: int, at: datetime) -> list[bytes]:
    """Return *count* signed requests to *line*, as WhatsApp encodes and signs them."""
    found = []
    for number in range(count):
        who = f"120255501{number % PEOPLE:02d}"
        body = wire.encode(wire.envelope(line.waba_id, [_change(line, who, at)]))
        found.append(sender.request(PATH, body, wire.signature(body, line.app_secret)))
    return found


def _change(line: Line, who: str, at: datetime) -> dict[str, object]:
    message = {
        "from": who,
        "id": wire.wamid(who),
        "timestamp": str(int(at.timestamp())),
        "type": "reaction",
        "reaction": {"message_id": wire.wamid(who), "emoji": "\N{THUMBS UP SIGN}"},
    }
    contact = {"profile": {"name": "Ada Example"}, "wa_id": who}
    return {"value": line.value(contacts=[contact], messages=[message]), "field": "messages"}
