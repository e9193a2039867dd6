"""A real OPA for a whole test run: the binary, and a server on loopback with the test bundle."""

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy import archive
from policy.bundle import Bundle

START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0

MISSING = """
*** No opa binary: these tests cannot pass without one, and are never skipped. ***
Run scripts/test, which installs it, or install it yourself:
    go install github.com/open-policy-agent/opa@v1.22.2
It is looked for in the directory VOCUSTODY_OPA, in GOBIN, on PATH, in ~/go/bin and beside python.
"""


@pytest.fixture(scope="session")
def opa_binary() -> str:
    """Return the path of a real ``opa``, or fail loudly."""
    named = [os.environ.get("VOCUSTODY_OPA"), os.environ.get("GOBIN")]
    usual = [os.environ.get("PATH"), str(Path.home() / "go" / "bin")]
    places = [place for place in [*named, *usual, sysconfig.get_path("scripts")] if place]
    binary = shutil.which("opa", path=os.pathsep.join(places))
    if binary is None:
        pytest.fail(MISSING, pytrace=False)
    return binary


@pytest.fixture(scope="session")
def opa_server(
    opa_binary: str, policy_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield the URL of an OPA that has loaded the test bundle as production would."""
    with serving(opa_binary, policy_bundle, tmp_path_factory.mktemp("opa")) as url:
        yield url


@contextlib.contextmanager
def serving(binary: str, bundle: Bundle, home: Path) -> Iterator[str]:
    """Yield the URL of an OPA that has loaded *bundle*, written to *home*."""
    archive.write(bundle, home / "bundle.tar.gz")
    address = f"127.0.0.1:{_free_port()}"
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            _command(binary, address), cwd=home, env=_environment(home), stdout=log, stderr=log
        )
        try:
            _wait_until_ready(process, f"http://{address}", home / "server.log")
            yield f"http://{address}"
        finally:
            _stop(process)


def _command(opa: str, address: str) -> list[str]:
    # Without this switch OPA tells its maker's server that it runs.
    quiet = ["--skip-version-check", "--log-level", "error"]
    return [opa, "run", "--server", "--addr", address, *quiet, "-b", "bundle.tar.gz"]


def _environment(home: Path) -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("OPA_")}
    return ours | {"HOME": str(home)}


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not _healthy(url):
        assert process.poll() is None, f"opa ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"opa is not ready:\n{log.read_text()}"
        time.sleep(0.05)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health?bundles=true", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
