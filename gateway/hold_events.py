"""
What the trail is told of legal holds: proposed, placed, ended; and when they end by the clock.

The row of a hold is first, whoever wrote it; this tells it later, and once.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import db
from gateway.ports import Ports
from vault import holds, orders
from vault.model import Hold, HoldState
from vault.tables import holds as table

MOST_NAMED = 50  # ids in one leaf


async def tick(ports: Ports, limit: int) -> None:
    """End what expired and what nobody approved; put on record what is not on record yet."""
    if (time := await ports.agreed()) is not None:
        await holds.end_due(ports.engine, time)
    for event, stamp in await _unrecorded(ports.engine, limit):
        await ports.trail.append(event)
        done = {stamp: int(ports.now().timestamp())}
        async with ports.engine.begin() as tx:
            mine = table.c.id == str(event.detail["hold"])
            await tx.execute(update(table).where(mine).values(done))


async def _unrecorded(engine: AsyncEngine, limit: int) -> list[tuple[Event, str]]:
    """Return what the trail does not know yet, with the column that says it does."""
    steps: list[tuple[str, ColumnElement[bool]]] = [
        ("proposal_recorded_at", table.c.state != HoldState.OPENING),
        ("placing_recorded_at", table.c.placed_at.is_not(None)),
        ("end_recorded_at", table.c.ended_at.is_not(None)),
    ]
    missing = or_(*(and_(there, table.c[stamp].is_(None)) for stamp, there in steps))
    query = select(table).where(missing).order_by(table.c.proposed_at, table.c.id).limit(limit)
    async with db.reading(engine) as tx:
        rows = {row.id: row for row in (await tx.execute(query)).all()}
    found = {hold.id: hold for hold in await orders.listed(engine, table.c.id.in_(list(rows)))}
    return [each for ident, row in rows.items() for each in _events(row, found[ident])]


def _events(row: Row[Any], hold: Hold) -> list[tuple[Event, str]]:
    steps = (
        ("proposal_recorded_at", EventType.HOLD_PROPOSED, hold.proposed_at, hold.placed_by),
        ("placing_recorded_at", EventType.HOLD_PLACED, hold.placed_at, hold.approved_by),
        ("end_recorded_at", EventType.HOLD_RELEASED, hold.ended_at, hold.released_by),
    )
    return [
        (_event(kind, at, by or "gateway", hold), stamp)
        for stamp, kind, at, by in steps
        if at is not None
        and getattr(row, stamp) is None
        and not (kind is EventType.HOLD_PROPOSED and hold.state is HoldState.OPENING)
    ]


def _event(kind: EventType, at: datetime, by: str, hold: Hold) -> Event:
    scope = hold.scope
    about = {
        "artifacts": list(scope.artifacts[:MOST_NAMED]),
        "before": _time(scope.before),
        "named": len(scope.artifacts),
        "since": _time(scope.since),
        "subjects": list(scope.subjects[:MOST_NAMED]),
    }
    people = {
        "approved_by": hold.approved_by or "",
        "proposed_by": hold.placed_by,
        "release_proposed_by": hold.release_by or "",
    }
    return Event(
        id=f"{hold.id}.{kind.value.rpartition('.')[2]}",
        type=kind,
        at=at,
        tenant=scope.tenant,
        subject=scope.subjects[0] if len(scope.subjects) == 1 else None,
        artifact=scope.artifacts[0] if len(scope.artifacts) == 1 else None,
        actor=by,
        outcome=hold.ended if kind is EventType.HOLD_RELEASED else kind.value.rpartition(".")[2],
        detail={
            "basis": "declared",
            "case": hold.case,
            "ground": hold.ground,
            "hold": hold.id,
            "kept": hold.kept,
            "people": people,
            "scope": about,
            "too_late": hold.too_late,
            "until": _time(hold.expires_at),
        },
    )


def _time(at: datetime | None) -> str:
    return at.isoformat() if at is not None else ""
