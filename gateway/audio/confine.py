"""
What a process gives up before it touches a stranger's bytes (Linux).

- It dies with its parent, leaves no core and cannot be traced.
- Memory, processor time and file size are capped; it can have no further file descriptors.
- The kernel admits the system calls that computing needs and answers every other one with
  "not permitted" (seccomp): no open, no socket, no fork, no exec, no kill.

All of it is inherited and none of it can be taken back. See seccomp(2), prctl(2), getrlimit(2).
"""

import ctypes
import os
import platform
import resource
import signal
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCH_AT = 0, 4
_STEP = struct.Struct("<HBBI")
_KILL, _NOT_PERMITTED, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000


_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS = {  # the number of each call that is let through, by machine in the order of `_ARCHES`
    "brk": (12, 214),
    "clock_gettime": (228, 113),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "read": (0, 63),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "write": (1, 64),
}
_CAPS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 3}

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def die_with_parent(parent: int) -> None:
    """End this process when its parent, whose id is *parent*, ends: even if it already has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def seal(*, memory_bytes: int, cpu_seconds: int) -> None:
    """
    Give up everything but computing and the three standard streams.

    Raises:
        OSError: the kernel or machine cannot confine a process: decode nothing here.
    """
    if (machine := platform.machine()) not in _ARCHES:
        raise OSError("no system call filter for this machine")
    for kind, cap in _CAPS.items():
        _cap(kind, cap, cap)
    _cap(resource.RLIMIT_AS, memory_bytes, memory_bytes)
    # The soft limit's signal tells a spent allowance from a kill that came from outside.
    _cap(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _filter(machine)


def _cap(kind: int, soft: int, hard: int) -> None:
    """Lower a limit; whoever started us may have set a lower one, and then that one stays."""
    allowed = resource.getrlimit(kind)[1]
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.setrlimit(kind, (soft, hard))


def _filter(machine: str) -> None:
    code = _instructions(machine)
    program = _Program(len(code) // _STEP.size, code)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def _instructions(machine: str) -> bytes:
    """Return the classic BPF program: another architecture is killed, other calls refused."""
    column = list(_ARCHES).index(machine)
    left = len(_CALLS)
    steps = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_IF_EQUAL, 1, 0, _ARCHES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_JUMP_IF_EQUAL, left - i, 0, call[column]) for i, call in enumerate(_CALLS.values())),
        (_RETURN, 0, 0, _NOT_PERMITTED),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(_STEP.pack(*step) for step in steps)


def _prctl(option: int, *arguments: object) -> None:
    # Every argument is a C long or a pointer, and prctl(2) wants the unused ones to be zero.
    padded = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0)]
    if _libc.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
