"""
No memory of this process ends on a disk: no core when it crashes, no copy by a debugger (Linux).

The limit counts where the kernel writes a core itself; where it pipes cores to a collector it
asks only whether the process may be dumped. See core(5), prctl(2).
"""

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4


def forbid() -> None:
    """
    Forbid cores of this process; what it starts inherits the limit, not the rest.

    Raises:
        OSError: the kernel does not know how: nothing may be opened here.

    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    # Every argument is a C long, and prctl(2) wants the unused ones to be zero.
    if libc.prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _ in range(4))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
