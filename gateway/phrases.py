"""
What the gateway says by itself, in six languages; `gateway.orders` is what it obeys.

A notice names controller, purpose, processors, every lifetime and how to withdraw (GDPR Art. 7,
13). Its lifetimes are the longest that a law's table lets anything be kept; a test compares. Its
version and the hash of its exact words go into the consent record.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway import plain
from gateway.orders import ENGLISH, LONGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A consent notice as shown. *sha256* (hex) is over *text* in UTF-8; titles are <= 20 chars."""

    version: str
    sha256: str
    text: str
    grant_title: str
    refuse_title: str
    language: str


class _NoticeWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stop: str
    grant: str
    refuse: str
    text: str


class _PurposeWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    word: str
    text: str


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    notice: _NoticeWords
    say: dict[str, str]
    purposes: dict[str, _PurposeWords]


def _read() -> tuple[str, Mapping[str, _Words]]:
    book = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))
    return book.pop("version"), msgspec.convert(book, dict[str, _Words])


VERSION, _BOOK = _read()
LANGUAGES = tuple(_BOOK)
"""The languages that the gateway has words in (BCP 47 primary tags)."""


def spoken(language: str, fallback: str = ENGLISH) -> str:
    """Return *language*, else *fallback*, else English: the first that we have words in."""
    return next(tag for tag in (language, fallback, ENGLISH) if tag in _BOOK)


def notice(language: str, controller: str, *, purpose: str = "", fallback: str = ENGLISH) -> Notice:
    """
    Return the notice of *controller* (<= 200 chars, so that the text is <= 1024).

    Without a *purpose* it is the one that voice notes wait for; each further purpose has its own.
    Raises `KeyError` for a purpose that we have no words for.
    """
    tag = spoken(language, fallback)
    words = _BOOK[tag].notice
    fields = {"controller": controller, "stop": words.stop}
    if purpose:
        further = _BOOK[tag].purposes[purpose]
        text = further.text.strip().format(word=further.word, **fields)
    else:
        text = words.text.strip().format(**fields)
    return Notice(
        version=VERSION,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        text=text,
        grant_title=words.grant,
        refuse_title=words.refuse,
        language=tag,
    )


def say(key: str, language: str, *, fallback: str = ENGLISH, **fields: str) -> str:
    """Return the phrase *key*, its fields filled in. Raises `KeyError` for a key we do not have."""
    words = _BOOK[spoken(language, fallback)]
    return words.say[key].format(stop=words.notice.stop, **fields)


def word(purpose: str, language: str, *, fallback: str = ENGLISH) -> str:
    """Return the word that, after the one for stop, withdraws the consent to *purpose*."""
    return _BOOK[spoken(language, fallback)].purposes[purpose].word


def withdrawn(text: str, languages: Sequence[str]) -> str | None:
    """Return the further purpose whose consent *text* takes back, or None: exactly two words."""
    said = plain.words(text) if len(text) <= LONGEST else ""
    for tag in dict.fromkeys((*languages, ENGLISH)):
        for purpose, words in _BOOK[tag].purposes.items() if tag in _BOOK else ():
            if said == plain.words(f"{_BOOK[tag].notice.stop} {words.word}"):
                return purpose
    return None
