"""The laboratory of ``tests/borders``: a fresh network namespace for each scene."""

from collections.abc import Callable
from typing import Any

import pytest
from borders import namespace

Lab = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Return what runs a scene; skip, loudly and as listed, where no namespace is permitted."""
    if not namespace.entrance():
        pytest.skip(f"{namespace.SKIPPED}: unshare -n is not permitted here, or there is no ip")
    return namespace.inside
