"""Crash points: each is in the source once, is known, and is killed at by the chaos suite."""

import ast
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import gateway
from gateway import crashpoint

SOURCE = Path(gateway.__file__).parent
CHAOS = Path(__file__).parents[2] / "chaos" / "test_crash.py"


def _reached(path: Path) -> list[str]:
    """Return the names that *path* passes to ``crashpoint.reach``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="crashpoint"), attr="reach"),
                args=[ast.Constant(value=str(name))],
            ):
                found.append(name)
    return found


def test_each_point_is_reached_at_one_place() -> None:
    """A point that no line reaches is never tested; at two places nobody knows which it was."""
    found = Counter(name for path in SOURCE.rglob("*.py") for name in _reached(path))

    assert found == dict.fromkeys(crashpoint.POINTS, 1)


def test_the_chaos_suite_kills_at_every_point() -> None:
    """A list of its own would fall behind."""
    tree = ast.parse(CHAOS.read_text(encoding="utf-8"))
    [test] = [node for node in tree.body if getattr(node, "name", "") == "test_killed_at"]
    assert isinstance(test, ast.AsyncFunctionDef)

    marks = [ast.unparse(mark) for mark in test.decorator_list]

    assert "pytest.mark.parametrize('point', sorted(crashpoint.POINTS))" in marks


def test_an_unknown_name_is_refused() -> None:
    """A misspelt point would let a test pass that killed nothing."""
    with pytest.raises(ValueError, match=r"audio\.keept"):
        crashpoint.arm("audio.keept")


def _run(armed: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from gateway import crashpoint\n"
        f"crashpoint.arm({armed!r})\n"
        "crashpoint.reach('audio.kept')\n"
        "print('alive')\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=SOURCE.parent)


def test_the_armed_point_kills_at_once() -> None:
    """SIGKILL runs no handler and flushes nothing: what survives was durable before."""
    found = _run("audio.kept")

    assert (found.returncode, found.stdout) == (-signal.SIGKILL, "")


def test_another_point_does_nothing() -> None:
    """Production passes every point, all day."""
    found = _run("transcript.kept")

    assert (found.returncode, found.stdout) == (0, "alive\n")
