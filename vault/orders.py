"""
The rows of legal holds: their terms are written once, and never change.

- A hold's id is a digest of its terms: who approves the id approves exactly them.
- A hold has a ground and an end, and is about artifacts, or a subject, or a span of time.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault import ledger
from vault.errors import HoldError
from vault.model import Hold, HoldState, Scope
from vault.tables import hold_scopes, holds, reading

LAPSES_AFTER = timedelta(hours=24)
LONGEST = timedelta(days=3 * 366)
CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
GROUND = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ().,:/_-]{0,63}")


def ident_of(case: str, ground: str, scope: Scope, proposed_at: datetime, until: datetime) -> str:
    """Return the id of a hold on these terms: who approves the id approves exactly them."""
    terms = [case, ground, msgspec.to_builtins(scope), _seconds(proposed_at), _seconds(until)]
    return f"h_{hashlib.sha256(msgspec.json.encode(terms, order='sorted')).hexdigest()[:32]}"


def check(hold: Hold) -> None:
    """Raise `HoldError` if nobody can propose *hold*: its terms, or its id, are not acceptable."""
    scope, at, until = hold.scope, hold.proposed_at, hold.expires_at
    if not CASE.fullmatch(hold.case) or not GROUND.fullmatch(hold.ground):
        raise HoldError("case and ground: codes of 1 to 64 characters, such as GDPR Art. 17(3)(e)")
    if not at < until <= at + LONGEST:
        raise HoldError(f"until: after now, and within {LONGEST.days} days")
    if (scope.since is None) != (scope.before is None):
        raise HoldError("a span of time has a beginning and an end")
    span = scope.since is not None and scope.before is not None
    if sum([bool(scope.artifacts), bool(scope.subjects), span]) != 1:
        raise HoldError("a hold is about artifacts, or about a subject, or about a span of time")
    if scope.since is not None and scope.before is not None and scope.since >= scope.before:
        raise HoldError("a span of time ends after its beginning")
    if hold.id != ident_of(hold.case, hold.ground, scope, at, until):
        raise HoldError(f"{hold.id}: not the id of these terms")


async def write(engine: AsyncEngine, hold: Hold) -> None:
    """Write *hold* as opening, unless it is written already."""
    scope, until = hold.scope, hold.expires_at
    row = {
        "id": hold.id,
        "tenant": scope.tenant,
        "case_id": hold.case,
        "ground": hold.ground,
        "since_at": scope.since and _seconds(scope.since),
        "before_at": scope.before and _seconds(scope.before),
        "state": HoldState.OPENING,
        "placed_by": hold.placed_by,
        "placed_role": hold.placed_role,
        "proposed_at": _seconds(hold.proposed_at),
        "expires_at": _seconds(until),
    }
    named = [
        {"hold": hold.id, "of": of, "ident": ident}
        for of, idents in (("artifact", scope.artifacts), ("subject", scope.subjects))
        for ident in dict.fromkeys(idents)
    ]
    async with engine.begin() as tx:
        if (await tx.execute(select(holds.c.id).where(holds.c.id == hold.id))).first() is None:
            await tx.execute(insert(holds).values(row))
            if named:
                await tx.execute(insert(hold_scopes), named)


async def find(engine: AsyncEngine, ident: str) -> Hold | None:
    """Return the hold *ident*, or None."""
    return next(iter(await listed(engine, holds.c.id == ident)), None)


async def listed(engine: AsyncEngine, *which: ColumnElement[bool]) -> list[Hold]:
    """Return the holds, or those that *which* says, the newest first."""
    query = select(holds).where(*which).order_by(holds.c.proposed_at.desc(), holds.c.id)
    async with reading(engine) as connection:
        rows = (await connection.execute(query)).all()
        scoped = hold_scopes.c.hold.in_([row.id for row in rows])
        named = (await connection.execute(select(hold_scopes).where(scoped))).all()
    return [_hold(row, [each for each in named if each.hold == row.id]) for row in rows]


async def lock(tx: AsyncConnection, ident: str) -> Row[Any]:
    """Return the row of the hold *ident*, ours until *tx* ends; raise `HoldError` for none."""
    row = (
        await tx.execute(select(holds).where(holds.c.id == ident).with_for_update(key_share=True))
    ).first()
    if row is None:
        raise HoldError(f"{ident}: no such hold")
    return row


def lapsed(row: Row[Any], at: datetime) -> bool:
    """Whether the proposal in *row* is void at *at*."""
    lapses_at = ledger.moment(row.proposed_at) + LAPSES_AFTER
    return at >= lapses_at or at >= ledger.moment(row.expires_at)


def _hold(row: Row[Any], named: Sequence[Row[Any]]) -> Hold:
    times = ("expires_at", "proposed_at", "placed_at", "release_asked_at", "ended_at")
    plain = {"case", "scope", "state", *times}
    values: dict[str, Any] = {
        f.name: getattr(row, f.name) for f in fields(Hold) if f.name not in plain
    }
    moments: dict[str, Any] = {name: _moment(getattr(row, name)) for name in times}
    scope = Scope(
        tenant=row.tenant,
        artifacts=tuple(sorted(each.ident for each in named if each.of == "artifact")),
        subjects=tuple(sorted(each.ident for each in named if each.of == "subject")),
        since=_moment(row.since_at),
        before=_moment(row.before_at),
    )
    return Hold(**values, **moments, case=row.case_id, scope=scope, state=HoldState(row.state))


def _moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
