"""
A signed delivery as JSON, read so that a part nobody reads cannot cost the parts somebody does.

`gateway.whatsapp.strict` refuses whatever two readers may understand differently. A delivery
holds the messages of up to a thousand people: here such a value is marked instead, in its
place, and whoever reads that field meets the mark.

- A key that stands twice in one object with different values, ``NaN``, ``Infinity``, a number of
  more than `MAX_DIGITS` characters: each is an `Odd`, which no reader of a field accepts. Nobody
  chooses one of two values: that is how one reader is shown another message than the next.
- What lies deeper than `strict.MAX_DEPTH` is cut off to null before anything is parsed.
- Bytes that are no UTF-8, and halves of a surrogate pair, stay in their string as lone
  surrogates; control characters stay, too. Readers of fields drop or refuse them.
- A byte order mark is skipped.

Only what is no JSON at all, or holds more than `strict.MAX_CONTAINERS` objects and arrays, is a
`PayloadError`.
"""

import codecs
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import strict

MAX_DIGITS = 64  # characters of a number; longer ids than this nobody writes as numbers

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Odd:
    """A value that is there and that nobody may rely on; *seen* is what stood in its place."""

    seen: tuple[Any, ...]


def loads(body: bytes) -> Any:
    """Return the value of *body*; raise `PayloadError` with a ``json.*`` code."""
    body = body.removeprefix(codecs.BOM_UTF8)
    if strict.depth(body) > strict.MAX_DEPTH:
        body = _cut(body)
    try:
        return json.loads(
            body.decode(errors="surrogateescape"),
            strict=False,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_odd,
        )
    except json.JSONDecodeError:
        raise PayloadError("json.syntax") from None


def dumps(value: Any) -> bytes:
    """Return *value* in one canonical form, `Odd` parts included: the same in, the same out."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_seen)
    return text.encode()


def _cut(body: bytes) -> bytes:
    """Return *body* with null in place of each object or array below the deepest allowed level."""
    parts, kept_to, depth = [], 0, 0
    for token in _TOKEN.finditer(body):
        if (mark := token[0]) in b"[{":
            depth += 1
            if depth == strict.MAX_DEPTH + 1:
                parts.append(body[kept_to : token.start()])
        elif mark in b"]}":
            depth -= 1
            if depth == strict.MAX_DEPTH:
                parts.append(b"null")
                kept_to = token.end()
    return b"".join([*parts, body[kept_to:] if depth <= strict.MAX_DEPTH else b""])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    values: dict[str, list[Any]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return {key: _one(every) for key, every in values.items()}


def _one(values: list[Any]) -> Any:
    """Return the one value that a key stands for, however often it was said, or an `Odd`."""
    first, *others = values
    spelt = dumps(first) if others else b""
    return first if all(dumps(other) == spelt for other in others) else Odd(tuple(values))


def _integer(text: str) -> Any:
    return int(text) if len(text) <= MAX_DIGITS else _odd(text)


def _number(text: str) -> Any:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    return value if math.isfinite(value) else _odd(text)


def _odd(text: str) -> Odd:
    return Odd((text,))


def _seen(odd: Any) -> Any:
    return {"odd": list(odd.seen)}
