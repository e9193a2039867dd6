"""
Objects as files under a directory.

- A file is written under a name nobody reads (`vault.objects.unfinished`), synced, and then
  linked to its own name: a crash leaves the whole object or none. Linking replaces nothing.
- What `put` returned from is on disk: the file, then every directory on its way, is synced.

Trust: whoever reads the directory sees ciphertext, sizes and times. The file system must be
one that honours fsync and keeps no snapshots past the longest retention.
"""

import os
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from vault import flow
from vault.errors import GoneError, ObjectsError
from vault.objects import blocking, unfinished
from vault.objects.unfinished import translated
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
        unfinished.clear(self._directory)

    async def put(self, name: str, sealed: bytes | AsyncIterable[bytes]) -> None:
        """See `Objects.put`."""
        path = self._path(name)
        begun, file = await blocking.call(self._begin)
        try:
            async for block in flow.blocks(flow.pieces(sealed), flow.PIECE):
                await blocking.call(unfinished.write, file, block)
            await blocking.call(self._finish, begun, file, path)
        finally:
            begun.unlink(missing_ok=True)
            os.close(file)

    async def get(self, name: str) -> bytes:
        """See `Objects.get`."""
        return await flow.gathered(self.stream(name))

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """See `Objects.stream`."""
        file = await blocking.call(self._open, self._path(name))
        try:
            while piece := await blocking.call(_read, file):
                yield piece
        finally:
            os.close(file)

    async def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        await blocking.call(self._delete, self._path(name))

    async def names(self) -> list[str]:
        """See `Objects.names`."""
        return await blocking.call(self._names)

    def _begin(self) -> tuple[Path, int]:
        self._require_directory()
        return unfinished.begin(self._directory)

    @translated()
    def _finish(self, begun: Path, file: int, path: Path) -> None:
        os.fsync(file)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.link(begun, path)
        try:
            self._sync(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    @translated()
    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            self._require_directory()
            raise GoneError("no such object") from None

    @translated()
    def _delete(self, path: Path) -> None:
        self._require_directory()
        path.unlink(missing_ok=True)
        if path.parent.exists():
            _sync(path.parent)

    @translated()
    def _names(self) -> list[str]:
        self._require_directory()
        unfinished.clear(self._directory)
        files = (path for path in self._directory.rglob("*") if path.is_file())
        names = (path.relative_to(self._directory).as_posix() for path in files)
        return sorted(name for name in names if not name.startswith(unfinished.PLACE))

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
            _sync(place)
            if place == self._directory.parent:
                return


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@translated()
def _read(file: int) -> bytes:
    return os.read(file, flow.PIECE)
