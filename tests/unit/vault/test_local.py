"""Files: the whole object or none, at every step at which a process or a disk may fail."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import dying, filling

from vault.errors import GoneError, ObjectsError
from vault.objects.local import LocalObjects
from vault.objects.unfinished import PLACE

ROOT = Path(__file__).parents[3]
SKIPPED = "no mount namespace"


def child(*command: str) -> subprocess.CompletedProcess[str]:
    """Run *command*, which is ours, with our packages on its path."""
    paths = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        command, env=paths, capture_output=True, text=True, timeout=60, check=False
    )


STEPS = {
    # step: whether the object is there for whoever comes next
    "open-before-1": False,
    "open-after-1": False,
    "write-before-1": False,
    "write-after-1": False,
    "write-after-2": False,
    "fsync-before-1": False,
    "fsync-after-1": False,
    "link-before-1": False,
    "link-after-1": True,
    "fsync-before-2": True,  # the directory: a power cut may still take the name back
    "fsync-after-2": True,
    "close-before-4": True,  # the three directories on the way are closed; then the file itself
}


@pytest.mark.anyio
@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_dies_leaves_the_whole_object_or_none(
    tmp_path: Path, step: str
) -> None:
    """Half an object under a name would be "tampered with" for ever, and nobody could say why."""
    died = child(sys.executable, dying.__file__, str(tmp_path / "objects"), step)
    assert (died.returncode, died.stdout) == (-9, "reached"), died.stderr

    objects = LocalObjects(tmp_path / "objects")

    assert list((tmp_path / "objects" / PLACE).glob("*")) == []
    if STEPS[step]:
        assert await objects.get("ab/one") == dying.SEALED
        assert await objects.names() == ["ab/one"]
    else:
        with pytest.raises(GoneError):
            await objects.get("ab/one")
        assert await objects.names() == []
        await objects.put("ab/one", b"again")


@pytest.mark.anyio
async def test_reconciliation_removes_what_a_dead_writer_left(tmp_path: Path) -> None:
    """Another process of the cell may have died: its leftover must not wait for a restart."""
    objects = LocalObjects(tmp_path / "objects")
    died = child(sys.executable, dying.__file__, str(tmp_path / "objects"), "fsync-before-1")
    assert died.stdout == "reached"
    assert len(list((tmp_path / "objects" / PLACE).iterdir())) == 1

    assert await objects.names() == []

    assert list((tmp_path / "objects" / PLACE).iterdir()) == []


@pytest.mark.anyio
async def test_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    """The keeper opens the same store while the cell writes: it must not pull a file away."""
    objects = LocalObjects(tmp_path / "objects")

    async def slow() -> AsyncIterator[bytes]:
        yield b"first "
        assert await LocalObjects(tmp_path / "objects").names() == []
        assert len(list((tmp_path / "objects" / PLACE).iterdir())) == 1
        yield b"second"

    await objects.put("ab/one", slow())

    assert await objects.get("ab/one") == b"first second"


@pytest.mark.anyio
async def test_a_writer_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """A cell that stops cancels what it does; the next one must not find half of it."""
    objects, reached = LocalObjects(tmp_path / "objects"), asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        reached.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(objects.put("ab/one", stuck()))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


@pytest.mark.anyio
async def test_an_unsynced_name_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that failed must have left nothing, even where only the last sync failed."""
    objects, synced = LocalObjects(tmp_path / "objects"), list[int]()
    real = os.fsync

    def failing(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(5, "input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)

    with pytest.raises(ObjectsError, match="EIO"):
        await objects.put("ab/one", b"sealed")

    assert len(synced) == 2
    assert await objects.names() == []


@pytest.mark.anyio
async def test_a_full_disk_refuses_and_keeps_nothing(tmp_path: Path) -> None:
    """A recording that did not fit must not take the room that deletion needs to work."""
    found = child(
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs -o size=4m tmpfs "$1" || exit 77; exec "$2" "$3" "$1"',
        "sh",
        str(tmp_path),
        sys.executable,
        filling.__file__,
    )
    if found.returncode in {1, 77} and not found.stdout:
        pytest.skip(f"{SKIPPED}: unshare -m and mount are not permitted here: {found.stderr}")

    assert json.loads(found.stdout) == {
        "said": "the file system answered ENOSPC",
        "left": ["before"],
        "taken": 0,
        "names": ["ab/after", "ab/before"],
    }
