"""
Telephone numbers as people write them, read into the digits that WhatsApp uses. Pure.

- Spaces of any kind, dots, dashes, slashes, brackets and marks of direction mean nothing; digits
  may be of any script. ``(0)`` after a country code is not dialled.
- ``+`` or ``00`` begins a country code, another ``0`` a number of the country at hand. Digits alone
  may be either: all that they can mean is returned, for a person is found under one of them.
- WhatsApp knows some mobiles under an older form (Mexico's 521, Argentina's 549, Brazilian ones
  without their 9): these are other ways to write the same number.
- What is no number is refused, and not repeated: it may be somebody's name.
"""

import re
import unicodedata
from collections.abc import Iterator

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber

from gateway.errors import NoNumberError

MOST_CHARS = 64
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9._-]{1,160}")
_BETWEEN = re.compile(r"[\s().\-/\u2010-\u2015\u2212\u00b7]")
_LINK = re.compile(r"\A(?:tel|whatsapp):", re.IGNORECASE)
_NOT_DIALLED = re.compile(r"(?<=\d)\s*\(0\)\s*")
_WRITTEN = re.compile(r"\+?[0-9]{4,20}")
_E164 = re.compile(r"[1-9][0-9]{6,14}")
_MEXICAN = re.compile(r"\A\+521([0-9]{10})\Z")  # a form that no plan has any more
_OLDER = (
    (re.compile(r"52([2-9][0-9]{9})"), r"521\1"),
    (re.compile(r"521([2-9][0-9]{9})"), r"52\1"),
    (re.compile(r"54([1-8][0-9]{9})"), r"549\1"),
    (re.compile(r"549([1-8][0-9]{9})"), r"54\1"),
    (re.compile(r"55([1-9][0-9])9([0-9]{8})"), r"55\1\2"),
    (re.compile(r"55([1-9][0-9])([0-9]{8})"), r"55\g<1>9\2"),
)


def user_id(written: str) -> str | None:
    """Return *written* if it has the form of a business-scoped user id."""
    plain = _plain(written)
    return plain if _USER_ID.fullmatch(plain) else None


def read(written: str, *, country: str) -> tuple[str, ...]:
    """
    Return the digits that *written* may mean to WhatsApp, the likeliest first.

    *country* is where it is read (ISO 3166-1 alpha-2).

    Raises:
        NoNumberError: it is no telephone number.

    """
    plain = _BETWEEN.sub("", _NOT_DIALLED.sub("", _LINK.sub("", _plain(written))))
    if len(written) > MOST_CHARS or not _WRITTEN.fullmatch(plain):
        raise NoNumberError(
            "no telephone number and no user id (write it with its country code, or as dialled)"
        )
    found = [digits for number in _numbers(plain, country) for digits in _forms(number)]
    if not found:
        raise NoNumberError("no telephone number of any country (is a digit missing?)")
    return tuple(dict.fromkeys(found))


def _plain(written: str) -> str:
    """Return *written* in the characters of a keyboard: no marks of direction, ASCII digits."""
    folded = unicodedata.normalize("NFKC", written)
    kept = [char for char in folded if unicodedata.category(char) not in {"Cc", "Cf"}]
    return "".join(_digit(char) for char in kept).strip()


def _digit(char: str) -> str:
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)


def _numbers(plain: str, country: str) -> Iterator[PhoneNumber]:
    """Yield what *plain* can be: with a country code, or a number of *country*."""
    if plain.startswith("+"):
        international, national = plain, None
    elif plain.startswith("00"):
        international, national = plain.removeprefix("00"), plain  # Australia dials abroad by 0011
    elif plain.startswith("0"):
        international, national = None, plain
    else:
        international, national = plain, plain
    for text, region in ((international, None), (national, country)):
        if text is None:
            continue
        with_plus = text if region else _MEXICAN.sub(r"+52\1", f"+{text.removeprefix('+')}")
        try:
            number = phonenumbers.parse(with_plus, region)
        except NumberParseException:
            continue
        # Whether a plan lists the number never decides: plans are younger than numbers.
        if phonenumbers.is_possible_number(number) and _E164.fullmatch(_digits(number)):
            yield number


def _digits(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).lstrip("+")


def _forms(number: PhoneNumber) -> Iterator[str]:
    digits = _digits(number)
    yield digits
    for pattern, other in _OLDER:
        if pattern.fullmatch(digits):
            yield pattern.sub(other, digits)
