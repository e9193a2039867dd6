"""
Schedules from seeds: a trunk of acts that leave much to do, and from each of its points many ends.

A schedule is a path from a cell that never ran to one of the ends; those of one seed share their
beginnings, so that each costs its own end only. Its name, ``seed.point.end``, replays it alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from simulation import machine, operations
from simulation.cell import Bench, Plants
from simulation.node import Node, digest, first, live
from simulation.operations import BUSY, LAST, Act, draw_from

TRUNK = 5
ENDS = 40
TWO = 0.2  # ends of two acts, not one
CRASHES = 0.25
AGREE = 0.8
MOST_WRITES = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the schedule *name* ended: what it broke, and what happened, line by line."""

    name: str
    broken: tuple[str, ...]
    trace: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Return the digest of the trace."""
        return digest(self.trace)


@dataclass(slots=True)
class Simulation:
    """Runs schedules on *bench*; *scratch* is where a journal's file stands meanwhile."""

    bench: Bench
    scratch: Path
    plants: Plants

    def seed(self, seed: int, *, only: tuple[int, int] | None = None) -> Iterator[Outcome]:
        """Yield the outcomes of every schedule of *seed*, or of *only* (point, end)."""
        with machine.entropy(Random(f"{seed}/fresh")):
            node = first(self.bench)
        draw = Random(f"{seed}/trunk")
        for point in range(TRUNK):
            node = self._step(node, self._trunk(point, draw), f"{seed}.{point}", draw)
            if only is None:
                yield Outcome(f"{seed}.{point}", tuple(node.found), node.trace)
            for end in range(ENDS) if only is None else [only[1]] * (only[0] == point):
                yield self._end(node, f"{seed}.{point}.{end}")
            node = node.copy()

    def named(self, name: str) -> Outcome:
        """Return the outcome of the schedule *name* alone."""
        seed, *place = (int(part) for part in name.split("."))
        if len(place) == 1:
            return next(each for each in self.seed(seed) if each.name == name)
        return next(self.seed(seed, only=(place[0], place[1])))

    def _trunk(self, point: int, draw: Random) -> list[Act]:
        if point == 0:
            return [operations._one(operations.voice_now(draw))]
        if point == 1:  # most people answer the question; some speak again after a while
            some = operations.grant if draw.random() < AGREE else operations.speak_again
            return [operations._one(some(draw))]
        return [draw_from(BUSY, draw)]

    def _end(self, node: Node, name: str) -> Outcome:
        draw = Random(name)
        node = node.copy()
        acts = [draw_from(LAST, draw) for _ in range(2 if draw.random() < TWO else 1)]
        if len(acts) > 1 and acts[1].outside:  # the disks are changed while nobody runs
            node = self._step(node, acts[:1], name, draw)
            acts = acts[1:]
        crash = draw.random() < CRASHES
        node = self._step(node, acts, name, draw, crash=crash, last=True)
        return Outcome(name, tuple(node.found), node.trace)

    def _step(
        self,
        node: Node,
        acts: list[Act],
        name: str,
        draw: Random,
        *,
        crash: bool = False,
        last: bool = False,
    ) -> Node:
        """Return *node* after *acts*; if the power fails on the way, after the recovery from it."""
        for act in acts:
            act.before(node)
        point = (draw.randint(1, MOST_WRITES), draw.random() < 0.5) if crash else None
        given = (self.bench, draw, self.scratch, self.plants)
        with machine.entropy(Random(f"{name}/{len(node.trace)}")):
            resumed = not any(act.outside for act in acts)
            do = [act.do for act in acts]
            node, died = live(node, *given, *do, crash=point, last=last, resumed=resumed)
            if died:
                again = operations._one(operations.restart(draw))
                node, _ = live(node, *given, again.do, last=last)
        return node


def run(simulation: Simulation, seed: int, schedules: int, told: Callable[[Outcome], None]) -> int:
    """Run *schedules* of them from *seed* on; *told* hears of each outcome. Return how many."""
    count = 0
    while True:
        for outcome in simulation.seed(seed):
            told(outcome)
            count += 1
            if count >= schedules:
                return count
        seed += 1
