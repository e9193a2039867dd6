"""
Keysheets: the wrapped keys of the living under one KEK, kept beside the objects.

A roll makes every older copy of the key table worthless, for the living too. The sheet that it
leaves behind is what a restored database takes their rows from. It holds pseudonyms and
ciphertext; who was erased before the roll began is in none.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, and_, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from vault.errors import GoneError, TamperedError
from vault.ports import Objects
from vault.tables import HANGING, hanging, ident, reading

BATCH = 960
PREFIX = "keysheets/"
FORMAT = "vocustody-keysheet-v1"


def name_of(kek: str, version: int) -> str:
    """Return the object that the sheet of *kek*'s *version* is kept as."""
    return f"{PREFIX}{kek}/{version}"


async def write(objects: Objects, kek: str, version: int, rows: Sequence[Row[Any]]) -> None:
    """Keep *rows* as the sheet of *version*, in place of one that a crash cut short."""
    keys = {row.id: [row.version, row.ciphertext] for row in rows}
    sheet = {"format": FORMAT, "kek": kek, "version": version, "keys": keys}
    await objects.delete(name_of(kek, version))
    await objects.put(name_of(kek, version), json.dumps(sheet, sort_keys=True).encode())


async def kept(objects: Objects) -> dict[str, list[int]]:
    """Return the versions of each KEK of which there is a sheet, ascending."""
    found: dict[str, list[int]] = {}
    for name in await objects.names():
        kek, _, version = name.removeprefix(PREFIX).rpartition("/")
        # What somebody else put there is no sheet, and must not stop the keeper.
        if name.startswith(PREFIX) and kek.startswith(tuple(HANGING)) and version.isdigit():
            found.setdefault(kek, []).append(int(version))
    return {kek: sorted(versions) for kek, versions in found.items()}


async def forget(objects: Objects, kek: str, versions: Iterable[int]) -> None:
    """Delete the sheets of *kek*'s *versions*."""
    for version in versions:
        await objects.delete(name_of(kek, version))


async def restore(engine: AsyncEngine, objects: Objects, kek: str, version: int) -> int:
    """
    Give rows that an older backup brought back their keys of *version*; return how many.

    A row that was destroyed stays destroyed, and a newer row stays as it is.
    """
    table = hanging(kek)
    older = and_(
        table.c.kek == kek,
        ident(table) == bindparam("its_id"),
        table.c.ciphertext.is_not(None),
        table.c.version < bindparam("new_version"),
    )
    anew: dict[str, Any] = {
        "version": bindparam("new_version"),
        "ciphertext": bindparam("new_ciphertext"),
    }
    written = update(table).where(older).values(anew)
    restored = 0
    sheet = await _read(objects, kek, version)
    for chunk in (sheet[start : start + BATCH] for start in range(0, len(sheet), BATCH)):
        chosen = select(ident(table), table.c.version).where(
            table.c.kek == kek,
            ident(table).in_([row["its_id"] for row in chunk]),
            table.c.ciphertext.is_not(None),
        )
        async with reading(engine) as connection:
            there = {row[0]: row.version for row in await connection.execute(chosen)}
        old = [row for row in chunk if there.get(row["its_id"], math.inf) < row["new_version"]]
        if old:
            async with engine.begin() as tx:
                await tx.execute(written, old)
            restored += len(old)
    return restored


async def _read(objects: Objects, kek: str, version: int) -> list[dict[str, Any]]:
    name = name_of(kek, version)
    try:
        sheet = json.loads(await objects.get(name))
    except GoneError:
        return []
    except ValueError:
        raise TamperedError(f"{name}: not a keysheet") from None
    if (sheet.get("format"), sheet.get("kek"), sheet.get("version")) != (FORMAT, kek, version):
        raise TamperedError(f"{name}: another sheet")
    return [
        {"its_id": one, "new_version": at, "new_ciphertext": ciphertext}
        for one, (at, ciphertext) in sheet["keys"].items()
    ]
