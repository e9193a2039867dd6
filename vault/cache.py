"""A cache whose entries end, and that a lookup begun before a drop cannot fill again."""

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

MOST_KEPT = 10_000

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """
    Keeps values for *ttl_s* seconds, at most `MOST_KEPT` of them.

    A lookup notes `drops` before it begins and hands it to `put`: if anything was dropped
    meanwhile, what it found is not kept.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._kept: dict[Key, tuple[Value, float]] = {}
        self.drops = 0

    def get(self, key: Key) -> Value | None:
        """Return the value kept for *key*, or None."""
        found = self._kept.get(key)
        if found is None:
            return None
        value, until = found
        if until <= time.monotonic():
            del self._kept[key]
            return None
        return value

    def put(self, key: Key, value: Value, *, drops: int) -> None:
        """Keep *value*, unless something was dropped since *drops* was read."""
        if drops != self.drops:
            return
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (value, time.monotonic() + self._ttl_s)

    def drop(self, key: Key) -> None:
        """Forget *key*."""
        self._kept.pop(key, None)
        self.drops += 1
