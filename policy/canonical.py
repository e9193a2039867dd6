"""
Canonical JSON: one value, one text, so that a digest can be computed again later.

Sorted keys, no spaces, UTF-8. Floats are refused (engines print them differently), as is
whatever JSON does not know; with ASCII keys the result is that of RFC 8785.
"""

import hashlib
import json
from typing import Any


def encode(value: Any) -> bytes:
    """Return the canonical JSON of *value*; raise `TypeError` for a float or a foreign type."""
    _refuse_floats(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(value: Any) -> str:
    """Return the hex SHA-256 of *value*'s canonical JSON."""
    return hashlib.sha256(encode(value)).hexdigest()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("floats have no canonical form here")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys are strings")
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        _refuse_floats(item)
