"""
Canonical JSON: the subset where sorted keys are byte-identical to RFC 8785 (JCS).

- Object keys are ASCII: code-point order then equals the UTF-16 order of RFC 8785, 3.2.3.
- Numbers are integers within 53 bits (RFC 7493, 2.2); no floats, whose text is debatable.
- At most `MAX_BYTES` long and `MAX_DEPTH` deep.
- A decoder accepts only what the encoder would have written, so no two byte strings mean the
  same leaf, and a duplicate key (of which parsers keep one or the other) never passes.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from audit.errors import EventError

MAX_BYTES = 4096
MAX_DEPTH = 8
MAX_INT = 2**53 - 1


def encode(value: Mapping[str, Any]) -> bytes:
    """Return *value* as canonical JSON, or raise `EventError` naming the field to fix."""
    plain = _plain(value, "$", 0)
    try:
        data = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise EventError("$: a string is not valid Unicode (lone surrogate)") from None
    if len(data) > MAX_BYTES:
        raise EventError(f"$: {len(data)} bytes are over the limit of {MAX_BYTES}")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Return the object that *data* encodes, or raise `EventError` if it is not canonical."""
    if len(data) > MAX_BYTES:
        raise EventError(f"$: {len(data)} bytes are over the limit of {MAX_BYTES}")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise EventError("$: not JSON") from None
    if not isinstance(value, dict):
        raise EventError("$: not a JSON object")
    if encode(value) != data:
        raise EventError("$: not in canonical form")
    return value


def _plain(value: Any, path: str, depth: int) -> Any:
    if depth >= MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        raise EventError(f"{path}: nested deeper than {MAX_DEPTH}")
    match value:
        case None | bool() | str():
            return value
        case int():
            return _checked(value, path)
        case Mapping():
            return {_key(k, path): _plain(v, f"{path}.{k}", depth + 1) for k, v in value.items()}
        case list() | tuple():
            return [_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        case _:
            raise EventError(f"{path}: {type(value).__name__} is not in the canonical subset")


def _checked(value: int, path: str) -> int:
    if abs(value) > MAX_INT:
        raise EventError(f"{path}: an integer beyond 53 bits")
    return value


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str) or not key.isascii():
        raise EventError(f"{path}: a key that is not an ASCII string")
    return key
