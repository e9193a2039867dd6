"""Run schedules, or replay one; see `scripts/simulate`."""

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from simulation.cell import Bench, Plants
from simulation.schedules import Outcome, Simulation, run

SHM = Path("/dev/shm")


def main() -> int:
    """Return 1 if any schedule broke an invariant."""
    asked = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--schedules", type=int, default=2_000)
    asked.add_argument("--replay", metavar="SEED.POINT.END", help="replay one schedule")
    asked.add_argument("--keep-going", action="store_true", help="do not stop at the first fault")
    given = asked.parse_args()
    # A process that lost its power never gave its connection back.
    warnings.filterwarnings("ignore", "The garbage collector is trying")
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as scratch:
        simulation = Simulation(Bench(), Path(scratch) / "journal", Plants())
        if given.replay:
            return _replay(simulation, given.replay)
        return _run(simulation, given)


def _replay(simulation: Simulation, name: str) -> int:
    outcome = simulation.named(name)
    _show(outcome)
    sys.stdout.write(f"digest {outcome.digest}\n")
    return int(bool(outcome.broken))


def _show(outcome: Outcome) -> None:
    lines = [f"schedule {outcome.name}", *(f"  {line}" for line in outcome.trace)]
    lines += [f"  BROKEN: {each}" for each in outcome.broken]
    sys.stdout.write("\n".join(lines) + "\n")


class _StopError(Exception):
    pass


def _run(simulation: Simulation, given: argparse.Namespace) -> int:
    began, found, seen = time.monotonic(), Counter[str](), [0]

    def told(outcome: Outcome) -> None:
        seen[0] += 1
        if outcome.broken:
            fresh = any(each not in found for each in outcome.broken)
            found.update(outcome.broken)
            if fresh:
                _show(outcome)
            if not given.keep_going:
                raise _StopError

    try:
        run(simulation, given.seed, given.schedules, told)
    except _StopError:
        sys.stdout.write("stopped at the first (--keep-going runs on)\n")
    took = time.monotonic() - began
    sys.stdout.write(f"{seen[0]} schedules from seed {given.seed} in {took:.0f} s\n")
    for fault, count in found.most_common():
        sys.stdout.write(f"{count:6} x {fault}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
