"""What the figures were measured on."""

import os
import platform
import sqlite3
import time
from pathlib import Path

from load.figures import figure, percentile

SYNCS = 200
PAGE = 4096


def describe(directory: Path) -> dict[str, str]:
    """Return the machine in words; fsync is measured in *directory*, where the runs write."""
    syncs = fsyncs_ms(directory)
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{figure(_memory_gib())} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "file system": filesystem(directory, Path("/proc/mounts").read_text()),
        "write of 4 KiB and fsync": (
            f"p50 {figure(percentile(syncs, 0.5))} ms, p99 {figure(percentile(syncs, 0.99))} ms"
        ),
        "load average before": f"{os.getloadavg()[0]:.2f}",
    }


def fsyncs_ms(directory: Path, count: int = SYNCS) -> list[float]:
    """Return how many milliseconds each of *count* writes of a page took until durable."""
    took = []
    with (directory / "fsync").open("wb", buffering=0) as file:
        for _ in range(count):
            began = time.perf_counter()
            file.write(bytes(PAGE))
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return took


def filesystem(directory: Path, mounts: str) -> str:
    """Return the type of the file system that holds *directory*, by */proc/mounts*' text."""
    places = {fields[1]: fields[2] for line in mounts.splitlines() if (fields := line.split())}
    above = [str(path) for path in (directory.resolve(), *directory.resolve().parents)]
    return next((places[path] for path in above if path in places), "unknown")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
