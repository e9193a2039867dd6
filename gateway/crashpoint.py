"""
Named places where a test may end the process, as a power cut or a failing library would.

`reach` does nothing unless that name was armed, which only `gateway.compose` can do, and only
in development mode. A name that no test reaches fails the build.
"""

import os
import signal
import sys
from enum import StrEnum

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

# An error's text may quote a person. A test looks for this one where no error's text may be.
QUOTED = "Numbat Zwölf quoted by an error"


class How(StrEnum):
    """What an armed point does; kept sorted."""

    ABORT = "abort"  # SIGABRT: whoever may leave a core does
    KILL = "kill"  # SIGKILL: nothing is flushed or unwound
    RAISE = "raise"  # once: the next time it is passed


class PlantedError(Exception):
    """What an armed point raises: an error that nobody foresaw, and that quotes a person."""


_armed: dict[str, How] = {}


def arm(names: str) -> None:
    """
    Arm each of *names*: points with commas between, and how behind a colon (by default: kill).

    Raises:
        ValueError: one is no point, or cannot be armed so.

    """
    found = {}
    for each in names.split(","):
        name, _, how = each.partition(":")
        if name not in POINTS:
            raise ValueError(f"no crash point named {name!r}")
        found[name] = How(how or How.KILL)
    _armed.clear()
    _armed.update(found)


def reach(name: str) -> None:
    """Do here what *name* is armed for, if it is."""
    match _armed.pop(name, None):
        case How.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case How.ABORT:
            os.abort()
        case How.RAISE:
            sys.stderr.write(f"crash point: {name}\n")  # a test asserts that it happened
            sys.stderr.flush()
            raise PlantedError(QUOTED)
