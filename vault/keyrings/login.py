"""
The token of one identity, kept in force by logging in again.

- A token that cannot be renewed (a *batch* token, which is what ours should be) is replaced
  when two thirds of its life are over; one that can is renewed, until its life can grow no more.
- One login at a time: who holds a token that still counts is not kept waiting for it.
- After a failed login the next is tried no sooner than the pause says, twice as long each time:
  a server that is down is not hammered, and one that is back is in use within seconds.
- Credentials that were refused are not shown again for half a minute, unless others have taken
  their place: a server that counts failures would lock the role out for everybody.
- A refused token is looked up before it is replaced: a policy that forbids a call answers as a
  revoked token does, and no login changes it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import hvac

from vault.errors import KeyringError
from vault.keyrings import answers
from vault.keyrings.client import Answer, ask

FRESH = 2 / 3
PAUSE_S = 0.25
LONGEST_PAUSE_S = 4.0
PACE_S = 1.0
REFUSED_PAUSE_S = 30.0
REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)
NEVER = float("-inf")
LOOKUP = "auth/token/lookup-self"
RENEW = "auth/token/renew-self"


class Credentials(Protocol):
    """What an identity shows at the door; read anew for every login."""

    def login(self, client: hvac.Client) -> tuple[str, dict[str, str]]:
        """
        Return the login's path and its body.

        Raises:
            KeyringError: they cannot be had from the server (by *client*).
            ValueError: their file cannot be read.

        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A *token*, good for *ttl_s* from *since* on (monotonic seconds); 0 is for ever."""

    token: str = field(repr=False)
    ttl_s: float
    since: float
    renewable: bool

    def over(self, at: float, part: float = 1.0) -> bool:
        """Return whether *part* of its life has passed."""
        return self.ttl_s > 0 and at >= self.since + part * self.ttl_s


class Login:
    """Logs in with *credentials* by *client*, whose token nobody else sets; may be shared."""

    def __init__(
        self,
        credentials: Credentials,
        client: hvac.Client,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._full_s = 0.0
        self._pause_s = 0.0
        self._not_before = NEVER
        self._fault = KeyringError("login: not tried")
        self._wrong: dict[str, str] = {}
        self._wrong_until = NEVER

    def __call__(self) -> str:
        """Return the token in force; raise `KeyringError` where none can be had now."""
        lease = self._lease
        if lease is None or lease.over(self._clock()):
            with self._lock:
                return self._current().token
        if lease.over(self._clock(), FRESH) and self._lock.acquire(blocking=False):
            try:
                return self._current().token
            finally:
                self._lock.release()
        return lease.token

    def refused(self, token: str) -> bool:
        """Return whether another token than the refused one is to be had: ask again with it."""
        with self._lock:
            lease = self._lease
            if lease is None or lease.token != token:
                return True
            if self._clock() < lease.since + PACE_S or self._lives(token):
                return False
            self._lease = None
            return True

    def _current(self) -> Lease:
        """Return a lease that counts, made if need be; the lock is held."""
        lease, at = self._lease, self._clock()
        if lease is not None and not lease.over(at, FRESH):
            return lease
        living = lease if lease is not None and not lease.over(at) else None
        if at >= self._not_before:
            try:
                self._lease = self._longer(living) or self._anew()
            except KeyringError as exc:
                self._failed(exc)
            else:
                self._not_before, self._pause_s = NEVER, 0.0
                return self._lease
        if living is not None:
            return living
        raise type(self._fault)(str(self._fault))

    def _failed(self, fault: KeyringError) -> None:
        self._fault = fault
        self._pause_s = min(max(2 * self._pause_s, PAUSE_S), LONGEST_PAUSE_S)
        self._not_before = self._clock() + self._pause_s

    def _longer(self, lease: Lease | None) -> Lease | None:
        """Return *lease* with its whole life before it again, or None: then log in."""
        if lease is None or not lease.renewable:
            return None
        since = self._clock()
        try:
            answer = ask(self._client, "post", RENEW, {}, token=lease.token)
            renewed = _lease(RENEW, answer, since)
        except KeyringError:
            return None
        return renewed if renewed.ttl_s >= self._full_s else None

    def _anew(self) -> Lease:
        try:
            path, body = self._credentials.login(self._client)
        except ValueError as exc:
            raise KeyringError(f"login: {exc}") from None
        if body == self._wrong and self._clock() < self._wrong_until:
            raise KeyringError(f"{path}: refused, and nothing has changed since")
        since = self._clock()  # before the request: the server's count began no earlier
        answer = ask(self._client, "post", path, body, token="")
        if not isinstance(answer, dict) and answer.status_code in REFUSALS:
            self._wrong, self._wrong_until = body, self._clock() + REFUSED_PAUSE_S
        lease = _lease(path, answer, since)
        self._full_s = lease.ttl_s
        return lease

    def _lives(self, token: str) -> bool:
        """Return whether the server knows *token*; where it does not say so, yes."""
        try:
            answer = ask(self._client, "get", LOOKUP, None, token=token)
        except KeyringError:
            return True
        return isinstance(answer, dict) or answer.status_code != HTTPStatus.FORBIDDEN


def _lease(path: str, answer: Answer, since: float) -> Lease:
    auth = answers.whole(path, answer).get("auth") or {}
    try:
        token = str(auth["client_token"] or "")
        ttl_s, renewable = float(auth["lease_duration"]), bool(auth["renewable"])
    except (KeyError, TypeError, ValueError):
        token = ""
    if not token:
        raise KeyringError(f"{path}: the answer is not understood")
    return Lease(token=token, ttl_s=ttl_s, since=since, renewable=renewable)
