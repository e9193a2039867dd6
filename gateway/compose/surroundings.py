"""The clock and the environment: read here, passed as arguments everywhere else."""

import os
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import MissingPartError
from gateway.timekeeping import Machine

CONFIG = "VOCUSTODY_CONFIG"
CRASH_AT = "VOCUSTODY_CRASH_AT"


def now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


MACHINE = Machine(wall=now)
"""The clocks of this machine."""


def config_path(given: Path | None) -> Path:
    """Return the settings file: the one given, else the one the environment names."""
    named = given or os.environ.get(CONFIG)
    if not named:
        raise MissingPartError(f"no settings file (give --config FILE or set {CONFIG})")
    return Path(named)


def crash_at() -> str | None:
    """Return the name of the crash point that a test armed."""
    return os.environ.get(CRASH_AT)
