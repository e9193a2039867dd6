"""SHA-256 digests as WhatsApp writes them: base64 in webhooks, hexadecimal in media metadata."""

import base64
import re

_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")  # of either alphabet of RFC 4648, padded or not
_TO_URL_SAFE = str.maketrans("+/", "-_")


def decode(text: str) -> bytes | None:
    """Return the 32 bytes that *text* stands for in either spelling, or None."""
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if not _BASE64.fullmatch(text):
        return None
    return base64.urlsafe_b64decode(f"{text[:43]}=".translate(_TO_URL_SAFE))
