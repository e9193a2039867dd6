"""Engines in processes of their own: what happens when they die, hang or fail."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.speech import echo

from residency.errors import EngineMissingError, ProcessorBusyError, ProcessorRefusedError
from residency.processors.child import Child

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    """Yield a child that answers."""
    child = Child("stt.test", echo, "hello")
    yield child
    await child.aclose()


def _pid(child: Child) -> int:
    assert child.pid is not None
    return child.pid


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.anyio
async def test_it_answers(child: Child) -> None:
    """The plain case."""
    assert await child.ask("world") == "hello world"


@pytest.mark.anyio
async def test_calls_do_not_mix(child: Child) -> None:
    """Answers go to who asked: another person's words would be a breach."""
    answers = await asyncio.gather(*(child.ask(str(n)) for n in range(5)))

    assert answers == [f"hello {n}" for n in range(5)]


@pytest.mark.anyio
async def test_a_killed_child_is_busy_and_comes_back(child: Child) -> None:
    """The memory killer takes the engine; the note is tried again, the gateway lives."""
    await child.warm()
    first = _pid(child)

    call = asyncio.ensure_future(child.ask("sleep", 30.0))
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ProcessorBusyError):
        await call

    assert await child.ask("world") == "hello world"
    assert _pid(child) != first


@pytest.mark.anyio
async def test_a_child_killed_between_calls_is_busy_once(child: Child) -> None:
    """Nobody was told of its death: the next call finds out, the one after works."""
    await child.warm()
    os.kill(_pid(child), signal.SIGKILL)

    with pytest.raises(ProcessorBusyError):
        await child.ask("world")
    assert await child.ask("world") == "hello world"


@pytest.mark.anyio
async def test_a_cancelled_call_ends_the_work(child: Child) -> None:
    """The touch has ended in the record: nobody may still be working on the content."""
    await child.warm()
    pid = _pid(child)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await child.ask("sleep", 30.0)

    assert not _alive(pid)
    assert await child.ask("world") == "hello world"


@pytest.mark.anyio
async def test_a_cancelled_wait_harms_nobody(child: Child) -> None:
    """Who gives up in the queue must not take the engine from who is being served."""
    await child.warm()
    pid = _pid(child)
    served = asyncio.ensure_future(child.ask("sleep", 0.3))
    await asyncio.sleep(0.05)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.ask("world")

    assert await served == "hello sleep"
    assert _pid(child) == pid


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raised", "error"),
    [("RuntimeError", ProcessorRefusedError), ("MemoryError", ProcessorBusyError)],
)
async def test_an_engine_error_crosses_as_its_name(
    child: Child, raised: str, error: type[Exception]
) -> None:
    """An engine may quote what it choked on; and memory comes back, a bad input does not."""
    with pytest.raises(error) as caught:
        await child.ask(raised)

    assert str(caught.value) == f"stt.test: engine raised {raised}"
    assert await child.ask("world") == "hello world"


@pytest.mark.anyio
async def test_an_engine_that_does_not_start_is_missing() -> None:
    """The cell then says so and answers in text; no zombie stays behind."""
    child = Child("stt.test", echo, "broken")

    with pytest.raises(EngineMissingError) as caught:
        await child.warm()

    assert str(caught.value) == "stt.test: engine does not start: OSError"
    assert child.pid is None


@pytest.mark.anyio
async def test_closing_ends_the_child_and_may_be_repeated(child: Child) -> None:
    """Shutdown may run twice, and must leave no process behind."""
    await child.warm()
    pid = _pid(child)

    await child.aclose()
    await child.aclose()

    assert not _alive(pid)


@pytest.mark.anyio
async def test_the_child_inherits_no_secrets(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code of one author is the part we trust least: it sees no token of ours."""
    monkeypatch.setenv("APP_TOKEN", "secret")

    inherited = await child.ask("environment")

    assert "APP_TOKEN" not in inherited
    assert "HF_HUB_OFFLINE" in inherited


@pytest.mark.anyio
async def test_the_child_leaves_no_core(child: Child) -> None:
    """A core dump would put a voice on the disk in the clear."""
    assert await child.ask("core") == (0, 0)


def test_the_child_dies_with_the_gateway() -> None:
    """An orphan would go on working on somebody's words with no record of it."""
    script = (
        "import asyncio, os, signal\n"
        "from residency.processors.child import Child\n"
        "from support.speech import echo\n"
        "async def main():\n"
        "    child = Child('stt.test', echo, 'hello')\n"
        "    await child.warm()\n"
        "    call = asyncio.ensure_future(child.ask('sleep', 60.0))\n"
        "    await asyncio.sleep(0.1)\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}

    gateway = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        check=False,
        timeout=30,
    )
    orphan = int(gateway.stdout)

    for _ in range(100):
        if not _running(orphan):
            break
        signal.sigtimedwait([], 0.02)
    assert not _running(orphan)


def _running(pid: int) -> bool:
    """Tell whether *pid* still runs; a zombie that nobody reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.anyio
async def test_silent_engines_hold_up_nobody_else() -> None:
    """Others share the default threads, the audit log among them: engines wait in their own."""
    silent = [Child(f"stt.silent.{n}", echo, "hello") for n in range(12)]
    await asyncio.gather(*(child.warm() for child in silent))
    calls = [asyncio.create_task(child.ask("sleep", 30)) for child in silent]
    await asyncio.sleep(0.1)

    async with asyncio.timeout(5):
        await asyncio.to_thread(int)

    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.gather(*(child.aclose() for child in silent))
