"""What the decoder's process gave up: asked of a real process, from inside and from outside."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SEAL = "from gateway.audio import confine; confine.seal(memory_bytes=1 << 30, cpu_seconds=1)\n"


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )


@pytest.fixture
def sealed() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a sealed process that waits."""
    script = "import os\n" + SEAL + "os.write(1, b'.')\nos.read(0, 1)"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        yield process
        process.kill()


ATTEMPTS = {
    "write a file": "open('/tmp/vocustody-canary', 'w')",
    "read a file": "open('/etc/hostname')",
    "reuse a descriptor": "os.close(2); open('/etc/hostname')",
    "open a socket": "socket.socket()",
    "reuse one for a socket": "os.close(2); socket.socket()",
    "fork": "os.fork()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "trace its parent": "check(libc.ptrace(16, os.getppid(), 0, 0))",
    "raise its limits": "check(libc.setrlimit(7, bytes(16)))",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_sealed_process_cannot(attempt: str) -> None:
    """A hostile note may own its process: that process must be of no use to it."""
    script = f"""
import ctypes, os, resource, socket
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0: raise OSError(ctypes.get_errno(), "")
{SEAL}
try:
    {ATTEMPTS[attempt]}
except OSError as error:
    os.write(1, str(error.errno).encode())
"""

    tried = run(script)

    assert tried.stdout == "1", tried.stderr  # EPERM: the filter, not a limit, refused it


def test_a_sealed_process_cannot_take_four_gigabytes() -> None:
    """A decoder that asks for all memory must fail alone, before the machine does."""
    tried = run(SEAL + "try: bytearray(4 << 30)\nexcept MemoryError: print('refused')")

    assert tried.stdout == "refused\n", tried.stderr


def test_a_sealed_process_that_computes_on_is_ended_with_its_own_signal() -> None:
    """A spent allowance is the note's fault; it must not look like a kill from outside."""
    assert run(SEAL + "while True: pass").returncode == -signal.SIGXCPU


def test_limits_stand_beside_the_filter(sealed: subprocess.Popen[bytes]) -> None:
    """Two independent walls: a hole in one must not be a hole in both."""
    limits = Path(f"/proc/{sealed.pid}/limits").read_text()
    status = Path(f"/proc/{sealed.pid}/status").read_text()

    caps = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert caps["Max file size"] == ["0", "0"]
    assert caps["Max core file size"] == ["0", "0"]
    assert caps["Max open files"] == ["3", "3"]
    assert caps["Max address space"] == [str(1 << 30)] * 2
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status


def test_a_lower_limit_from_outside_stays() -> None:
    """A container may allow less than we ask for: that is a limit too, not a failure."""
    lower = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (700 << 20,) * 2)\n"

    tried = run(lower + SEAL + "try: bytearray(800 << 20)\nexcept MemoryError: print('refused')")

    assert tried.stdout == "refused\n", tried.stderr


def test_a_sealed_process_leaves_no_image() -> None:
    """A core or a debugger's copy would be plaintext on a disk."""
    no_filter = "confine._filter = lambda machine: None\n"
    script = f"import ctypes\nfrom gateway.audio import confine\n{no_filter}{SEAL}"

    asked = run(script + "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))")  # PR_GET_DUMPABLE

    assert asked.stdout == "0\n", asked.stderr


def test_an_unknown_machine_is_refused() -> None:
    """Without a filter nothing is decoded: half a confinement would look like a whole one."""
    script = "import platform\nplatform.machine = lambda: 'pdp11'\n"

    tried = run(script + f"try:\n    {SEAL}\nexcept OSError: print('refused')")

    assert tried.stdout == "refused\n", tried.stderr


def test_it_dies_with_its_parent() -> None:
    """When the gateway is killed, the plaintext in its children must go too."""
    script = """
import os, signal, time
from gateway.audio import confine
parent = os.getpid()
ready, done = os.pipe()
if os.fork() == 0:
    confine.die_with_parent(parent)
    os.write(done, b'.')
    time.sleep(60)
os.read(ready, 1)
os.kill(parent, signal.SIGKILL)
"""

    # `run` returns when every holder of the output pipe is gone: at once, not after a minute.
    assert run(script.replace("sleep(60)", "sleep(90)")).returncode == -signal.SIGKILL


def test_it_does_not_outlive_a_parent_that_is_gone_already() -> None:
    """The parent may die between the fork and the request to die with it."""
    script = f"from gateway.audio import confine\nconfine.die_with_parent({os.getpid()} + 1)\n"

    assert run(script + "print('lives')").stdout == ""
