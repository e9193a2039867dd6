"""A person of a running cell is erased by a DPO's command, and what is left is looked at."""

import contextlib
import json
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

from support.cell import Town
from support.stage import Said, until, vocustody

VERDICTS = {"complete", "complete-with-residuals"}
#: tables that keep a hash of an erased number, so that old news of it is known again
KEEP_ALIASES = {"tombstones"}


async def ask(town: Town, *command: str, typed: str = "") -> Said:
    """Run a command against the cell."""
    return await vocustody(*command, "--config", str(town.cell.config), typed=typed)


async def subject_of(town: Town, phone: str) -> str:
    """Return the pseudonym of *phone*, as a DPO finds it."""
    found = await ask(town, "subject", "find", "fernruf", typed=f"+{phone}\n")
    assert found.status == 0, found.err
    return found.out.strip()


async def ask_erasure(town: Town, subject: str) -> str:
    """Ask for the erasure of *subject* for good, and return its id without waiting."""
    why = ("--because", "request 17", "--by", "dpo", "--hard")
    said = await ask(town, "erase", subject, *why, "--wait", "0", "--json")
    assert said.status == 0, said.err
    ident: str = json.loads(said.out)[0]["erasure"]
    return ident


async def certified(town: Town, ident: str) -> str:
    """Return the verdict of the erasure *ident*, once there is one."""

    async def verdict() -> str:
        query = "SELECT verdict FROM erasures WHERE id = ? AND certified_at IS NOT NULL"
        return next((str(each) for (each,) in rows(town, query, ident)), "")

    return str(await until(verdict))


def step(town: Town, ident: str) -> str:
    """Return the last step of the erasure *ident* that is done."""
    [(name,)] = rows(town, "SELECT step FROM erasures WHERE id = ?", ident)
    return str(name)


def rows(town: Town, query: str, *values: object) -> list[Any]:
    """Return what *query* finds in the cell's database."""
    with contextlib.closing(_opened(town)) as database:
        return list(database.execute(query, values))


def aliases(town: Town) -> set[str]:
    """Return the keyed hashes under which persons are known."""
    return {alias for (alias,) in rows(town, "SELECT alias FROM aliases")}


def tables_with(town: Town, values: Collection[str]) -> set[str]:
    """Return the tables in which a row has one of *values*."""
    with contextlib.closing(_opened(town)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema")]
        tables = [name for name in names if name and not name.startswith("sqlite_")]
        return {name for name in tables if _has(database, name, values)}


def _has(database: sqlite3.Connection, table: str, values: Collection[str]) -> bool:
    with contextlib.suppress(sqlite3.OperationalError):  # an index
        told = " ".join(map(str, database.execute(f'SELECT * FROM "{table}"')))
        return any(value in told for value in values)
    return False


def _opened(town: Town) -> sqlite3.Connection:
    path: Path = town.cell.config.parent / "data" / "cell.db"
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
