"""The composition root, as a process: what it refuses, and what it leaves behind."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from support.cell import NOTE, Town
from support.settings import CANARY, Configure
from support.stage import agree, family, left, received, scripted, staged, until, vocustody

from gateway import db
from gateway.demo.graph import GraphWorld

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

SLOW_MS = "1500"
PRODUCTION = """
[services]
nats = "tls://nats.example:4222"
vault = { url = "https://vault.example", token_file = "token" }
objects = { url = "s3://sealed", access_key_file = "token", secret_key_file = "token" }
"""


@pytest.fixture
async def slow(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Town]:
    """Yield a running cell whose speech-to-text takes its time."""
    registry = scripted(tmp_path / "registry", delay_ms=SLOW_MS)
    town = staged(tmp_path / "cell", graph, registry=registry)
    await town.cell.start()
    yield town
    await town.cell.kill()


async def _transcribing(town: Town) -> bool:
    began = [leaf for leaf in await town.leaves() if leaf["type"] == "touch.began"]
    return any(leaf["action"] == "transcribe" for leaf in began)


async def test_sigterm_finishes_what_is_begun(slow: Town) -> None:
    """A rolling update must not leave people without their answers."""
    await agree(slow, NOTE.read_bytes())
    await until(lambda: _transcribing(slow))
    assert slow.of_kind("text") == []
    processes = family(slow.cell.pid)

    status = await slow.cell.stop()

    assert status == -signal.SIGTERM
    assert len(slow.of_kind("text")) == 1, "the note that was begun is answered"
    assert left(processes) == {}
    ended = [leaf["outcome"] for leaf in await slow.leaves() if leaf["type"] == "touch.ended"]
    assert set(ended) == {"done"}


async def test_sigkill_leaves_no_process_behind(slow: Town) -> None:
    """A decoder or an engine without its gateway would hold somebody's voice in memory."""
    await agree(slow, NOTE.read_bytes())
    await until(lambda: _transcribing(slow))
    processes = family(slow.cell.pid)
    assert any("nats.conf" in command for command in processes.values())
    assert any("gateway.audio.child" in command for command in processes.values())

    await slow.cell.kill()

    assert left(processes) == {}


async def test_one_gateway_per_data_directory(slow: Town) -> None:
    """Two writers would fork the log and share leases."""
    second = await vocustody("serve", "--config", str(slow.cell.config))

    assert second.status == 2
    assert "in use by another gateway" in second.err
    assert "[cell] data" in second.err
    assert not slow.cell.ended


async def test_a_taken_port_is_named_with_its_setting(configure: Configure) -> None:
    """The most common reason why a server does not start."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        served = await vocustody("serve", "--config", str(configure(listen=f'"127.0.0.1:{port}"')))

    assert served.status == 2
    assert f"127.0.0.1:{port}" in served.err
    assert "[cell] listen" in served.err


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("", ("child nats-server", "local keyring", "audit signing key", "local files")),
        (PRODUCTION, ("scripted",)),
    ],
)
async def test_production_refuses_stand_ins_by_name(
    configure: Configure, more: str, names: tuple[str, ...]
) -> None:
    """A key beside the data it locks, or a scripted engine, must not slip into production."""
    served = await vocustody("serve", "--config", str(configure(more, mode='"production"')))

    assert served.status == 2
    for name in names:
        assert name in served.err
    assert CANARY not in served.err + served.out


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ('nats = "nats://127.0.0.1:{port}"', "[services] nats"),
        ('vault = {{ url = "http://127.0.0.1:{port}", token_file = "token" }}', "transit"),
    ],
)
async def test_a_cell_that_cannot_start_says_why(
    configure: Configure, service: str, says: str
) -> None:
    """That it did not start is no help at three in the morning."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        config = configure(f"[services]\n{service.format(port=deaf.getsockname()[1])}")
        served = await vocustody("serve", "--config", str(config))

    assert served.status == 2
    assert says in served.err.splitlines()[-1]
    assert CANARY not in served.err + served.out


async def test_the_data_is_closed_to_others(slow: Town) -> None:
    """The local keys lie in it."""
    data = slow.cell.config.parent / "data"

    assert data.stat().st_mode & 0o077 == 0


async def test_a_stopping_cell_is_gone_in_time(slow: Town) -> None:
    """An orchestrator kills what does not end within its grace, thirty seconds by default."""
    began = time.monotonic()

    await asyncio.gather(slow.cell.stop())

    assert time.monotonic() - began < 30


async def test_what_was_said_before_the_end_is_answered_after_it(slow: Town) -> None:
    """Accepted and not begun: it waits in the database for the next start."""
    await agree(slow, NOTE.read_bytes())
    await received(slow, "text")
    await slow.cell.kill()
    before = len(slow.of_kind("text"))

    await asyncio.gather(slow.ada.type("hello"), slow.cell.start())
    await slow.settle(0)

    await received(slow, "text", before + 1)


async def test_a_database_that_nobody_serves_is_an_error_that_callers_expect() -> None:
    """The driver raises OSError there; a writer that expects SQLAlchemy's would die of it."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        engine = db.connect(f"postgresql+asyncpg://u:{CANARY}@127.0.0.1:{deaf.getsockname()[1]}/d")
        with pytest.raises(OperationalError, match="ConnectionRefusedError") as caught:
            async with engine.begin():
                pass
        await engine.dispose()

    assert CANARY not in str(caught.value)
