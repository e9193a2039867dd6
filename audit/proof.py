"""
Offline proofs of single leaves: C2SP tlog-proof (``.tlog-proof`` files).

The entry itself travels in the ``extra`` line, which the format does not authenticate: a
verifier hashes it and proves that hash, so nothing rests on trusting it.
"""

import base64
from collections.abc import Sequence

HEADER = "c2sp.org/tlog-proof@v1"


def render(data: bytes, index: int, path: Sequence[bytes], note: str) -> str:
    """Return the proof that entry *data* is leaf *index* under *note*, along *path*."""
    lines = [HEADER, f"extra {_b64(data)}", f"index {index}", *map(_b64, path), "", note]
    return "\n".join(lines)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
