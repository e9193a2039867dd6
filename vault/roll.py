"""
Rolling a bucket: the step after which no older copy of a deleted key opens anywhere.

- Order: rotate; wrap the living again, in place; write their keysheet; trim. Every step may be
  repeated, and until the trim both versions open: a crash anywhere leaves nothing unreadable.
- A roll counts for those erased *before* it began. Who is erased while it runs may be in its
  keysheet, and waits for the next.
- A key that is made meanwhile is wrapped by the new version: `vault.keys` asks for it under a
  lock that the beginning of a roll has to wait for.
- Nobody unwraps anything here: the keeper could not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault import keysheet
from vault.errors import GoneError, TamperedError
from vault.model import WrappedKey
from vault.ports import Keeper, Objects
from vault.tables import buckets, insert_new, reading, subject_keys

BATCH = 960


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
    *,
    now: Callable[[], datetime],
    reached: Callable[[str], None] = _nothing,
) -> Rolled:
    """
    Roll *kek*, or finish the roll that was cut short.

    *reached* hears of each step when it is done.

    Raises:
        GoneError: there is no such KEK.
        KeyringError: the key service is away; the same call goes on later.
        ObjectsError: the keysheet could not be written; the same call goes on later.

    """
    began_at, version = await _begin(engine, keeper, kek, now)
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
    async with reading(engine) as connection:
        begun = select(b.kek).where(
            or_(b.began_at.is_not(None), and_(b.wanted_at > 0, b.wanted_at >= b.rolled_at))
        )
        wanted = set((await connection.execute(begun)).scalars())
        waiting = (
            select(k.kek)
            .join(buckets, b.kek == k.kek, isouter=True)
            .where(k.ciphertext.is_(None), k.version > 0)  # 0: there never was a key
            .where(k.destroyed_at >= func.coalesce(b.rolled_at, 0))
            .group_by(k.kek)
            .having(func.min(k.destroyed_at) < erased_before)
        )
        return sorted(wanted | set((await connection.execute(waiting)).scalars()))


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

    - The key service is older than a roll: the bucket is rolled again at the next tick, and its
      sheets, which nothing opens any more, go.
    - It still opens versions that were trimmed: they are trimmed again.
    - The database is older than a roll: the living get their rows from the keysheet.
    """
    keks = {kek.name: kek for kek in await keeper.keks()}
    broken = []
    for name, version in sorted((await keysheet.newest(objects)).items()):
        kek = keks.get(name)
        if kek is None:
            broken.append(name)
        elif kek.newest < version:
            await _again(engine, name, now())
            await objects.delete(keysheet.name_of(name, version))
            broken.append(name)
        else:
            if kek.oldest < version:
                await keeper.trim(name, version)
                broken.append(name)
            if await keysheet.restore(engine, objects, name, version):
                await _note(engine, name, version)
                broken.append(name)
    return sorted(set(broken))


async def _begin(
    engine: AsyncEngine, keeper: Keeper, kek: str, now: Callable[[], datetime]
) -> tuple[int, int]:
    async with engine.begin() as tx:
        await insert_new(tx, buckets, {"kek": kek})
        row = (await tx.execute(select(buckets).where(buckets.c.kek == kek))).one()
    if row.began_at is not None:
        return int(row.began_at), int(row.least)
    version = await keeper.rotate(kek)
    began_at = int(now().timestamp())
    begun = update(buckets).where(buckets.c.kek == kek, buckets.c.began_at.is_(None))
    async with engine.begin() as tx:
        await tx.execute(begun.values(began_at=began_at, least=version))
        row = (await tx.execute(select(buckets).where(buckets.c.kek == kek))).one()
    return int(row.began_at), int(row.least)


async def _rewrap(
    engine: AsyncEngine, keeper: Keeper, kek: str, version: int, reached: Callable[[str], None]
) -> int:
    """Wrap every living row of *kek* by *version*; return how many could not be, being damaged."""
    lost, after = 0, ""
    while rows := await _older(engine, kek, version, after):
        anew = await keeper.rewrap([_wrapped(row) for row in rows])
        lost += await _replace(engine, rows, anew)
        after = rows[-1].subject
        reached("batch")
    return lost


async def _older(engine: AsyncEngine, kek: str, version: int, after: str) -> list[Row[Any]]:
    c = subject_keys.c
    older = and_(c.kek == kek, c.ciphertext.is_not(None), c.version < version, c.subject > after)
    query = select(subject_keys).where(older).order_by(c.subject).limit(BATCH)
    async with reading(engine) as connection:
        return list(await connection.execute(query))


async def _replace(
    engine: AsyncEngine, rows: Sequence[Row[Any]], anew: Sequence[WrappedKey | Exception]
) -> int:
    c, lost = subject_keys.c, 0
    async with engine.begin() as tx:
        for row, wrapped in zip(rows, anew, strict=True):
            if isinstance(wrapped, GoneError | TamperedError):
                lost += 1  # nothing opened it before either
                continue
            if isinstance(wrapped, Exception):
                raise wrapped
            # Whoever was erased meanwhile stays erased: the row is no longer what we read.
            same = and_(c.subject == row.subject, c.ciphertext == row.ciphertext)
            values = {"version": wrapped.version, "ciphertext": wrapped.ciphertext}
            await tx.execute(update(subject_keys).where(same).values(values))
    return lost


async def _living(engine: AsyncEngine, kek: str, version: int) -> list[Row[Any]]:
    c = subject_keys.c
    living = and_(c.kek == kek, c.ciphertext.is_not(None), c.version >= version)
    async with reading(engine) as connection:
        return list(await connection.execute(select(subject_keys).where(living)))


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


async def _note(engine: AsyncEngine, kek: str, version: int) -> None:
    """Let keys be made by no version that is trimmed already."""
    async with engine.begin() as tx:
        await insert_new(tx, buckets, {"kek": kek})
        behind = and_(buckets.c.kek == kek, buckets.c.least < version)
        values = {"least": version, "rolled": version}
        await tx.execute(update(buckets).where(behind).values(values))


def _wrapped(row: Row[Any]) -> WrappedKey:
    return WrappedKey(kek=row.kek, version=row.version, ciphertext=row.ciphertext)
