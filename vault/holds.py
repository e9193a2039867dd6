"""
Legal holds: an order to keep what a clock would delete, until it expires or is released.

- A hold keeps an artifact by a copy of the artifact's own key, wrapped under a KEK of the hold. So
  the keys of the subject and of the epoch die on time, for everybody else, and for every backup.
- *Opening* comes first, so that what is stored meanwhile is not missed; then it is *proposed*:
  one transaction writes the copies, the clocks and the hold. That stops clocks for a day and does
  nothing else. *Placed*, it also closes what it keeps to everybody but `read`.
- Its end drops the copies and starts the clocks where they would be: due times were never moved.
  Its KEK then dies by the keeper's hand.
- What is destroyed, being destroyed or overdue when it is proposed is too late, and said to be.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault import held, ledger, orders
from vault.agreed_time import AgreedTime
from vault.custody import Custody
from vault.errors import GoneError, HoldError
from vault.held import LIVE, kek_of
from vault.model import Artifact, Ended, Hold, HoldState, Scope, Taken, WrappedKey
from vault.tables import artifacts, holds, reading
from vault.tables import held as copies_table

MOST_ARTIFACTS = 20_000  # they are written in one transaction
AT_ONCE = 16  # keys wrapped at a time


async def propose(custody: Custody, hold: Hold) -> Taken:
    """
    Let *hold* stop the clocks of what it is about, and say what it keeps.

    The same call may be made again after any failure.

    Raises:
        HoldError: its terms are not acceptable, it names what nobody knows, or it is over.
        KeyringError: the keyring is away.

    """
    orders.check(hold)
    found = await _covered(custody.engine, hold.scope)
    if unknown := set(hold.scope.artifacts) - {row.id for row in found}:
        raise HoldError(f"{min(unknown)}: no such artifact of {hold.scope.tenant}")
    if len(found) > MOST_ARTIFACTS:
        raise HoldError(f"{len(found)} artifacts: more than {MOST_ARTIFACTS} (narrow the scope)")
    await orders.write(custody.engine, hold)
    # Again: what was stored up to here is found, what is stored from here on finds the hold.
    found = await _covered(custody.engine, hold.scope)
    copies = await _copies(custody, hold.id, found)
    at = custody.now()
    async with custody.engine.begin() as tx:
        row = await orders.lock(tx, hold.id)
        if row.state == HoldState.ENDED:
            raise HoldError(f"{hold.id}: it is over")
        # Those that are being stored right now are waited for.
        await held.lock(tx, [each.id for each in found])
        await held.take(tx, hold.id, copies, _seconds(at))
        taken = await _taken(tx, hold.id, [each.id for each in found])
        counts = {"kept": len(taken.kept), "too_late": len(taken.too_late)}
        if row.state == HoldState.OPENING:
            proposed = {"state": HoldState.PROPOSED, **counts}
            await tx.execute(update(holds).where(holds.c.id == hold.id).values(proposed))
    return taken


async def place(engine: AsyncEngine, ident: str, *, by: str, at: datetime) -> None:
    """
    Let the proposed hold *ident* be placed, which *by* approved: what it keeps is closed.

    Raises `HoldError` if it is not proposed any more, or *by* proposed it.
    """
    async with engine.begin() as tx:
        row = await orders.lock(tx, ident)
        if row.state != HoldState.PROPOSED or orders.lapsed(row, at):
            raise HoldError(f"{ident}: not proposed, or not any more")
        if row.placed_by == by:
            raise HoldError(f"{ident}: who proposed it does not approve it")
        values = {"state": HoldState.PLACED, "approved_by": by, "placed_at": _seconds(at)}
        await tx.execute(update(holds).where(holds.c.id == ident).values(values))
        await held.name(tx, ident)


async def ask_release(engine: AsyncEngine, ident: str, *, by: str, role: str, at: datetime) -> None:
    """Let *by* propose the end of the placed hold *ident*; a later proposal replaces it."""
    asked = {"release_by": by, "release_role": role, "release_asked_at": _seconds(at)}
    async with engine.begin() as tx:
        row = await orders.lock(tx, ident)
        if row.state != HoldState.PLACED:
            raise HoldError(f"{ident}: not placed")
        await tx.execute(update(holds).where(holds.c.id == ident).values(asked))


async def release(engine: AsyncEngine, ident: str, *, by: str, at: datetime) -> None:
    """
    End the placed hold *ident*, as somebody proposed and *by* approved.

    Raises `HoldError` if nobody proposed it within `orders.LAPSES_AFTER`, or it was *by*.
    """
    async with engine.begin() as tx:
        row = await orders.lock(tx, ident)
        asked_at = row.release_asked_at
        if row.state != HoldState.PLACED or asked_at is None:
            raise HoldError(f"{ident}: nobody proposed to release it")
        if at >= ledger.moment(asked_at) + orders.LAPSES_AFTER:
            raise HoldError(f"{ident}: its release was proposed too long ago (propose it again)")
        if row.release_by == by:
            raise HoldError(f"{ident}: who proposed its release does not approve it")
        await _end(tx, ident, Ended.RELEASED, at=at, by=by)


async def end(engine: AsyncEngine, ident: str, how: Ended, time: AgreedTime) -> bool:
    """End the hold *ident* by the clock; False if it was over."""
    async with engine.begin() as tx:
        row = await orders.lock(tx, ident)
        if row.state == HoldState.ENDED:
            return False
        await _end(tx, ident, how, at=time.at)
    return True


async def end_due(engine: AsyncEngine, time: AgreedTime) -> list[str]:
    """End every hold that expired, and every proposal that nobody approved; return them."""
    now, ended = time.seconds, list[str]()
    c = holds.c
    waiting = c.state.in_([HoldState.OPENING, HoldState.PROPOSED])
    lapsed = and_(waiting, c.proposed_at <= _seconds(time.before(orders.LAPSES_AFTER)))
    over = or_(lapsed, and_(c.state.in_(LIVE), c.expires_at <= now))
    async with reading(engine) as connection:
        rows = (await connection.execute(select(holds).where(over).order_by(c.id))).all()
    for row in rows:
        how = Ended.EXPIRED if row.state == HoldState.PLACED else Ended.LAPSED
        if await end(engine, row.id, how, time):
            ended.append(row.id)
    return ended


async def read(custody: Custody, ident: str, artifact: str) -> bytes:
    """
    Return the content of *artifact* for the case that the placed hold *ident* is for.

    Raises:
        HoldError: the hold is not placed, or keeps no such artifact.
        KeyLostError: the hold's key is lost: a fault.
        KeyringError: the keyring is away.
        ObjectsError: the object store failed.
        TamperedError: what is stored is not what was put.

    """
    row, wrapped = await _kept(custody.engine, ident, artifact, custody.now())
    return await custody.unsealed(row, await custody.keys.copied(wrapped, artifact))


async def kept_by(engine: AsyncEngine, ident: str) -> list[Artifact]:
    """Return what the hold *ident* keeps."""
    c = copies_table.c
    theirs = ledger.rows().where(artifacts.c.id.in_(select(c.artifact).where(c.hold == ident)))
    async with reading(engine) as connection:
        rows = await connection.execute(theirs.order_by(artifacts.c.stored_at, artifacts.c.id))
        return [ledger.artifact_of(row) for row in rows]


async def _covered(engine: AsyncEngine, scope: Scope) -> list[Row[Any]]:
    """Return what is stored, or about to be, in *scope*; of named artifacts also what is gone."""
    a, found = artifacts.c, list[Row[Any]]()
    async with reading(engine) as connection:
        for name, idents in ((a.id, scope.artifacts), (a.subject, scope.subjects)):
            for first in range(0, len(idents), held.MOST_NAMED):
                some = name.in_(idents[first : first + held.MOST_NAMED])
                there = some if name is a.id else and_(some, a.state != "destroyed")
                query = ledger.rows().where(a.tenant == scope.tenant, there)
                found += (await connection.execute(query)).all()
        if scope.since is not None and scope.before is not None:
            span = and_(a.stored_at >= _seconds(scope.since), a.stored_at < _seconds(scope.before))
            there = and_(a.tenant == scope.tenant, span, a.state != "destroyed")
            found += (await connection.execute(ledger.rows().where(there))).all()
    return found


async def _copies(custody: Custody, hold: str, found: Sequence[Row[Any]]) -> dict[str, WrappedKey]:
    """Return a copy of the key of each that can still be read, wrapped for *hold*."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def copy(row: Row[Any]) -> tuple[str, WrappedKey] | None:
        async with gate:
            try:
                key = await _key(custody, row)
            except GoneError:
                return None
            return row.id, await custody.keys.copy(key, row.id, kek_of(hold))

    living = [row for row in found if row.state in {"storing", "kept"}]
    made = await asyncio.gather(*(copy(row) for row in living))
    return dict(each for each in made if each is not None)


async def _key(custody: Custody, row: Row[Any]) -> bytes:
    """Return an artifact's own key; what another placed hold keeps, by that one's copy."""
    if row.hold is None or row.hold_state != HoldState.PLACED:
        return await custody.keys.artifact_key(ledger.label_of(row), row.epoch)
    _, wrapped = await _kept(custody.engine, row.hold, row.id, custody.now())
    return await custody.keys.copied(wrapped, row.id)


async def _kept(
    engine: AsyncEngine, hold: str, artifact: str, at: datetime
) -> tuple[Row[Any], WrappedKey]:
    """Return the row of *artifact*, and its key as the placed *hold* has it."""
    c = copies_table.c
    mine = and_(c.hold == hold, c.artifact == artifact)
    placed = and_(
        holds.c.id == hold, holds.c.state == HoldState.PLACED, holds.c.expires_at > _seconds(at)
    )
    async with reading(engine) as connection:
        copy = (await connection.execute(select(copies_table).where(mine))).first()
        order = (await connection.execute(select(holds.c.id).where(placed))).first()
        found = await connection.execute(ledger.rows().where(artifacts.c.id == artifact))
        row = found.first()
    if order is None:
        raise HoldError(f"{hold}: not placed, or expired")
    if copy is None or row is None:
        raise HoldError(f"{artifact}: not kept by {hold}")
    return row, WrappedKey(kek=copy.kek, version=copy.version, ciphertext=copy.ciphertext)


async def _taken(tx: AsyncConnection, hold: str, found: Sequence[str]) -> Taken:
    """Return what *hold* keeps, and what of *found* it came too late for."""
    c = copies_table.c
    kept = set((await tx.execute(select(c.artifact).where(c.hold == hold))).scalars())
    # What is still being stored will be kept when it is stored.
    storing = select(artifacts.c.id).where(artifacts.c.state == "storing")
    late = set(found) - kept
    late -= set((await tx.execute(storing)).scalars()) if late else set()
    return Taken(kept=tuple(sorted(kept)), too_late=tuple(sorted(late)))


async def _end(
    tx: AsyncConnection, ident: str, how: Ended, *, at: datetime, by: str | None = None
) -> None:
    over = {"state": HoldState.ENDED, "ended": how, "ended_at": _seconds(at), "released_by": by}
    await tx.execute(update(holds).where(holds.c.id == ident).values(over))
    await held.let_go(tx, ident, _seconds(at))


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
