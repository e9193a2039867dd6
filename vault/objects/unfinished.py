"""
Files that are not finished: nobody reads them, and they are no objects.

A writer holds a lock on its file. One that nobody holds is a dead writer's: it is removed when
the store is opened and when it is reconciled.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from vault.errors import ObjectsError

PLACE = ".incoming"  # beside the objects, on their file system; no object's name has such a dot


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn a fault of the file system into ours, by its code: its text names paths."""
    try:
        yield
    except OSError as exc:
        code = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
        raise ObjectsError(f"the file system answered {code}") from exc


@translated()
def begin(directory: Path) -> tuple[Path, int]:
    """Return a new file under *directory*, and its open descriptor."""
    (directory / PLACE).mkdir(mode=0o700, exist_ok=True)
    path = directory / PLACE / secrets.token_hex(16)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return path, file


@translated()
def write(file: int, block: bytes) -> None:
    """Write all of *block*."""
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


@translated()
def clear(directory: Path) -> None:
    """Remove what dead writers left under *directory*."""
    for path in (directory / PLACE).glob("*"):
        with contextlib.suppress(FileNotFoundError):
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        pass  # its writer is at work
    finally:
        os.close(file)
