"""
Rolling a KEK: the step after which no older copy of a deleted key opens anywhere.

Buckets are rolled for those who were erased; they, the named keys' KEKs and those of epochs that
last are rolled for their age too (NIST SP 800-57: a key has a cryptoperiod).

- Order: rotate; wrap the living again, in place; write their keysheet; trim. Every step may be
  repeated, and until the trim both versions open: a crash anywhere leaves nothing unreadable.
- A roll counts for those erased *before* it began. Who is erased while it runs may be in its
  keysheet, and waits for the next.
- A key that is made meanwhile is wrapped by the new version: `vault.keys` asks for it under a
  lock that the beginning of a roll has to wait for. An epoch's and a name's KEK wrap one row,
  which is there before it can be old.
- Rows of which none opens are a fault, such as a snapshot of the key service that was restored
  without the database of its day. A trim would kill what that database needs: nothing is rolled.
- Nobody unwraps anything here: the keeper could not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, Table, and_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault import keysheet
from vault.agreed_time import AgreedTime
from vault.errors import GoneError, KeyLostError, KeyringError, TamperedError
from vault.model import Kek, WrappedKey
from vault.ports import Keeper, Objects
from vault.tables import (
    HANGING,
    buckets,
    ending_keks,
    hanging,
    ident,
    insert_new,
    reading,
    subject_keys,
)

BATCH = 960
SAMPLE = 24
Place = tuple[str, int, int, int]  # a KEK, its oldest and newest version, and the table's


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """A finished roll: *kek* opens from *version* on; *rows* live; *lost* were damaged before."""

    kek: str
    version: int
    rows: int
    lost: int
    began_at: int
    ended_at: int


def _nothing(_step: str) -> None:
    """Pass every step."""


async def roll(
    engine: AsyncEngine,
    keeper: Keeper,
    objects: Objects,
    kek: str,
    time: AgreedTime,
    *,
    now: Callable[[], datetime],
    reached: Callable[[str], None] = _nothing,
) -> Rolled:
    """
    Roll *kek* at *time*, or finish the roll that was cut short.

    Who was erased before *time* has no key in it: it is the earliest of all clocks, for a roll
    that began later than it did would tell of people who may be in its keysheet.

    *reached* hears of each step when it is done.

    Raises:
        GoneError: there is no such KEK.
        KeyLostError: none of the living opens; nothing was done.
        KeyringError: the key service is away; the same call goes on later.
        ObjectsError: the keysheet could not be written; the same call goes on later.

    """
    began_at, version = await _begin(engine, keeper, kek, time)
    reached("begun")
    lost = await _rewrap(engine, keeper, kek, version, reached)
    reached("rewrapped")
    living = await _living(engine, kek, version)
    await keysheet.write(objects, kek, version, living)
    reached("sheet")
    await keeper.trim(kek, version)
    reached("trimmed")
    older = await _finish(engine, kek, version, began_at, int(now().timestamp()))
    reached("finished")
    if 0 < older < version:
        await objects.delete(keysheet.name_of(kek, older))
    return Rolled(
        kek=kek,
        version=version,
        rows=len(living),
        lost=lost,
        began_at=began_at,
        ended_at=int(now().timestamp()),
    )


async def due(engine: AsyncEngine, *, erased_before: int) -> list[str]:
    """
    Return the buckets to roll: begun, wanted at once, or with an erasure older than that.

    *erased_before* is in epoch seconds.
    """
    b, k = buckets.c, subject_keys.c
    begun = select(b.kek).where(
        or_(b.began_at.is_not(None), and_(b.wanted_at > 0, b.wanted_at >= b.rolled_at))
    )
    waiting = (
        select(k.kek)
        .join(buckets, b.kek == k.kek, isouter=True)
        .where(k.destroyed_at.is_not(None), k.version > 0)  # 0: there never was a key
        .where(k.destroyed_at >= func.coalesce(b.rolled_at, 0))
        .group_by(k.kek)
        .having(func.min(k.destroyed_at) < erased_before)
    )
    async with reading(engine) as connection:
        found = {kek for query in (begun, waiting) for kek in await _names(connection, query)}
        return sorted(found - await _names(connection, select(ending_keks.c.kek)))


async def aged(engine: AsyncEngine, keks: Sequence[Kek], *, rotated_before: datetime) -> list[str]:
    """Return those of *keks* whose newest version is older than that, and on which keys hang."""
    old = {kek.name for kek in keks if kek.rotated_at < rotated_before}
    async with reading(engine) as connection:
        living = {
            kek
            for table in dict.fromkeys(HANGING.values())
            for kek in await _names(
                connection, select(table.c.kek).where(table.c.ciphertext.is_not(None)).distinct()
            )
        }
        return sorted((old & living) - await _names(connection, select(ending_keks.c.kek)))


async def end_if_empty(engine: AsyncEngine, kek: str, time: AgreedTime) -> bool:
    """
    Have the bucket *kek* of a tenant's own destroyed if no living key hangs on it.

    Who makes a key in it meanwhile waits for our transaction, and then finds the ending.
    """
    k = subject_keys.c
    rows = select(k.subject).where(k.kek == kek)
    async with engine.begin() as tx:
        await insert_new(tx, buckets, {"kek": kek})
        await tx.execute(select(buckets).where(buckets.c.kek == kek).with_for_update())
        used = (await tx.execute(rows.limit(1))).first() is not None
        lives = (await tx.execute(rows.where(k.ciphertext.is_not(None)).limit(1))).first()
        if not used or lives is not None:
            return False
        return await insert_new(tx, ending_keks, {"kek": kek, "since": time.seconds})


async def want(tx: AsyncConnection, subject: str, at: datetime) -> None:
    """Within *tx*, have the bucket of *subject*'s destroyed key rolled at the next tick."""
    row = (await tx.execute(select(subject_keys).where(subject_keys.c.subject == subject))).first()
    if row is not None:
        await insert_new(tx, buckets, {"kek": row.kek})
        asked = {"wanted_at": int(at.timestamp())}
        await tx.execute(update(buckets).where(buckets.c.kek == row.kek).values(**asked))


async def hardened(engine: AsyncEngine, subject: str) -> datetime | None:
    """Return when the bucket of *subject*'s destroyed key finished a roll begun after that."""
    k, b = subject_keys.c, buckets.c
    since = and_(k.subject == subject, k.ciphertext.is_(None), b.rolled_at > k.destroyed_at)
    query = select(b.ended_at).join(subject_keys, k.kek == b.kek).where(since)
    async with reading(engine) as connection:
        ended_at = (await connection.execute(query)).scalar()
    return None if ended_at is None else datetime.fromtimestamp(ended_at, UTC)


async def heal(
    engine: AsyncEngine, keeper: Keeper, objects: Objects, *, now: Callable[[], datetime]
) -> list[str]:
    """
    Put right what a restored backup broke, and return the buckets concerned.

    - The key service is older than a roll: the KEK is rolled again at the next tick, and its
      sheet, which nothing opens any more, goes; both only once the database is as old.
    - It still opens versions that were trimmed: they are trimmed again.
    - The database is older than a roll: the living get their rows from the keysheet.
    - The keysheets are older, too: the database knows how far the bucket was rolled. A key service
      that is behind it alone is told and left, for only its own day's database goes with it.
    """
    keks = {kek.name: kek for kek in await keeper.keks()}
    sheets, known = await keysheet.kept(objects), await _rolled(engine)
    broken = []
    for name in sorted({*sheets, *known}):
        kek, versions = keks.get(name), sheets.get(name, [])
        version = max([*versions, known.get(name, 0)])
        if kek is None:
            if await _lives(engine, name):
                broken.append(name)
            else:
                await keysheet.forget(objects, name, versions)
        elif kek.newest < version:
            broken.append(name)
            if await _highest(engine, name) <= kek.newest:
                await _again(engine, name, now())
                await keysheet.forget(objects, name, [version])
        else:
            if kek.oldest < version:
                await keeper.trim(name, version)
                broken.append(name)
            if await keysheet.restore(engine, objects, name, version):
                await _note(engine, name, version)
                broken.append(name)
            await keysheet.forget(objects, name, versions[:-1])
    return sorted(set(broken))


async def displaced(engine: AsyncEngine, keks: Sequence[Kek]) -> frozenset[Place]:
    """Return where those of *keks* stand that are not as their last roll left them."""
    async with reading(engine) as connection:
        rows = {row.kek: row for row in await connection.execute(select(buckets))}
    found = set()
    for kek in keks:
        row = rows.get(kek.name)
        rolled = row.rolled if row else 0
        rolling = row is not None and row.began_at is not None
        if not rolling and (kek.oldest != max(1, rolled) or kek.newest < rolled):
            found.add((kek.name, kek.oldest, kek.newest, rolled))
    return frozenset(found)


async def _begin(
    engine: AsyncEngine, keeper: Keeper, kek: str, time: AgreedTime
) -> tuple[int, int]:
    async with engine.begin() as tx:
        await insert_new(tx, buckets, {"kek": kek})
        row = (await tx.execute(select(buckets).where(buckets.c.kek == kek))).one()
    if row.began_at is not None:
        return int(row.began_at), int(row.least)
    await _sound(engine, keeper, kek)
    version = await keeper.rotate(kek)
    began_at = time.seconds
    begun = update(buckets).where(buckets.c.kek == kek, buckets.c.began_at.is_(None))
    async with engine.begin() as tx:
        await tx.execute(begun.values(began_at=began_at, least=version))
        row = (await tx.execute(select(buckets).where(buckets.c.kek == kek))).one()
    return int(row.began_at), int(row.least)


async def _sound(engine: AsyncEngine, keeper: Keeper, kek: str) -> None:
    """Raise `KeyLostError` if the key service opens none of a sample of the newest rows."""
    table = hanging(kek)
    newest = and_(table.c.kek == kek, table.c.version == await _highest(engine, kek))
    query = select(table).where(newest, table.c.ciphertext.is_not(None)).limit(SAMPLE)
    async with reading(engine) as connection:
        rows = [_wrapped(row) for row in await connection.execute(query)]
    found = await keeper.rewrap(rows) if rows else []
    for answer in found:
        if isinstance(answer, KeyringError):
            raise answer
    if rows and not any(isinstance(answer, WrappedKey) for answer in found):
        raise KeyLostError(f"{kek}: none of its newest keys opens (restore both of one day)")


async def _rewrap(
    engine: AsyncEngine, keeper: Keeper, kek: str, version: int, reached: Callable[[str], None]
) -> int:
    """Wrap every living row of *kek* by *version*; return how many could not be, being damaged."""
    table, lost = hanging(kek), set[str]()
    while rows := await _older(engine, kek, version, lost):
        anew = await keeper.rewrap([_wrapped(row) for row in rows])
        lost |= await _replace(engine, table, rows, anew)
        reached("batch")
    return len(lost)


async def _older(engine: AsyncEngine, kek: str, version: int, lost: set[str]) -> list[Row[Any]]:
    table = hanging(kek)
    c = table.c
    older = and_(c.kek == kek, c.version < version, c.ciphertext.is_not(None))
    query = select(ident(table).label("id"), c.kek, c.version, c.ciphertext)
    query = query.where(older, ident(table).not_in(lost)).limit(BATCH)
    async with reading(engine) as connection:
        return list(await connection.execute(query))


async def _replace(
    engine: AsyncEngine,
    table: Table,
    rows: Sequence[Row[Any]],
    anew: Sequence[WrappedKey | Exception],
) -> set[str]:
    """Write *anew* over *rows*; return the ids of those that nothing opened before either."""
    lost, values = set(), []
    for row, wrapped in zip(rows, anew, strict=True):
        if isinstance(wrapped, GoneError | TamperedError):
            lost.add(row.id)
        elif isinstance(wrapped, Exception):
            raise wrapped
        else:
            new = {"new_version": wrapped.version, "new_ciphertext": wrapped.ciphertext}
            values.append({"its_id": row.id, "read": row.ciphertext, **new})
    # Whoever was erased meanwhile stays erased: the row is no longer what we read.
    same = and_(ident(table) == bindparam("its_id"), table.c.ciphertext == bindparam("read"))
    written = (
        update(table)
        .where(same)
        .values(version=bindparam("new_version"), ciphertext=bindparam("new_ciphertext"))
    )
    if values:
        async with engine.begin() as tx:  # one statement for all: a call per row is slow
            await tx.execute(written, values)
    return lost


async def _living(engine: AsyncEngine, kek: str, version: int) -> list[Row[Any]]:
    table = hanging(kek)
    c = table.c
    living = and_(c.kek == kek, c.version >= version, c.ciphertext.is_not(None))
    query = select(ident(table).label("id"), c.version, c.ciphertext).where(living)
    async with reading(engine) as connection:
        return list(await connection.execute(query))


async def _lives(engine: AsyncEngine, kek: str) -> bool:
    return await _highest(engine, kek) > 0


async def _highest(engine: AsyncEngine, kek: str) -> int:
    """Return the newest version by which a living row of *kek* is wrapped; 0 if none is."""
    c = hanging(kek).c
    query = select(func.max(c.version)).where(c.kek == kek, c.ciphertext.is_not(None))
    async with reading(engine) as connection:
        return int((await connection.execute(query)).scalar() or 0)


async def _names(connection: AsyncConnection, query: Select[tuple[str]]) -> set[str]:
    return {str(name) for name in (await connection.execute(query)).scalars()}


async def _finish(engine: AsyncEngine, kek: str, version: int, began_at: int, ended_at: int) -> int:
    """Note that the roll is done; return the version that the one before it went to."""
    async with engine.begin() as tx:
        mine = buckets.c.kek == kek
        older = (await tx.execute(select(buckets.c.rolled).where(mine))).scalar_one()
        done = {"rolled": version, "rolled_at": began_at, "ended_at": ended_at}
        await tx.execute(update(buckets).where(mine).values(**done, began_at=None))
    return int(older)


async def _again(engine: AsyncEngine, kek: str, at: datetime) -> None:
    async with engine.begin() as tx:
        await insert_new(tx, buckets, {"kek": kek})
        afresh = {"wanted_at": int(at.timestamp()), "began_at": None, "least": 0}
        afresh |= {"rolled": 0, "rolled_at": 0, "recorded": 0}
        await tx.execute(update(buckets).where(buckets.c.kek == kek).values(afresh))


async def _rolled(engine: AsyncEngine) -> dict[str, int]:
    async with reading(engine) as connection:
        rows = await connection.execute(select(buckets).where(buckets.c.rolled > 0))
        return {row.kek: row.rolled for row in rows}


async def _note(engine: AsyncEngine, kek: str, version: int) -> None:
    """Let keys be made by no version that is trimmed already."""
    async with engine.begin() as tx:
        await insert_new(tx, buckets, {"kek": kek})
        behind = and_(buckets.c.kek == kek, buckets.c.least < version)
        values = {"least": version, "rolled": version}
        await tx.execute(update(buckets).where(behind).values(values))


def _wrapped(row: Row[Any]) -> WrappedKey:
    return WrappedKey(kek=row.kek, version=row.version, ciphertext=row.ciphertext)
