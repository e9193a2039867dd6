"""The plugin that fails CI when a test is skipped without a listed reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import skips

TESTS = Path(__file__).parents[2]

SKIPPING = """
import pytest
def test_good(): pass
@pytest.mark.skipif(True, reason="no server here")
def test_skipped(): pass
"""
MODULE = """
import pytest
pytest.skip("no server here", allow_module_level=True)
"""
XFAIL = """
import pytest
def test_good(): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""


def run(tmp_path: Path, text: str, *, ci: bool) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin on a file holding *text*."""
    (tmp_path / "test_it.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "support.skips", "--rootdir", ".", "."],
        cwd=tmp_path,
        env=os.environ
        | {
            "CI": "true" if ci else "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(TESTS),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("text", [SKIPPING, SKIPPING + MODULE])
def test_a_skip_nobody_listed_fails_ci(tmp_path: Path, text: str) -> None:
    """A machine without the server would otherwise be green for ever."""
    ran = run(tmp_path, text, ci=True)

    assert ran.returncode != 0
    assert "no server here" in ran.stdout


def test_a_module_skipped_whole_fails_ci_beside_others(tmp_path: Path) -> None:
    """A module that skips itself has no tests, so nothing else would mention it."""
    (tmp_path / "test_other.py").write_text("def test_good(): pass")

    ran = run(tmp_path, MODULE, ci=True)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert "skipped, not proven" in ran.stdout


@pytest.mark.parametrize("text", [SKIPPING, XFAIL])
def test_a_skip_on_a_developers_machine_is_a_skip(tmp_path: Path, text: str) -> None:
    """Somebody without a tool must still be able to run the rest."""
    ran = run(tmp_path, text, ci=False)

    assert ran.returncode == 0


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    """It ran, and pytest itself fails the run when it passes after all."""
    ran = run(tmp_path, XFAIL, ci=True)

    assert ran.returncode == 0


def test_a_listed_reason_is_let_through() -> None:
    """The list is for what a machine cannot have, such as another kernel."""
    skipped = [("a", "needs root: no"), ("b", "needs luck")]

    assert skips.unlisted(skipped, ("needs root",)) == [("b", "needs luck")]
    assert skips.unlisted(skipped, ()) == skipped
