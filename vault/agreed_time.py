"""
Agreed time: what an act that cannot be undone is given instead of a clock.

- A clock that is wrong says nothing about it. So several clocks that do not depend on each other
  are read, and only what all of them show, within a bound, is agreed.
- The earliest of them counts: nothing ends before every clock says that it is over.
- *wall* is the machine's own clock, which anybody may set. *others* are the clocks of services.
  *counted* is the last agreed time and what a clock that nobody can set has counted since; it
  lasts until the machine restarts. *known* is the newest time that was agreed or written before.
- Where clocks do not agree, nothing is destroyed. They may be believed again once they have run
  evenly for a while, so that a counting clock that was wrong does not stop deletion for ever.

Only `agree` makes an `AgreedTime`: a bare `datetime` is not one, and mypy says so.
"""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timedelta

WALL = "wall"
COUNTED = "counted"
KNOWN = "known"
_HERE = object()


@dataclass(frozen=True, slots=True)
class AgreedTime:
    """A time that independent clocks agree on; see the module. It is never made of one clock."""

    at: datetime
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        """Refuse to be made by anything but `agree`."""
        if made_by is not _HERE:
            raise TypeError("only agree() makes an AgreedTime")

    @property
    def seconds(self) -> int:
        """Return whole seconds since 1970."""
        return int(self.at.timestamp())

    def before(self, age: timedelta) -> datetime:
        """Return the time that was *age* ago."""
        return self.at - age


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    How far clocks may differ, and what makes them believed again.

    *bound* is between any two of them. After a restart of the machine a clock without a second
    one is believed for a *downtime* of that length. Clocks that contradict what was counted or
    known are believed once they ran evenly for *settles*, a single one for *settles_alone*.
    """

    bound: timedelta = timedelta(minutes=5)
    downtime: timedelta = timedelta(days=3)
    settles: timedelta = timedelta(minutes=15)
    settles_alone: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """
    What each clock shows at one moment; see the module for their names.

    *even_for* is how long *wall* and *others* have run as evenly as the counting clock.
    """

    wall: datetime
    others: Mapping[str, datetime] = field(default_factory=dict)
    counted: datetime | None = None
    known: datetime | None = None
    even_for: timedelta = timedelta(0)

    @property
    def shown(self) -> dict[str, datetime]:
        """Return what can be set from outside: the wall clock, and the others' that answered."""
        return {WALL: self.wall, **self.others}


@dataclass(frozen=True, slots=True)
class Disagreed:
    """
    The clocks do not agree: nothing may be destroyed.

    *apart* says by how much each is ahead of the earliest of them, or of what it contradicts.
    """

    apart: Mapping[str, timedelta]

    @property
    def says(self) -> str:
        """Return who differs by how much, as one line."""
        return ", ".join(
            f"{name} {'+' if apart >= timedelta() else ''}{length(apart)}"
            for name, apart in sorted(self.apart.items())
        )

    @property
    def worst_s(self) -> float:
        """Return the largest difference, in seconds."""
        return max((abs(each.total_seconds()) for each in self.apart.values()), default=0.0)


def length(span: timedelta) -> str:
    """Return *span* in seconds, in days from a day on: the log takes long numbers for a phone's."""
    if abs(span) < timedelta(days=1):
        return f"{span.total_seconds():.0f} s"
    return f"{span / timedelta(days=1):.1f} d"


def agree(found: Readings, rules: Rules | None = None) -> AgreedTime | Disagreed:
    """Return the time that the clocks in *found* agree on, or how they differ."""
    rules = rules or Rules()
    shown = found.shown
    earliest, latest = min(shown.values()), max(shown.values())
    if latest - earliest > rules.bound:
        return Disagreed(_apart(shown, found.counted or earliest))
    if _settled(found, rules):
        return AgreedTime(earliest, _HERE)
    if found.counted is not None:
        return _with_counted(shown, found.counted, rules)
    if found.known is not None and _strange(found, found.known, rules):
        return Disagreed(_apart(shown, found.known))
    return AgreedTime(earliest, _HERE)


def believed(found: Readings, rules: Rules | None = None) -> datetime:
    """
    Return the best time to work by, agreed or not: what is done by it can be done again.

    While something counts, that; else the earliest clock that is not behind what is known.
    """
    rules = rules or Rules()
    found_agreed = agree(found, rules)
    if isinstance(found_agreed, AgreedTime):
        return found.wall
    if found.counted is not None:
        return found.counted
    if found.known is None:
        return min(found.shown.values())
    possible = [at for at in found.shown.values() if at >= found.known - rules.bound]
    return min(possible, default=found.known)


def _settled(found: Readings, rules: Rules) -> bool:
    return found.even_for >= (rules.settles if found.others else rules.settles_alone)


def _with_counted(
    shown: Mapping[str, datetime], counted: datetime, rules: Rules
) -> AgreedTime | Disagreed:
    every = {**shown, COUNTED: counted}
    if max(every.values()) - min(every.values()) > rules.bound:
        return Disagreed(_apart(shown, counted))
    return AgreedTime(min(every.values()), _HERE)


def _strange(found: Readings, known: datetime, rules: Rules) -> bool:
    """Whether the clocks show what cannot be, or what one clock alone is not believed."""
    earliest = min(found.shown.values())
    alone = not found.others
    return earliest < known - rules.bound or (alone and earliest > known + rules.downtime)


def _apart(shown: Mapping[str, datetime], from_: datetime) -> dict[str, timedelta]:
    return {name: at - from_ for name, at in shown.items()}
