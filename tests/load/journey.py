"""
One note's way, read from the trail: where its time went between the webhook and the text.

- The window begins when WhatsApp begins to deliver and ends when WhatsApp takes the answer.
- A touch is time at a processor or at WhatsApp; all the rest of the window is the gateway's own.
- A touch begins before its evidence is made durable, so one append to the log is inside each.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.model import EventType, Leaf

SKEW = "clock_skew_us"
# What is kept is on record too, but to the second only.
FACTS = frozenset({EventType.JOB_ACCEPTED, EventType.POLICY_DECIDED})
GRAPH = frozenset({"delete-media", "fetch", "send-text", "send-typing"})


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took from *began* to *ended* (epoch seconds); a fact takes no time."""

    what: str
    began: float
    ended: float

    @property
    def ms(self) -> float:
        """Return the length in milliseconds."""
        return (self.ended - self.began) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """A window, and what the trail holds of it."""

    window: Span
    touches: tuple[Span, ...]
    facts: tuple[Span, ...]

    def spent_ms(self, actions: Iterable[str]) -> float:
        """Return how long touches of *actions* were under way within the window."""
        wanted = set(actions)
        return _covered_ms([span for span in self._clipped() if span.what in wanted])

    @property
    def own_ms(self) -> float:
        """Return the part of the window in which no touch was under way."""
        return self.window.ms - _covered_ms(self._clipped())

    def gaps_ms(self) -> dict[str, float]:
        """Return the gateway's own time by what came before and what came next."""
        found: dict[str, float] = defaultdict(float)
        points = sorted([*self._clipped(), *self._within()], key=lambda span: span.began)
        before, free_from = "delivered", self.window.began
        for span in [*points, Span("text sent", self.window.ended, self.window.ended)]:
            if span.began > free_from:
                found[f"{before} → {span.what}"] += (span.began - free_from) * 1000
            if span.ended >= free_from:
                before, free_from = span.what, span.ended
        return dict(found)

    def _clipped(self) -> list[Span]:
        low, high = self.window.began, self.window.ended
        return [
            Span(span.what, max(low, span.began), min(high, span.ended))
            for span in self.touches
            if span.began < high and span.ended > low
        ]

    def _within(self) -> list[Span]:
        return [span for span in self.facts if self.window.began < span.began < self.window.ended]


def read(leaves: Sequence[Leaf], *, delivered: float, answered: float) -> Journey:
    """Return the journey of one job from all its *leaves*."""
    ends = {leaf.event.touch: leaf for leaf in leaves if leaf.event.type is EventType.TOUCH_ENDED}
    touches, facts = [], []
    for leaf in leaves:
        if leaf.event.type is EventType.TOUCH_BEGAN:
            ended = _at(ends[leaf.event.touch]) if leaf.event.touch in ends else answered
            touches.append(Span(leaf.event.action or "", _at(leaf), ended))
        elif leaf.event.type in FACTS:
            facts.append(Span(_named(leaf), _at(leaf), _at(leaf)))
    window = Span("answered", delivered, answered)
    return Journey(window=window, touches=tuple(touches), facts=tuple(facts))


def _named(leaf: Leaf) -> str:
    decided = leaf.event.type is EventType.POLICY_DECIDED
    return f"{leaf.event.action} decided" if decided else "accepted"


def _at(leaf: Leaf) -> float:
    # The log moves a claim up when another one was written first; this is the claim itself.
    moved_us: int = leaf.event.detail.get(SKEW, 0)
    return leaf.event.at.timestamp() - moved_us / 1e6


def _covered_ms(spans: Iterable[Span]) -> float:
    total, until = 0.0, 0.0
    for span in sorted(spans, key=lambda each: each.began):
        total += max(0.0, span.ended - max(span.began, until))
        until = max(until, span.ended)
    return total * 1000
