"""A real OPA server on loopback, for as long as a block lasts."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from policy import archive
from policy.bundle import Bundle

READY_S = 30.0


def binary() -> str | None:
    """Return the ``opa`` on PATH."""
    return shutil.which("opa")


@contextlib.asynccontextmanager
async def serving(opa: str, bundle: Bundle, directory: Path) -> AsyncIterator[str]:
    """Run *opa* with *bundle* written to *directory*; yield its URL."""
    address = _prepared(bundle, directory)
    # Without the first switch OPA tells its maker's server that it runs.
    with (directory / "opa.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            opa, "run", "--skip-version-check", "--log-level", "error", "--server",
            "--addr", address, "-b", "bundle.tar.gz", cwd=directory, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await _ready(process, f"http://{address}")
        yield f"http://{address}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _prepared(bundle: Bundle, directory: Path) -> str:
    """Write *bundle* for the server; return a free address for it."""
    directory.mkdir(parents=True)
    archive.write(bundle, directory / "bundle.tar.gz")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def _ready(process: asyncio.subprocess.Process, url: str) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http, asyncio.timeout(READY_S):
        while process.returncode is None:
            with contextlib.suppress(httpx2.TransportError):
                answer = await http.get(f"{url}/health?bundles=true")
                if answer.status_code == httpx2.codes.OK:
                    return
            await asyncio.sleep(0.05)
    raise RuntimeError("opa ended before it was ready")
