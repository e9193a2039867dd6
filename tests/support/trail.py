"""A real audit trail per test."""

from collections.abc import AsyncIterator
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
    opened = await Trail.open(Folder(tmp_path / "audit", "eu-central"), signer, clock)
    yield opened
    await opened.close()
