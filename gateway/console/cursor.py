"""
Where a list goes on: opaque, and good for nobody but the person it was given to.

It names the last row that was shown, so that rows which come meanwhile move nothing.
"""

import base64
import binascii
import hmac
import re

from gateway.errors import ProblemError

MAC = 16
LONGEST = 256
_PLACE = re.compile(rb"([0-9]{1,19}):([a-z]_[0-9a-f]{32})")


def made(at: int, ident: str, seal: bytes) -> str:
    """Return the cursor behind the row *ident*, which was made *at* that time."""
    place = f"{at}:{ident}".encode()
    return _text(_mac(place, seal) + place)


def read(given: str, seal: bytes) -> tuple[int, str]:
    """Return what `made` was told; raise `ProblemError` (400) for any other text."""
    try:
        raw = base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    place = raw[MAC:]
    found = _PLACE.fullmatch(place)
    # Base64 has several texts for one value: only the one that was given counts.
    if (
        _text(raw) != given
        or not hmac.compare_digest(raw[:MAC], _mac(place, seal))
        or found is None
    ):
        raise ProblemError(400, "cursor.invalid", field="cursor")
    return int(found[1]), found[2].decode()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _mac(place: bytes, seal: bytes) -> bytes:
    return hmac.digest(seal, place, "sha256")[:MAC]
