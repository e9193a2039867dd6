"""
The clocks: destroy what is due, late rather than never.

- A row is leased before it is touched: one sweeper has it for `LEASE_S`, and a result counts
  only while the lease is held. A sweeper that dies loses its rows to the next one.
- A failure leaves the row due, to be tried again after a growing pause. Nothing is dropped.
- The key of an epoch goes first, as soon as the epoch is over and every clock in it has run
  out: what cannot be deleted now cannot be read either.
- A destruction stays listed as unrecorded until the audit trail has it.
- A row under a legal hold is not swept. It keeps no epoch's key alive: the hold has its own copy
  of the artifact's. Once let go it is late from then on, not for the time it was held.
"""

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from vault import keysheet, ledger
from vault.agreed_time import AgreedTime
from vault.custody import Custody
from vault.errors import GoneError
from vault.model import Tombstone
from vault.tables import artifacts, epoch_keys, reading, retention

LEASE_S = 60
LONGEST_PAUSE_S = 900
MOST_DOUBLINGS = 9
EXPIRED = "retention.expired"
BESIDE = (keysheet.PREFIX, "tombstones/")  # objects that are nobody's artifact


async def sweep(
    time: AgreedTime, custody: Custody, *, owner: str, limit: int = 100
) -> list[Tombstone]:
    """
    Destroy up to *limit* artifacts that are due, and return the proofs of those it destroyed.

    *owner* names the sweeper in the rows it leases. Sweeps may overlap, in and between processes.
    """
    at = time.seconds
    await _shred(time, custody)
    lease = f"{owner[:64]}/{secrets.token_hex(8)}"
    claimed = await _claim(custody.engine, at, lease, limit)
    stones = await _together(custody, claimed, lease)
    done = {stone.label.artifact for stone in stones}
    alone = [await _try(custody, ident, at, lease) for ident in claimed if ident not in done]
    return [*stones, *(stone for stone in alone if stone is not None)]


async def unrecorded(engine: AsyncEngine, *, limit: int = 100) -> list[Tombstone]:
    """Return up to *limit* proofs nobody confirmed with `recorded`, the oldest first."""
    rows = ledger.rows().where(retention.c.state == "done", retention.c.recorded_at.is_(None))
    oldest = rows.order_by(retention.c.done_at, retention.c.artifact).limit(limit)
    async with reading(engine) as connection:
        return [ledger.tombstone_of(row) for row in await connection.execute(oldest)]


async def recorded(engine: AsyncEngine, artifacts: Sequence[str], now: datetime) -> None:
    """Note that the audit trail holds the destruction of *artifacts*; the first note stays."""
    c = retention.c
    ended = and_(c.artifact.in_(artifacts), c.state == "done", c.recorded_at.is_(None))
    async with engine.begin() as tx:
        stamp = int(now.timestamp())
        await tx.execute(update(retention).where(ended).values(recorded_at=stamp))


async def overdue(now: datetime, engine: AsyncEngine) -> int:
    """Return for how many seconds the oldest clock has run over (0: none has); holds aside."""
    at, c = int(now.timestamp()), retention.c
    since = case((c.freed_at > c.due_at, c.freed_at), else_=c.due_at)
    oldest = select(func.min(since)).where(_due(at))
    async with reading(engine) as connection:
        due_at = (await connection.execute(oldest)).scalar()
    return 0 if due_at is None else at - int(due_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """How many objects no row spoke of (they are deleted), and artifacts without their object."""

    strays: int
    missing: tuple[str, ...]


async def reconcile(custody: Custody) -> Reconciled:
    """
    Hold the object store against the ledger, both ways.

    An object without a row is the leftover of a writer that lost its row (the row is always
    first): it is deleted. A kept artifact without its object is unreadable by fault; nothing
    is done about it here but to name it.
    """
    names = set(await custody.objects.names())
    async with reading(custody.engine) as connection:
        rows = (await connection.execute(select(artifacts))).all()
    known = {row.object_name for row in rows}
    strays = [n for n in sorted(names - known) if not n.startswith(BESIDE)]
    for name in strays:
        await custody.objects.delete(name)
    lost = sorted(row.id for row in rows if row.state == "kept" and row.object_name not in names)
    # Asked again: what was destroyed, or stored, while the store was being listed is no fault.
    still = [ident for ident in lost if await _missing(custody, ident)]
    return Reconciled(strays=len(strays), missing=tuple(still))


async def _missing(custody: Custody, artifact: str) -> bool:
    row = await ledger.find(custody.engine, artifact)
    if row is None or row.state != "kept":
        return False
    try:
        await custody.objects.get(row.object_name)
    except GoneError:
        again = await ledger.find(custody.engine, artifact)
        return again is not None and again.state == "kept"
    return False


def _due(at: int) -> ColumnElement[bool]:
    c = retention.c
    return and_(c.state == "due", c.due_at <= at, c.hold.is_(None))


async def _claim(engine: AsyncEngine, at: int, lease: str, limit: int) -> list[str]:
    c = retention.c
    free = and_(_due(at), c.next_try_at <= at, c.lease_until <= at)
    # SQLite has one writer and ignores the lock; PostgreSQL lets two sweepers pass each other.
    oldest = select(c.artifact).where(free).order_by(c.due_at).limit(limit)
    chosen = oldest.with_for_update(skip_locked=True).scalar_subquery()
    values = {"lease_owner": lease, "lease_until": at + LEASE_S, "attempts": c.attempts + 1}
    leasing = update(retention).where(c.artifact.in_(chosen)).values(values)
    async with engine.begin() as tx:
        return list((await tx.execute(leasing.returning(c.artifact))).scalars())


async def _together(custody: Custody, claimed: Sequence[str], lease: str) -> list[Tombstone]:
    """Destroy *claimed* in a few transactions; what goes wrong is then tried one by one."""
    with contextlib.suppress(Exception):
        return await custody.destroy_all(claimed, reason=EXPIRED, lease=lease)
    return []


async def _try(custody: Custody, artifact: str, at: int, lease: str) -> Tombstone | None:
    """Destroy *artifact*, or put it off: whatever is wrong with it, the others go on."""
    try:
        row = await ledger.find(custody.engine, artifact)
        if row is None:
            return None
        return await custody.destroy(ledger.artifact_of(row), reason=EXPIRED, lease=lease)
    except Exception:  # noqa: BLE001 - a row that stays due is counted by `overdue`
        with contextlib.suppress(Exception):  # not even put off: its lease runs out
            await _put_off(custody.engine, artifact, at, lease)
        return None


async def _put_off(engine: AsyncEngine, artifact: str, at: int, lease: str) -> None:
    c = retention.c
    mine = and_(c.artifact == artifact, c.lease_owner == lease, c.state == "due")
    async with engine.begin() as tx:
        attempts = (await tx.execute(select(c.attempts).where(mine))).scalar()
        if attempts is not None:
            pause = min(2 ** min(attempts, MOST_DOUBLINGS), LONGEST_PAUSE_S)
            values = {"lease_owner": "", "lease_until": 0, "next_try_at": at + pause}
            await tx.execute(update(retention).where(mine).values(values))


async def _shred(time: AgreedTime, custody: Custody) -> None:
    """Destroy the keys of epochs that are over and whose last clock has run out."""
    for epoch in await _spent(custody.engine, time.seconds):
        # Bytes can be deleted whatever keeps a key alive; the key is tried again next time.
        with contextlib.suppress(Exception):
            await custody.keys.destroy_epoch(epoch, time)


async def _spent(engine: AsyncEngine, at: int) -> list[str]:
    c = epoch_keys.c
    spent = and_(c.ciphertext.is_not(None), c.last_due <= at)
    # A first choice only: `destroy_epoch` asks again, in the statement that closes the epoch.
    async with reading(engine) as connection:
        return list((await connection.execute(select(c.epoch).where(spent))).scalars())
