"""
JSON as we accept it from outside: RFC 8259 read narrowly, because lenient readers disagree.

- UTF-8 without a byte order mark; no other encoding is guessed.
- At most `MAX_DEPTH` levels and `MAX_CONTAINERS` objects and arrays, counted before parsing,
  so that nesting costs neither stack nor memory.
- No key twice in one object: two readers would keep different values.
- No ``NaN``, ``Infinity`` or ``1e999``; integers of at most `MAX_DIGITS` digits.
- No lone surrogate: it could not be written as UTF-8 again.

A string may hold U+0000: whether that is fit for a field is for the field's reader to say.
"""

import codecs
import json
import math
import re
from typing import Any, NoReturn

from gateway.errors import PayloadError

MAX_DEPTH = 32
MAX_CONTAINERS = 100_000
MAX_DIGITS = 19

# Possessive and total: an unterminated string matches to the end, so no input is scanned twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(body: bytes) -> Any:
    """Return the value of *body*; raise `PayloadError` with a ``json.*`` code."""
    if body.startswith(codecs.BOM_UTF8):
        raise PayloadError("json.bom")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise PayloadError("json.utf8") from None
    if depth(body) > MAX_DEPTH:
        raise PayloadError("json.depth")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError:
        raise PayloadError("json.syntax") from None
    if _SURROGATE.search(body):
        _refuse_lone_surrogates(value)
    return value


def depth(body: bytes) -> int:
    """Return how deep *body* nests; raise `PayloadError` past `MAX_CONTAINERS`."""
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise PayloadError("json.size")
    level = deepest = 0
    for bracket in brackets:
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PayloadError("json.duplicate_key")
    return found


def _integer(text: str) -> int:
    if len(text.removeprefix("-")) > MAX_DIGITS:
        raise PayloadError("json.number")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise PayloadError("json.number")
    return value


def _constant(_text: str) -> NoReturn:
    raise PayloadError("json.number")


def _refuse_lone_surrogates(value: Any) -> None:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as found:
                waiting += found.keys()
                waiting += found.values()
            case list() as found:
                waiting += found
            case str() as found if not _encodable(found):
                raise PayloadError("json.surrogate")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
