"""
``python dying.py DIRECTORY STEP``: put an object of two blocks, and die at STEP by SIGKILL.

STEP is ``<call>-before-<n>`` or ``<call>-after-<n>``: the n-th time that call of `os` is made.
It prints the step that was reached, so that a test sees that the process died where it should.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from vault import flow
from vault.objects import local, unfinished
from vault.objects.local import LocalObjects

SEALED = bytes(range(256)) * (flow.PIECE // 256) * 2


class Dying:
    """The `os` that the store sees: its *call* kills the process."""

    def __init__(self, call: str, side: str, count: int) -> None:
        self._fatal, self._side, self._left = call, side, count

    def __getattr__(self, name: str) -> Any:
        """Return what `os` has, armed if it is the fatal call."""
        real = getattr(os, name)
        return self._armed(real) if name == self._fatal else real

    def _armed(self, real: Any) -> Any:
        def call(*args: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._side == "before":
                die()
            found = real(*args)
            if self._left == 0 and self._side == "after":
                die()
            return found

        return call


def die() -> None:
    """End like a power cut would, after saying so."""
    os.write(1, b"reached")
    os.kill(os.getpid(), signal.SIGKILL)


async def sealed() -> AsyncIterator[bytes]:
    """Yield the object in pieces."""
    async for piece in flow.pieces(SEALED):
        yield piece


def main() -> None:
    """Put, and die on the way."""
    directory, step = sys.argv[1:]
    objects = LocalObjects(Path(directory))
    call, side, count = step.split("-")
    local.os = unfinished.os = Dying(call, side, int(count))  # type: ignore[assignment]
    asyncio.run(objects.put("ab/one", sealed()))


if __name__ == "__main__":
    main()
