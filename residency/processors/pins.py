"""Model files by digest: a registry row names the bytes it was reviewed with."""

import hashlib
from collections.abc import Mapping

from residency.errors import EngineMissingError
from residency.model import Processor

PREFIX = "sha256:"


def of(processor: Processor) -> dict[str, str]:
    """Return file name -> hex SHA-256 from the settings of *processor*."""
    return {
        name: value.removeprefix(PREFIX)
        for name, value in processor.settings.items()
        if value.startswith(PREFIX)
    }


def check(name: str, content: bytes, pins: Mapping[str, str]) -> None:
    """Raise `EngineMissingError` unless *content* is the reviewed file *name*."""
    if hashlib.sha256(content).hexdigest() != pins.get(name):
        raise EngineMissingError(f"{name} is not the file whose sha256 the registry row names")
