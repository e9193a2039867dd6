"""
A real OpenBao as it stands in production: raft on disk, two audit devices, sealed at its start.

It can be stopped, killed, frozen, sealed, snapshotted and put back.
"""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.openbao import STOP_LIMIT_S, _environment, _free_port, binary

START_LIMIT_S = 30.0
CALL_LIMIT_S = 10.0
UNSEALED = 200
SEALED = 503
UNINITIALISED = 501
RESTORING = 204
RESTORED = "core: post-unseal setup complete"


@dataclass(slots=True)
class RaftBao:
    """
    A server of its own: *token* is root's, *unseal_key* the one share that opens it.

    *settings* take the place of the usual ones; *ca* is what its certificate leads to, if any.
    """

    home: Path
    url: str
    cluster: str
    audit: tuple[Path, Path]
    token: str = field(default="", repr=False)
    unseal_key: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = None
    settings: str = ""
    ca: Path | None = None

    def start(self) -> None:
        """Start over the same data; it answers once this returns, and is sealed unless new."""
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary(), "server", f"-config={self._config()}"],
                env=_environment(self.home),
                stdout=log,
                stderr=log,
            )
        self.until(UNSEALED, SEALED, UNINITIALISED)

    def initialise(self) -> None:
        """Make the first keys, unseal, and wait until it leads."""
        shares = {"secret_shares": 1, "secret_threshold": 1}
        _, made = self.call("PUT", "sys/init", shares, limit_s=START_LIMIT_S)
        self.token, self.unseal_key = made["root_token"], made["keys_base64"][0]
        self.unseal()

    def unseal(self) -> None:
        """Open it; its requests are served once this returns."""
        self.call("PUT", "sys/unseal", {"key": self.unseal_key}, limit_s=START_LIMIT_S)
        self.until(UNSEALED)

    def seal(self) -> None:
        """Close it: every request is refused with 503 until `unseal`."""
        self.call("PUT", "sys/seal")
        self.until(SEALED)

    def freeze(self) -> None:
        """Let it hang: connections are taken and nothing is answered, until `thaw`."""
        self._signal(signal.SIGSTOP)
        assert self.process is not None
        # Each of its threads stops when the kernel gets to it; until then it still answers.
        tasks = Path(f"/proc/{self.process.pid}/task")
        deadline = time.monotonic() + STOP_LIMIT_S
        while any(_state(task) not in "TXZ" for task in tasks.iterdir()):
            assert time.monotonic() < deadline, "it was told to stop and did not"
            time.sleep(0.01)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in good order; safe to call twice."""
        if self.process is None:
            return
        self._signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """End it at once, as a machine that loses power."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def snapshot(self) -> bytes:
        """Return a snapshot of everything that it keeps, its keys among it."""
        return self._send("GET", "sys/storage/raft/snapshot", None, self.token)[1]

    def restore(self, snapshot: bytes) -> None:
        """Put everything back as it was at *snapshot*."""
        before = self._restored()
        status, said = self._send("POST", "sys/storage/raft/snapshot", snapshot, self.token)
        assert status == RESTORING, said
        # The answer comes first, and its work (5 s) after: only the log says when it is done.
        deadline = time.monotonic() + START_LIMIT_S
        while self._restored() == before:
            assert time.monotonic() < deadline, "the snapshot is not restored"
            time.sleep(0.05)
        self.until(UNSEALED)

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: str | None = None,
        limit_s: float = CALL_LIMIT_S,
    ) -> tuple[int, dict[str, Any]]:
        """Send one request (as root unless *token* is given); return its status and its JSON."""
        data = None if body is None else json.dumps(body).encode()
        who = self.token if token is None else token
        status, answer = self._send(method, path, data, who, limit_s)
        return status, json.loads(answer or b"{}")

    def health(self) -> int | None:
        """Return the status of ``sys/health``: 200, 501 without keys, 503 sealed; None if away."""
        try:
            return self._send("GET", "sys/health", None, "")[0]
        except OSError:
            return None

    def until(self, *statuses: int) -> None:
        """Return when ``sys/health`` answers with one of *statuses*."""
        deadline = time.monotonic() + START_LIMIT_S
        while (found := self.health()) not in statuses:
            said = (self.home / "server.log").read_text()
            assert self.process is not None
            assert self.process.poll() is None, f"bao ended:\n{said}"
            assert time.monotonic() < deadline, f"bao says {found}, not {statuses}:\n{said}"
            time.sleep(0.05)

    def _restored(self) -> int:
        return (self.home / "server.log").read_text().count(RESTORED)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        token: str,
        limit_s: float = CALL_LIMIT_S,
    ) -> tuple[int, bytes]:
        headers = {"X-Vault-Token": token} if token else {}
        url = f"{self.url}/v1/{path}"
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            context = ssl.create_default_context(cafile=self.ca) if self.ca else None
            with urllib.request.urlopen(request, timeout=limit_s, context=context) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def _config(self) -> Path:
        # The hostname of a test machine need not resolve: every address is given.
        first, second = self.audit
        data = self.home / "raft"
        data.mkdir(exist_ok=True)
        path = self.home / "server.hcl"
        path.write_text(
            self.settings
            or f"""
disable_mlock = true
api_addr      = "{self.url}"
cluster_addr  = "http://{self.cluster}"
storage "raft" {{
  path    = "{data}"
  node_id = "only"
  performance_multiplier = 1
}}
listener "tcp" {{
  address         = "{self.url.removeprefix("http://")}"
  cluster_address = "{self.cluster}"
  tls_disable     = true
}}
audit "file" "first" {{
  options = {{ file_path = "{first}" }}
}}
audit "file" "second" {{
  options = {{ file_path = "{second}" }}
}}
"""
        )
        return path


@contextmanager
def raft_server(home: Path, *, audit: tuple[Path, Path] | None = None) -> Iterator[RaftBao]:
    """Run an initialised, unsealed server in *home*; *audit* says where its two devices write."""
    devices = audit or (home / "audit-1.log", home / "audit-2.log")
    server = RaftBao(home, f"http://127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}", devices)
    try:
        server.start()
        server.initialise()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def openbao_raft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftBao]:
    """Yield a server of the module's own, for tests that hurt it or need its audit files."""
    with raft_server(tmp_path_factory.mktemp("openbao-raft")) as server:
        yield server


def _state(task: Path) -> str:
    """Return the state letter of a thread (proc(5)); one that just ended is "X"."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
