"""No core: a program of ours that crashes leaves nothing of its memory on a disk."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATTERN = Path("/proc/sys/kernel/core_pattern")
FORBID = "from gateway import cores; cores.forbid()\n"
CRASH = "import os\nos.abort()\n"


@pytest.fixture(autouse=True)
def raised() -> Iterator[None]:
    """Let what is started leave cores as large as may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    assert hard != 0, "no core can be asked for here: nothing would be proven"
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def run(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run *script* in *directory*."""
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={"PYTHONPATH": str(ROOT)},
    )


def cores(directory: Path) -> list[Path]:
    """Return the cores that the kernel wrote to *directory*."""
    return list(directory.glob("*core*"))


def written_here() -> bool:
    """Whether the kernel itself writes cores, to the directory of the process."""
    pattern = PATTERN.read_text().strip()
    return bool(pattern) and pattern[0] not in "|/@"


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    """A core is the memory of a process: recordings, words and keys, in clear, on a disk."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "ours").mkdir()
    run(CRASH, tmp_path / "plain")
    assert cores(tmp_path / "plain") or not written_here(), "VOID: the control left no core"

    crashed = run(FORBID + CRASH, tmp_path / "ours")

    assert crashed.returncode == -6
    assert cores(tmp_path / "ours") == []


def test_a_collector_gets_no_core_either(tmp_path: Path) -> None:
    """Where cores are piped to a program the limit does not count; this does."""
    asked = run(FORBID + "import ctypes\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))", tmp_path)

    assert asked.stdout == "0\n", asked.stderr


def test_every_command_forbids_them(tmp_path: Path) -> None:
    """`subject export` opens as much as the cell does."""
    script = (
        "import ctypes, resource, sys\nfrom gateway import cli\n"
        "sys.argv = ['vocustody', '--help']\ncli.main()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )

    assert run(script, tmp_path).stdout.splitlines()[-1] == "0 (0, 0)"
