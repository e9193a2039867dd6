"""
Named places where a test may kill the process, as a power cut or an out-of-memory kill would.

`reach` does nothing unless that name was armed, which only `gateway.compose` can do, and only
in development mode. A name that no test reaches fails the build.
"""

import os
import signal

POINTS = frozenset(
    {
        "accept.before_commit",
        "accept.committed",
        "audio.kept",
        "erasure.keys",
        "erasure.listed",
        "erasure.messages",
        "erasure.objects",
        "erasure.remains",
        "erasure.rows",
        "erasure.stopped",
        "job.claimed",
        "job.ended",
        "relay.published",
        "reply.attempted",
        "reply.intended",
        "reply.recorded",
        "reply.sent",
        "speech.kept",
        "touch.began",
        "touch.ended",
        "transcript.kept",
        "turn.committed",
        "voice.uploaded",
    }
)

_armed: list[str] = []


def arm(name: str) -> None:
    """Kill this process the first time *name* is reached; `ValueError` for an unknown name."""
    if name not in POINTS:
        raise ValueError(f"no crash point named {name!r}")
    _armed[:] = [name]


def reach(name: str) -> None:
    """Die here if *name* is armed: SIGKILL, so that nothing is flushed or unwound."""
    if name in _armed:
        os.kill(os.getpid(), signal.SIGKILL)
