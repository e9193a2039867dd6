"""
Keeping the keys: destroy the KEKs that nothing needs, roll those that somebody left or are old.

It runs as the keeper, in a process of its own (`gateway.keeper`) or, in development, inside the
cell. Whatever fails is tried again at the next tick; what was done is on record in the end.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.model import Event, EventType
from gateway import db, log
from gateway.timekeeping import Agreed
from vault import duties, keysheet, roll
from vault.agreed_time import AgreedTime
from vault.errors import GoneError, KeyLostError, VaultError
from vault.ports import Keeper, Objects
from vault.tables import buckets, ending_keks

DUTY = "keeping"
LEASE = timedelta(minutes=5)
OWN_BUCKET = re.compile(r"subjects-[a-z][a-z0-9-]*-[0-9]{4}")
AGES_EVERY = timedelta(hours=1)
LOOKED_EVERY = timedelta(minutes=1)
Append = Callable[[Event], Awaitable[object]]


class Keeping:
    """
    Ends and rolls keys of the cell *cell* in *region*; *append* puts it on record.

    Nothing is destroyed or rolled unless *agreed* says what time it is (`gateway.timekeeping`).
    *roll_after* is how long an erased person's key may be left in older copies, *cryptoperiod*
    how old a KEK may be on which keys hang.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        keeper: Keeper,
        objects: Objects,
        append: Append,
        *,
        cell: str,
        region: str,
        owner: str,
        now: Callable[[], datetime],
        agreed: Agreed,
        roll_after: timedelta,
        cryptoperiod: timedelta,
    ) -> None:
        self._engine = engine
        self._keeper = keeper
        self._objects = objects
        self._append = append
        self._cell = cell
        self._region = region
        self._owner = owner
        self._now = now
        self._agreed = agreed
        self._roll_after = roll_after
        self._cryptoperiod = cryptoperiod
        self._stood: frozenset[roll.Place] | None = None
        self._looked_at: datetime | None = None
        self._ages_at: datetime | None = None

    async def tick(self) -> None:
        """
        Do what is to be done, unless another process is at it.

        What a restored backup broke comes before everything: it is looked for at the first tick,
        and whenever a KEK stands elsewhere than its last roll left it, for nobody restarts a
        keeper because the key service or the database was put back.
        """
        if not await self._mine():
            return
        if self._stood is None or await self._moved():
            await self._heal()
            self._stood, self._looked_at = await self._standing(), self._now()
        # Putting right what a restore broke is decided by no clock; what follows is.
        if (time := await self._agreed()) is not None:
            await self._end(time)
            await self._roll(time)
        await self._tell()

    async def _mine(self) -> bool:
        return await duties.take(self._engine, DUTY, self._owner, now=self._now, lasts=LEASE)

    async def _moved(self) -> bool:
        """Whether a KEK stands elsewhere than it did; asked each minute, for it lists them all."""
        if self._looked_at is None or self._now() - self._looked_at < LOOKED_EVERY:
            return False
        try:
            standing = await self._standing()
        except VaultError as exc:
            log.get().warning("keys.not_listed", error=exc)
            return False
        self._looked_at = self._now()
        return standing != self._stood

    async def _standing(self) -> frozenset[roll.Place]:
        return await roll.displaced(self._engine, await self._keeper.keks())

    async def _heal(self) -> None:
        broken = await roll.heal(self._engine, self._keeper, self._objects, now=self._now)
        for kek in broken:
            log.get().error("keys.restored", stage=kek)

    async def _end(self, time: AgreedTime) -> None:
        """Destroy the KEKs of keys that were destroyed: with them die the backups of the rows."""
        async with db.reading(self._engine) as tx:
            ending = list(await tx.execute(select(ending_keks)))
        for kek, since in ending:
            try:
                await self._keeper.destroy(kek)
            except VaultError as exc:
                log.get().warning("keys.not_destroyed", stage=kek, error=exc)
                continue
            await self._append(self._event(EventType.KEY_DESTROYED, f"{kek}.destroyed", kek, {}))
            await self._forget(kek, since, time)

    async def _forget(self, kek: str, since: int, time: AgreedTime) -> None:
        """
        Leave no sheet and no roll of *kek*, destroyed by now: neither opens anything any more.

        To those who were in a bucket this is what a roll is: no older copy of their keys opens.
        """
        mine = buckets.c.kek == kek
        async with db.reading(self._engine) as tx:
            row = (await tx.execute(select(buckets).where(mine))).one_or_none()
        if row is not None:
            versions = {row.rolled, row.least} - {0}
            await keysheet.forget(self._objects, kek, sorted(versions))
        over = {"rolled_at": since + 1, "ended_at": time.seconds}
        fresh = {"began_at": None, "least": 0, "rolled": 0, "recorded": 0, "wanted_at": 0}
        async with self._engine.begin() as tx:
            if kek.startswith("subjects-"):
                await tx.execute(update(buckets).where(mine).values(**over, **fresh))
            else:
                await tx.execute(delete(buckets).where(mine))
            await tx.execute(delete(ending_keks).where(ending_keks.c.kek == kek))

    async def _aged(self, time: AgreedTime) -> list[str]:
        """
        Return the KEKs that are too old, and have the empty ones of a tenant's own destroyed.

        The service is asked for all of them, so seldom.
        """
        at = time.at
        if self._ages_at is not None and at - self._ages_at < AGES_EVERY:
            return []
        try:
            keks = await self._keeper.keks()
        except VaultError as exc:
            log.get().warning("keys.not_listed", error=exc)
            return []
        for kek in keks:
            if OWN_BUCKET.fullmatch(kek.name) and await roll.end_if_empty(
                self._engine, kek.name, time
            ):
                log.get().info("keys.ending", stage=kek.name)
        old = await roll.aged(self._engine, keks, rotated_before=at - self._cryptoperiod)
        self._ages_at = at
        return old

    async def _roll(self, time: AgreedTime) -> None:
        erased_before = int(time.before(self._roll_after).timestamp()) + 1
        wanted = set(await roll.due(self._engine, erased_before=erased_before))
        for kek in sorted(wanted | set(await self._aged(time))):
            await self._mine()  # a roll takes its time: nobody else begins one meanwhile
            try:
                done = await roll.roll(
                    self._engine, self._keeper, self._objects, kek, time, now=self._now
                )
            except (GoneError, KeyLostError) as exc:
                log.get().error("keys.lost", stage=kek, error=exc)
            except VaultError as exc:
                log.get().warning("keys.not_rolled", stage=kek, error=exc)
            else:
                log.get().info("keys.rolled", stage=kek, count=done.rows)

    async def _tell(self) -> None:
        """Put finished rolls on record: also those whose process died before it could."""
        b = buckets.c
        async with db.reading(self._engine) as tx:
            untold = list(await tx.execute(select(buckets).where(b.rolled > b.recorded)))
        for row in untold:
            told = {
                "began": datetime.fromtimestamp(row.rolled_at, UTC).isoformat(),
                "ended": datetime.fromtimestamp(row.ended_at or row.rolled_at, UTC).isoformat(),
                "version": row.rolled,
            }
            ident = f"{row.kek}.v{row.rolled}.{row.rolled_at}"
            await self._append(self._event(EventType.KEY_ROLLED, ident, row.kek, told))
            async with self._engine.begin() as tx:
                same = (b.kek == row.kek) & (b.recorded < row.rolled)
                await tx.execute(update(buckets).where(same).values(recorded=row.rolled))

    def _event(self, kind: EventType, ident: str, kek: str, told: dict[str, object]) -> Event:
        return Event(
            id=ident,
            type=kind,
            at=self._now(),
            tenant=self._cell,
            region=self._region,
            actor="keeper",
            outcome="done",
            detail={"basis": "observed", "kek": kek, "service": self._keeper.name, **told},
        )
