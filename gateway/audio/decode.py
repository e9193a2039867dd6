"""
Decoding voice notes outside the gateway's process.

- Bytes go out and PCM comes back through a socket; neither touches a disk.
- A note has its own process with hard limits (see `confine`); it ends with the note, with a
  cancelled call, and with the gateway.
- What a note does to that process is the note's fault and final (`AudioRefusedError`); a
  process that was never there, or that somebody killed from outside, is not (`AudioBusyError`).
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.audio import child
from gateway.audio.formats import FORMATS, Format
from gateway.errors import AudioBusyError, AudioError, AudioRefusedError

_ROOT = Path(__file__).parents[2]
_CHUNK = 1 << 18
_WARM_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What one note may cost: the first that is reached ends it.

    *seconds* of decoded sound; *cpu_seconds* and *memory_bytes* (of address space, most of which
    is the codec's own code) of its process; *deadline_seconds* of wall time. *wait_seconds* is
    how long a call waits for a free process before it gives up.
    """

    seconds: int = 900
    cpu_seconds: int = 20
    memory_bytes: int = 1 << 30
    deadline_seconds: float = 8.0
    wait_seconds: float = 8.0

    @property
    def most_answer_bytes(self) -> int:
        """The longest answer a process may give: a state, the PCM, a second of slack."""
        return 1 + (self.seconds + 1) * child.RATE * child.SAMPLE_BYTES


class Decoder:
    """
    A few warm processes that decode one note at a time each.

    Start it in a thread that lives as long as the decoder does: the kernel ends a child with the
    thread that made it. A process that had to be killed is replaced when it is next needed.
    """

    def __init__(self, *, size: int = 2, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._size = size
        self._started = 0
        self._slots: asyncio.Queue[_Child] = asyncio.Queue()

    async def start(self) -> None:
        """
        Warm every process up.

        Raises:
            AudioBusyError: ``decode.unavailable``, no confined process can run here.
        """
        try:
            while self._started < self._size:
                self._slots.put_nowait(await _Child.spawn())
                self._started += 1
        except BaseException:
            await self.aclose()
            raise

    async def decode(self, content: bytes, kind: Format = Format.OGG) -> bytes:
        """
        Return *content*, a file of *kind*, as 16 kHz mono signed 16-bit little-endian PCM.

        Ogg must have been inspected. Calls may overlap; cancelling one kills its process.

        Raises:
            AudioRefusedError: ``decode.failed``, ``decode.limits``, ``decode.codec`` (the file
                asks for a decoder that its format does not have here) or ``audio.too_long``.
            AudioBusyError: ``decode.busy``, ``decode.killed`` or ``decode.unavailable``.
        """
        slot = await self._borrow()
        try:
            if not slot.alive:
                await slot.end()
                slot = await _Child.spawn()
            return await slot.decode(content, kind, self._limits)
        finally:
            self._slots.put_nowait(slot)

    async def aclose(self) -> None:
        """End every process, each after the note it may be working on."""
        while self._started:
            await (await self._slots.get()).end()
            self._started -= 1

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _borrow(self) -> "_Child":
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                return await self._slots.get()
        except TimeoutError:
            raise AudioBusyError("decode.busy") from None


class _Child:
    """One warm process, and the socket on which it is told what to do."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        try:
            with theirs:
                self._process = _start(theirs)
        except OSError:
            self._control.close()
            raise AudioBusyError("decode.unavailable") from None

    @classmethod
    async def spawn(cls) -> Self:
        warming = cls()
        async with warming._within(_WARM_UP_SECONDS, AudioBusyError("decode.unavailable")):
            if await warming._status() != 0:
                raise AudioBusyError("decode.unavailable")
        return warming

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def decode(self, content: bytes, kind: Format, limits: Limits) -> bytes:
        async with self._within(limits.deadline_seconds, AudioRefusedError("decode.limits")):
            answer = await self._exchange(content, limits, kind)
            status = await self._status()
        return _pcm(answer, status)

    async def end(self) -> None:
        self._control.close()
        self._process.kill()  # and with it, by the kernel, what it forked for a note
        await asyncio.to_thread(self._process.wait)

    @asynccontextmanager
    async def _within(self, seconds: float, late: AudioError) -> AsyncIterator[None]:
        """Bound what is done here; what breaks it off, a cancelled call too, ends the process."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            await self.end()
            raise late from None
        except OSError:
            await self.end()
            raise AudioBusyError("decode.unavailable") from None
        except BaseException:
            await self.end()
            raise

    async def _exchange(self, content: bytes, limits: Limits, kind: Format = Format.OGG) -> bytes:
        """Send the note through a socket of its own; return all that comes back."""
        job = child.JOB.pack(
            limits.seconds, limits.cpu_seconds, limits.memory_bytes, FORMATS.index(kind)
        )
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            # The other side may end before it read it all: its answer and status say why.
            with suppress(ConnectionError):
                with theirs:
                    socket.send_fds(self._control, [job], [theirs.fileno()])
                await asyncio.get_running_loop().sock_sendall(ours, content)
                ours.shutdown(socket.SHUT_WR)
            return await _receive(ours, limits.most_answer_bytes)

    async def _status(self) -> int:
        """Return how the job's process ended; an end of this one looks like a kill."""
        said = b""
        with suppress(ConnectionError):
            said = await asyncio.get_running_loop().sock_recv(self._control, child.STATUS.size)
        return int(child.STATUS.unpack(said)[0]) if said else -signal.SIGKILL


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process that knows the import path and nothing else of our environment."""
    path = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", child.__name__, str(os.getpid())],
        stdin=control.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # a codec's complaint could quote what it was given
        env={"PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for the gateway, which ends us
    )


async def _receive(source: socket.socket, most: int) -> bytes:
    loop = asyncio.get_running_loop()
    found = bytearray()
    with suppress(ConnectionError):
        while chunk := await loop.sock_recv(source, _CHUNK):
            found += chunk
            if len(found) > most:
                raise AudioRefusedError("decode.limits")
    return bytes(found)


def _pcm(answer: bytes, status: int) -> bytes:
    if status == -signal.SIGKILL:
        raise AudioBusyError("decode.killed")
    if status == os.EX_OSERR:
        raise AudioBusyError("decode.unavailable")
    if answer.startswith(child.LONG):
        raise AudioRefusedError("audio.too_long")
    if answer.startswith(child.CODEC):
        raise AudioRefusedError("decode.codec")
    if status == -signal.SIGXCPU or answer.startswith(child.LIMITS):
        raise AudioRefusedError("decode.limits")
    if status != 0 or not answer.startswith(child.DONE):
        raise AudioRefusedError("decode.failed")
    return answer[1:]
