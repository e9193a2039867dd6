"""
How much memory a recording takes while it is sealed and stored, and read and opened.

``python -m load.held WAY STEP MEBIBYTES DIRECTORY`` does one step, by one way, in a process of its
own, and prints what its peak grew by. Each process has done the same with a small recording
before, so that what is loaded once is not counted.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from load.figures import Aim, Section, figure
from load.sealing import CONTEXT

from vault import envelope, flow
from vault.objects.local import LocalObjects

MIB = 1024**2
KEY = bytes(32)
STEPS = ("put", "open")
WAYS = {
    "whole": "bytes in, bytes out",
    "once": "as custody does it with a note in memory",
    "flowing": "from one piece to the next",
}
LIMIT_S = 300
STATUS, PEAK, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs"), "5"


async def measure(directory: Path, *, mebibytes: Sequence[int]) -> Section:
    """Return the section: every way with recordings of so many *mebibytes*."""
    found = {
        (size, way, step): await asyncio.to_thread(_child, way, step, size, directory)
        for size in mebibytes
        for way in WAYS
        for step in STEPS
    }
    return section(found)


def section(found: dict[tuple[int, str, str], dict[str, float]]) -> Section:
    """Return what was *found* (peak MiB and seconds, by size, way and step) as a section."""
    sizes = sorted({size for size, _, _ in found})
    return Section(
        title="4.1 Memory of a large recording",
        compared=(
            "sealing into local files and opening from them in pieces, against the same with "
            "whole bytes."
        ),
        said=(
            "Peak resident memory (`VmHWM`) over what the process had before, one process per "
            "figure, after a run with a recording of 1 MiB. *Whole* holds the content, its "
            "container and what is joined on the way. *Once* is the worker's way: the note is in "
            "memory, because its digest is checked before anything and the decoder wants all of "
            "it; sealing adds a few pieces, and opening returns it. *Flowing* holds pieces alone; "
            "the digest of what came out is taken. MB/s is of one run each, with fsync."
        ),
        head=(
            "Recording", "put MiB", "per byte", "put MB/s", "open MiB", "per byte", "open MB/s",
        ),
        rows=tuple(_row(size, way, found) for size in sizes for way in WAYS),
        aims=tuple(_aim(size, step, found) for size in sizes for step in STEPS),
    )  # fmt: skip


def _row(
    size: int, way: str, found: dict[tuple[int, str, str], dict[str, float]]
) -> tuple[str, ...]:
    cells = [f"{size} MiB, {WAYS[way]}"]
    for step in STEPS:
        seen = found[size, way, step]
        speed = size * MIB / 1e6 / seen["seconds"]
        cells += [figure(seen["mebibytes"]), figure(seen["mebibytes"] / size), figure(speed)]
    return tuple(cells)


def _aim(size: int, step: str, found: dict[tuple[int, str, str], dict[str, float]]) -> Aim:
    return Aim(
        what=f"memory to {step} a note of {size} MiB, times its size",
        measured=found[size, "once", step]["mebibytes"] / size,
        most=2.0,
    )


def _child(way: str, step: str, size: int, directory: Path) -> dict[str, float]:
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "load.held", way, step, str(size), str(directory)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        command, env=paths, capture_output=True, timeout=LIMIT_S, check=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def recording(size: int) -> AsyncIterator[bytes]:
    """Yield *size* mebibytes, a piece at a time."""
    for _ in range(size):
        yield os.urandom(MIB)


async def _put(way: str, name: str, size: int, objects: LocalObjects) -> None:
    if way == "flowing":
        await objects.put(name, envelope.seal_chunks(KEY, CONTEXT, recording(size)))
        return
    content = await flow.gathered(recording(size))
    if way == "once":
        await objects.put(name, envelope.seal_chunks(KEY, CONTEXT, flow.pieces(content)))
    else:
        await objects.put(name, envelope.seal(KEY, CONTEXT, content))


async def _open(way: str, name: str, _size: int, objects: LocalObjects) -> None:
    opened = envelope.open_chunks(KEY, CONTEXT, objects.stream(name))
    if way == "flowing":
        await flow.digest(opened)
    elif way == "once":
        await flow.gathered(opened)
    else:
        envelope.open_sealed(KEY, CONTEXT, await objects.get(name))


async def _step(way: str, step: str, size: int, directory: Path) -> dict[str, float]:
    objects = LocalObjects(directory / "objects")
    act: Callable[..., Awaitable[None]] = _put if step == "put" else _open
    for name, mebibytes in (("small", 1), (f"{way}-{size}", size)):
        await objects.delete(name)
        if step == "open":
            await _put("flowing", name, mebibytes, objects)
        _forget_peak()
        before, began = _memory("VmRSS"), time.perf_counter()
        await act(way, name, mebibytes, objects)
        seconds, grown = time.perf_counter() - began, _memory("VmHWM") - before
    return {"mebibytes": grown, "seconds": seconds}


def _forget_peak() -> None:
    PEAK.write_text(FORGET)


def _memory(name: str) -> float:
    """Return *name* of this process in MiB, as the kernel counts."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    way, step, size, directory = sys.argv[1:]
    found = asyncio.run(_step(way, step, int(size), Path(directory)))
    sys.stdout.write(json.dumps(found))
