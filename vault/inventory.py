"""
The key inventory: every KEK with its versions, its age, what hangs on it, and what is wrong.

It is made of what the key service lists and what our tables expect; a difference is an alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault.errors import GoneError, TamperedError
from vault.model import Kek, WrappedKey
from vault.ports import Keeper
from vault.tables import (
    HANGING,
    artifacts,
    ending_keks,
    epoch_keys,
    hanging,
    held,
    ident,
    named_keys,
    reading,
    subject_keys,
)

KEYS = (subject_keys, epoch_keys, named_keys, held)
OURS = (*HANGING, "hold-")
SAMPLE = 24
MOST_VERSIONS = 2  # more than the one before a roll means that nobody trims


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """
    What our tables know of one KEK: living *keys*, their versions, *objects* they open.

    Of some keys it was *tried* whether the service still opens them; *closed* are those it did not.
    """

    keys: int = 0
    objects: int = 0
    oldest: int | None = None
    newest: int = 0
    tried: int = 0
    closed: int = 0
    ending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One KEK of the inventory; *alarms* are empty if all is well."""

    kek: str
    versions: str = ""
    age_days: int | None = None
    algorithm: str = ""
    keys: int = 0
    objects: int = 0
    alarms: tuple[str, ...] = ()


async def tried(engine: AsyncEngine, keeper: Keeper, kek: str, known: Expected) -> Expected:
    """
    Return what is *known* of *kek* and whether *keeper* opens a sample of its keys.

    A KEK that was made again under the name of a lost one looks well in every list.
    """
    if not kek.startswith(tuple(HANGING)):
        return known
    table = hanging(kek)
    living = and_(table.c.kek == kek, table.c.ciphertext.is_not(None))
    # Pseudonyms are random: in their order those of before and after a loss are mixed.
    query = select(table).where(living).order_by(ident(table)).limit(SAMPLE)
    async with reading(engine) as connection:
        rows = [
            WrappedKey(kek=kek, version=row.version, ciphertext=row.ciphertext)
            for row in await connection.execute(query)
        ]
    found = await keeper.rewrap(rows)
    closed = sum(isinstance(one, GoneError | TamperedError) for one in found)
    return replace(known, tried=len(rows), closed=closed)


async def expected(engine: AsyncEngine) -> dict[str, Expected]:
    """Return what the tables know of every KEK that a living row, or an ending one, names."""
    found: dict[str, Expected] = {}
    async with reading(engine) as connection:
        kept = await _objects(connection)
        for table in KEYS:
            versions = func.min(table.c.version), func.max(table.c.version)
            living = select(table.c.kek, func.count(), *versions)
            living = living.where(table.c.ciphertext.is_not(None)).group_by(table.c.kek)
            for kek, keys, oldest, newest in await connection.execute(living):
                known = Expected(keys=keys, oldest=oldest, newest=newest, objects=kept.get(kek, 0))
                found[kek] = known
        for kek in (await connection.execute(select(ending_keks.c.kek))).scalars():
            found[kek] = Expected(ending=True)
    return found


def lines(
    keks: Sequence[Kek],
    known: Mapping[str, Expected],
    *,
    at: datetime,
    cryptoperiod: timedelta,
    development: bool = False,
) -> list[Line]:
    """
    Return one line per KEK, those that should be there and are not included.

    A *development* keyring is exportable by nature: that alone is no alarm there.
    """
    there = {kek.name: kek for kek in keks}
    names = sorted(name for name in there.keys() | known.keys() if name.startswith(OURS))
    return [
        _line(name, there.get(name), known.get(name), at, cryptoperiod, development)
        for name in names
    ]


def _line(
    name: str,
    kek: Kek | None,
    known: Expected | None,
    at: datetime,
    cryptoperiod: timedelta,
    development: bool,  # noqa: FBT001 - private
) -> Line:
    return Line(
        kek=name,
        versions=f"{kek.oldest}..{kek.newest}" if kek else "",
        age_days=(at - kek.rotated_at).days if kek else None,
        algorithm=kek.algorithm if kek else "",
        keys=known.keys if known else 0,
        objects=known.objects if known else 0,
        alarms=tuple(_alarms(kek, known, at, cryptoperiod, development)),
    )


def _alarms(
    kek: Kek | None,
    known: Expected | None,
    at: datetime,
    cryptoperiod: timedelta,
    development: bool,  # noqa: FBT001 - private
) -> list[str]:
    living = known is not None and known.keys > 0
    if kek is None:
        return ["missing: living keys are wrapped by it"] if living else []
    ending = known is not None and known.ending
    closed = f"{known.closed} of {known.tried} keys that were tried do not open" if known else ""
    dead = known is not None and known.oldest is not None and known.oldest < kek.oldest
    told = {
        "exportable": kek.exportable and not development,
        "plaintext backup allowed": kek.backup_allowed and not development,
        "nothing hangs on it: destroy it": not living and not ending,
        "versions are not trimmed": kek.newest - kek.oldest + 1 > MOST_VERSIONS,
        "older than its cryptoperiod": living and at - kek.rotated_at > cryptoperiod,
        "living keys of destroyed versions": dead,
        "living keys of versions it does not have": known is not None and known.newest > kek.newest,
        closed: known is not None and known.closed > 0,
        "not aes256-gcm96": kek.algorithm != "aes256-gcm96",
    }
    return [alarm for alarm, sounds in told.items() if sounds]


async def _objects(connection: AsyncConnection) -> dict[str, int]:
    """Return how many kept artifacts hang on each epoch's KEK, each bucket and each hold's KEK."""
    living = artifacts.c.state != "destroyed"
    by_epoch = select(artifacts.c.epoch, func.count()).where(living).group_by(artifacts.c.epoch)
    by_bucket = (
        select(subject_keys.c.kek, func.count())
        .join(artifacts, artifacts.c.subject == subject_keys.c.subject)
        .where(living)
        .group_by(subject_keys.c.kek)
    )
    by_hold = select(held.c.kek, func.count()).group_by(held.c.kek)
    return {
        str(kek): int(count)
        for query in (by_epoch, by_bucket, by_hold)
        for kek, count in await connection.execute(query)
    }
