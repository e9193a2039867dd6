"""
What a DPO asks and declares of one person, in the cell's database, while the gateway runs.

``consent history`` reads. ``subject declare`` writes, and the running cell puts it on the trail.
``consent receipt`` asks the running cell, which alone can log what it signs, and waits.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import requested, subjects
from gateway.compose import waiting
from gateway.compose.surroundings import now
from gateway.errors import GatewayError
from gateway.note import SPOKEN
from gateway.sections import PURPOSES
from policy.consents.sql import SqlConsents
from residency import jurisdiction

WAIT_S = 10.0
REASONS = {
    requested.NOTHING: "nothing of this is in the ledger (vocustody consent history shows all)",
    requested.UNKNOWN_LAW: "whose law holds is not known (vocustody subject declare --residence)",
}


class NoReceiptError(GatewayError):
    """There is nothing to give a receipt of; the message says why."""


class UnknownSubjectError(GatewayError):
    """No number and no user id leads to this subject, or what is declared of it cannot be."""


async def history(engine: AsyncEngine, subject: str) -> list[dict[str, Any]]:
    """Return every row of *subject* in the ledger of consents, oldest first."""
    rows = await SqlConsents(engine).history(await _tenant(engine, subject), subject)
    return [
        {
            "at": _time(row.at),
            "purpose": row.purpose,
            "state": row.state.value,
            "until": _time(row.expires_at),
            "expressed": row.expressed.value,
            "notice": row.notice_version,
            "notice_sha256": row.notice_sha256,
            "language": row.language,
            "channel": row.channel,
            "shown": row.shown,
            "evidence": row.evidence,
            "id": row.id,
        }
        for row in rows
    ]


async def receipt(
    engine: AsyncEngine,
    subject: str,
    purpose: str | None = None,
    *,
    wait_s: float = WAIT_S,
    clock: Callable[[], datetime] = now,
) -> bytes:
    """
    Return a signed receipt of *subject*'s consents, to all purposes or to *purpose* alone.

    Raises:
        MissingPartError: no cell answered within *wait_s* seconds.
        NoReceiptError: there is nothing to give a receipt of, or the rules say no.
        UnknownSubjectError: nobody is known by this pseudonym.

    """
    if purpose not in {None, SPOKEN, *PURPOSES}:
        raise NoReceiptError(f"--purpose: one of {', '.join((SPOKEN, *PURPOSES))}")
    tenant = await _tenant(engine, subject)
    ident = await requested.ask(engine, subject, tenant, purpose, clock())
    try:
        found = await waiting.until(
            lambda: requested.answer(engine, ident),
            wait_s,
            f"no running cell answered within {wait_s:.0f} s (start it; its log says what fails)",
        )
    finally:
        await requested.drop(engine, ident)
    if found.document is None:
        raise NoReceiptError(REASONS.get(found.fault, f"the rules say no: {found.fault}"))
    return found.document


async def declare(
    engine: AsyncEngine, subject: str, *, residence: str | None, minor: bool | None
) -> list[dict[str, Any]]:
    """Declare what is not None of *subject*; return all that is declared of it now."""
    if residence is None and minor is None:
        raise UnknownSubjectError("nothing to declare (give --residence, --minor or --adult)")
    if residence is not None and not jurisdiction.known(residence):
        raise UnknownSubjectError("--residence: no country code (ISO 3166-1 alpha-2, such as DE)")
    tenant = await _tenant(engine, subject)
    told = await subjects.declare(
        engine, subject, tenant, at=now(), residence=residence, minor=minor
    )
    return [{"subject": subject, "residence": told.residence, "minor": told.minor}]


async def _tenant(engine: AsyncEngine, subject: str) -> str:
    tenant = await subjects.known(engine, subject)
    if tenant is None:
        raise UnknownSubjectError("no such subject (they begin with s_; see the trail)")
    return tenant


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
