"""What a process shows beside its files: open files without a name, words, environment, memory."""

import contextlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

PAGE = 4096
MOST = 64 << 20  # bytes of one mapping: what is larger is a reserve that nobody filled

# Stands by with a control in every place that a process has.
_EXHIBIT = """
import os, signal, sys, tempfile
text = sys.stdin.buffer.read()
unlinked = tempfile.TemporaryFile(); unlinked.write(text); unlinked.flush()
memory = os.memfd_create("exhibit"); os.write(memory, text)
kept = bytearray(text)
print("ready", flush=True)
signal.pause()
"""


@contextlib.contextmanager
def exhibit(text: bytes, word: str) -> Iterator[int]:
    """Run a process that shows *text* in open files and memory, *word* in its two lists."""
    with subprocess.Popen(
        [sys.executable, "-c", _EXHIBIT, word],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"EXHIBIT": word},
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(text)
            process.stdin.close()
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def unnamed(pids: Iterable[int]) -> dict[str, bytes]:
    """Return the content of each open file that has no name (any more)."""
    return {
        f"open file {descriptor.name} of {pid}": content
        for pid in pids
        for descriptor, target in _descriptors(pid)
        if target.endswith("(deleted)")
        if (content := _regular(descriptor)) is not None
    }


def words(pids: Iterable[int]) -> dict[str, bytes]:
    """Return the command line of each process."""
    return {f"cmdline of {pid}": _read(Path(f"/proc/{pid}/cmdline")) for pid in pids}


def environments(pids: Iterable[int]) -> dict[str, bytes]:
    """Return the environment that each process was started with."""
    return {f"environ of {pid}": _read(Path(f"/proc/{pid}/environ")) for pid in pids}


def memories(pids: Iterable[int]) -> dict[str, bytes]:
    """Return what each process may write to, of its memory."""
    return {f"memory of {pid}": b"".join(_mappings(pid)) for pid in pids}


def _descriptors(pid: int) -> Iterator[tuple[Path, str]]:
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            yield descriptor, str(descriptor.readlink())
    except OSError:  # it ended meanwhile
        return


def _regular(descriptor: Path) -> bytes | None:
    try:
        return descriptor.read_bytes() if stat.S_ISREG(descriptor.stat().st_mode) else None
    except OSError:
        return None


def _mappings(pid: int) -> Iterator[bytes]:
    maps = _read(Path(f"/proc/{pid}/maps")).decode()
    try:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for start, end in re.findall(r"(?m)^([0-9a-f]+)-([0-9a-f]+) rw", maps):
                size = int(end, 16) - int(start, 16)
                if size <= MOST:
                    memory.seek(int(start, 16))
                    yield _written(memory.read(size))
    except OSError:  # it ended meanwhile, or a page may not be read
        return


def _written(mapping: bytes) -> bytes:
    """Return the pages of *mapping* that are not all zeros."""
    pages = np.frombuffer(mapping, dtype=np.uint8).reshape(-1, PAGE)
    return pages[pages.any(axis=1)].tobytes()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
