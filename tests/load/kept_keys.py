"""
Keys: unwrapped through the coalescer or one by one, rolled by the bucket, and what each takes.

The key service is a real OpenBao on raft storage with two file audit devices, on loopback.
"""

from dataclasses import dataclass
from pathlib import Path

from load import rolls, unwraps
from load.figures import Section
from support.openbao_raft import raft_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """*askers* at once ask for one of *kept* keys for *seconds*; *buckets* are rolled."""

    askers: tuple[int, ...]
    seconds: float
    kept: int
    buckets: tuple[int, ...]


async def measure(directory: Path, *, size: Size) -> list[Section]:
    """Return the three sections; *directory* is made."""
    directory.mkdir(parents=True)  # noqa: ASYNC240 - before anything is timed
    with raft_server(directory) as server:
        server.call("POST", "sys/mounts/transit", {"type": "transit"})
        return [
            await unwraps.measure(server, askers=size.askers, seconds=size.seconds, kept=size.kept),
            *await rolls.measure(server, directory, buckets=size.buckets),
        ]
