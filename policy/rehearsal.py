"""
A bundle on an engine in a process of its own, which can be killed.

An evaluation can neither be interrupted nor does it let other threads run: rules that nobody
has admitted yet are evaluated outside. `policy.rehearsing` is the other side.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from policy import rehearsing
from policy.bundle import Bundle
from policy.errors import BundleError, EngineError

LOAD_LIMIT_S = 10.0
ANSWER_LIMIT = 1 << 20  # bytes of one answer


@asynccontextmanager
async def rehearsal(bundle: Bundle) -> AsyncIterator["RehearsalEngine"]:
    """
    Yield an engine with *bundle*; its process is gone when the block ends.

    Raises:
        BundleError: the engine does not take the bundle, or not in time.

    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        rehearsing.__name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=ANSWER_LIMIT,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        engine = RehearsalEngine(child)
        await engine.load(bundle)
        yield engine
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        child._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - else it warns when collected


class RehearsalEngine:
    """
    `PolicyEngine` on a child process.

    Calls follow one another; after one that was cancelled (it came too late) there is no other.
    Trusted for nothing: it can only say no or die.
    """

    name = "rehearsal"

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def load(self, bundle: Bundle) -> None:
        """Put *bundle* in place of any before; raise `BundleError` if it is not taken in time."""
        request = {"modules": dict(bundle.modules), "document": bundle.document}
        try:
            async with asyncio.timeout(LOAD_LIMIT_S):
                said = await self.ask(request)
        except TimeoutError:
            raise BundleError(f"not loaded within {LOAD_LIMIT_S:.0f} s") from None
        except EngineError as exc:
            raise BundleError(f"not loaded ({exc.code})") from None
        if "fault" in said:
            raise BundleError(said["fault"])

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """See `PolicyEngine.evaluate`."""
        rule = f"data.{entrypoint.replace('/', '.')}"
        said = await self.ask({"rule": rule, "input": question})
        if "fault" in said:
            raise EngineError(said["fault"])
        return said["result"]

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the child says to *request*; raise `EngineError` if it says nothing."""
        if self._child.stdin is None or self._child.stdout is None:
            raise EngineError("engine.closed")
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            await self._child.stdin.drain()
            line = await self._child.stdout.readline()
            said: dict[str, Any] = json.loads(line)
        except (OSError, ValueError):
            raise EngineError("engine.died") from None
        return said
