"""
The choice of a processor: the first on the decision's allow-list that is there and healthy.

- Only the allow-list is walked, in its order: health never adds a processor.
- `Health` is a circuit breaker per processor: `FAILURES` within `WINDOW_S` open it; after
  `REST_S` one call may try, and each further one `REST_S` later, until one succeeds.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Sequence

from residency.errors import NoProcessorError

FAILURES = 3
WINDOW_S = 30.0
REST_S = 5.0


def choose(allowed: Sequence[str], *, admit: Callable[[str], bool], have: Container[str]) -> str:
    """
    Return the first of *allowed* that the cell has and *admit* lets in (`Health.admit`).

    Raises:
        NoProcessorError: none is left; the answer becomes text or a human.

    """
    for processor in allowed:
        if processor in have and admit(processor):
            return processor
    raise NoProcessorError(f"none of {len(allowed)} allowed processors is there and healthy")


class Health:
    """How each processor fared lately; one instance per event loop, not durable."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._failed: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=FAILURES))
        self._rest_until: dict[str, float] = {}

    def admit(self, processor: str) -> bool:
        """Tell whether a call may go now; a resting processor is let one call per `REST_S`."""
        until = self._rest_until.get(processor)
        if until is None:
            return True
        if self._now() < until:
            return False
        self._rest_until[processor] = self._now() + REST_S
        return True

    def succeeded(self, processor: str) -> None:
        """Close the breaker: the processor answered."""
        self._failed.pop(processor, None)
        self._rest_until.pop(processor, None)

    def failed(self, processor: str) -> None:
        """Count a failure; open the breaker when there were too many within the window."""
        now, times = self._now(), self._failed[processor]
        times.append(now)
        if processor in self._rest_until or (len(times) == FAILURES and now - times[0] <= WINDOW_S):
            self._rest_until[processor] = now + REST_S

    def open(self) -> frozenset[str]:
        """Return the processors at rest, for a person to see."""
        return frozenset(self._rest_until)
