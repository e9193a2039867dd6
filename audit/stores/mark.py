"""
The high-water mark as a small file: the newest signed checkpoint, on another disk if there is one.

Trust: see `HighWater`. The note is signed, so the file can be rolled back but not forged.
"""

import asyncio
import os
from pathlib import Path

from audit.errors import StoreError

_LIMIT = 64 * 1024


class FileMark:
    """Keeps the mark in the file *path*; see `HighWater`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> str | None:
        """See `HighWater.read`."""
        return await asyncio.to_thread(self._read)

    async def write(self, note: str) -> None:
        """See `HighWater.write`."""
        await asyncio.to_thread(self._write, note.encode())

    def _read(self) -> str | None:
        try:
            with self._path.open("rb") as file:
                return file.read(_LIMIT).decode() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as exc:
            raise StoreError(f"{self._path.name}: {type(exc).__name__}") from None

    def _write(self, note: bytes) -> None:
        # In place, within one sector: a crash leaves the old mark or the new one, and a
        # checkpoint's text never gets shorter, so nothing of the old one stays behind.
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, note, 0)
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StoreError(f"{self._path.name}: {type(exc).__name__}") from None
