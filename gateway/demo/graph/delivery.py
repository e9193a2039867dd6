"""
Meta's webhook delivery: batches, signatures, retries for seven days, duplicates, disorder.

A delivery is retried as a whole, with the same bytes, until the callback answers 200: at once,
then less and less often. After seven days (on a No Storage number: one hour) it is lost.
"""

import asyncio
import contextlib
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx2

from gateway.demo.graph import wire
from gateway.demo.graph.clock import Clock

if TYPE_CHECKING:
    from gateway.demo.graph.world import Line

RETRY_AFTER_S = (0, 15, 60, 300, 900, 3_600, 4 * 3_600, 12 * 3_600, 24 * 3_600)
KEPT = timedelta(days=7)
KEPT_NO_STORAGE = timedelta(hours=1)
ANSWER_TIMEOUT_S = 10.0
TICK_S = 0.5
LOST_CODE = 131035
LOST_TITLE = "Webhook could not be delivered within data retention limit"


class Signing(Enum):
    """How deliveries are signed: as Meta does, or wrongly in one of five ways."""

    GOOD = auto()
    MISSING = auto()
    RESERIALISED = auto()
    SHA1 = auto()
    UPPER_CASE = auto()
    WRONG_KEY = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One POST to a callback; *status* is None when no answer came."""

    at: datetime
    phone_number_id: str
    updates: int
    status: int | None


@dataclass(slots=True, kw_only=True)
class _Update:
    line: "Line"
    change: dict[str, Any]
    due: datetime


@dataclass(slots=True, kw_only=True)
class _Parcel:
    line: "Line"
    body: bytes
    updates: int
    due: datetime
    until: datetime
    reports_loss: bool
    tries: int = 0


class Courier:
    """
    Delivers updates to the callbacks of their lines.

    Knobs: *batch* updates at most in one POST, *copies* of each POST at the same time, order
    shuffled by *disorder* if set, *signing*. `attempts` holds every POST made.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._http: httpx2.AsyncClient  # while `running`
        self._updates: list[_Update] = []
        self._parcels: list[_Parcel] = []
        self._held = False
        self._busy = asyncio.Lock()
        self._wake = asyncio.Event()
        self.batch = 1
        self.copies = 1
        self.disorder: random.Random | None = None
        self.signing = Signing.GOOD
        self.attempts: deque[Attempt] = deque(maxlen=100_000)

    def post(self, line: "Line", field: str, value: dict[str, Any], *, delay_s: float = 0) -> None:
        """Queue one update for *line*, due after *delay_s* of the world's time."""
        due = self._clock.now() + timedelta(seconds=delay_s)
        change = {"value": value, "field": field}
        self._updates.append(_Update(line=line, change=change, due=due))
        self._wake.set()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Deliver nothing new within the block: what is queued in it goes out as batches."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._wake.set()

    @property
    def held(self) -> bool:
        """Whether a `hold` block is open."""
        return self._held

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver what is due, as it comes due, for as long as the block lasts."""
        async with httpx2.AsyncClient(
            timeout=ANSWER_TIMEOUT_S, trust_env=False, verify=_tls()
        ) as self._http:
            task = asyncio.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _run(self) -> None:
        while True:
            await self.settle()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK_S)
            self._wake.clear()

    async def settle(self) -> None:
        """Deliver everything that is due now; return when each has been tried."""
        async with self._busy:
            while due := self._due():
                for parcel in due:
                    await self._deliver(parcel)

    def _due(self) -> list[_Parcel]:
        now = self._clock.now()
        if not self._held:
            self._pack(now)
        due = [parcel for parcel in self._parcels if parcel.due <= now]
        self._parcels = [parcel for parcel in self._parcels if parcel.due > now]
        return due

    def _pack(self, now: datetime) -> None:
        due = [update for update in self._updates if update.due <= now]
        self._updates = [update for update in self._updates if update.due > now]
        if self.disorder is not None:
            self.disorder.shuffle(due)
        lines = {update.line.phone_number_id: update.line for update in due}
        for number, line in lines.items():
            changes = [each.change for each in due if each.line.phone_number_id == number]
            for start in range(0, len(changes), self.batch):
                self._parcels.append(_parcel(line, changes[start : start + self.batch], now))

    async def _deliver(self, parcel: _Parcel) -> None:
        if self._clock.now() >= parcel.until:
            if parcel.reports_loss:
                self.post(parcel.line, "messages", parcel.line.fault(LOST_CODE, LOST_TITLE))
            return
        tries = [self._try(parcel) for _ in range(self.copies)]
        if HTTPStatus.OK in await asyncio.gather(*tries):
            return
        pause = RETRY_AFTER_S[min(parcel.tries, len(RETRY_AFTER_S) - 1)]
        parcel.tries += 1
        parcel.due = self._clock.now() + timedelta(seconds=pause)
        self._parcels.append(parcel)

    async def _try(self, parcel: _Parcel) -> int | None:
        status = None
        with contextlib.suppress(httpx2.HTTPError):
            headers = {"Content-Type": "application/json"}
            headers |= signed(parcel.body, parcel.line.app_secret, self.signing)
            answer = await self._http.post(
                parcel.line.callback_url, content=parcel.body, headers=headers
            )
            status = answer.status_code
        self.attempts.append(
            Attempt(
                at=self._clock.now(),
                phone_number_id=parcel.line.phone_number_id,
                updates=parcel.updates,
                status=status,
            )
        )
        return status


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def signed(body: bytes, secret: bytes, signing: Signing) -> dict[str, str]:
    """Return the signature headers of *body*."""
    match signing:
        case Signing.MISSING:
            return {}
        case Signing.SHA1:
            return {"X-Hub-Signature": wire.signature(body, secret, "sha1")}
        case Signing.WRONG_KEY:
            secret = b"not " + secret
        case Signing.RESERIALISED:
            body = body.replace(b"\\/", b"/").replace(b":", b": ")
    value = wire.signature(body, secret)
    if signing is Signing.UPPER_CASE:
        value = "sha256=" + value.removeprefix("sha256=").upper()
    return {"X-Hub-Signature-256": value}


def _parcel(line: "Line", changes: list[dict[str, Any]], now: datetime) -> _Parcel:
    # The report of a loss is itself kept for seven days, or losses would report losses.
    is_report = any("errors" in change["value"] for change in changes)
    short = line.no_storage and not is_report
    return _Parcel(
        line=line,
        body=wire.encode(wire.envelope(line.waba_id, changes)),
        updates=len(changes),
        due=now,
        until=now + (KEPT_NO_STORAGE if short else KEPT),
        reports_loss=short,
    )
