"""``vocustody keys`` and ``vocustody keeper``: what keys there are, and who ends them."""

import asyncio
from typing import Annotated

import typer

from gateway.commands.shared import AsJson, Config, load, show
from gateway.compose import keepers

app = typer.Typer()

Once = Annotated[bool, typer.Option("--once", help="Look once and end.")]


@app.command("keys")
def keys_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """
    List the key-encryption keys: versions, age, what hangs on them, what is wrong.

    Exit status: 0 all is well, 1 there is an alarm.
    """
    rows = asyncio.run(keepers.keys(load(config)))
    show(rows, as_json=as_json)
    return int(any(row["alarms"] for row in rows))


@app.command("keeper")
def keeper_command(config: Config = None, once: Once = False) -> int:  # noqa: FBT002
    """
    Run the keeper beside a cell: it ends and rolls keys, and watches the clocks.

    Exit status with --once: 0 nothing is overdue, 1 something is.
    """
    if not once:
        keepers.run(load(config))
        return 0
    report = asyncio.run(keepers.once(load(config)))
    for alarm in report.alarms:
        print(f"OVERDUE {alarm}")
    if not report.alarms:
        print("nothing is overdue")
    return int(bool(report.alarms))
