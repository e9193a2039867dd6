"""The zip of an access report: whole, for its owner alone, or not there at all."""

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.compose import access
from gateway.compose.access import ReportError

ROOT = Path(__file__).parents[3]
WORDS = b"what a person said " * 9_999

# Ends by *signal* while the draft is open and holds something.
ENDED = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway import cores
from gateway.compose import access

async def files():
    yield "a.txt", os.urandom(1 << 20)
    drafts = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
              if os.path.exists(f"/proc/self/fd/{fd}") and os.fstat(int(fd)).st_size >= 1 << 20]
    print("drafted", len(drafts), flush=True)
    os.kill(os.getpid(), int(sys.argv[2]))
    await asyncio.sleep(5)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
cores.forbid()
asyncio.run(access._written(files(), Path(sys.argv[1])))
"""


async def files() -> AsyncIterator[tuple[str, bytes]]:
    """Yield the files of a report."""
    yield "words.txt", WORDS


def names(directory: Path) -> set[str]:
    """Return what is in *directory*."""
    return {path.name for path in directory.iterdir()}


@pytest.mark.anyio
async def test_a_report_is_whole_and_its_owners(tmp_path: Path) -> None:
    """It is everything that is held of a person, in clear."""
    report = tmp_path / "report.zip"

    assert await access._written(files(), report) == 1

    with zipfile.ZipFile(report) as archive:
        assert archive.read("words.txt") == WORDS
    assert report.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == {"report.zip"}


@pytest.mark.anyio
async def test_a_report_is_never_written_over_another_file(tmp_path: Path) -> None:
    """A slip of the hand must not destroy what is there, nor leave a second copy."""
    report = tmp_path / "report.zip"
    report.write_text("somebody's")

    with pytest.raises(ReportError, match="there already"):
        await access._written(files(), report)

    assert report.read_text() == "somebody's"
    assert names(tmp_path) == {"report.zip"}


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM])
def test_whatever_ends_the_export_leaves_no_draft(tmp_path: Path, ends_by: signal.Signals) -> None:
    """Half a report is a person's words in clear, under a name nobody looks at."""
    (tmp_path / "to").mkdir()
    command = [sys.executable, "-c", ENDED, str(tmp_path / "to" / "report.zip"), str(int(ends_by))]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert "drafted 1" in ran.stdout, ran.stderr
    if ends_by is not signal.SIGPIPE:  # Python ignores it: the write fails, or goes on
        assert ran.returncode != 0
    assert names(tmp_path / "to") <= {"report.zip"}


@pytest.mark.anyio
async def test_where_a_draft_needs_a_name_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems cannot hide one: then the DPO chooses another."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # as a kernel reads it that has none

    with pytest.raises(ReportError, match="unnamed"):
        await access._written(files(), tmp_path / "report.zip")

    assert names(tmp_path) == set()
