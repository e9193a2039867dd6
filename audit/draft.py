"""
A batch in the making: pure, on a copy of the log's state, so that a failed batch leaves no trace.

- ``ts`` never goes back within a log: an earlier claim is moved up and the difference noted.
- A claim from too far ahead is refused: it would drag every later ``ts`` along.
- A touch begins once and ends once, as what it began: the same processor, region, action,
  decision, artifact, tenant, job and subject.
- The artifact chain (``aseq``, ``aprev``) goes on from the newest leaf of that artifact.
"""

from typing import NamedTuple

from audit import leaf, merkle
from audit.errors import EventError
from audit.model import Event, EventType
from audit.ports import Batch, Known, Row
from audit.state import State


class Placed(NamedTuple):
    """Where an event stands in the log."""

    at: int
    hash: bytes
    event: Event


class Draft:
    """Events on their way into the log *region* after *state*; *latest* bounds their ``ts``."""

    def __init__(self, state: State, known: Known, *, region: str, latest: int) -> None:
        self.state = State(state.tree.copy(), state.ts, dict(state.touches))
        self._first = state.tree.size
        self._region = region
        self._latest = latest
        self._chains = dict(known.chains)
        self._begun = set(known.touches)
        self._placed: dict[str, Placed] = {}
        self._rows: list[Row] = []

    def add(self, event: Event) -> Placed:
        """Place *event* (once, if it comes again), or raise `EventError` and change nothing."""
        if again := self._placed.get(event.id):
            return same(event, again)
        self._check(event)
        ts = max(leaf.micros(event.at), self.state.ts)
        aseq, aprev = self._link(event)
        data = leaf.encode(event, ts=ts, log_region=self._region, aseq=aseq, aprev=aprev)
        placed = Placed(self.state.tree.size, merkle.leaf_hash(data), event)
        self._take(placed, Row(data=data, event=event, aseq=aseq), ts)
        return placed

    def batch(self, note: str) -> Batch:
        """Return what to commit, under the signed *note*."""
        return Batch(first=self._first, rows=self._rows, tiles=self.state.tree.changed(), note=note)

    def __len__(self) -> int:
        return len(self._rows)

    def _check(self, event: Event) -> None:
        if leaf.micros(event.at) > self._latest:
            raise EventError("at: lies in the future of the log's clock")
        if event.type is EventType.TOUCH_BEGAN and event.touch in self._begun:
            raise EventError(f"touch: {event.touch} has begun before")
        if event.type is EventType.TOUCH_ENDED:
            if event.touch not in self.state.touches:
                raise EventError(f"touch: {event.touch} is not under way")
            began, ended = self.state.touches[event.touch], leaf.touch_facts(event)
            if other := [name for name, value in ended.items() if value != began[name]]:
                raise EventError(f"{other[0]}: {event.touch} began with another one")

    def _link(self, event: Event) -> tuple[int | None, str | None]:
        if event.artifact is None:
            return None, None
        if event.artifact not in self._chains:
            return 0, None
        aseq, previous = self._chains[event.artifact]
        return aseq + 1, previous.hex()

    def _take(self, placed: Placed, row: Row, ts: int) -> None:
        event = placed.event
        self.state.ts = ts
        self.state.tree.append(placed.hash)
        self._placed[event.id] = placed
        self._rows.append(row)
        if event.artifact is not None and row.aseq is not None:
            self._chains[event.artifact] = row.aseq, placed.hash
        if event.type is EventType.TOUCH_BEGAN and event.touch:
            self._begun.add(event.touch)
            self.state.touches[event.touch] = leaf.touch_facts(event)
        elif event.type is EventType.TOUCH_ENDED and event.touch:
            del self.state.touches[event.touch]


def same(event: Event, placed: Placed) -> Placed:
    """Return *placed* if it is what *event* says again, else raise `EventError`."""
    if _identity(event) != _identity(placed.event):
        raise EventError(f"id: {event.id} names another event already")
    return placed


def _identity(event: Event) -> tuple[str | None, ...]:
    about = leaf.touch_facts(event).values() if event.touch else ()
    return event.type, event.tenant, event.artifact, event.job, event.touch, *about
