"""
What the gateway says by itself, and the few words it obeys: in six languages, by rules.

- A notice names controller, purpose, processors, every lifetime and how to withdraw (GDPR Art. 7,
  13). Its lifetimes are the longest that a law's table lets anything be kept; a test compares.
  Its version and the hash of its exact words go into the consent record.
- A command is a message that consists of listed phrases and nothing else; one unknown word makes
  it an ordinary message. "The bus stop" and "don't stop" withdraw nothing.
- In one clause, a no beside anything else is a negation and decides nothing ("no stop").
- Over all clauses: withdrawing, then a human, come before a yes or a no, for they protect. A yes
  with a no, and a yes or no with a question mark, is neither: consent must be unambiguous
  (GDPR Art. 4(11)). Classifiers get polarity wrong, so none is asked.
- English is always understood beside the tenant's languages: "stop" is what people know.
"""

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import msgspec

ENGLISH = "en"
LONGEST = 200  # characters; what is longer is a story, not a command

_CLAUSE = re.compile(r"[.,;:!?…¡¿–—\n]+")  # noqa: RUF001 - both dashes part clauses
_PATTERN = re.compile(r"\(([^)]+)\)|\[([^\]]+)\]|([^\s()\[\]]+)")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼ`´"))  # noqa: RUF001 - as keyboards produce them


class Command(StrEnum):
    """What a person may order in plain words; kept sorted."""

    GRANT = "grant"
    HUMAN = "human"
    RECEIPT = "receipt"
    REFUSE = "refuse"
    WITHDRAW = "withdraw"


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


class _CommandWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Phrase patterns; *filler* means nothing, *unclear* looks like a command and is none."""

    withdraw: tuple[str, ...]
    human: tuple[str, ...]
    grant: tuple[str, ...]
    refuse: tuple[str, ...]
    receipt: tuple[str, ...]
    unclear: tuple[str, ...]
    filler: tuple[str, ...]


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    notice: _NoticeWords
    say: dict[str, str]
    purposes: dict[str, _PurposeWords]
    commands: _CommandWords


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
    said = _plain(text) if len(text) <= LONGEST else ""
    for tag in _tags(languages):
        for purpose, words in _BOOK[tag].purposes.items():
            if said == _plain(f"{_BOOK[tag].notice.stop} {words.word}"):
                return purpose
    return None


def command(text: str, languages: Sequence[str]) -> Command | None:
    """Return what *text* orders in one of *languages* or English, or None: see the rules above."""
    if len(text) > LONGEST:
        return None
    grammar = _grammar(_tags(languages))
    found: set[str] = set()
    for clause in _CLAUSE.split(text):
        kinds = _kinds(_plain(clause), grammar)
        if kinds is None or ("refuse" in kinds and len(kinds) > 1):
            return None
        found |= kinds
    return _resolved(found, asking="?" in text or "¿" in text)


def _tags(languages: Sequence[str]) -> tuple[str, ...]:
    return tuple(tag for tag in dict.fromkeys((*languages, ENGLISH)) if tag in _BOOK)


def _resolved(found: set[str], *, asking: bool) -> Command | None:
    if "unclear" in found:
        return None
    for protective in (Command.WITHDRAW, Command.HUMAN):
        if protective in found:
            return protective
    if found == {Command.RECEIPT}:
        return Command.RECEIPT  # asking for it is a question by nature
    return Command(found.pop()) if len(found) == 1 and not asking else None


def _kinds(clause: str, grammar: Sequence[tuple[str, re.Pattern[str]]]) -> set[str] | None:
    """Return the kinds of phrase that make up *clause*; None if some of it is no phrase."""
    kinds, at = set(), 0
    while at < len(clause):
        matches = ((found.end(), kind) for kind, rx in grammar if (found := rx.match(clause, at)))
        at, kind = max(matches, default=(at, ""))
        if not kind:
            return None
        kinds.add(kind)
    return kinds - {"filler"}


@cache
def _grammar(languages: tuple[str, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple(
        (kind, re.compile(_spelled(pattern)))
        for language in languages
        for kind, patterns in msgspec.structs.asdict(_BOOK[language].commands).items()
        for pattern in patterns
    )


def _spelled(pattern: str) -> str:
    """Return *pattern* as a regular expression; words end in a space, so they match whole."""
    parts = []
    for one_of, optional, word in _PATTERN.findall(pattern):
        options = "|".join(
            re.escape(_plain(option)) for option in (one_of or optional or word).split("|")
        )
        parts.append(f"(?:{options}){'?' if optional else ''}")
    return "".join(parts)


def _plain(text: str) -> str:
    """Return *text* as words without case, accents and apostrophes, each followed by a space."""
    folded = unicodedata.normalize("NFKD", text.casefold().translate(_APOSTROPHES))
    return "".join(f"{word} " for word in _TOKEN.findall("".join(map(_bare, folded))))


def _bare(char: str) -> str:
    kind = unicodedata.category(char)
    if kind.startswith("P"):
        return " "
    return "" if kind[0] == "M" or kind in {"Cf", "Sk"} else char  # accents, joiners, skin tones
