"""
The keys of a cell: one per subject, one per epoch, a few by name; all wrapped by the keyring.

- An artifact's key is HKDF-SHA-512(subject key || epoch key, label) and is never stored:
  destroy either key and the artifact is dead, whatever became of its bytes.
- A subject key is wrapped under one of a few bucket KEKs, which are rolled (`vault.roll`); an
  epoch and a name each have a KEK of their own, which is destroyed (`vault.tables.ending_keks`).
  Either kills every backup of the key table.
- A tenant may have buckets of its own: they are rolled, and in the end destroyed, apart.
- What is wrapped is a 16-byte digest of the key's table and id, then the key: a row that was
  copied over another one does not open.
- A destroyed key leaves its row without ciphertext, and is never made again.
- What is stored needs a key of its epoch or day. One that is lost before its time is replaced by
  another of another name: what it sealed is lost, what comes is not.
- Unwrapped keys stay in memory for *ttl_s* seconds at most. Python cannot wipe memory.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import ColumnElement, Row, Table, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault.agreed_time import AgreedTime
from vault.cache import Cache
from vault.coalesce import Coalescer
from vault.envelope import KEY_BYTES, bind, context_of
from vault.epochs import day_end, epoch_end, replacement
from vault.errors import (
    GoneError,
    KeyLostError,
    KeyringError,
    LabelError,
    TamperedError,
    VaultError,
)
from vault.model import Label, WrappedKey
from vault.ports import Keyring
from vault.tables import (
    MOST_NAMED,
    buckets,
    ending_keks,
    epoch_keys,
    insert_new,
    named_keys,
    reading,
    subject_keys,
)
from vault.tables import artifacts as kept

BUCKETS = 16
TTL_S = 60.0
ID_DIGEST_BYTES = 16
MOST_TRIES = 3
MOST_UNWRAPS = 2
MOST_REPLACED = 9
TABLES = (subject_keys, epoch_keys, named_keys)
OWN_BUCKET = "subjects-{tenant}-[0-9]{{4}}"  # a tenant's id begins with a letter
Slot = tuple[str, str]  # a table's name and a row's id
Found = WrappedKey | Exception


def derive(secret: bytes, info: bytes) -> bytes:
    """Return a 32-byte key for *info* (HKDF-SHA-512, RFC 5869)."""
    return HKDF(algorithm=SHA512(), length=KEY_BYTES, salt=None, info=info).derive(secret)


async def _nobody(_subject: str) -> None:
    """Know no subject's tenant."""


def _unheard(_lost: str, _instead: str) -> None:
    """Tell nobody of a key that was replaced."""


class Keys:
    """
    The keys of *region*, kept wrapped by *keyring* in the tables of `vault.tables`.

    *own* has the number of buckets of each tenant that has its own; *owner* tells a subject's
    tenant, and is asked when a key is made. All others share *buckets*. *replaced* hears, once,
    of an epoch or day whose key is lost, and of what replaces it.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        keyring: Keyring,
        *,
        region: str,
        now: Callable[[], datetime],
        buckets: int = BUCKETS,
        own: Mapping[str, int] | None = None,
        owner: Callable[[str], Awaitable[str | None]] = _nobody,
        ttl_s: float = TTL_S,
        replaced: Callable[[str, str], None] = _unheard,
    ) -> None:
        self.region = region
        self._engine = engine
        self._keyring = keyring
        self._now = now
        self._buckets = buckets
        self._own = dict(own or {})
        self._owner = owner
        self._loads: Coalescer[Slot, bytes] = Coalescer(self._load)
        # A request to a key service is about one KEK: what two loads want of it goes together.
        self._unwraps: Coalescer[WrappedKey, bytes] = Coalescer(
            keyring.unwrap, group=lambda wrapped: wrapped.kek, calls=MOST_UNWRAPS
        )
        self._cache: Cache[Slot, bytes] = Cache(ttl_s)
        self._replaced = replaced
        self._numbers: dict[Slot, int] = {}  # of epochs and days whose first key is lost

    async def artifact_key(self, label: Label, epoch: str, *, create: bool = False) -> bytes:
        """
        Return the key of *label*'s container; *create* its subject and epoch keys if need be.

        Raises:
            GoneError: one of the two keys is destroyed or was never made.
            KeyLostError: one of them lives, but its KEK does not: a fault, to be told somebody.
            KeyringError: the keyring did not answer.
            LabelError: the label is of another region.

        """
        if label.region != self.region:
            raise LabelError(f"region: {label.region} is not this cell's ({self.region})")
        hour = await self._key(epoch_keys, epoch, create=create)
        subject = await self._key(subject_keys, label.subject, create=create)
        return derive(subject + hour, context_of(label))

    async def storing_key(self, label: Label, epoch: str) -> tuple[str, bytes]:
        """
        Return the key for what is stored now in *epoch*, and the name that the epoch has in it.

        Keys are made as needed; one of the epoch that is lost is replaced. Raises as
        `artifact_key`, `GoneError` only for the subject.
        """
        if label.region != self.region:
            raise LabelError(f"region: {label.region} is not this cell's ({self.region})")
        name, hour = await self._usable(epoch_keys, epoch)
        subject = await self._key(subject_keys, label.subject, create=True)
        return name, derive(subject + hour, context_of(label))

    async def day_key(self, day: str) -> str:
        """Return the name of the key for what comes in on *day*; one that is lost is replaced."""
        name, _ = await self._usable(named_keys, day)
        return name

    async def replacements(self) -> list[str]:
        """Return the names of the living keys that replaced a lost one, as ``txt-202611-2``."""
        found = list[str]()
        async with reading(self._engine) as connection:
            for table, shape in ((epoch_keys, "%-%-%"), (named_keys, "intake-%-%")):
                column = table.c[_id(table)]
                living = select(column).where(column.like(shape), table.c.ciphertext.is_not(None))
                found += (await connection.execute(living)).scalars()
        return sorted(found)

    async def copy(self, key: bytes, artifact: str, kek: str) -> WrappedKey:
        """Return *artifact*'s own *key* wrapped under *kek*, a hold's: `copied` unwraps it."""
        return await self._keyring.wrap(kek, _digest(("held", artifact)) + key)

    async def copied(self, wrapped: WrappedKey, artifact: str) -> bytes:
        """
        Return the key that `copy` wrapped, whatever became of the keys it was made of.

        Raises as `artifact_key`.
        """
        [answer] = await self._keyring.unwrap([wrapped])
        plain = _checked(answer, ("held", artifact))
        if isinstance(plain, Exception):
            raise plain
        return plain

    async def small_key(self, subject: str, purpose: str, *, create: bool = False) -> bytes:
        """Return *subject*'s key for rows of *purpose*. Raises as `artifact_key`."""
        secret = await self._key(subject_keys, subject, create=create)
        return derive(secret, bind("small", self.region, subject, purpose))

    async def named(self, name: str) -> bytes:
        """Return the cell's own key *name*, such as ``pepper``; it is made when first asked for."""
        return await self._key(named_keys, name, create=True)

    async def destroy_subject(self, subject: str) -> None:
        """Destroy *subject*'s key here; older copies of its row die when its KEK is rolled."""
        await self._shred(subject_keys, subject)

    async def planted(self, subject: str) -> WrappedKey | None:
        """
        Return a random key wrapped by the KEK of *subject*'s, or None if they have none.

        It belongs to nobody. Kept outside, it shows later that what was wrapped then is dead.
        """
        async with reading(self._engine) as connection:
            found = await connection.execute(
                select(subject_keys).where(
                    subject_keys.c.subject == subject, subject_keys.c.ciphertext.is_not(None)
                )
            )
            row = found.first()
        if row is None:
            return None
        return await self._keyring.wrap(row.kek, secrets.token_bytes(KEY_BYTES + ID_DIGEST_BYTES))

    async def lives(self, subject: str) -> bool:
        """Whether *subject* has a key that nobody destroyed."""
        living = select(subject_keys.c.subject).where(
            subject_keys.c.subject == subject, subject_keys.c.ciphertext.is_not(None)
        )
        async with reading(self._engine) as connection:
            return (await connection.execute(living)).first() is not None

    async def living(self, subjects: Sequence[str]) -> set[str]:
        """Return those of *subjects* whose key nobody destroyed."""
        c, found = subject_keys.c, set[str]()
        async with reading(self._engine) as connection:
            for first in range(0, len(subjects), MOST_NAMED):
                some = c.subject.in_(subjects[first : first + MOST_NAMED])
                query = select(c.subject).where(some, c.ciphertext.is_not(None))
                found |= set((await connection.execute(query)).scalars())
        return found

    async def had(self, subject: str) -> bool:
        """Whether *subject* ever had a key: one that was never made leaves version 0 behind."""
        made = select(subject_keys.c.subject).where(
            subject_keys.c.subject == subject, subject_keys.c.version > 0
        )
        async with reading(self._engine) as connection:
            return (await connection.execute(made)).first() is not None

    async def opens(self, wrapped: WrappedKey) -> bool:
        """
        Whether the keyring still unwraps *wrapped*.

        Raises `KeyringError` where it does not answer.
        """
        [answer] = await self._keyring.unwrap([wrapped])
        if isinstance(answer, KeyringError):
            raise answer
        return isinstance(answer, bytes)

    async def destroy_epoch(self, epoch: str, time: AgreedTime) -> bool:
        """
        Destroy *epoch*'s key: everything stored in it is unreadable, for everybody.

        Only if it is over, and every clock in it has run out; return whether it is gone. Its KEK
        dies by the keeper's hand, and with it every backup of the row.
        """
        if epoch_end(epoch) > time.at:
            return False
        spent = epoch_keys.c.last_due <= time.seconds
        return await self._shred(epoch_keys, epoch, spent)

    async def destroy_day(self, day: str, time: AgreedTime) -> bool:
        """
        Destroy the keys of the *day*, such as ``intake-20261129``, if it is over.

        Those that replaced a lost one go as well. Their KEKs die by the keeper's hand.
        """
        if day_end(day) > time.at:
            return False
        for name in await self._replacements(named_keys, day):
            await self._shred(named_keys, name)
        return True

    async def epochs_end(self, artifacts: Sequence[str]) -> datetime:
        """Return when the last epoch key of *artifacts* ends, as far as is known today."""
        query = select(epoch_keys.c.epoch, epoch_keys.c.last_due).where(
            epoch_keys.c.epoch.in_(select(kept.c.epoch).where(kept.c.id.in_(artifacts)))
        )
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        ends = [max(epoch_end(r.epoch), datetime.fromtimestamp(r.last_due, UTC)) for r in rows]
        return max(ends, default=self._now())

    async def destroyed(self, label: Label, epoch: str) -> bool:
        """Return whether the subject's or the epoch's key is gone for good."""
        subjects, epochs = await self.ended({label.subject}, {epoch})
        return bool(subjects or epochs)

    async def ended(self, subjects: set[str], epochs: set[str]) -> tuple[set[str], set[str]]:
        """Return those of *subjects* and of *epochs* whose keys are gone for good."""
        found = []
        async with reading(self._engine) as connection:
            for table, idents in ((subject_keys, subjects), (epoch_keys, epochs)):
                column = table.c[_id(table)]
                gone = select(column).where(column.in_(idents), table.c.ciphertext.is_(None))
                found.append(set((await connection.execute(gone)).scalars()))
        return found[0], found[1]

    def forget(self, subject: str) -> None:
        """Drop *subject*'s key from memory, and any being unwrapped for it right now."""
        self._cache.drop((subject_keys.name, subject))

    async def _key(self, table: Table, ident: str, *, create: bool) -> bytes:
        slot = (table.name, ident)
        key = self._cache.get(slot)
        if key is None:
            drops = self._cache.drops
            try:
                key = await self._loads.get(slot)
            except _AbsentError:
                if not create:
                    raise
                await self._make(table, ident)
                key = await self._loads.get(slot)
            self._cache.put(slot, key, drops=drops)
        return key

    async def _usable(self, table: Table, ident: str) -> tuple[str, bytes]:
        """Return the first key of *ident* that is not lost, and its name."""
        slot = (table.name, ident)
        for number in range(self._numbers.get(slot, 1), MOST_REPLACED + 1):
            name = replacement(ident, number)
            with contextlib.suppress(GoneError, KeyLostError):
                key = await self._key(table, name, create=True)
                if number != self._numbers.get(slot, 1):
                    self._numbers[slot] = number
                    self._replaced(ident, name)
                return name, key
        raise KeyLostError(f"{table.name} {ident}: lost too often")

    async def _replacements(self, table: Table, ident: str) -> list[str]:
        """Return the names of the keys that *ident* has, its own and those that replaced it."""
        names = [replacement(ident, number) for number in range(1, MOST_REPLACED + 1)]
        column = table.c[_id(table)]
        living = select(column).where(column.in_(names), table.c.ciphertext.is_not(None))
        async with reading(self._engine) as connection:
            return list((await connection.execute(living)).scalars())

    async def _load(self, slots: Sequence[Slot]) -> list[bytes | Exception]:
        """Return the key of each slot: a query per table, then one call to the keyring."""
        rows = await self._rows(slots)
        keys = await self._opened(rows)
        for _ in range(MOST_TRIES):
            # A roll may have ended between our two calls: then the row is another one by now.
            lost = [slot for slot in slots if isinstance(keys[slot], KeyLostError)]
            anew = await self._rows(lost) if lost else {}
            moved = {slot: row for slot, row in anew.items() if row != rows[slot]}
            if not moved:
                break
            rows |= moved
            keys |= await self._opened(moved)
        return [keys[slot] for slot in slots]

    async def _opened(self, rows: Mapping[Slot, Found]) -> dict[Slot, bytes | Exception]:
        wrapped = {slot: row for slot, row in rows.items() if isinstance(row, WrappedKey)}
        answers = await self._unwrap(list(wrapped.values()))
        keys: dict[Slot, bytes | Exception] = {
            slot: row for slot, row in rows.items() if isinstance(row, Exception)
        }
        for slot, answer in zip(wrapped, answers, strict=True):
            keys[slot] = _checked(answer, slot)
        return keys

    async def _unwrap(self, wrapped: list[WrappedKey]) -> list[bytes | Exception]:
        """Unwrap; a keyring that is away must not hide which keys are known to be gone."""
        asked = (self._unwraps.get(one) for one in wrapped)
        found = await asyncio.gather(*asked, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, VaultError):
                raise one
        return [one for one in found if isinstance(one, bytes | Exception)]

    async def _rows(self, slots: Iterable[Slot]) -> dict[Slot, Found]:
        found: dict[Slot, Found] = {
            slot: _AbsentError(f"{slot[0]} {slot[1]}: no such key") for slot in slots
        }
        async with reading(self._engine) as connection:
            for table in TABLES:
                idents = [ident for name, ident in slots if name == table.name]
                chosen = table.select().where(table.c[_id(table)].in_(idents))
                for row in await connection.execute(chosen) if idents else ():
                    slot = (table.name, getattr(row, _id(table)))
                    found[slot] = _wrapped(slot, row)
        return found

    async def _make(self, table: Table, ident: str) -> None:
        """Write a new key for *ident*; if somebody was first, theirs stands."""
        plain = _digest((table.name, ident)) + secrets.token_bytes(KEY_BYTES)
        kek = await self._kek(table, ident)
        for _ in range(MOST_TRIES):
            made = await self._keyring.wrap(kek, plain)
            row = {"kek": made.kek, "version": made.version, "ciphertext": made.ciphertext}
            async with self._engine.begin() as tx:
                if table is not subject_keys or await _current(tx, made):
                    await insert_new(tx, table, {_id(table): ident, **row})
                    return
        raise KeyringError(f"{kek}: it is being rolled faster than keys are made")

    async def _shred(self, table: Table, ident: str, *only_if: ColumnElement[bool]) -> bool:
        """
        Erase the row, so that nothing is sealed or opened under it any more.

        It keeps the name of its KEK: the keeper destroys or rolls that, and older copies die.
        """
        tomb = {"ciphertext": None, "destroyed_at": int(self._now().timestamp())}
        kek = await self._kek(table, ident)
        async with self._engine.begin() as tx:
            living = and_(_is(table, ident), table.c.destroyed_at.is_(None), *only_if)
            found = (await tx.execute(update(table).where(living).values(**tomb))).rowcount
            if not found and not only_if:
                row = {_id(table): ident, "kek": kek, "version": 0, **tomb}
                await insert_new(tx, table, row)  # so that nobody makes it later
            if table is not subject_keys and (found or not only_if):
                ending = {"kek": kek, "since": tomb["destroyed_at"]}
                await insert_new(tx, ending_keks, ending)
        self._cache.drop((table.name, ident))
        return bool(found) or not only_if

    async def _kek(self, table: Table, ident: str) -> str:
        """Return the KEK for a new key; the row remembers it, so buckets may change later."""
        if table is epoch_keys:
            return ident
        if table is named_keys:
            return f"named-{ident}"
        tenant = await self._owner(ident) if self._own else None
        own = self._own.get(tenant) if tenant else None
        number = int.from_bytes(_digest((table.name, ident))[:4], "big") % (own or self._buckets)
        return f"subjects-{tenant}-{number:04d}" if own else f"subjects-{number:04d}"


class _AbsentError(GoneError):
    """There is no row: the key was never made."""


async def _current(tx: AsyncConnection, made: WrappedKey) -> bool:
    """
    Whether the version *made* was wrapped by outlives the roll under way, if there is one.

    A roll that begins waits for our transaction: the row lock is what its scan relies on.
    """
    await insert_new(tx, buckets, {"kek": made.kek})
    ending = select(ending_keks.c.kek).where(ending_keks.c.kek == made.kek)
    locked = select(buckets.c.least).where(buckets.c.kek == made.kek).with_for_update(read=True)
    least = int((await tx.execute(locked)).scalar_one())
    if (await tx.execute(ending)).first() is not None:
        raise KeyringError(f"{made.kek}: it is being destroyed")
    return least <= made.version


def _id(table: Table) -> str:
    return next(iter(table.primary_key.columns)).name


def _is(table: Table, ident: str) -> ColumnElement[bool]:
    return table.c[_id(table)] == ident


def _digest(slot: Slot) -> bytes:
    return hashlib.sha256(bind("key", *slot)).digest()[:ID_DIGEST_BYTES]


def _wrapped(slot: Slot, row: Row[Any]) -> WrappedKey | Exception:
    if row.ciphertext is None or row.destroyed_at is not None:
        return GoneError(f"{slot[0]} {slot[1]}: destroyed")
    return WrappedKey(kek=row.kek, version=row.version, ciphertext=row.ciphertext)


def _checked(plain: bytes | Exception, slot: Slot) -> bytes | Exception:
    if isinstance(plain, GoneError | TamperedError):
        # Our row lives, so no erasure destroyed this: its KEK was lost, trimmed, rolled back, or
        # another one has its name, or the row was damaged.
        return KeyLostError(f"{slot[0]} {slot[1]}: {plain}")
    if isinstance(plain, Exception):
        return plain
    digest, key = plain[:ID_DIGEST_BYTES], plain[ID_DIGEST_BYTES:]
    if len(key) != KEY_BYTES or not hmac.compare_digest(digest, _digest(slot)):
        return TamperedError(f"{slot[0]} {slot[1]}: the row holds another key")
    return key
