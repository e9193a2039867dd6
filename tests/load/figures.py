"""
What a measurement says, and the arithmetic behind it.

- A percentile is a value that was measured (nearest rank), never one in between.
- An aim is held against the number it was measured with; if it is missed, *why* is what the
  same run shows about the cause.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """One promise: *measured* in *unit* must be at least *least* and at most *most*."""

    what: str
    measured: float
    unit: str = ""
    least: float = -math.inf
    most: float = math.inf
    why: str = ""

    @property
    def met(self) -> bool:
        """Whether what was measured keeps the promise."""
        return self.least <= self.measured <= self.most

    @property
    def bound(self) -> str:
        """Return the promise in words."""
        if self.most < math.inf:
            return f"at most {figure(self.most)}{self.unit}"
        return f"at least {figure(self.least)}{self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    One table.

    *compared* says in one sentence what stands against what, *said* how it was measured,
    *missing* what could not be, and why.
    """

    title: str
    compared: str = ""
    said: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    aims: tuple[Aim, ...] = ()
    missing: tuple[str, ...] = field(default=())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that *share* (0 to 1) of them do not exceed; nan if none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figure(value: float) -> str:
    """Return *value* with three significant digits, or all of its whole ones; no exponent."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def largest(shares: Mapping[str, Sequence[float]], count: int, unit: str) -> str:
    """Return the *count* names of the largest mean in *shares*, in words."""
    means = {name: statistics.fmean(values) for name, values in shares.items() if values}
    ordered = sorted(means, key=lambda name: means[name], reverse=True)[:count]
    return ", ".join(f"{name} {figure(means[name])}{unit}" for name in ordered)
