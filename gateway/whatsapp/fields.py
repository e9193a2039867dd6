"""
Readers of single payload fields.

- Of what a sender may write in many ways we read liberally: a value of ours, or the reader's
  empty value (``""``, 0, False, None). Nothing is guessed: what is read is what was written.
- An id is an opaque string of safe characters and bounded length: no path, no header, no second
  line. A JSON integer is as good as its digits.
- A field that the caller cannot do without is read by `mapping`, `items` and `text`, which raise
  `PayloadError`; its code says nothing of the value.
- What is returned can be written as UTF-8 and holds no U+0000 (PostgreSQL text cannot hold it).
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
MAX_MIME = 256

# No two dots in a row: an id of theirs is never a step up in a path of somebody's.
_MESSAGE_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9+/=_.:-]{0,511}")
_USER_ID = re.compile(r"[!-~]{1,256}")
_OBJECT_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9._=-]{0,255}")
_PHONE = re.compile(r"\+?([1-9][0-9]{4,14})")
_BETWEEN = re.compile(r"(?<=[0-9)])[ \u00a0().-]{1,3}(?=[0-9(])")
MAX_PHONE = 40
_SECONDS = re.compile(r"[0-9]{1,10}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CODE = re.compile(r"[0-9]{1,10}")
_MIME = re.compile(r"\s*([\w.+-]{1,60}/[\w.+-]{1,60})\s*(?:;(.*))?", re.ASCII | re.DOTALL)
_PARAMETER = re.compile(r"""\s*([\w-]{1,20})\s*=\s*(["']?)([\w.,+-]{1,40})\2\s*""", re.ASCII)
_UNFIT = re.compile("[\0\ud800-\udfff]")  # U+0000, and halves of a pair


def mapping(value: Any) -> dict[str, Any]:
    """Return *value* if it is an object; else raise `PayloadError`."""
    if not isinstance(value, dict):
        raise PayloadError("malformed")
    return value


def section(value: Any) -> dict[str, Any]:
    """Return *value* if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return *value* if it is an array; None (the key is absent) is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise PayloadError("malformed")
    return value


def text(value: Any, limit: int) -> str:
    """Return *value* if it is a string of at most *limit* characters without U+0000."""
    if not isinstance(value, str) or len(value) > limit or _UNFIT.search(value):
        raise PayloadError("malformed")
    return value


def words(value: Any, limit: int) -> str:
    """Return the first *limit* characters of what a person wrote, without what no text can hold."""
    return _UNFIT.sub("", value[: 2 * limit])[:limit] if isinstance(value, str) else ""


def absent(value: Any) -> bool:
    """Whether a sender left *value* out: no key, null, or an empty string."""
    return value is None or value == ""


def message_id(value: Any) -> str:
    """Return a WhatsApp message id, or "". It encodes a phone number: personal data."""
    return _matching(_MESSAGE_ID, value)


def object_id(value: Any) -> str:
    """Return a Graph object id (a phone number id or a media id), or ""."""
    return _matching(_OBJECT_ID, value)


def phone(value: Any) -> str:
    """
    Return an E.164 number without its "+" (ITU-T E.164: at most 15 digits), or "".

    Spaces and other signs between its digits do not count.
    """
    bare = _BETWEEN.sub("", value[:MAX_PHONE]) if isinstance(value, str) else value
    return _matching(_PHONE, bare).removeprefix("+")


def user_id(value: Any) -> str:
    """Return a business-scoped user id, in whatever form WhatsApp gives it, or ""."""
    return _matching(_USER_ID, value)


def mime(value: Any) -> str:
    """Return a media type in lower case, its parameters unquoted and "; " between; or ""."""
    found = _MIME.fullmatch(value[:MAX_MIME]) if isinstance(value, str) else None
    if found is None:
        return ""
    parameters = (_PARAMETER.fullmatch(each) for each in (found[2] or "").split(";"))
    named = (f"{each[1]}={each[3]}" for each in parameters if each)
    return "; ".join([found[1], *named]).lower()


def sha256(value: Any) -> bytes | None:
    """Return the 32 bytes of a digest in base64 or hexadecimal, or None."""
    return digest.decode(value) if isinstance(value, str) else None


def flag(value: Any) -> bool:
    """Return whether *value* says yes."""
    return value is True or value == "true"


def seconds(value: Any) -> int:
    """Return epoch seconds from ASCII digits or a whole number, within 2009 to 2099; or 0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # int() alone would also take Arabic digits, signs, underscores and blanks.
    at = int(_matching(_SECONDS, value) or 0)
    return at if FIRST_SECOND <= at <= LAST_SECOND else 0


def size(value: Any) -> int | None:
    """Return a number of bytes, or None."""
    found = _matching(_CODE, value)
    return int(found) if found else None


def word(value: Any) -> str:
    """Return one of WhatsApp's own words (a type, a state), or ``other`` if it is not a word."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else OTHER


def codes(value: Any) -> tuple[int, ...]:
    """Return the Graph codes of an ``errors`` array; its titles and details are not read."""
    listed = value[:MAX_CODES] if isinstance(value, list) else []
    found = (_matching(_CODE, section(item).get("code")) for item in listed)
    return tuple(int(code) for code in found if code and int(code) <= MAX_CODE)


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
