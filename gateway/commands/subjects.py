"""``vocustody subject``: who a number is to us, and what is held of a person."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.shared import Config, Subject, known_operator, load
from gateway.compose import access
from gateway.whatsapp.payload import Identity

MOST_CHARS = 128


def find_command(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whom the person writes to.")],
    config: Config = None,
) -> int:
    """Print the pseudonym of a number or user id, which is read from standard input."""
    # An argument would stay in the shell's history and in the list of processes.
    given = sys.stdin.readline(MOST_CHARS).strip()
    digits = given.removeprefix("+")
    identity = Identity(
        phone=digits if digits.isascii() and digits.isdigit() else None,
        bsuid=None if digits.isascii() and digits.isdigit() else given,
    )
    print(asyncio.run(access.find(load(config), tenant, identity)))
    return 0


def export_command(
    subject: Subject,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new .zip file.")],
    by: Annotated[str, typer.Option("--by", help="Who opens it; goes on record first.")],
    config: Config = None,
) -> int:
    """Write everything that is held of a person to a zip with a readable page (GDPR Art. 15)."""
    loaded = load(config)
    by = known_operator(loaded, by)
    count = asyncio.run(access.report(loaded, subject, to, by=by))
    print(f"{to.name}: {count} files (index.html is for people)")
    return 0
