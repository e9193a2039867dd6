"""
Keysheets: the wrapped keys of the living in one bucket, kept beside the objects.

A roll makes every older copy of the key table worthless, for the living too. The sheet that it
leaves behind is what a restored database takes their rows from. It holds pseudonyms and
ciphertext; who was erased before the roll began is in none.
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import Row, and_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from vault.errors import GoneError, TamperedError
from vault.ports import Objects
from vault.tables import subject_keys

PREFIX = "keysheets/"
FORMAT = "vocustody-keysheet-v1"


def name_of(kek: str, version: int) -> str:
    """Return the object that the sheet of *kek*'s *version* is kept as."""
    return f"{PREFIX}{kek}/{version}"


async def write(objects: Objects, kek: str, version: int, rows: Sequence[Row[Any]]) -> None:
    """Keep *rows* as the sheet of *version*, in place of one that a crash cut short."""
    keys = {row.subject: [row.version, row.ciphertext] for row in rows}
    sheet = {"format": FORMAT, "kek": kek, "version": version, "keys": keys}
    await objects.delete(name_of(kek, version))
    await objects.put(name_of(kek, version), json.dumps(sheet, sort_keys=True).encode())


async def newest(objects: Objects) -> dict[str, int]:
    """Return the newest version of each KEK that has a sheet."""
    found: dict[str, int] = {}
    for name in await objects.names():
        if name.startswith(PREFIX):
            kek, _, version = name.removeprefix(PREFIX).rpartition("/")
            found[kek] = max(found.get(kek, 0), int(version))
    return found


async def restore(engine: AsyncEngine, objects: Objects, kek: str, version: int) -> int:
    """
    Give rows that an older backup brought back their keys of *version*; return how many.

    A row that was destroyed stays destroyed, and a newer row stays as it is.
    """
    restored = 0
    async for subject, at, ciphertext in _read(objects, kek, version):
        c = subject_keys.c
        old = and_(c.subject == subject, c.ciphertext.is_not(None), c.version < at)
        values = {"kek": kek, "version": at, "ciphertext": ciphertext}
        async with engine.begin() as tx:
            restored += (await tx.execute(update(subject_keys).where(old).values(values))).rowcount
    return restored


async def _read(objects: Objects, kek: str, version: int) -> AsyncIterator[tuple[str, int, str]]:
    try:
        sheet = json.loads(await objects.get(name_of(kek, version)))
    except GoneError:
        return
    except ValueError:
        raise TamperedError(f"{name_of(kek, version)}: not a keysheet") from None
    if (sheet.get("format"), sheet.get("kek"), sheet.get("version")) != (FORMAT, kek, version):
        raise TamperedError(f"{name_of(kek, version)}: another sheet")
    for subject, (at, ciphertext) in sheet["keys"].items():
        yield subject, at, ciphertext
