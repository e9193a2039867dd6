"""
Schedules of the whole cell: what a person said holds, whatever happens to the machine.

`scripts/simulate` runs more of them, and replays one; `docs/simulation.md` says what runs and what
does not.
"""

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from simulation import faults
from simulation.cell import Bench, Plants
from simulation.schedules import Outcome, Simulation, run

# A process that lost its power never gave its connection back.
pytestmark = pytest.mark.filterwarnings("ignore:The garbage collector is trying")

ROOT = Path(__file__).parents[2]
ORDINARY = 20_000
LONG = 1_000_000
FOUND_WITHIN = 4_000
SEED = 1


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """Yield what all schedules share, and put the log of this process back as it was."""
    kept = structlog.get_config()
    yield Bench()
    structlog.configure(**kept)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Yield where a journal stands while its process lives: memory, where there is such a place."""
    shared = Path("/dev/shm")
    journal = (shared if shared.is_dir() else tmp_path) / f"simulation-{os.getpid()}.jsonl"
    yield journal
    journal.unlink(missing_ok=True)
    gc.collect()  # while its warnings are still expected


def _shown(outcome: Outcome) -> str:
    replay = f"scripts/simulate --replay {outcome.name}"
    return "\n".join([replay, *outcome.trace, *(f"BROKEN: {each}" for each in outcome.broken)])


def _holds(simulation: Simulation, schedules: int) -> None:
    acts = Counter[str]()

    def told(outcome: Outcome) -> None:
        assert not outcome.broken, _shown(outcome)
        acts.update(line.split(",")[0] for line in outcome.trace)

    assert run(simulation, SEED, schedules, told) == schedules
    died = sum(count for line, count in acts.items() if "power failure" in line)
    assert died > schedules // 100, "the power failed, and the cells came back"
    for act in ("erase", "restore the database", "sweep", "press yes"):
        assert acts[act], f"{act} was among them"


@pytest.mark.timeout(1_800)
def test_what_a_person_said_holds_in_every_schedule(bench: Bench, scratch: Path) -> None:
    """A crash, a restore or a clock at the wrong moment is found here, not by a person."""
    _holds(Simulation(bench, scratch, Plants()), ORDINARY)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_what_a_person_said_holds_in_a_million_schedules(bench: Bench, scratch: Path) -> None:
    """What is rare in a night of traffic is found in a night of schedules."""
    _holds(Simulation(bench, scratch, Plants()), LONG)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("plants", "finds"),
    [
        (faults.LATE, "the ledger still says yes"),
        (faults.WORDS, "a recording was fetched"),
        (faults.SILENCE, "silence (voice)"),
        (faults.CLOCK, "the epoch that is open now was destroyed"),
        (faults.CLOCK, "the journal forgot an erasure"),
    ],
    ids=["late", "words", "silence", "keys", "journal"],
)
def test_a_planted_fault_is_found(bench: Bench, scratch: Path, plants: Plants, finds: str) -> None:
    """A simulation that finds nothing proves nothing, until it was seen to find something."""
    simulation = Simulation(bench, scratch, plants)

    def told(outcome: Outcome) -> None:
        if any(finds in each for each in outcome.broken):
            raise _FoundError

    with pytest.raises(_FoundError):
        run(simulation, SEED, FOUND_WITHIN, told)


class _FoundError(Exception):
    """What was planted was found."""


def test_a_seed_replays(bench: Bench, scratch: Path) -> None:
    """A finding that cannot be seen again cannot be mended: also alone, and in another process."""
    simulation = Simulation(bench, scratch, Plants())
    whole = {outcome.name: outcome.digest for outcome in simulation.seed(7)}
    name = "7.3.5"

    again = [sys.executable, "-m", "simulation", "--replay", name]
    paths = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        again, cwd=ROOT, env=os.environ | paths, capture_output=True, text=True, check=True
    )

    assert len(whole) > 100
    assert len(set(whole.values())) > 50, "schedules of one seed differ"
    assert simulation.named(name).digest == whole[name]
    assert other.stdout.splitlines()[-1] == f"digest {whole[name]}"
