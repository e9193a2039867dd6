"""
Readers of single payload fields: each returns a checked value or raises `PayloadError`.

The error's code is ``malformed`` and says nothing of the value. Every string is bounded, and
none keeps U+0000 (PostgreSQL text cannot hold it). Ids keep to the characters of base64, so
that no id is a path, a header or two lines.
"""

import re
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import digest

OTHER = "other"
MAX_CODE = 2**31 - 1
MAX_CODES = 16
FIRST_SECOND = 1_230_768_000  # 2009-01-01: WhatsApp's first year
LAST_SECOND = 4_102_444_799  # 2099-12-31T23:59:59Z

_WAMID = re.compile(r"wamid\.[A-Za-z0-9+/=_-]{1,506}")
_DIGITS = re.compile(r"[0-9]{1,32}")
_PHONE = re.compile(r"[1-9][0-9]{4,14}")
_BSUID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}")
_SECONDS = re.compile(r"[0-9]{1,10}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MIME = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}(?:; ?[a-z]{1,20}=[a-z0-9]{1,20})?")


def mapping(value: Any) -> dict[str, Any]:
    """Return *value* if it is an object."""
    if not isinstance(value, dict):
        raise PayloadError("malformed")
    return value


def items(value: Any) -> list[Any]:
    """Return *value* if it is an array; None (the key is absent) is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise PayloadError("malformed")
    return value


def text(value: Any, limit: int) -> str:
    """Return *value* if it is a string of at most *limit* characters without U+0000."""
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise PayloadError("malformed")
    return value


def wamid(value: Any) -> str:
    """Return a WhatsApp message id. It encodes a phone number: personal data."""
    return _matching(_WAMID, value)


def number_id(value: Any) -> str:
    """Return a Graph object id (a phone number id or a media id): ASCII digits."""
    return _matching(_DIGITS, value)


def phone(value: Any) -> str:
    """Return an E.164 number without its "+" (ITU-T E.164: at most 15 digits)."""
    return _matching(_PHONE, value)


def bsuid(value: Any) -> str:
    """Return a business-scoped user id: a country code, a dot, at most 128 alphanumerics."""
    return _matching(_BSUID, value)


def mime(value: Any) -> str:
    """Return a media type with at most one parameter."""
    return _matching(_MIME, value)


def sha256(value: Any) -> bytes:
    """Return the 32 bytes of a digest in base64 or hexadecimal."""
    found = digest.decode(value) if isinstance(value, str) else None
    if found is None:
        raise PayloadError("malformed")
    return found


def flag(value: Any) -> bool:
    """Return a boolean; None (the key is absent) is False."""
    if value is not None and not isinstance(value, bool):
        raise PayloadError("malformed")
    return bool(value)


def seconds(value: Any) -> int:
    """Return epoch seconds from ASCII digits (WhatsApp sends a string), within 2009 to 2099."""
    # int() alone would also take Arabic digits, signs, underscores and blanks.
    at = int(_matching(_SECONDS, value))
    if not FIRST_SECOND <= at <= LAST_SECOND:
        raise PayloadError("malformed")
    return at


def word(value: Any) -> str:
    """Return one of WhatsApp's own words (a type, a state), or ``other`` if it is not a word."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else OTHER


def codes(value: Any) -> tuple[int, ...]:
    """Return the Graph codes of an ``errors`` array; its titles and details are not read."""
    found = (mapping(item).get("code") for item in items(value)[:MAX_CODES])
    numbers = (code for code in found if isinstance(code, int) and not isinstance(code, bool))
    return tuple(code for code in numbers if 0 <= code <= MAX_CODE)


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise PayloadError("malformed")
    return value
