"""
Writing a log out as static files: the C2SP tlog-tiles layout, which `verify` reads.

``checkpoint``, ``vkey``, ``tile/<level>/<n>[.p/<width>]`` and ``tile/entries/<n>[.p/<width>]``.
The directory appears whole or not at all.
"""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from audit import tiles
from audit.errors import StoreError
from audit.merkle import HASH_BYTES
from audit.note import Checkpoint
from audit.reader import Reader
from audit.tiles import HEIGHT, WIDTH, Tile


async def export(log: Reader, to: Path, *, vkey: str) -> Checkpoint:
    """
    Write *log* as it stands at its newest checkpoint into the new or empty directory *to*.

    Raises: `StoreError` if *to* is taken or cannot be written, or the log cannot be read.
    """
    _refuse_taken(to)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
        try:
            head = await _write(log, draft, vkey)
            await asyncio.to_thread(_publish, draft, to)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
            raise
    except OSError as exc:
        raise StoreError(f"{to.name}: cannot be written ({type(exc).__name__})") from None
    return head


async def _write(log: Reader, to: Path, vkey: str) -> Checkpoint:
    text, head = await log.head()
    for n in range(-(-head.size // WIDTH)):
        end = min(head.size, (n + 1) * WIDTH)
        entries = await log.entries(n * WIDTH, end)
        packed = b"".join(len(data).to_bytes(2) + data for data in entries)
        await asyncio.to_thread(_put, to / tiles.path(n, len(entries)), packed)
    for level in range(tiles.levels(head.size)):
        for n in range(-(-(head.size >> HEIGHT * level) // WIDTH)):
            place = Tile(level, n)
            width = tiles.width(place, head.size)
            hashes = (await log.tiles([place]))[place][: width * HASH_BYTES]
            await asyncio.to_thread(_put, to / tiles.path(place, width), hashes)
    _put(to / "checkpoint", text.encode())
    _put(to / "vkey", f"{vkey}\n".encode())
    return head


def _refuse_taken(to: Path) -> None:
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise StoreError(f"{to.name}: exists and is not a directory")
    if to.is_dir() and any(to.iterdir()):
        raise StoreError(f"{to.name}: is not empty")
    if not to.parent.is_dir():
        raise StoreError(f"{to.name}: its parent directory does not exist")


def _publish(draft: Path, to: Path) -> None:
    draft.chmod(0o755)
    draft.rename(to)  # onto nothing or onto an empty directory, else it fails


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
