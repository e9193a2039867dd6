"""
One native engine in a process of its own.

- A crash of native code, or the kernel's memory killer, takes the child and not the gateway;
  the call it served is `ProcessorBusyError` and the next call starts a new child.
- A cancelled call kills the child: when a touch has ended, nobody works on its content.
- The child has none of our environment (no secrets), writes no core dump, and dies with us.
- Of an engine's error only the type's name crosses: its text may quote a person.
"""

import asyncio
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from residency.errors import EngineMissingError, ProcessorBusyError, ProcessorRefusedError

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

Pipe: TypeAlias = "Connection[Any, Any]"

Engine = Callable[..., Any]
"""What a child runs: plain values in, plain values out."""

_ENTRY = "import sys; from residency.processors import child; child.serve(*map(int, sys.argv[1:]))"


class Child:
    """
    Runs the engine that *setup* (an importable function) returns, one question at a time.

    `ask` waits for its turn; a call that waits may be cancelled without harm to the others.
    """

    def __init__(self, name: str, setup: Callable[..., Engine], *args: object) -> None:
        self._name = name
        self._setup = (setup, args)
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None
        # A thread of its own: a silent engine must not hold one that others wait for.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def pid(self) -> int | None:
        """Return the child's process id, or None while there is no child."""
        return self._process.pid if self._process else None

    async def warm(self) -> None:
        """Start the engine now; raise `EngineMissingError` if it is not the one that is pinned."""
        async with self._turn:
            await self._ready()

    async def ask(self, *question: object) -> Any:
        """
        Return the engine's answer.

        Raises:
            EngineMissingError: the engine does not start.
            ProcessorBusyError: the child died or ran out of memory.
            ProcessorRefusedError: the engine raised; asking again will not help.

        """
        async with self._turn:
            ok, answer = await self._exchange(await self._ready(), question)
        if ok:
            return answer
        error = ProcessorBusyError if answer == "MemoryError" else ProcessorRefusedError
        raise error(f"{self._name}: engine raised {answer}")

    async def aclose(self) -> None:
        """End the child."""
        await self._end()
        self._thread.shutdown(wait=False)

    async def _ready(self) -> Pipe:
        if self._pipe is not None:
            return self._pipe
        pipe = self._pipe = self._start()
        ok, answer = await self._exchange(pipe, self._setup)
        if not ok:
            await self._end()
            raise EngineMissingError(f"{self._name}: engine does not start: {answer}")
        return pipe

    def _start(self) -> Pipe:
        # From the loop's own thread: PR_SET_PDEATHSIG fires when the starting *thread* ends.
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant code
                [sys.executable, "-c", _ENTRY, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                env={
                    "HF_HUB_OFFLINE": "1",  # a model is pinned and local, or missing
                    "OMP_WAIT_POLICY": "PASSIVE",  # spinning starves the others on a busy machine
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        return Connection(ours.detach())

    async def _exchange(self, pipe: Pipe, question: object) -> tuple[bool, Any]:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, _talk, pipe, question)
        except (EOFError, OSError):
            await self._end()
            raise ProcessorBusyError(f"{self._name}: engine died") from None
        except asyncio.CancelledError:
            await asyncio.shield(self._end())
            raise

    async def _end(self) -> None:
        process, self._process, self._pipe = self._process, None, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)


def _talk(pipe: Pipe, question: object) -> tuple[bool, Any]:
    pipe.send(question)
    ok, answer = pipe.recv()
    return ok, answer


def serve(fd: int, parent: int) -> None:
    """Run in the child: set up the engine, then answer until the gateway's end closes."""
    _harden(parent)
    with Connection(fd) as pipe:
        try:
            setup, args = pipe.recv()
            engine = _answering(pipe, setup, *args)
            while engine is not None:
                _answering(pipe, engine, *pipe.recv())
        except (EOFError, OSError):
            return


def _answering(pipe: Pipe, act: Engine, *args: object) -> Any:
    try:
        result = act(*args)
    except Exception as exc:  # noqa: BLE001 - whatever a native engine raises, only its name crosses
        pipe.send((False, _told(exc)))
        return None
    pipe.send((True, None if callable(result) else result))
    return result


def _told(exc: Exception) -> str:
    return str(exc) if isinstance(exc, EngineMissingError) else type(exc).__name__


def _harden(parent: int) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to act on
    if os.getppid() != parent:
        sys.exit(0)  # it died before the death signal was armed
