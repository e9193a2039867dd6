"""
Objects as files under a directory.

What `put` returned from is on disk: the file, then every directory on its way, is synced.
Trust: whoever reads the directory sees ciphertext, sizes and times. The file system must be
one that honours fsync and keeps no snapshots past the longest retention.
"""

import asyncio
import os
from pathlib import Path

from vault.errors import GoneError, ObjectsError
from vault.ports import OBJECT_NAME


class LocalObjects:
    """
    See `vault.ports.Objects`.

    *directory* is made now if it is missing. If it goes missing later, that is a fault and
    not an empty store: "no such object" would then pass for a proof of deletion.
    """

    name = "local"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    async def put(self, name: str, sealed: bytes) -> None:
        """See `Objects.put`."""
        await asyncio.to_thread(self._put, self._path(name), sealed)

    async def get(self, name: str) -> bytes:
        """See `Objects.get`."""
        return await asyncio.to_thread(self._get, self._path(name))

    async def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        await asyncio.to_thread(self._delete, self._path(name))

    async def names(self) -> list[str]:
        """See `Objects.names`."""
        return await asyncio.to_thread(self._names)

    def _get(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            self._require_directory()
            raise GoneError("no such object") from None
        except OSError as exc:
            raise ObjectsError(type(exc).__name__) from exc

    def _put(self, path: Path, sealed: bytes) -> None:
        self._require_directory()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as exc:
            raise ObjectsError(type(exc).__name__) from exc
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            self._sync(path.parent)
        except OSError as exc:
            path.unlink(missing_ok=True)
            raise ObjectsError(type(exc).__name__) from exc

    def _delete(self, path: Path) -> None:
        self._require_directory()
        try:
            path.unlink(missing_ok=True)
            if path.parent.exists():
                self._sync(path.parent)
        except OSError as exc:
            raise ObjectsError(type(exc).__name__) from exc

    def _names(self) -> list[str]:
        self._require_directory()
        files = (path for path in self._directory.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._directory).as_posix() for path in files)

    def _require_directory(self) -> None:
        if not self._directory.is_dir():
            raise ObjectsError("the directory is not there")

    def _path(self, name: str) -> Path:
        if not OBJECT_NAME.fullmatch(name):
            raise ObjectsError("the name of an object is [a-z0-9_/.-]{1,128}, no dotted segment")
        return self._directory / name

    def _sync(self, directory: Path) -> None:
        """Sync *directory* and those above it: any of them may be newly made."""
        for place in (directory, *directory.parents):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if place == self._directory.parent:
                return
