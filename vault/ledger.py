"""
The custody ledger: the statements about `artifacts` and `retention`; `vault.held` has the holds'.

- The row of an artifact and the row of its clock are written in one transaction, before the
  object: no object exists without a clock.
- States go one way: storing, kept, destroying, destroyed.
- Times are whole epoch seconds; a clock never moves to a later time by storing again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, Update, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault import held
from vault.agreed_time import AgreedTime
from vault.errors import CustodyError, GoneError, LabelError
from vault.model import Artifact, Kind, Label, Tombstone, WrappedKey
from vault.tables import alive, artifacts, epoch_keys, holds, insert_new, reading, retention

ROW = (
    artifacts,
    retention.c.due_at,
    retention.c.hold,
    retention.c.freed_at,
    holds.c.state.label("hold_state"),
    retention.c.state.label("clock"),
    retention.c.done_at,
    retention.c.reason,
    retention.c.methods,
    retention.c.late_seconds,
)

MOST_NAMED = 500  # ids in one statement
AHEAD = timedelta(hours=1)  # no two clocks that agree are so far apart


def rows() -> Select[Any]:
    """Return the query of artifacts with their clocks, as `tombstone_of` and the like read."""
    return (
        select(*ROW)
        .join(retention, retention.c.artifact == artifacts.c.id)
        .join(holds, holds.c.id == retention.c.hold, isouter=True)
    )


async def find(engine: AsyncEngine, artifact: str) -> Row[Any] | None:
    """Return the row of *artifact* with its clock, or None."""
    async with reading(engine) as connection:
        found = await connection.execute(rows().where(artifacts.c.id == artifact))
    row: Row[Any] | None = found.first()
    return row


async def of_subject(engine: AsyncEngine, subject: str) -> list[Row[Any]]:
    """Return the rows of all that is not yet destroyed of *subject*, oldest first."""
    c = artifacts.c
    theirs = rows().where(c.subject == subject, c.state != "destroyed")
    async with reading(engine) as connection:
        return list(await connection.execute(theirs.order_by(c.stored_at, c.id)))


async def among(engine: AsyncEngine, idents: Sequence[str]) -> list[Row[Any]]:
    """Return the rows of those of *idents* that are not yet destroyed."""
    c, found = artifacts.c, list[Row[Any]]()
    async with reading(engine) as connection:
        for first in range(0, len(idents), MOST_NAMED):
            some = idents[first : first + MOST_NAMED]
            query = rows().where(c.id.in_(some), c.state != "destroyed")
            found += await connection.execute(query)
    return found


async def announce(engine: AsyncEngine, row: dict[str, Any], due_at: int) -> None:
    """
    Write the artifact's row and its clock before its object; again after a crash, if need be.

    An erasure that destroyed the person's key has listed what there is, or finds this row.

    Raises:
        CustodyError: the epoch was closed meanwhile.
        GoneError: its subject's key was destroyed, also while others have it in memory; or it was
            stored before, and its clock has run out or it was destroyed.
        LabelError: another artifact has this id.

    """
    async with engine.begin() as tx:
        if not await alive(tx, [row["subject"]]):
            raise GoneError(f"{row['subject']}: destroyed")
        await _book_epoch(tx, row["epoch"], due_at)
        if await insert_new(tx, artifacts, row):
            clock = {"artifact": row["id"], "kind": row["kind"], "due_at": due_at}
            await insert_new(tx, retention, clock)
        else:
            await _announce_again(tx, row, due_at)


async def _book_epoch(tx: AsyncConnection, epoch: str, due_at: int) -> None:
    """Note the epoch's last clock; the row lock keeps its key alive until we commit."""
    c = epoch_keys.c
    latest = (
        func.max(c.last_due, due_at)
        if tx.dialect.name == "sqlite"
        else func.greatest(c.last_due, due_at)
    )
    open_epoch = and_(c.epoch == epoch, c.destroyed_at.is_(None))
    booked = await tx.execute(update(epoch_keys).where(open_epoch).values(last_due=latest))
    if booked.rowcount != 1:
        raise CustodyError(f"{epoch}: the epoch is closed")


async def _announce_again(tx: AsyncConnection, row: dict[str, Any], due_at: int) -> None:
    c = artifacts.c
    await held.lock(tx, [row["id"]])
    found = (await tx.execute(rows().where(c.id == row["id"]))).one()
    if any(getattr(found, name) != row[name] for name in ("tenant", "subject", "kind", "region")):
        raise LabelError("artifact: another one has this id")
    mine = and_(c.id == row["id"], c.state == "storing")
    if (await tx.execute(update(artifacts).where(mine).values(**row))).rowcount != 1:
        raise GoneError(f"{row['id']}: {found.state}")
    sooner = and_(retention.c.artifact == row["id"], retention.c.due_at > due_at)
    await tx.execute(update(retention).where(sooner).values(due_at=due_at))


async def bring_back(engine: AsyncEngine, time: AgreedTime) -> int:
    """
    Date what was stored in the future as stored now, so that it is kept no longer than meant.

    A cell that was started with a clock far ahead, and without a second one, stored it so. Return
    how many those are.
    """
    at, a, r = time.seconds, artifacts.c, retention.c
    ahead = a.stored_at > at + int(AHEAD.total_seconds())
    async with engine.begin() as tx:
        living = select(a.id, a.stored_at).where(ahead, a.state != "destroyed")
        rows = (await tx.execute(living)).all()
        for ident, stored_at in rows:
            mine = and_(r.artifact == ident, r.state == "due")
            sooner = update(retention).where(mine).values(due_at=r.due_at - (stored_at - at))
            await tx.execute(sooner)
            await tx.execute(update(artifacts).where(a.id == ident).values(stored_at=at))
    return len(rows)


class UncopiedError(Exception):
    """These *holds* cover the artifact, and nobody has made copies of its key for them."""

    def __init__(self, holds: set[str]) -> None:
        super().__init__()
        self.holds = holds


async def keep(
    engine: AsyncEngine,
    artifact: str,
    object_name: str,
    measured: dict[str, Any],
    *,
    instead_of: str | None,
    at: int,
    copies: Mapping[str, WrappedKey],
) -> bool:
    """
    Note that the object is durable, and what was *measured*: its size and its commitment.

    False if the row is no longer about this object.

    In the same transaction every hold that covers it keeps it, by its own of *copies*, and the
    clock of *instead_of*, if one is named, is brought forward to *at*.

    Raises `UncopiedError`, and notes nothing, if a hold has no copy.
    """
    c, r = artifacts.c, retention.c
    mine = and_(c.id == artifact, c.object_name == object_name, c.state == "storing")
    later = and_(r.artifact == instead_of, r.state == "due", r.due_at > at)
    async with engine.begin() as tx:
        lasting = await held.lasting(tx, await held.covering(tx, artifact))
        await held.lock(tx, [each for each in (artifact, instead_of) if each is not None])
        covering = await held.covering(tx, artifact)
        if uncopied := covering - (copies.keys() & lasting):
            raise UncopiedError(uncopied)
        kept = await tx.execute(update(artifacts).where(mine).values(state="kept", **measured))
        if kept.rowcount == 1:
            for hold in sorted(covering):
                await held.take(tx, hold, {artifact: copies[hold]}, at)
        if kept.rowcount == 1 and instead_of is not None:
            await tx.execute(update(retention).where(later).values(due_at=at))
    return kept.rowcount == 1


async def hasten(engine: AsyncEngine, idents: Sequence[str], at: int, reason: str) -> None:
    """
    Bring the clocks of *idents* forward to *at*: what a hold keeps goes when that is over.

    *reason* is why; whoever sweeps it then puts that on record.
    """
    r = retention.c
    async with engine.begin() as tx:
        for first in range(0, len(idents), MOST_NAMED):
            named = sorted(idents)[first : first + MOST_NAMED]
            await held.lock(tx, named)
            due = and_(r.artifact.in_(named), r.state == "due")
            await tx.execute(update(retention).where(due).values(reason=reason))
            await tx.execute(update(retention).where(due, r.due_at > at).values(due_at=at))


async def begin_end(engine: AsyncEngine, artifact: str) -> Row[Any]:
    """
    Close *artifact* to reads, before its object is deleted, and return its row.

    From here on nobody gives the row another object or another due time.

    Raises:
        CustodyError: it is under a legal hold.

    """
    closed = await begin_ends(engine, [artifact])
    if not closed:
        raise CustodyError(f"{artifact}: under a legal hold, or destroyed meanwhile")
    return closed[0]


async def begin_ends(engine: AsyncEngine, idents: Sequence[str]) -> list[Row[Any]]:
    """Do `begin_end` for up to `MOST_NAMED` of *idents*; return the rows of those it closed."""
    c, r = artifacts.c, retention.c
    free = select(r.artifact).where(r.artifact.in_(idents), r.hold.is_(None))
    closing = update(artifacts).where(c.id.in_(free), c.state != "destroyed")
    async with engine.begin() as tx:
        await held.lock(tx, idents)  # whoever is about to hold one is first, or too late
        closed = await tx.execute(closing.values(state="destroying").returning(c.id))
        found = await tx.execute(rows().where(c.id.in_(list(closed.scalars()))))
        return list(found)


async def end(engine: AsyncEngine, stone: Tombstone, *, lease: str | None) -> bool:
    """Write *stone*, with the salt erased; False if *lease* is lost or another one wrote first."""
    return bool(await ends(engine, [stone], lease=lease))


async def ends(engine: AsyncEngine, stones: Sequence[Tombstone], *, lease: str | None) -> set[str]:
    """Do `end` for each of *stones*; return the artifacts of those that it wrote."""
    written = set[str]()
    async with engine.begin() as tx:
        for stone in stones:
            if (await tx.execute(_ending(stone, lease))).rowcount == 1:
                written.add(stone.label.artifact)
        gone = update(artifacts).where(artifacts.c.id.in_(written))
        await tx.execute(gone.values(state="destroyed", salt=None))
    return written


def _ending(stone: Tombstone, lease: str | None) -> Update:
    mine = and_(retention.c.artifact == stone.label.artifact, retention.c.state == "due")
    if lease is not None:
        mine = and_(mine, retention.c.lease_owner == lease)
    return (
        update(retention)
        .where(mine)
        .values(
            state="done",
            done_at=int(stone.destroyed_at.timestamp()),
            reason=stone.reason,
            methods=",".join(stone.methods),
            late_seconds=stone.late_seconds,
        )
    )


def label_of(row: Row[Any]) -> Label:
    """Return the label in *row*."""
    return Label(
        tenant=row.tenant,
        subject=row.subject,
        artifact=row.id,
        kind=Kind(row.kind),
        region=row.region,
    )


def artifact_of(row: Row[Any]) -> Artifact:
    """Return *row* as a value."""
    return Artifact(
        label=label_of(row),
        due=moment(row.due_at),
        size=row.size,
        commitment=row.commitment,
        epoch=row.epoch,
        stored_at=moment(row.stored_at),
    )


def tombstone_of(row: Row[Any]) -> Tombstone:
    """Return what was written when the artifact of *row* was destroyed."""
    return Tombstone(
        label=label_of(row),
        due=moment(row.due_at),
        destroyed_at=moment(row.done_at),
        reason=row.reason,
        methods=tuple(row.methods.split(",")),
        verified=True,
        late_seconds=row.late_seconds,
    )


def moment(seconds: int) -> datetime:
    """Return *seconds* since the epoch as aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)
