"""Exporting a log as static files."""

from pathlib import Path

import pytest
from support.audit import ORIGIN, an_event

from audit import merkle, note
from audit.errors import StoreError
from audit.export import export
from audit.log import Log

pytestmark = pytest.mark.anyio


async def _fill(log: Log, count: int) -> None:
    for _ in range(count):
        await log.append(an_event())


async def test_the_layout_is_that_of_tlog_tiles(log: Log, tmp_path: Path) -> None:
    """Any C2SP client must be able to read what we hand out."""
    await _fill(log, 300)

    head = await export(log, tmp_path / "out", vkey=str(log.key))

    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")
             if p.is_file()}  # fmt: skip
    assert files == {
        "checkpoint", "vkey", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1",
        "tile/entries/000", "tile/entries/001.p/44",
    }  # fmt: skip
    key = note.parse_key((tmp_path / "out/vkey").read_text())
    assert note.verify((tmp_path / "out/checkpoint").read_text(), key) == head
    assert (head.origin, head.size) == (ORIGIN, 300)
    [first] = await log.entries(0, 1)
    packed = (tmp_path / "out/tile/entries/000").read_bytes()
    assert packed.startswith(len(first).to_bytes(2) + first)
    assert (tmp_path / "out/tile/0/000").read_bytes().startswith(merkle.leaf_hash(first))


async def test_an_empty_log_is_exported_too(log: Log, tmp_path: Path) -> None:
    """A cell that has done nothing must be able to prove just that."""
    head = await export(log, tmp_path / "out", vkey=str(log.key))

    assert (head.size, head.root) == (0, merkle.EMPTY)
    assert _names(tmp_path / "out") == {"checkpoint", "vkey"}


async def test_nothing_is_ever_overwritten(log: Log, tmp_path: Path) -> None:
    """An export is evidence: it must not land on top of other evidence, or through a link."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/other").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")

    for name, why in {
        "full": "is not empty",
        "file": "is not a directory",
        "link": "is not a directory",
        "no/where": "does not exist",
    }.items():
        with pytest.raises(StoreError, match=why):
            await export(log, tmp_path / name, vkey=str(log.key))

    await export(log, tmp_path / "empty", vkey=str(log.key))
    assert (tmp_path / "empty/checkpoint").is_file()


async def test_a_failed_export_leaves_nothing(log: Log, tmp_path: Path) -> None:
    """Half an export would verify as a broken log, and accuse somebody."""
    await _fill(log, 3)
    before = _names(tmp_path)

    class Broken(Log):
        async def entries(self, begin: int, end: int) -> list[bytes]:
            raise StoreError("planted: unreadable")

    log.__class__ = Broken
    with pytest.raises(StoreError, match="planted"):
        await export(log, tmp_path / "out", vkey=str(log.key))

    assert _names(tmp_path) == before


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
