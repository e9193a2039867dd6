"""
Whether WhatsApp accepts the operator's accounts: where it does not, few ask and everybody waits.

- A number has three parts that fail apart: its messages, its media, its uploads. One refusal of a
  part (`AccountFaultError`) closes it: no further call leaves, and what wants one waits.
- Now and then one call is let through and tries. If it is answered, the part is open again and
  all that waited goes on. What says nothing of the account (a limit, silence) leaves it closed.
- A fault that WhatsApp told of later, by a status, is over when a status says so: a call that is
  answered proves nothing there.
- It is a finding as long as it lasts, and a row of the database: a restart changes nothing. A
  person who closes the finding says that it is mended; then the next call tries at once.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db, log
from gateway.errors import AccountFaultError
from gateway.jobs import micros
from gateway.metrics import Metrics
from gateway.schema import accounts

FIRST_PAUSE_S = 10.0
MOST_PAUSE_S = 120.0  # an account that is mended leaves nobody waiting for longer
PROBE_S = 60.0  # one call tries at a time; one that does not come back is not waited for


REMEDIES: Mapping[str, str] = {
    "account.egress": "let the egress broker out to WhatsApp: the registry's row, or [egress]",
    "account.limited": "stop what sends too much from this number, and look at its quality rating",
    "account.locked": "WhatsApp Manager says what was violated; appeal there",
    "account.media_host": "add the host to [[tenants]] whatsapp.media_hosts, and to the registry",
    "account.name": "have the display name approved in WhatsApp Manager",
    "account.object": "correct whatsapp.phone_number_ids, or give the token access to the number",
    "account.payment": "settle the payment method of the WhatsApp Business account",
    "account.permission": "give the token's system user whatsapp_business_messaging on it",
    "account.registration": "register the number again (POST /{number}/register)",
    "account.token": "write a new token into whatsapp.access_token_file; no restart is needed",
}
"""What an operator does about each word of a fault; docs/operations/whatsapp.md says more."""
REMEDY = "read what Meta says of the code; correct [[tenants]] whatsapp"


class Part(StrEnum):
    """What of a number fails by itself; kept sorted."""

    MEDIA = "media"
    MESSAGES = "messages"
    UPLOAD = "upload"


UNTOLD = frozenset({"delete-media", "send-typing"})  # a courtesy: it closes and opens nothing


def part(action: str) -> Part:
    """Return which part of a number *action* (of a touch) needs."""
    if action in {"delete-media", "fetch"}:
        return Part.MEDIA
    return Part.UPLOAD if action == "upload" else Part.MESSAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One part of one number that WhatsApp refuses; times are microseconds."""

    number: str
    part: Part
    tenant: str
    code: str
    word: str
    since: int
    next_try_at: int
    failures: int = 1
    by_status: bool = False

    @property
    def key(self) -> tuple[str, Part]:
        """Return what it is a fault of."""
        return self.number, self.part

    @property
    def told(self) -> str:
        """Return what was seen, for a finding: no whole number stands in it."""
        return f"{self.word} ({self.code}): {self.part} of {self.tenant}'s ...{self.number[-4:]}"


class Accounts:
    """One cell's accounts; one instance per event loop, and one loop per cell."""

    def __init__(
        self, engine: AsyncEngine, metrics: Metrics, *, now: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._now = now
        self._faults: dict[tuple[str, Part], Fault] = {}
        self._probes: dict[tuple[str, Part], tuple[str, int]] = {}  # whose, and until when

    async def load(self) -> None:
        """Read what was closed when the cell stopped: it is tried at once."""
        for fault in await stored(self._engine):
            self._faults[fault.key] = replace(fault, next_try_at=micros(self._now()))
            self._metrics.account(fault.tenant, fault.part, fault.word, closed=True)

    def faults(self) -> tuple[Fault, ...]:
        """Return what is closed, in a fixed order."""
        return tuple(self._faults[key] for key in sorted(self._faults))

    def due(self) -> Iterator[Fault]:
        """Yield what somebody should try now, and nobody does."""
        now = micros(self._now())
        for fault in self.faults():
            if fault.next_try_at <= now and not self._probed(fault, now):
                yield fault

    def admit(self, number: str, wanted: Part, job: str, *, tries: bool = True) -> None:
        """Raise `AccountFaultError` if *wanted* is closed, and it is not for *job* to try."""
        fault = self._faults.get((number, wanted))
        if fault is None:
            return
        now = micros(self._now())
        holder = self._probed(fault, now)
        if holder == job:
            return
        if holder or fault.next_try_at > now or not tries:
            raise AccountFaultError(fault.code, word=fault.word)
        self._probes[fault.key] = (job, now + int(PROBE_S * 1e6))

    def _probed(self, fault: Fault, now: int) -> str:
        holder, until = self._probes.get(fault.key, ("", 0))
        return holder if until > now else ""

    async def refused(
        self,
        number: str,
        closed: Part,
        tenant: str,
        exc: AccountFaultError,
        *,
        by_status: bool = False,
    ) -> None:
        """Close *closed* of *number*, or leave it closed for longer than before."""
        now = micros(self._now())
        known = self._faults.get((number, closed))
        failures = known.failures + 1 if known else 1
        fault = Fault(
            number=number,
            part=closed,
            tenant=tenant,
            code=exc.code[:16],
            word=exc.word,
            since=known.since if known else now,
            next_try_at=now + int(pause_s(failures) * 1e6),
            failures=failures,
            by_status=by_status or (known is not None and known.by_status),
        )
        self._faults[fault.key] = fault
        self._probes.pop(fault.key, None)
        if known is None:
            log.get().error(
                "account.closed",
                tenant=fault.tenant,
                component=fault.part.value,
                reason=fault.word,
                code=f"graph:{fault.code}",
                seconds=self._closed_s(fault),
            )
            self._metrics.account(tenant, closed, fault.word, closed=True)
        await self._keep(fault)

    def undecided(self, number: str, tried: Part, job: str) -> None:
        """Note that the call of *job* said nothing of the account: another one tries soon."""
        fault = self._faults.get((number, tried))
        if fault is None or self._probes.get(fault.key, ("", 0))[0] != job:
            return
        self._probes.pop(fault.key)
        again = micros(self._now()) + int(FIRST_PAUSE_S * 1e6)
        self._faults[fault.key] = replace(fault, next_try_at=again)

    async def answered(self, number: str, opened: Part, *, by_status: bool = False) -> None:
        """Open *opened* of *number* again, if it was closed and this proves that it is mended."""
        fault = self._faults.get((number, opened))
        if fault is None:
            return
        if fault.by_status and not by_status:
            self._probes.pop(fault.key, None)
            await self._keep(self._later(fault))
            return
        del self._faults[fault.key]
        self._probes.pop(fault.key, None)
        log.get().error(
            "account.opened",
            tenant=fault.tenant,
            component=fault.part.value,
            reason=fault.word,
            code=f"graph:{fault.code}",
            seconds=self._closed_s(fault),
        )
        self._metrics.account(fault.tenant, opened, fault.word, closed=False)
        await self._forget(fault)

    def retry(self, fault: Fault) -> None:
        """Have the next call try *fault*: a person said that it is mended."""
        if fault.key in self._faults:
            now = micros(self._now())
            self._faults[fault.key] = replace(fault, next_try_at=now, failures=0)

    def _later(self, fault: Fault) -> Fault:
        """Return *fault*, due again when a status had time to come."""
        again = micros(self._now()) + int(max(PROBE_S, pause_s(fault.failures)) * 1e6)
        self._faults[fault.key] = replace(fault, next_try_at=again)
        return self._faults[fault.key]

    def _closed_s(self, fault: Fault) -> int:
        """Return for how many seconds *fault* has stood."""
        return round((micros(self._now()) - fault.since) / 1e6)

    async def _keep(self, fault: Fault) -> None:
        values = {name: getattr(fault, name) for name in Fault.__slots__}
        with suppress(SQLAlchemyError, OSError):  # what is not kept is found out again
            async with self._engine.begin() as tx:
                await tx.execute(delete(accounts).where(_row(fault)))
                await tx.execute(insert(accounts).values(**values))

    async def _forget(self, fault: Fault) -> None:
        with suppress(SQLAlchemyError, OSError):
            async with self._engine.begin() as tx:
                await tx.execute(delete(accounts).where(_row(fault)))


def remedy(word: str) -> str:
    """Return what an operator does about a fault called *word*."""
    return REMEDIES.get(word, REMEDY)


async def stored(engine: AsyncEngine) -> list[Fault]:
    """Return what the database says is closed."""
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(accounts))).all()
    return [
        Fault(**dict(row._mapping) | {"part": Part(row.part)})  # noqa: SLF001 - public API
        for row in rows
    ]


def pause_s(failures: int) -> float:
    """Return for how long nobody tries after so many *failures*: 10, 20, 40, 80, at most 120 s."""
    doublings = min(max(failures, 1) - 1, int(math.log2(MOST_PAUSE_S / FIRST_PAUSE_S)) + 1)
    return min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0**doublings)


@asynccontextmanager
async def watched(
    found: Accounts, number: str, tenant: str, action: str, job: str
) -> AsyncIterator[None]:
    """Let the body call WhatsApp for *job* if *number* is open, and note what that says of it."""
    needed = part(action)
    if action in UNTOLD:
        found.admit(number, needed, job, tries=False)
        yield
        return
    found.admit(number, needed, job)
    try:
        yield
    except AccountFaultError as exc:
        await found.refused(number, needed, tenant, exc)
        raise
    except BaseException:
        found.undecided(number, needed, job)
        raise
    await found.answered(number, needed)


def _row(fault: Fault) -> ColumnElement[bool]:
    return (accounts.c.number == fault.number) & (accounts.c.part == fault.part)
