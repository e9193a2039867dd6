"""Decoding in processes of their own: what a note can do to them, and what it cannot."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import oggs

from gateway.audio import child, decode
from gateway.audio.decode import Decoder, Limits
from gateway.errors import AudioBusyError, AudioRefusedError

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
GOOD = Path(__file__).parents[2] / "corpus" / "media" / "good"
RECORDINGS = {path.stem: path.read_bytes() for path in sorted(GOOD.glob("*.ogg"))}
NOTE = RECORDINGS["psphinx_cards_en_003"]
LONG = oggs.note(890)


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    """Yield one warm process."""
    async with Decoder(size=1) as decoder:
        yield decoder


async def process_of(decoder: Decoder) -> int:
    """Return the id of the one warm process."""
    slot = await decoder._slots.get()
    decoder._slots.put_nowait(slot)
    return slot._process.pid


def told(process: int, name: str) -> str:
    """Return what the kernel tells about *process* under *name*; empty when it is gone."""
    try:
        return Path(f"/proc/{process}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def files(process: int) -> dict[str, str]:
    """Return the open files of *process*."""
    return {link.name: str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir()}


async def worker_of(process: int) -> int:
    """Return the id of the process sealed for the note under way, stopped in its tracks."""
    while True:
        for worker in told(process, f"task/{process}/children").split():
            if "Seccomp:\t2" in told(int(worker), "status"):
                os.kill(int(worker), signal.SIGSTOP)
                return int(worker)
        await asyncio.sleep(0.001)


async def stopped(decoder: Decoder) -> tuple[asyncio.Task[bytes], int, int]:
    """Return a decoding under way whose worker stands still, with both process ids."""
    process = await process_of(decoder)
    task = asyncio.create_task(decoder.decode(LONG))
    return task, process, await worker_of(process)


async def gone(process: int) -> bool:
    """Return true once no such process runs (it fails by the test's timeout)."""
    while True:
        if told(process, "stat").rpartition(")")[2].split()[:1] in ([], ["Z"]):
            return True
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("note", RECORDINGS.values(), ids=RECORDINGS)
async def test_recordings_come_back_as_sound(decoder: Decoder, note: bytes) -> None:
    """What processors hear is what was sent, byte for byte what the codec makes of it."""
    pcm = await decoder.decode(note)

    assert pcm == child.to_pcm(note, max_seconds=60)
    assert len(pcm) > child.RATE * child.SAMPLE_BYTES
    assert any(pcm)


async def test_notes_decode_side_by_side() -> None:
    """Two notes at a time must not get each other's sound."""
    notes = [*RECORDINGS.values()] * 3

    async with Decoder(size=2) as decoder:
        heard = await asyncio.gather(*map(decoder.decode, notes))

    assert heard == [child.to_pcm(note, max_seconds=60) for note in notes]


async def test_junk_is_the_notes_fault(decoder: Decoder) -> None:
    """What the codec rejects will be rejected again: retrying is of no use."""
    with pytest.raises(AudioRefusedError, match=r"^decode\.failed$"):
        await decoder.decode(b"OggS" + bytes(400))


async def test_a_note_that_cannot_be_decoded_ends_cleanly(decoder: Decoder) -> None:
    """No traceback and no exit code: only what the process did not answer for is a crash."""
    await process_of(decoder)
    slot = decoder._slots.get_nowait()

    answer = await slot._exchange(b"OggS" + bytes(400), Limits())
    status = await slot._status()

    decoder._slots.put_nowait(slot)
    assert (answer, status) == (child.FAILED, 0)


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (b"", -signal.SIGKILL, AudioBusyError("decode.killed")),
        (child.DONE, -signal.SIGKILL, AudioBusyError("decode.killed")),
        (b"", os.EX_OSERR, AudioBusyError("decode.unavailable")),
        (child.DONE + bytes(8), 1, AudioRefusedError("decode.failed")),
        (bytes(8), 0, AudioRefusedError("decode.failed")),
        (child.LIMITS, 0, AudioRefusedError("decode.limits")),
        (child.LONG, 0, AudioRefusedError("audio.too_long")),
        (child.CODEC, 0, AudioRefusedError("decode.codec")),
    ],
)
async def test_an_end_is_read_for_what_the_caller_can_do(
    answer: bytes, status: int, error: AudioBusyError | AudioRefusedError
) -> None:
    """Sound from a process that did not end well may be half of it: it is never used."""
    with pytest.raises(type(error), match=f"^{error}$"):
        decode._pcm(answer, status)


async def test_an_answer_has_a_greatest_length() -> None:
    """A process that a note took over must not fill the gateway's memory."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(bytes(11))

        with pytest.raises(AudioRefusedError, match=r"^decode\.limits$"):
            await decode._receive(ours, 10)


def test_the_worker_counts_the_sound_it_makes() -> None:
    """It stops early, with the memory and the time that the rest of a bomb would have taken."""
    with pytest.raises(child.OverlongError):
        child.to_pcm(oggs.note(3), max_seconds=1)


async def test_a_bomb_stops_at_the_sound_limit() -> None:
    """Should the walk ever miss one, the decoder counts for itself."""
    async with Decoder(size=1, limits=Limits(seconds=30)) as decoder:
        with pytest.raises(AudioRefusedError, match=r"^audio\.too_long$"):
            await decoder.decode(oggs.RECIPES["dtx-bomb-200k"]())

        assert await decoder.decode(NOTE)


async def test_a_note_out_of_memory_is_refused() -> None:
    """The cap holds in the worker itself, and running into it is the note's fault."""
    async with Decoder(size=1, limits=Limits(memory_bytes=1 << 20)) as decoder:
        with pytest.raises(AudioRefusedError, match=r"^decode\.limits$"):
            await decoder.decode(NOTE)


@pytest.mark.parametrize(
    ("blow", "code"), [(signal.SIGSEGV, "decode.failed"), (signal.SIGXCPU, "decode.limits")]
)
async def test_a_crash_is_the_notes_fault(
    decoder: Decoder, blow: signal.Signals, code: str
) -> None:
    """A note that crashes the codec would crash it for ever; the next person's must not notice."""
    task, _, worker = await stopped(decoder)

    os.kill(worker, blow)
    os.kill(worker, signal.SIGCONT)

    with pytest.raises(AudioRefusedError, match=f"^{code}$"):
        await task
    assert await decoder.decode(NOTE)


@pytest.mark.parametrize("victim", ["worker", "process"])
async def test_a_kill_from_outside_can_be_retried(decoder: Decoder, victim: str) -> None:
    """The OOM killer or an operator did it, not the note; and no plaintext outlives it."""
    task, process, worker = await stopped(decoder)

    os.kill({"worker": worker, "process": process}[victim], signal.SIGKILL)

    with pytest.raises(AudioBusyError, match=r"^decode\.killed$"):
        await task
    assert await gone(worker)
    assert await decoder.decode(NOTE)


async def test_a_process_killed_between_notes_is_replaced(decoder: Decoder) -> None:
    """The next person's note must not pay for what happened while nobody was speaking."""
    process = await process_of(decoder)
    os.kill(process, signal.SIGKILL)

    assert await gone(process)
    assert await decoder.decode(NOTE)


async def test_a_note_that_hangs_is_ended() -> None:
    """A worker that sleeps spends no processor time: only the clock can end it."""
    async with Decoder(size=1, limits=Limits(deadline_seconds=0.4)) as decoder:
        task, process, worker = await stopped(decoder)

        with pytest.raises(AudioRefusedError, match=r"^decode\.limits$"):
            await task

        assert await gone(worker)
        assert await gone(process)
    async with Decoder(size=1) as fresh:
        assert await fresh.decode(NOTE)


async def test_a_cancelled_note_leaves_no_process(decoder: Decoder) -> None:
    """A consent withdrawn in flight cancels the job: the plaintext's process must die."""
    task, _, worker = await stopped(decoder)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(worker)
    assert await decoder.decode(NOTE)


async def test_waiting_for_a_process_has_an_end() -> None:
    """Under overload a job goes back to the queue; it must not pile up in memory."""
    async with Decoder(size=1, limits=Limits(wait_seconds=0.01)) as decoder:
        task, _, worker = await stopped(decoder)

        with pytest.raises(AudioBusyError, match=r"^decode\.busy$"):
            await decoder.decode(NOTE)

        os.kill(worker, signal.SIGCONT)
        assert await task


async def test_the_worker_is_sealed_and_holds_nothing_but_its_note(decoder: Decoder) -> None:
    """A note that takes its process over finds no way to the next note and no secret."""
    task, process, worker = await stopped(decoder)

    held, control = files(worker), files(process)["0"]
    environment = told(process, "environ")

    assert set(held) == {"0", "1", "2"}
    assert held["0"] == held["1"] != control
    assert held["2"] == os.devnull
    assert environment.startswith("PYTHONPATH=")
    assert environment.count("\0") == 1
    os.kill(worker, signal.SIGCONT)
    assert await task


async def test_no_file_descriptors_is_not_the_notes_fault(decoder: Decoder) -> None:
    """Under load the gateway runs out of sockets first: the job waits, and is not refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(AudioBusyError, match=r"^decode\.unavailable$"):
            await decoder.decode(NOTE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert await decoder.decode(NOTE)


async def test_closing_waits_for_the_note_under_way() -> None:
    """A rolling update drains: the note that is being decoded is answered first."""
    decoder = Decoder(size=1)
    await decoder.start()
    task, process, worker = await stopped(decoder)
    closing = asyncio.create_task(decoder.aclose())
    await asyncio.sleep(0)

    os.kill(worker, signal.SIGCONT)

    assert await task
    await closing
    assert await gone(process)


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent"])
async def test_no_start_without_a_process(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Readiness must fail where nothing can be decoded, and say that it may pass later."""
    monkeypatch.setattr(sys, "executable", program)

    with pytest.raises(AudioBusyError, match=r"^decode\.unavailable$"):
        await Decoder(size=1).start()


async def test_processes_end_with_the_gateway() -> None:
    """Kill -9 of the gateway must not leave processes behind that hold a note."""
    script = """
import asyncio
from gateway.audio.decode import Decoder
async def main():
    decoder = Decoder(size=2)
    await decoder.start()
    print(*(slot._process.pid for slot in decoder._slots._queue), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    arguments = [sys.executable, "-c", script]
    gateway = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, cwd=ROOT)
    assert gateway.stdout is not None
    processes = [int(process) for process in (await gateway.stdout.readline()).split()]

    gateway.kill()
    await gateway.communicate()

    assert len(processes) == 2
    assert all([await gone(process) for process in processes])
