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


@dataclass(frozen=True, slots=True)
class Outage:
    """
    What Graph says of a whole account, to each of its requests, until somebody mends it.

    *code* None is the bare page of a server in between. Graph's own errors, below WhatsApp, have
    a *subcode* and a *kind*.
    """

    code: int | None
    status: int
    says: str = ""
    subcode: int | None = None
    kind: str = "OAuthException"


OUTAGES = {
    "bare_404": Outage(None, 404),
    "blocked": Outage(368, 403, "Temporarily blocked for policies violations"),
    "calls": Outage(613, 400, "Calls to this api have exceeded the rate limit."),
    "capability": Outage(3, 500, "Application does not have the capability to make this API call."),
    "expired": Outage(190, 401, "Error validating access token: Session has expired.", 463),
    "invalidated": Outage(
        190, 401, "Error validating access token: The user has changed the password.", 460
    ),
    "locked": Outage(131031, 403, "Business Account locked"),
    "no_object": Outage(
        100,
        400,
        "Unsupported post request. Object with this ID does not exist.",
        33,
        "GraphMethodException",
    ),
    "no_permission": Outage(10, 403, "Application does not have permission for this action"),
    "no_token": Outage(2500, 400, "An active access token must be used to query information."),
    "payment": Outage(131042, 400, "Business eligibility payment issue"),
    "permission": Outage(200, 403, "You do not have the necessary permission to send messages"),
    "registration": Outage(131045, 500, "Incorrect certificate"),
    "server": Outage(133004, 503, "Server Temporarily Unavailable"),
    "spam": Outage(131048, 429, "Spam rate limit hit"),
    "unauthenticated": Outage(0, 401, "We were unable to authenticate the app user."),
    "unpermitted": Outage(131005, 403, "Access denied"),
    "unregistered": Outage(133010, 400, "Phone number not registered"),
}
"""How Graph refuses an account, by name; Meta, "Cloud API error codes" and "Handling errors"."""


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
