"""What the log needs from outside: somewhere to keep it, a key, and a second place to remember."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from audit.model import Event
from audit.tiles import Tile


class Signer(Protocol):
    """
    Signs checkpoints with Ed25519 (C2SP signed-note, type 0x01).

    The private key is never handed out. Calls may overlap. Raise `AppendError` when the key
    cannot be used now: the caller then refuses the append.
    """

    @property
    def public_key(self) -> bytes:
        """Return the raw 32-byte public key."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of *message*."""
        ...


class HighWater(Protocol):
    """
    Remembers the newest signed checkpoint outside the log's store.

    A store restored from an older copy is then recognised. `write` is durable once it returns,
    has one caller at a time, and only ever gets larger checkpoints of one origin. Raise
    `StoreError`. Trust: who can change both this and the store can roll the log back unseen
    here; only checkpoints that others hold show it then.
    """

    async def read(self) -> str | None:
        """Return the note last written, or None if there never was one."""
        ...

    async def write(self, note: str) -> None:
        """Keep *note* in place of the one before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One new entry: its exact bytes, and what it is found by (derived from the bytes)."""

    data: bytes
    event: Event
    aseq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything that one commit makes durable, or nothing of it. *first* = the old size."""

    first: int
    rows: Sequence[Row]
    tiles: Mapping[Tile, bytes]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """
    Which entries to read: exactly one of the fields is set.

    *span* is a half-open range of indexes. *open_touches* means every ``touch.began`` whose
    end is not recorded.
    """

    artifact: str | None = None
    job: str | None = None
    touch: str | None = None
    span: tuple[int, int] | None = None
    open_touches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """
    What the log already holds of a batch to come.

    *ids*: event id -> (index, size of the tree whose checkpoint first covered it). *chains*:
    artifact -> (aseq, leaf hash) of its newest event. *touches*: those that began before.
    """

    ids: Mapping[str, tuple[int, int]]
    chains: Mapping[str, tuple[int, bytes]]
    touches: frozenset[str]


class LogReads(Protocol):
    """
    Reads one log, also while another process writes it; sees only committed batches.

    Later reads see the same or more. Raise `StoreError`. Trust: not trusted for integrity;
    whoever can change it can at most be caught.
    """

    async def checkpoint(self) -> str | None:
        """Return the note of the newest batch, or None before the first."""
        ...

    async def tiles(self, places: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return those of *places* that exist; a partial tile may have grown since."""
        ...

    async def entries(self, query: Query) -> list[tuple[int, bytes]]:
        """Return (index, exact bytes) of the entries that match, in order of index."""
        ...

    async def close(self) -> None:
        """Release everything; safe to call twice."""
        ...


class LogStore(LogReads, Protocol):
    """
    Keeps one log: entries, tile hashes, the signed checkpoint and a derived index.

    `commit` is atomic and durable once it returns (fsync, not page cache); there is one writer,
    and a second one is refused (`LockedError` on opening, `StoreError` in `commit`). After a
    failed `commit` the caller reads back whether the batch is there.
    """

    async def known(self, events: Sequence[Event]) -> Known:
        """Return what is held already of the ids, artifacts and touches of *events*."""
        ...

    async def commit(self, batch: Batch) -> None:
        """Make *batch* durable as one transaction, if the log still has *batch.first* leaves."""
        ...


class Shelf(Protocol):
    """
    Where the logs of one *region* stand, one per quarter (``2026q4``).

    Opening for writing makes what is missing; opening for reading takes no lock. Raise
    `StoreError`. Trust: as `LogStore`.
    """

    region: str

    def quarters(self) -> list[str]:
        """Return the quarters that have a log, oldest first."""
        ...

    def open(self, quarter: str) -> tuple[LogStore, HighWater]:
        """Return the log of *quarter* for its one writer, and its high-water mark."""
        ...

    def reads(self, quarter: str) -> LogReads:
        """Return the log of *quarter* for reading."""
        ...

    def vkey(self, quarter: str) -> str:
        """Return the key that verifies the log of *quarter*."""
        ...

    def keep_vkey(self, quarter: str, vkey: str) -> None:
        """Keep the key that verifies the log of *quarter* beside it."""
        ...
