"""
``python filling.py DIRECTORY``: what the local store does on a file system that is full.

Run on a small tmpfs of its own. Prints as JSON what was refused, what is left of it, whether a
small object still fits afterwards, and how much space the refused one took.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from vault.errors import ObjectsError
from vault.objects.local import LocalObjects


async def endless() -> AsyncIterator[bytes]:
    """Yield more than there is room for."""
    for _ in range(64):
        yield bytes(1024 * 1024)


def files(directory: Path) -> list[str]:
    """Return the names of all files under *directory*."""
    return [path.name for path in directory.rglob("*") if path.is_file()]


async def observe(directory: Path) -> dict[str, object]:
    """Return what was seen."""
    objects, said = LocalObjects(directory / "objects"), ""
    await objects.put("ab/before", b"kept")
    free = os.statvfs(directory).f_bfree
    try:
        await objects.put("ab/large", endless())
    except ObjectsError as exc:
        said = str(exc)
    taken = free - os.statvfs(directory).f_bfree
    left = await asyncio.to_thread(files, directory)
    await objects.put("ab/after", b"fits")
    return {"said": said, "left": left, "taken": taken, "names": await objects.names()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(observe(Path(sys.argv[1])))))
