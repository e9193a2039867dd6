"""``vocustody clock``: what the clocks show, and a person's word where there is one only."""

import asyncio
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import timekeeping
from gateway.commands.shared import AsJson, Config, known_operator, load, show, with_database
from gateway.compose import times
from gateway.compose.surroundings import MACHINE
from gateway.timekeeping import Timekeeper

app = typer.Typer(no_args_is_help=True)

By = Annotated[str, typer.Option("--by", help="Who looked at another clock: of operators.names.")]


@app.command("show")
def show_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """
    Show by how much this machine's clock and the database's differ from what is known.

    Exit status: 0 they agree, 1 they do not: nothing is destroyed meanwhile.
    """
    settings = load(config)

    async def ask(engine: AsyncEngine) -> list[dict[str, Any]]:
        time = Timekeeper(engine, MACHINE, rules=times.rules(settings), silent=True)
        apart = await time.report()
        found = apart.apart if apart is not None else {}
        return [
            {"clock": name, "apart_s": int(found[name].total_seconds()) if name in found else 0}
            for name in time.asked
        ]

    rows = asyncio.run(with_database(config, ask))
    show(rows, as_json=as_json)
    return int(any(row["apart_s"] for row in rows))


@app.command("confirm")
def confirm_command(by: By, config: Config = None) -> int:
    """
    Say that this machine's clock is right now: run it on the machine of the cell.

    Needed where it is the only clock, after a long downtime or after it was put right.
    """
    settings = load(config)
    by = known_operator(settings, by)
    at = MACHINE.wall()

    async def confirm(engine: AsyncEngine) -> list[dict[str, Any]]:
        bound = times.rules(settings).bound
        await timekeeping.note(engine, MACHINE, at, bound=bound, by=by)
        return []

    asyncio.run(with_database(config, confirm))
    print(f"{at.isoformat(timespec='seconds')} is taken to be right")
    return 0
