"""
What outlives a process, in memory: objects, keys, the log and its mark. All can be copied.

Each fulfils the contract of its port (`tests/contracts`). Every write goes through *durable*, which
does it, or lets the power fail before or after.
"""

import base64
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit import merkle
from audit.errors import LockedError, StoreError
from audit.model import Event, EventType
from audit.ports import Batch, HighWater, Known, LogReads, LogStore, Query
from audit.tiles import Tile
from vault import flow
from vault.errors import GoneError, KeyringError, ObjectsError, TamperedError, VaultError
from vault.model import Kek, WrappedKey
from vault.ports import KEK_NAME, OBJECT_NAME

T = TypeVar("T")
NONCE_BYTES = 12


class Durable(Protocol):
    """Does a write to the store named, if the machine lives to do so."""

    def __call__(self, what: str, do: Callable[[], T], /) -> T:
        """Do it, or die before or after."""
        ...


def always(_what: str, do: Callable[[], T]) -> T:
    """Do every write: a machine that never fails."""
    return do()


class MemoryObjects:
    """See `vault.ports.Objects`; *kept* is the disk."""

    name = "memory"

    def __init__(self, kept: dict[str, bytes], durable: Durable = always) -> None:
        self._kept = kept
        self._durable = durable

    async def put(self, name: str, sealed: bytes | AsyncIterable[bytes]) -> None:
        """See `Objects.put`."""
        _checked(name)
        content = await flow.gathered(flow.pieces(sealed))
        if name in self._kept:
            raise ObjectsError("an object of this name is kept already")
        self._durable("objects", lambda: self._kept.__setitem__(name, content))

    async def get(self, name: str) -> bytes:
        """See `Objects.get`."""
        if _checked(name) not in self._kept:
            raise GoneError("no such object")
        return self._kept[name]

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """See `Objects.stream`."""
        content = await self.get(name)
        for at in range(0, len(content), flow.PIECE):
            yield content[at : at + flow.PIECE]

    async def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        if _checked(name) in self._kept:
            self._durable("objects", lambda: self._kept.pop(name, None))

    async def names(self) -> list[str]:
        """See `Objects.names`."""
        return sorted(self._kept)


def _checked(name: str) -> str:
    if not OBJECT_NAME.fullmatch(name):
        raise ObjectsError("the name of an object is [a-z0-9_/.-]{1,128}, no dotted segment")
    return name


@dataclass(slots=True)
class Versions:
    """One KEK: its keys by version, and when the newest was made."""

    keys: dict[int, bytes]
    made: datetime


_WRAPPED = re.compile(r"memory:v([0-9]{1,9}):([A-Za-z0-9+/=]+)")


class MemoryKeys:
    """See `vault.ports.Keyring` and `Keeper`; *keks* is the key service's disk."""

    name = "memory"

    def __init__(
        self, keks: dict[str, Versions], now: Callable[[], datetime], durable: Durable = always
    ) -> None:
        self._keks = keks
        self._now = now
        self._durable = durable

    async def wrap(self, kek: str, key: bytes) -> WrappedKey:
        """See `Keyring.wrap`."""
        if not KEK_NAME.fullmatch(kek):
            raise KeyringError("the name of a KEK is [a-z0-9-]{1,64}")
        if kek not in self._keks:
            first = Versions({1: secrets.token_bytes(32)}, self._now())
            self._durable("keys", lambda: self._keks.__setitem__(kek, first))
        version, secret = max(self._keks[kek].keys.items())
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + AESGCM(secret).encrypt(nonce, key, kek.encode())
        ciphertext = f"memory:v{version}:{base64.b64encode(sealed).decode()}"
        return WrappedKey(kek=kek, version=version, ciphertext=ciphertext)

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """See `Keyring.unwrap`."""
        return [self._tried(one) for one in wrapped]

    async def ready(self) -> None:
        """See `Keyring.ready`."""

    async def rotate(self, kek: str) -> int:
        """See `Keeper.rotate`."""
        found = self._require(kek)
        version = max(found.keys) + 1
        newer = Versions({**found.keys, version: secrets.token_bytes(32)}, self._now())
        self._durable("keys", lambda: self._keks.__setitem__(kek, newer))
        return version

    async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
        """See `Keeper.rewrap`."""
        found: list[WrappedKey | Exception] = []
        for one in wrapped:
            key = self._tried(one)
            found.append(key if isinstance(key, Exception) else await self.wrap(one.kek, key))
        return found

    async def trim(self, kek: str, oldest: int) -> None:
        """See `Keeper.trim`."""
        found = self._require(kek)
        if oldest > max(found.keys):
            raise KeyringError(f"{kek}: it has no version {oldest} yet")
        left = {version: key for version, key in found.keys.items() if version >= oldest}
        self._durable("keys", lambda: self._keks.__setitem__(kek, Versions(left, found.made)))

    async def destroy(self, kek: str) -> None:
        """See `Keeper.destroy`."""
        if kek in self._keks:
            self._durable("keys", lambda: self._keks.pop(kek, None))

    async def keks(self) -> list[Kek]:
        """See `Keeper.keks`."""
        return [
            Kek(
                name=name,
                oldest=min(found.keys),
                newest=max(found.keys),
                rotated_at=found.made,
                exportable=False,
                backup_allowed=False,
                algorithm="aes256-gcm96",
            )
            for name, found in sorted(self._keks.items())
        ]

    def _require(self, kek: str) -> Versions:
        if kek not in self._keks:
            raise GoneError(f"{kek}: no such KEK")
        return self._keks[kek]

    def _tried(self, wrapped: WrappedKey) -> bytes | Exception:
        try:
            return self._unwrapped(wrapped)
        except VaultError as exc:
            return exc

    def _unwrapped(self, wrapped: WrappedKey) -> bytes:
        found = self._require(wrapped.kek)
        shape = _WRAPPED.fullmatch(wrapped.ciphertext)
        if shape is None:
            raise TamperedError(f"{wrapped.kek}: a wrapped key is malformed")
        secret = found.keys.get(int(shape[1]))
        if secret is None:
            raise GoneError(f"{wrapped.kek}: this version is destroyed")
        try:
            sealed = base64.b64decode(shape[2], validate=True)
            nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return AESGCM(secret).decrypt(nonce, body, wrapped.kek.encode())
        except (InvalidTag, ValueError):
            raise TamperedError(f"{wrapped.kek}: a wrapped key does not authenticate") from None


@dataclass(slots=True)
class LogDisk:
    """The log of one quarter: its leaves, what they are found by, its note, mark and key."""

    note: str | None = None
    mark: str | None = None
    vkey: str = ""
    entries: list[bytes] = field(default_factory=list)
    tiles: dict[Tile, bytes] = field(default_factory=dict)
    ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    chains: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    unended: dict[str, int] = field(default_factory=dict)
    by: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    locked: bool = False

    def copy(self) -> "LogDisk":
        """Return this as it is now, unlocked: whoever had it open is dead."""
        values = {name: copy(getattr(self, name)) for name in self.__slots__}
        return LogDisk(**(values | {"locked": False}))


class MemoryLog:
    """See `audit.ports.LogStore`; over *disk*."""

    def __init__(self, disk: LogDisk, durable: Durable = always, *, writing: bool = True) -> None:
        if writing and disk.locked:
            raise LockedError("another writer holds this log")
        disk.locked = disk.locked or writing
        self._disk = disk
        self._durable = durable
        self._writing = writing
        self._closed = False

    async def checkpoint(self) -> str | None:
        """See `LogReads.checkpoint`."""
        return self._open().note

    async def tiles(self, places: Sequence[Tile]) -> dict[Tile, bytes]:
        """See `LogReads.tiles`."""
        kept = self._open().tiles
        return {place: kept[place] for place in places if place in kept}

    async def entries(self, query: Query) -> list[tuple[int, bytes]]:
        """See `LogReads.entries`."""
        disk = self._open()
        if query.span:
            begin, end = query.span
            return list(enumerate(disk.entries[begin:end], start=begin))
        if query.open_touches:
            found: Sequence[int] = sorted(disk.unended.values())
        else:
            names = ("artifact", "job", "touch")
            [key] = [(name, value) for name in names if (value := getattr(query, name)) is not None]
            found = disk.by.get(key, ())
        return [(index, disk.entries[index]) for index in found]

    async def known(self, events: Sequence[Event]) -> Known:
        """See `LogStore.known`."""
        disk = self._open()
        ids = {event.id: disk.ids[event.id] for event in events if event.id in disk.ids}
        artifacts = {event.artifact for event in events if event.artifact}
        return Known(
            ids=ids,
            chains={each: disk.chains[each] for each in artifacts if each in disk.chains},
            touches=frozenset(event.touch for event in events if event.touch in disk.began),
        )

    async def commit(self, batch: Batch) -> None:
        """See `LogStore.commit`."""
        disk = self._open()
        if batch.first != len(disk.entries):
            raise StoreError("another writer has written to this log")
        self._durable("log", lambda: _append(disk, batch))

    async def close(self) -> None:
        """See `LogReads.close`."""
        if self._writing and not self._closed:
            self._disk.locked = False
        self._closed = True

    def _open(self) -> LogDisk:
        if self._closed:
            raise StoreError("the log is closed")
        return self._disk


def _append(disk: LogDisk, batch: Batch) -> None:
    idents = [row.event.id for row in batch.rows]
    if len(set(idents)) < len(idents) or not disk.ids.keys().isdisjoint(idents):
        raise StoreError("an event is in the log already")
    size = batch.first + len(batch.rows)
    disk.note = batch.note
    disk.tiles.update(batch.tiles)
    for index, row in enumerate(batch.rows, batch.first):
        event = row.event
        disk.entries.append(row.data)
        disk.ids[event.id] = (index, size)
        if event.artifact and row.aseq is not None:
            disk.chains[event.artifact] = (row.aseq, merkle.leaf_hash(row.data))
        for name in ("artifact", "job", "touch"):
            if value := getattr(event, name):
                disk.by[name, value] = (*disk.by.get((name, value), ()), index)
        if event.type is EventType.TOUCH_BEGAN and event.touch:
            disk.began[event.touch] = disk.unended[event.touch] = index
        elif event.type is EventType.TOUCH_ENDED and event.touch:
            disk.unended.pop(event.touch, None)


class MemoryMark:
    """See `audit.ports.HighWater`; beside the log on *disk*."""

    def __init__(self, disk: LogDisk, durable: Durable = always) -> None:
        self._disk = disk
        self._durable = durable

    async def read(self) -> str | None:
        """See `HighWater.read`."""
        return self._disk.mark

    async def write(self, note: str) -> None:
        """See `HighWater.write`."""
        self._durable("mark", lambda: setattr(self._disk, "mark", note))


class MemoryShelf:
    """See `audit.ports.Shelf`; *disks* by quarter."""

    def __init__(self, region: str, disks: dict[str, LogDisk], durable: Durable = always) -> None:
        self.region = region
        self._disks = disks
        self._durable = durable

    def quarters(self) -> list[str]:
        """See `Shelf.quarters`."""
        return sorted(self._disks)

    def open(self, quarter: str) -> tuple[LogStore, HighWater]:
        """See `Shelf.open`."""
        disk = self._disks.setdefault(quarter, LogDisk())
        return MemoryLog(disk, self._durable), MemoryMark(disk, self._durable)

    def reads(self, quarter: str) -> LogReads:
        """See `Shelf.reads`."""
        return MemoryLog(self._found(quarter), writing=False)

    def vkey(self, quarter: str) -> str:
        """See `Shelf.vkey`."""
        return self._found(quarter).vkey

    def keep_vkey(self, quarter: str, vkey: str) -> None:
        """See `Shelf.keep_vkey`."""
        self._found(quarter).vkey = vkey

    def _found(self, quarter: str) -> LogDisk:
        if quarter not in self._disks:
            raise StoreError(f"{quarter}: there is no such log")
        return self._disks[quarter]
