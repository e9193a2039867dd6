"""
Questions about a cell that only read: where, timeline, notes, handovers, export.

They work on the cell's data directory while the gateway runs, and need no key: the trail and
the tables they read hold pseudonyms and digests only.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from audit import export, timeline
from audit.errors import NotInLogError
from audit.model import Entry, Leaf, Whereabouts
from audit.ports import Shelf
from audit.trail import Quarters, Trail
from gateway import db
from gateway.errors import GatewayError
from gateway.schema import handovers, jobs

PREFIXES = {"a": "artifact", "e": "artifact", "j": "job", "r": "artifact", "t": "touch"}


class QuestionError(GatewayError):
    """The question cannot be understood; the message says how to ask it."""


def moment(text: str) -> datetime:
    """Return the aware time that *text* says (ISO 8601 with a zone); raise `QuestionError`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise QuestionError("not a time (write it like 2026-11-19T14:14:00+00:00)") from None
    if at.tzinfo is None:
        raise QuestionError("a time without a zone (add Z or +01:00)")
    return at.astimezone(UTC)


async def leaves(trail: Quarters, ident: str) -> list[Leaf]:
    """Return the leaves about an artifact, reply, job or touch id, oldest first."""
    kind = PREFIXES.get(ident[:1]) if ident[1:2] == "_" else None
    if kind is None:
        raise QuestionError("not an id of ours (they begin with a_, e_, r_, j_ or t_)")
    found = await trail.leaves(**{kind: ident})
    if not found:
        raise NotInLogError(f"{ident}: no leaf of the log speaks of it")
    return found


async def where(shelf: Shelf, ident: str, at: datetime) -> list[Whereabouts]:
    """
    Return where what *ident* names was at *at*, and who handled it.

    An artifact gives one answer; a job or a touch one for each artifact that its leaves name, in
    the order in which the log came to know them. Raises `NotInLogError` where there is none.
    """
    async with await Trail.read(shelf) as trail:
        found = await leaves(trail, ident)
        named = dict.fromkeys(leaf.event.artifact for leaf in found if leaf.event.artifact)
        if not named:
            raise NotInLogError(f"{ident}: its leaves name no artifact (vocustody timeline)")
        return [timeline.whereabouts(each, at, await trail.leaves(artifact=each)) for each in named]


async def entries(shelf: Shelf, ident: str) -> tuple[Entry, ...]:
    """Return everything the trail says about *ident*, oldest first."""
    async with await Trail.read(shelf) as trail:
        return timeline.timeline(await leaves(trail, ident))


async def export_log(shelf: Shelf, to: Path, quarter: str | None) -> str:
    """Write the log of *quarter* (the newest by default) to *to*; return its origin and size."""
    async with await Trail.read(shelf) as trail:
        head = await export.export(trail.reader(quarter), to, vkey=trail.vkey(quarter))
    return f"{head.origin}: {head.size} leaves"


async def notes(engine: AsyncEngine, limit: int) -> list[dict[str, Any]]:
    """Return the newest *limit* jobs, newest first, as plain rows."""
    query = select(jobs).order_by(jobs.c.seq.desc()).limit(limit)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(query)).all()
    return [
        {
            "job": row.id,
            "artifact": row.artifact,
            "tenant": row.tenant,
            "state": row.state,
            "reason": row.reason,
            "accepted": _time(row.accepted_at),
            "ended": _time(row.ended_at) if row.ended_at else None,
        }
        for row in rows
    ]


async def open_handovers(engine: AsyncEngine) -> list[dict[str, Any]]:
    """Return the conversations that wait for a human, oldest first."""
    waiting = handovers.c.closed_at.is_(None)
    query = select(handovers).where(waiting).order_by(handovers.c.at)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(query)).all()
    return [
        {
            "job": row.job,
            "tenant": row.tenant,
            "subject": row.subject,
            "reason": row.reason,
            "since": _time(row.at),
        }
        for row in rows
    ]


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
