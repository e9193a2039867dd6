"""``vocustody retention``: every class of what is kept, its clock, and how late deletions were."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import clocks
from gateway.commands.shared import AsJson, Config, load, show, with_database
from gateway.compose.surroundings import now

LOOKED_BACK = timedelta(days=7)

app = typer.Typer()


@app.command("retention")
def retention_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """
    List every class of what is kept with its clock, and the lateness of the last 7 days.

    Exit status: 0 nothing is overdue, 1 something is.
    """
    kept_for = timedelta(days=load(config).decisions.kept_days)

    async def ask(engine: AsyncEngine) -> list[dict[str, Any]]:
        late = await clocks.lateness(engine, now() - LOOKED_BACK)
        shown = await clocks.readings(engine, now(), decisions_for=kept_for)
        return [_row(reading, late.get(reading.clock.name, [])) for reading in shown]

    rows = asyncio.run(with_database(config, ask))
    show(rows, as_json=as_json)
    return int(any(row["overdue"] for row in rows))


def _row(reading: clocks.Reading, late: Sequence[int]) -> dict[str, Any]:
    clock = reading.clock
    return {
        "class": clock.name,
        "says": clock.says,
        "count": reading.count,
        "first": reading.first.isoformat() if reading.first else "",
        "set_by": clock.set_by,
        "enforced_by": clock.enforced_by,
        "overdue": str(reading.overdue) if reading.alarming else "",
        "deleted_in_7_days": len(late),
        "late_s": {"p50": _at(late, 0.5), "p99": _at(late, 0.99), "max": _at(late, 1)},
    }


def _at(ordered: Sequence[int], share: float) -> int | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
