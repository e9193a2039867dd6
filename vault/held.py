"""
What holds keep: every statement about `held`, inside a transaction of the caller's.

- An artifact is held from the commit in which its clock gets the hold and the hold its key.
- Whoever ends an artifact, whoever holds it and whoever notes that its object is durable lock its
  clock first: each finds what the one before did. Locks are taken in one order: holds, clocks,
  keys, and within these by id.
- Several holds may keep one artifact, each by its own copy; its clock names one of them, a placed
  one if there is one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.model import HoldState, WrappedKey
from vault.tables import (
    artifacts,
    ending_keks,
    held,
    hold_scopes,
    holds,
    insert_new,
    retention,
    subject_keys,
)

LIVE = (HoldState.OPENING, HoldState.PLACED, HoldState.PROPOSED)
MOST_NAMED = 500  # ids in one statement


def kek_of(hold: str) -> str:
    """Return the name of the KEK of *hold*."""
    return f"hold-{hold.rpartition('_')[2]}"


async def lock(tx: AsyncConnection, idents: Iterable[str]) -> None:
    """Wait for whoever is at the clocks of *idents*, and keep others off them until *tx* ends."""
    for some in _portions(sorted(idents)):
        rows = select(retention.c.artifact).where(retention.c.artifact.in_(some))
        await tx.execute(rows.order_by(retention.c.artifact).with_for_update())


async def covering(tx: AsyncConnection, artifact: str) -> set[str]:
    """Return the holds whose scope *artifact* is in, from the moment they are opening."""
    a, h, s = artifacts.c, holds.c, hold_scopes.c
    by_id = and_(s.of == "artifact", s.ident == a.id)
    by_subject = and_(s.of == "subject", s.ident == a.subject)
    named = exists().where(s.hold == h.id, or_(by_id, by_subject))
    span = and_(h.since_at <= a.stored_at, a.stored_at < h.before_at)
    found = select(h.id).join(artifacts, a.tenant == h.tenant).where(a.id == artifact)
    rows = await tx.execute(found.where(h.state.in_(LIVE), or_(named, span)))
    return set(rows.scalars())


async def lasting(tx: AsyncConnection, found: Iterable[str]) -> set[str]:
    """Return those of the holds *found* that are not over, and will not be before *tx* ends."""
    if not (idents := sorted(found)):
        return set()
    live = select(holds.c.id).where(holds.c.id.in_(idents), holds.c.state.in_(LIVE))
    rows = await tx.execute(live.order_by(holds.c.id).with_for_update(read=True))
    return set(rows.scalars())


async def take(tx: AsyncConnection, hold: str, copies: Mapping[str, WrappedKey], at: int) -> None:
    """
    Let *hold* keep those of *copies* (by artifact), their clocks locked, that can still be kept.

    Not what is destroyed, being destroyed or overdue *at* this time, nor what an erasure has closed
    already, unless another hold that was placed keeps it.
    """
    await _lock_keys(tx, copies)
    kept: set[str] = set()
    for some in _portions(sorted(copies)):
        kept.update((await tx.execute(_keepable(some, at))).scalars())
    # What was stored meanwhile has its copy already, of the key that it was sealed with.
    already = await _already(tx, hold)
    for some in _portions(sorted(kept - already)):
        await tx.execute(insert(held), [_row(ident, hold, copies[ident]) for ident in some])
        free = and_(retention.c.artifact.in_(some), retention.c.hold.is_(None))
        await tx.execute(update(retention).where(free).values(hold=hold))


async def name(tx: AsyncConnection, hold: str) -> None:
    """Let the clocks of what *hold* keeps name it, which was placed just now."""
    theirs = select(held.c.artifact).where(held.c.hold == hold)
    await lock(tx, (await tx.execute(theirs)).scalars())
    await tx.execute(update(retention).where(retention.c.artifact.in_(theirs)).values(hold=hold))


async def let_go(tx: AsyncConnection, hold: str, at: int) -> None:
    """
    Drop every copy of *hold*, and let the clocks run that no other hold stops.

    They run as if they had never stopped: what is overdue is destroyed at the next sweep.
    """
    mine = select(held.c.artifact).where(held.c.hold == hold)
    await lock(tx, (await tx.execute(mine)).scalars())
    await tx.execute(delete(held).where(held.c.hold == hold))
    other = (
        select(held.c.hold)
        .join(holds, holds.c.id == held.c.hold)
        .where(held.c.artifact == retention.c.artifact)
        .order_by(holds.c.state != HoldState.PLACED, holds.c.id)
        .limit(1)
        .correlate(retention)
        .scalar_subquery()
    )
    freed = {"hold": other, "freed_at": at, "next_try_at": 0, "lease_until": 0, "lease_owner": ""}
    await tx.execute(update(retention).where(retention.c.hold == hold).values(freed))
    await insert_new(tx, ending_keks, {"kek": kek_of(hold), "since": at})


def _keepable(some: Sequence[str], at: int) -> Select[Any]:
    a, r = artifacts.c, retention.c
    lives = and_(r.due_at > at, subject_keys.c.ciphertext.is_not(None))
    return (
        select(a.id)
        .join(retention, r.artifact == a.id)
        .join(subject_keys, subject_keys.c.subject == a.subject, isouter=True)
        .join(holds, holds.c.id == r.hold, isouter=True)
        .where(a.id.in_(some), a.state == "kept", r.state == "due")
        .where(or_(lives, holds.c.state == HoldState.PLACED))
    )


async def _already(tx: AsyncConnection, hold: str) -> set[str]:
    return set((await tx.execute(select(held.c.artifact).where(held.c.hold == hold))).scalars())


async def _lock_keys(tx: AsyncConnection, idents: Iterable[str]) -> None:
    """Have an erasure of these subjects come before us or after us."""
    subjects: set[str] = set()
    for some in _portions(sorted(idents)):
        named = select(artifacts.c.subject).where(artifacts.c.id.in_(some))
        subjects.update((await tx.execute(named)).scalars())
    for some in _portions(sorted(subjects)):
        rows = select(subject_keys.c.subject).where(subject_keys.c.subject.in_(some))
        await tx.execute(rows.order_by(subject_keys.c.subject).with_for_update(read=True))


def _row(artifact: str, hold: str, wrapped: WrappedKey) -> dict[str, object]:
    return {
        "artifact": artifact,
        "hold": hold,
        "kek": wrapped.kek,
        "version": wrapped.version,
        "ciphertext": wrapped.ciphertext,
    }


def _portions(idents: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(idents), MOST_NAMED):
        yield idents[first : first + MOST_NAMED]
