"""A real PostgreSQL for a whole test run, as a user of its own; a fresh database per test."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db, migrations

START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0
USERS = ("postgres", "nobody")

MISSING = """
*** No PostgreSQL: these tests cannot pass without one, and are never skipped. ***
Run scripts/test, which installs it where it may, or install it yourself:
    apt-get install postgresql
initdb and postgres are looked for on PATH and in /usr/lib/postgresql/*/bin.
"""


@dataclass(slots=True)
class Postgres:
    """A running server on loopback; *owner* is the user it runs as (None: ours)."""

    home: Path
    port: int
    owner: str | None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start over the same data and return when it answers."""
        command = [_binary("postgres"), "-D", str(self.home / "data"), *self._options()]
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.owner)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            said = (self.home / "server.log").read_text()
            assert self.process.poll() is None, f"postgres ended:\n{said}"
            assert time.monotonic() < deadline, f"postgres is not ready:\n{said}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a failing machine would; safe to call twice."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(STOP_LIMIT_S)
        self.process = None

    async def create(self, *, password: str = "") -> str:
        """Make a database and a user of its own (*password*: one it must give); return the URL."""
        name = f"cell_{secrets.token_hex(6)}"
        admin = await self.admin()
        try:
            await admin.execute(f"CREATE USER {name} PASSWORD '{password}'")
            await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
        finally:
            await admin.close()
        return f"postgresql+asyncpg://{name}@127.0.0.1:{self.port}/{name}"

    async def admin(self) -> Any:
        """Return a connection of the superuser."""
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="postgres", database="postgres"
        )

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",  # the machine does not lose power in a test, and the disk is slow
            "logging_collector": "off",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _answers(self) -> bool:
        ready = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server, or fail loudly; only the superuser gets in without a password."""
    initdb = _binary("initdb")
    owner = _owner()
    # Not under pytest's own directory: that one is closed to the user the server runs as.
    home = Path(tempfile.mkdtemp(prefix="vocustody-postgres-"))
    if owner:
        os.chown(home, pwd.getpwnam(owner).pw_uid, -1)
    server = Postgres(home, _free_port(), owner)
    make = [initdb, "-D", str(home / "data"), "-U", "postgres", "--no-sync", "--auth=trust"]
    try:
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, user=owner, cwd=home)
        _require_passwords(home / "data" / "pg_hba.conf")
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Yield a running server for the whole test run."""
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def each_db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Yield each database in turn with every table of a cell, built by the migrations."""
    url = f"sqlite+aiosqlite:///{tmp_path}/cell.db"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = (await server.create(password="pw")).replace("@", ":pw@")
    engine = db.connect(url)
    await migrations.upgrade(engine)
    yield engine
    await engine.dispose()


def run(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs to its end, or fail with what it said."""
    done = subprocess.run([_binary(name), *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _require_passwords(rules: Path) -> None:
    rules.write_text(
        "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )


def _owner() -> str | None:
    """Return the user to run as: postgres refuses to run as root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)


def _binary(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.fail(MISSING, pytrace=False)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
