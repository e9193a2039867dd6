"""
A test that is skipped in CI proves nothing, so it fails the run unless its reason is listed.

Outside CI (``CI`` is not ``true``) skips are reported and nothing else.
"""

import os
from collections.abc import Iterable, Sequence

import pytest

# Beginnings of reasons that may skip a test in CI; each needs its why beside it.
ALLOWED: tuple[str, ...] = (
    # Some runners forbid unshare -n, and nothing short of the kernel's counters replaces it.
    "no network namespace",
    # A full disk is a small tmpfs of the test's own; where none may be mounted, nothing is proven.
    "no mount namespace",
    # Beside the kernel's counters strace is a second witness; the counters decide.
    "no strace",
    # Some runners may not mount; a full disk cannot be had without one that is small.
    "no small disk",
)

_skipped: list[tuple[str, str]] = []


def unlisted(
    skipped: Iterable[tuple[str, str]], allowed: Sequence[str] = ALLOWED
) -> list[tuple[str, str]]:
    """Return those of *skipped* (test, reason) whose reason does not begin as *allowed*."""
    return [(test, why) for test, why in skipped if not why.startswith(tuple(allowed))]


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, why.removeprefix("Skipped: ")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember a skipped test."""
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember a module that was skipped whole."""
    _note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI that skipped something nobody listed."""
    if _in_ci() and unlisted(_skipped) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped and is not listed."""
    found = unlisted(_skipped)
    if _in_ci() and found:
        terminalreporter.section("skipped, not proven: fails in CI (tests/support/skips.py)")
        for test, why in found:
            terminalreporter.line(f"{test}: {why}")


def _in_ci() -> bool:
    return os.environ.get("CI") == "true"
