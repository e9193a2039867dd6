"""Fixtures for every test: each module of ``tests/support`` is a plugin."""

from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("support")  # they import one another, in any order

# No timed assertion: how long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

pytest_plugins = [
    f"support.{path.stem}"
    for path in sorted((Path(__file__).parent / "support").glob("*.py"))
    if path.stem != "__init__"
]


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that the gateway runs on."""
    return "asyncio"
