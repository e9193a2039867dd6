"""
Values for an intent's slots, found in redacted text by rules.

- ``number``: a figure or number words; several number slots take them in order.
- ``digits``: the longest run of digits, however spoken ("3, 1 3-5" is one run), or the
  placeholder that redaction put there (``<PHONE_1>``).
- ``choice:a|b|c``: the option that stands in the text as a word; the value is the option as given.
- A slot's types are per language; "*" serves every language.
- Small number words are everyday words too ("one of us", un, um, ein). For ``number`` they count
  only when the text has no other number, articles never; for ``digits`` only within a run, or
  when the text is nothing else.
"""

import re
import unicodedata
from collections.abc import Iterator

from text_to_num import alpha2digit  # type: ignore[import-untyped]  # it ships no types

from residency.model import Intent

SPOKEN = frozenset({"de", "en", "es", "fr", "it", "nl", "pt"})
"""Languages whose number words are read."""

SMALL = 3  # up to here a number word is as likely something else

_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]*_[0-9]+>")
_RUN = re.compile(r"[0-9](?:[\s,.\-]*[0-9])*")
_NUMBER = re.compile(r"(?<![\w<])[0-9]+(?:[.,][0-9]+)?(?!\w)")
_WORD = re.compile(r"\w+")
_ARTICLES = re.compile(r"\b(?:ein|eine|einen|um|uma|un|una|une)\b", re.IGNORECASE)


def fill(intent: Intent, text: str, language: str) -> dict[str, str]:
    """Return the slots of *intent* that *text* fills."""
    filled = {}
    numbers = _numbers(text, language)
    for name, types in intent.slots.items():
        kind = types.get(language, types.get("*", ""))
        value = next(numbers, None) if kind == "number" else _value(kind, text, language)
        if value is not None:
            filled[name] = value
    return filled


def bare(text: str, language: str) -> bool:
    """Tell whether *text* is nothing but numbers and placeholders: a value without a wish."""
    rest = _NUMBER.sub("", _PLACEHOLDER.sub("", _figures(text, language)))
    return not any(char.isalpha() for char in rest)


def plain(text: str) -> str:
    """Return the words of *text* without case and accents, as they are compared."""
    apart = unicodedata.normalize("NFKD", text.casefold().replace("œ", "oe"))
    return " ".join(_WORD.findall("".join(c for c in apart if not unicodedata.combining(c))))


def _value(kind: str, text: str, language: str) -> str | None:
    if kind == "digits":
        return _digits(text, language)
    if kind.startswith("choice:"):
        return _choice(kind.removeprefix("choice:").split("|"), text)
    return None


def _numbers(text: str, language: str) -> Iterator[str]:
    sure = _NUMBER.findall(_figures(text, language, over=SMALL))
    return iter(sure or _NUMBER.findall(_figures(_ARTICLES.sub("", text), language)))


def _digits(text: str, language: str) -> str | None:
    if placeholder := _PLACEHOLDER.search(text):
        return placeholder[0]
    figures = _figures(text, language, over=0 if bare(text, language) else SMALL)
    runs = (re.sub(r"[^0-9]", "", run) for run in _RUN.findall(figures))
    return max(runs, key=len, default=None)


def _choice(options: list[str], text: str) -> str | None:
    said = f" {plain(text)} "
    return next((option for option in options if f" {plain(option)} " in said), None)


def _figures(text: str, language: str, *, over: int = 0) -> str:
    if language not in SPOKEN:
        return text
    return str(alpha2digit(text, language, threshold=over))
