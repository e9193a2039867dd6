"""``vocustody subject``: who a number is to us, and what is held of a person."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.shared import Config, Subject, known_operator, load
from gateway.compose import access
from gateway.identity import DAY_S, Link, Why

MOST_CHARS = 128


def find_command(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whom the person writes to.")],
    config: Config = None,
) -> int:
    """
    Print the pseudonym of a number or user id, which is read from standard input.

    A number may be written as people do; without a country code it is of the tenant's country.

    Exit status: 0 it is one person's; 1 it led to several, all of them are listed with their
    times: ask when they wrote; 2 it is nobody's, or no number.
    """
    # An argument would stay in the shell's history and in the list of processes.
    given = sys.stdin.readline(MOST_CHARS).strip()
    settings = load(config)
    found = asyncio.run(access.find(settings, tenant, given))
    people = list(dict.fromkeys(link.subject for link in found))
    if len(people) == 1:
        print(people[0])
        return 0
    print("\n".join(map(_line, found)))
    return 1


def _line(link: Link) -> str:
    since = "from the beginning" if link.why is Why.FIRST else f"since {_time(link.since)}"
    until = f" until {_time(link.until)}" if link.until is not None else ""
    seen = datetime.fromtimestamp(link.seen * DAY_S, UTC).date().isoformat()
    return f"{link.subject}  {since}{until}  last message {seen}  ({link.why})"


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


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
