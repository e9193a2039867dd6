"""What can go wrong with one request: whether it was carried out, and what was answered."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One mishap: whether the request takes effect (*accept*), and what is answered.

    *status* is the answer's, or None to hang up without one; *code* is Graph's error code, if
    it is Graph that answers.
    """

    accept: bool
    status: int | None = None
    code: int | None = None


ACCEPT_THEN_DROP = Fault(accept=True)
ACCEPT_THEN_500 = Fault(accept=True, status=500)
DROP = Fault(accept=False)


def refusal(code: int, status: int) -> Fault:
    """Return the fault of Graph refusing with *code* under HTTP *status*."""
    return Fault(accept=False, status=status, code=code)


class Faults:
    """
    The faults to come, per operation.

    Operations: ``messages``, ``typing``, ``upload``, ``settings``, ``media.get``,
    ``media.delete``, ``cdn``. When none is queued, *choose* decides (by default: none).
    """

    def __init__(self) -> None:
        self._queued: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.choose: Callable[[str], Fault | None] = lambda _operation: None

    def add(self, operation: str, fault: Fault, *, times: int = 1) -> None:
        """Have the next *times* requests of *operation* meet *fault*."""
        self._queued[operation].extend([fault] * times)

    def take(self, operation: str) -> Fault | None:
        """Return the fault that this request meets, if any."""
        queued = self._queued[operation]
        return queued.popleft() if queued else self.choose(operation)
