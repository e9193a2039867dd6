"""Crash points: each is in the source once, is known, and is killed at by the chaos suite."""

import ast
import inspect
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import points

import gateway
from gateway import crashpoint
from gateway.erasures import Erasures

SOURCE = Path(gateway.__file__).parent
CHAOS = Path(__file__).parents[2] / "chaos"


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

    assert found == dict.fromkeys(points.ANSWERING, 1)
    assert set(points.ANSWERING) | set(points.ERASING) == crashpoint.POINTS


def test_the_steps_of_an_erasure_are_points() -> None:
    """They are reached by their names, at the one place that runs them all."""
    assert 'self.reached(f"erasure.{name}")' in inspect.getsource(Erasures)
    assert set(points.ERASING) == {name for name in crashpoint.POINTS if "erasure." in name}


@pytest.mark.parametrize(
    ("file", "test", "mark"),
    [
        ("test_crash.py", "test_killed_at", "pytest.mark.parametrize('point', ANSWERING)"),
        (
            "test_plaintext.py",
            "test_nothing_is_in_clear_when_it_dies_at",
            "pytest.mark.parametrize('point', ANSWERING)",
        ),
        (
            "test_plaintext.py",
            "test_an_erasure_that_dies_at_one_step_is_finished",
            "pytest.mark.parametrize('point', ERASING)",
        ),
    ],
)
def test_the_chaos_suite_kills_at_every_point(file: str, test: str, mark: str) -> None:
    """A list of its own would fall behind."""
    tree = ast.parse((CHAOS / file).read_text(encoding="utf-8"))
    [found] = [node for node in tree.body if getattr(node, "name", "") == test]
    assert isinstance(found, ast.AsyncFunctionDef)

    assert mark in [ast.unparse(each) for each in found.decorator_list]


def test_an_unknown_name_is_refused() -> None:
    """A misspelt point would let a test pass that killed nothing."""
    with pytest.raises(ValueError, match=r"audio\.keept"):
        crashpoint.arm("audio.keept")
    with pytest.raises(ValueError, match="burn"):
        crashpoint.arm("audio.kept:burn")


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


def test_an_armed_point_may_abort() -> None:
    """The signal that leaves a core where one may be left."""
    assert _run("audio.kept:abort").returncode == -signal.SIGABRT


def test_an_armed_point_may_raise_and_does_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What is tried again goes on; that it erred is told, or a test would assert nothing."""
    crashpoint.arm("touch.began:raise,audio.kept:raise")

    with pytest.raises(crashpoint.PlantedError, match=crashpoint.QUOTED):
        crashpoint.reach("audio.kept")
    crashpoint.reach("audio.kept")

    assert capsys.readouterr().err == "crash point: audio.kept\n"
    crashpoint._armed.clear()
