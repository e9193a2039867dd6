"""A file system of a few megabytes, for tests that fill it."""

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SKIPPED = "no small disk"
CHUNK = bytes(4096)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted tmpfs at *path*."""

    path: Path

    def fill(self) -> None:
        """Take what is left of it, to the last byte."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            for size in (len(CHUNK), 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(CHUNK[:size])
        with pytest.raises(OSError, match="No space") as full:
            (self.path / "probe").write_bytes(CHUNK)
        assert full.value.errno == errno.ENOSPC

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink()
        (self.path / "probe").unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, *, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount one at *path*; skip, loudly and as listed, where mounting is not permitted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)]
    done = subprocess.run(mount, check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"{SKIPPED}: mount -t tmpfs is not permitted here")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
