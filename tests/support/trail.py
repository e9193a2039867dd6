"""A real audit trail per test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
from support.gateway import Clock

from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail


@pytest.fixture
async def trail(tmp_path: Path, clock: Clock) -> AsyncIterator[Trail]:
    """Yield the trail of a region ``eu-central`` in a fresh directory."""
    signer = LocalSigner.open(tmp_path / "signing-key.pem")

    def now() -> datetime:
        return clock.work()  # a desk gives it another

    opened = await Trail.open(Folder(tmp_path / "audit", "eu-central"), signer, now)
    yield opened
    await opened.close()


@asynccontextmanager
async def open_trail(directory: Path, *, org: str = "vocustody.example") -> AsyncIterator[Trail]:
    """Open a trail of its own key and name in *directory*."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a test has the loop to itself
    signer = LocalSigner.open(directory / "signing-key.pem")
    shelf = Folder(directory / "audit", "eu-central")
    opened = await Trail.open(shelf, signer, Clock(), org)
    yield opened
    await opened.close()
