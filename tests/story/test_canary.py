"""
What a person said, typed or is reachable at is nowhere in clear: files, broker, logs, processes.

Every scan is void unless the same scanner, in each of those places, finds a planted control in
every form. There is no export of traces, and nothing is packed for support: what an operator could
send are metrics, ``doctor``, lists and the exported log.
"""

import asyncio
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import scanner, tones
from support.postgres import Postgres
from support.stage import metrics, received, secret, vocustody
from support.trap import CARD, CONTROL, TYPED, Trap, parts

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


async def told(trap: Trap, *command: str) -> bytes:
    """Return everything that a command prints."""
    said = await vocustody(*command, "--config", str(trap.town.cell.config))
    return (said.out + said.err).encode()


async def support_bundle(trap: Trap, to: Path) -> dict[str, bytes]:
    """Return what an operator would send to somebody who is to help, by name."""
    await told(trap, "export-log", str(to))
    return {
        "metrics": (await metrics(trap.town)).encode(),
        "doctor": await told(trap, "doctor"),
        "notes": await told(trap, "notes", "--json"),
        "exported log": b"\n".join(scanner.files([to]).values()),
    }


async def test_a_person_is_nowhere_in_clear(trap: Trap, tmp_path: Path) -> None:
    """Who steals the disk, the broker, the logs or the metrics learns nothing of anybody."""
    ada = trap.town.ada
    await trap.start()
    trap.watch_message("typed's id", await ada.type(f"{TYPED}, card {CARD}"))
    await received(trap.town, "text")
    trap.watch_message("note's id", await ada.say(trap.note))
    await received(trap.town, "buttons")
    parked = await trap.hits()
    await ada.press("consent.grant")
    await received(trap.town, "text", 2)
    trap.watch_bytes("reply", (await received(trap.town, "voice")).audio)
    bundle = await support_bundle(trap, tmp_path / "export")
    answered = await trap.hits(memory=True, **bundle)
    await trap.town.cell.kill()
    killed = await trap.hits()

    assert parked == []
    assert answered == []
    assert killed == []
    assert '"level": "debug"' in trap.town.cell.log, "it was at DEBUG"
    assert b"a_" in bundle["notes"], "there was something to list"


CONTROL_CORE = """
import os, sys
from pathlib import Path
kept = Path(sys.argv[1]).read_bytes()
os.abort()
"""


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a directory where what is started leaves its core, as large as may be."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    assert pattern, "NOT PROVEN HERE: the kernel writes no cores"
    assert pattern[0] not in "|/@", f"NOT PROVEN HERE: cores go to {pattern!r} (make it 'core')"
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    (tmp_path / "cores").mkdir()
    monkeypatch.chdir(tmp_path / "cores")
    yield tmp_path / "cores"
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


async def test_a_cell_that_aborts_leaves_no_core(trap: Trap, tmp_path: Path, cores: Path) -> None:
    """A core is the memory of the cell, in clear, in a directory that nobody watches."""
    (tmp_path / "control").write_bytes(scanner.every_form(CONTROL))

    def left_by_control() -> None:
        command = [sys.executable, "-c", CONTROL_CORE, str(tmp_path / "control")]
        assert subprocess.run(command, check=False).returncode == -signal.SIGABRT

    await trap.start(VOCUSTODY_CRASH_AT="transcript.kept:abort")
    async with trap.bringing():
        talking = asyncio.create_task(trap.converse())
        assert await trap.town.cell.wait() == -signal.SIGABRT
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)

    assert scanner.files([cores]).keys() == {str(cores)}
    trap.more["cores"] = (lambda: scanner.files([cores]), left_by_control)
    assert await trap.hits() == []


@pytest.mark.long
async def test_a_person_is_nowhere_in_clear_in_postgresql(
    tmp_path: Path, trap: Trap, postgres: Postgres
) -> None:
    """Rows, dead rows and the write-ahead log are files, too."""
    url = await postgres.create(password="pw")
    secret(trap.town.cell.config.parent, "db", "pw")
    services = f'[services]\ndatabase = {{ url = "{url}", password_file = "db" }}\n'
    config = trap.town.cell.config
    config.write_text(config.read_text().replace("\n[[tenants]]", f"\n{services}\n[[tenants]]", 1))
    loop = asyncio.get_running_loop()

    def plant() -> None:
        asyncio.run_coroutine_threadsafe(_into_postgres(postgres), loop).result(30)

    trap.more["postgresql"] = (lambda: _tables(postgres), plant)
    trap.more["write-ahead log"] = (lambda: scanner.files([postgres.home / "data/pg_wal"]), plant)
    trap.excused |= {place: set(tones.FORMS) for place in trap.more}  # no row is so long
    await trap.start()
    trap.watch_message("typed's id", await trap.town.ada.type(f"{TYPED}, card {CARD}"))
    await received(trap.town, "text")
    trap.town.ada.inbox.clear()
    await trap.converse()

    assert await trap.hits() == []
    assert "cell.db" not in " ".join(scanner.files([trap.data]))


def _tables(postgres: Postgres) -> dict[str, bytes]:
    return scanner.files([postgres.home / "data" / "base", postgres.home / "server.log"])


async def _into_postgres(postgres: Postgres) -> None:
    """Write the control into a table and delete it: what stays are dead rows and the log."""
    admin = await postgres.admin()
    try:
        await admin.execute("CREATE TABLE IF NOT EXISTS control (part BYTEA)")
        # Short rows, as ours are: what is long is compressed by the server in its own way.
        await admin.execute("ALTER TABLE control ALTER part SET STORAGE EXTERNAL")
        for part in parts(sound=False):
            await admin.execute("INSERT INTO control VALUES ($1)", part)
        await admin.execute("DELETE FROM control")
        await admin.execute("CHECKPOINT")
    finally:
        await admin.close()


WRITERS = "openat,open,creat,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,symlink,symlinkat"
OPENED = re.compile(r'(?:openat|open)\((?:AT_FDCWD, )?"([^"]+)", ([A-Z_|0-9]+)')
NAMED = re.compile(r'(?:creat|rename\w*|link\w*|mkdir\w*|symlink\w*)\(.*"([^"]+)"')
DEVICES = {"/dev/null", "/dev/tty"}


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
async def test_it_opens_nothing_elsewhere_to_write(trap: Trap, tmp_path: Path) -> None:
    """A second witness to where the search has to look: every system call that names a file."""
    trace = tmp_path / "trace"
    trap.town.cell.program = (
        "strace", "-D", "-f", "-qq", "-s", "4096", "-e", f"trace={WRITERS}", "-o", str(trace),
        *trap.town.cell.program,
    )  # fmt: skip
    await trap.start(PYTHONDONTWRITEBYTECODE="1")
    await trap.converse()
    await trap.town.cell.stop()

    named = scanner.files([trace])[str(trace)].decode(errors="replace")
    wrote = {path for path, how in OPENED.findall(named) if "O_WRONLY" in how or "O_RDWR" in how}
    wrote |= {match for line in named.splitlines() for match in NAMED.findall(line)}
    allowed = (str(trap.town.cell.config.parent), str(trap.temporary), "/proc/self/")
    assert any(path.endswith("cell.db-wal") for path in wrote), "it saw what was written"
    elsewhere = {path for path in wrote - DEVICES if not path.startswith(allowed)}
    assert elsewhere == set()
