"""
What a DPO asks and declares of one person: ``consent history`` and ``subject declare``.

Both work on the cell's database while the gateway runs; the running cell puts what was declared
on the trail.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import subjects
from gateway.compose.surroundings import now
from gateway.errors import GatewayError
from policy.consents.sql import SqlConsents
from residency import jurisdiction


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
