"""A whole custody on a fresh directory, with a clock and faults that tests set."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from vault.custody import Custody
from vault.errors import ObjectsError
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import Kind, Label
from vault.objects.local import LocalObjects
from vault.tables import metadata

START = datetime(2026, 11, 22, 14, 15, tzinfo=UTC)


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is moved."""

    at: datetime = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.at

    def pass_by(self, **span: int) -> None:
        """Let *span* (as of `timedelta`) pass."""
        self.at += timedelta(**span)


@dataclass(slots=True)
class FaultyObjects(LocalObjects):
    """Files that fail on demand: before the work, or after it ("done, but told it failed")."""

    directory: Path
    fail_before: set[str] = field(default_factory=set)
    fail_after: set[str] = field(default_factory=set)
    keep_deleted: bool = False
    on_put: Callable[[], Awaitable[object]] | None = None
    deletions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the directory, as the real one does."""
        LocalObjects.__init__(self, self.directory)

    async def put(self, name: str, sealed: bytes) -> None:
        """Put, unless told to fail."""
        self._maybe("put", self.fail_before)
        if self.on_put is not None:
            await self.on_put()
        await LocalObjects.put(self, name, sealed)
        self._maybe("put", self.fail_after)

    async def delete(self, name: str) -> None:
        """Delete, unless told to fail or to keep."""
        self._maybe("delete", self.fail_before)
        self.deletions.append(name)
        if not self.keep_deleted:
            await LocalObjects.delete(self, name)
        self._maybe("delete", self.fail_after)

    def _maybe(self, call: str, failing: set[str]) -> None:
        if call in failing:
            raise ObjectsError("told to fail")


def label(artifact: str = "a1", *, kind: Kind = Kind.RAW_AUDIO, subject: str = "s1") -> Label:
    """Return a label of the test cell."""
    return Label(
        tenant="fernruf", subject=subject, artifact=artifact, kind=kind, region="eu-central-1"
    )


@pytest.fixture
def vault_clock() -> Clock:
    """Return a clock at 22 November 2026, 14:15 UTC."""
    return Clock()


@pytest.fixture
def keyring(tmp_path: Path) -> LocalKeyring:
    """Return a keyring on this test's directory."""
    return LocalKeyring(tmp_path / "keyring")


@pytest.fixture
def objects(tmp_path: Path) -> FaultyObjects:
    """Return a store on this test's directory."""
    return FaultyObjects(tmp_path / "objects")


@pytest.fixture
async def tables(engine: AsyncEngine) -> AsyncEngine:
    """Return the engine with the custody tables made."""
    async with engine.begin() as tx:
        await tx.run_sync(metadata.create_all)
    return engine


@pytest.fixture
def keys(tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock) -> Keys:
    """Return the keys of the test cell."""
    return Keys(tables, keyring, region="eu-central-1", now=vault_clock)


@pytest.fixture
def custody(tables: AsyncEngine, keys: Keys, objects: FaultyObjects, vault_clock: Clock) -> Custody:
    """Return the custody of the test cell."""
    return Custody(tables, keys, objects, now=vault_clock)
