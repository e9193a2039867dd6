"""
The few words that we obey: in six languages, by rules.

- A command is a message that consists of listed phrases and nothing else; one unknown word makes
  it an ordinary message. "The bus stop" and "don't stop" withdraw nothing.
- A no is understood generously: emoji, politeness, adverbs, a greeting and a signature change
  nothing. A yes is not: beside it only what nods may stand, and a name or a thumb down is a doubt.
- Where part of a message withdraws, or asks to be erased, and the rest is unknown, the person may
  mean it or not: that is a command of its own (*maybe*), for somebody has to ask.
- In one clause, a no beside anything else is a negation and decides nothing ("no stop").
- Over all clauses: erasing, withdrawing, then a human, come before a yes or a no, for they
  protect. A yes with a no, and a yes or no with a question mark, is neither: consent must be
  unambiguous (GDPR Art. 4(11)). Classifiers get polarity wrong, so none is asked.
- English is always understood beside the tenant's languages: "stop" is what people know.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import msgspec

from gateway import plain
from gateway.plain import Plain

ENGLISH = "en"
LONGEST = 200  # characters; what is longer is a story, not a command
LONGEST_LETTER = 2_000  # characters in which a withdrawal or an erasure is looked for

# What may stand beside a yes and leave it one.
NODS = frozenset("🙏🙂😊😀😃😄😁☺👍👌✅✔☑👏🤝🥰😍💚💙💜🧡💛❤♥🎉💪🙌") | {
    ":)",
    ":-)",
    ":D",
    "=)",
    "<3",
}

_SYNTAX = re.compile(r"[()\[\]|]|<\w+>|[^\s()\[\]|<>]+")
_GAP = r"(?:\S+ ){0,8}?"


class Command(StrEnum):
    """What a person may order in plain words; kept sorted."""

    ERASE = "erase"
    GRANT = "grant"
    HUMAN = "human"
    MAYBE_ERASE = "maybe_erase"
    MAYBE_WITHDRAW = "maybe_withdraw"
    RECEIPT = "receipt"
    REFUSE = "refuse"
    WITHDRAW = "withdraw"


ACTED_ON = frozenset(Command) - {Command.MAYBE_ERASE, Command.MAYBE_WITHDRAW}
"""What is carried out as it stands; of the others somebody asks."""

MAYBE = {Command.ERASE: Command.MAYBE_ERASE, Command.WITHDRAW: Command.MAYBE_WITHDRAW}
_GENEROUS = ("erase", "human", "refuse", "unclear", "withdraw", "filler", "idle")


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Patterns of one language, as `_Spelling` reads them.

    *filler* means nothing, *unclear* looks like a command and is none. *idle* are adverbs and
    politeness that a no may have anywhere, *greeting* and *closing* what a letter begins and ends
    with. *maybe_withdraw* and *maybe_erase* are looked for anywhere in a sentence, unless *kept*
    is in it.
    """

    terms: dict[str, tuple[str, ...]]
    withdraw: tuple[str, ...]
    erase: tuple[str, ...]
    human: tuple[str, ...]
    grant: tuple[str, ...]
    refuse: tuple[str, ...]
    receipt: tuple[str, ...]
    unclear: tuple[str, ...]
    filler: tuple[str, ...]
    idle: tuple[str, ...]
    greeting: tuple[str, ...]
    closing: tuple[str, ...]
    maybe_withdraw: tuple[str, ...]
    maybe_erase: tuple[str, ...]
    kept: tuple[str, ...]


def _read() -> Mapping[str, _Words]:
    book = tomllib.loads(Path(__file__).with_name("orders.toml").read_text(encoding="utf-8"))
    return msgspec.convert(book, dict[str, _Words])


_BOOK = _read()


def command(text: str, languages: Sequence[str]) -> Command | None:
    """Return what *text* orders in one of *languages* or English, or None: see the rules above."""
    if len(text) > LONGEST_LETTER:
        return None
    grammar, said = _grammar(_tags(languages)), plain.read(text)
    if len(text) <= LONGEST:
        kinds = [_kinds(clause, grammar.strict) for clause in said.clauses]
        if all(found is not None for found in kinds):
            return _strictly([found or set() for found in kinds], said)
    return _generously(said, grammar)


def _strictly(kinds: Sequence[set[str]], said: Plain) -> Command | None:
    found: set[str] = set().union(*kinds)
    if "unclear" in found or any("refuse" in each and len(each) > 1 for each in kinds):
        return None
    if protective := _protective(found):
        return protective
    if found == {Command.RECEIPT}:
        return Command.RECEIPT  # asking for it is a question by nature
    doubtful = said.asking or (Command.GRANT in found and not said.signs <= NODS)
    return Command(found.pop()) if len(found) == 1 and not doubtful else None


def _protective(found: set[str]) -> Command | None:
    return next(
        (each for each in (Command.ERASE, Command.WITHDRAW, Command.HUMAN) if each in found), None
    )


def _generously(said: Plain, grammar: "_Grammar") -> Command | None:
    """Return what protects somebody in a message that is not made of commands alone."""
    kinds = [_loosely(clause, grammar) for clause in _letter(said.clauses, grammar)]
    found: set[str] = set().union(*(each or set() for each in kinds))
    if any("refuse" in each and len(each) > 1 for each in kinds if each) or "unclear" in found:
        found = set()
        kinds = [None]
    whole = all(each is not None for each in kinds)
    if whole and (protective := _protective(found)):
        return protective
    if whole and found == {Command.REFUSE} and not said.asking:
        return Command.REFUSE
    order = next((each for each in MAYBE if each in found), None) or _sought(said, grammar)
    return MAYBE[order] if order else None


def _sought(said: Plain, grammar: "_Grammar") -> Command | None:
    """Return what is said in the middle of a sentence, if it may be meant."""
    for sentence in said.sentences:
        if any(kept.search(sentence) for kept in grammar.kept):
            continue
        for order, patterns in grammar.sought.items():
            if any(pattern.search(sentence) for pattern in patterns):
                return order
    return None


def _letter(clauses: Sequence[str], grammar: "_Grammar") -> Iterator[str]:
    """Yield *clauses* without the greeting at the head, and what follows the closing formula."""
    for clause in clauses:
        if grammar.closing.match(clause):
            return
        if not grammar.greeting.fullmatch(clause):
            yield clause


def _loosely(clause: str, grammar: "_Grammar") -> set[str] | None:
    """Return the kinds that make up *clause* with and, if need be, without its idle words."""
    found = _kinds(clause, grammar.generous)
    if found is None:
        found = _kinds(grammar.idle.sub("", clause), grammar.generous)
    return found


def _kinds(clause: str, grammar: Sequence[tuple[str, re.Pattern[str]]]) -> set[str] | None:
    """Return the kinds of phrase that make up *clause*; None if some of it is no phrase."""
    kinds, at = set(), 0
    while at < len(clause):
        matches = ((found.end(), kind) for kind, rx in grammar if (found := rx.match(clause, at)))
        at, kind = max(matches, default=(at, ""))
        if not kind:
            return None
        kinds.add(kind)
    return kinds - {"filler", "idle"}


def _tags(languages: Sequence[str]) -> tuple[str, ...]:
    return tuple(tag for tag in dict.fromkeys((*languages, ENGLISH)) if tag in _BOOK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grammar:
    strict: tuple[tuple[str, re.Pattern[str]], ...]
    generous: tuple[tuple[str, re.Pattern[str]], ...]
    idle: re.Pattern[str]
    greeting: re.Pattern[str]
    closing: re.Pattern[str]
    sought: Mapping[Command, tuple[re.Pattern[str], ...]]
    kept: tuple[re.Pattern[str], ...]


STRICT = ("erase", "filler", "grant", "human", "receipt", "refuse", "unclear", "withdraw")


@cache
def _grammar(languages: tuple[str, ...]) -> _Grammar:
    def kinds(names: Sequence[str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
        return tuple((name, rx) for name in names for rx in compiled(name))

    def compiled(name: str, form: str = "{}") -> tuple[re.Pattern[str], ...]:
        return tuple(
            re.compile(form.format(_spelled(pattern, _BOOK[tag].terms)))
            for tag in languages
            for pattern in getattr(_BOOK[tag], name)
        )

    def any_of(name: str, form: str) -> re.Pattern[str]:
        patterns = [
            _spelled(pattern, _BOOK[tag].terms)
            for tag in languages
            for pattern in getattr(_BOOK[tag], name)
        ]
        return re.compile(form.format("|".join(sorted(patterns, key=len, reverse=True))))

    return _Grammar(
        strict=kinds(STRICT),
        generous=kinds(_GENEROUS),
        idle=any_of("idle", r"(?<!\S)(?:{})"),
        greeting=any_of("greeting", r"(?:{})(?:\S+ ){{0,3}}"),
        closing=any_of("closing", r"(?:{})"),
        sought={
            Command.ERASE: compiled("maybe_erase", r"(?<!\S)(?:{})"),
            Command.WITHDRAW: compiled("maybe_withdraw", r"(?<!\S)(?:{})"),
        },
        kept=compiled("kept", r"(?<!\S)(?:{})"),
    )


def _spelled(pattern: str, terms: Mapping[str, Sequence[str]]) -> str:
    """
    Return *pattern* as a regular expression; words end in a space, so they match whole.

    ``(a|b)`` is one of, ``[a|b]`` may be left out, ``<name>`` is one of *terms*, ``word*`` any
    word that begins so, and ``...`` up to eight words.
    """
    return _sequence(iter([*_SYNTAX.findall(pattern), ""]), "", terms)


def _sequence(parts: Iterator[str], until: str, terms: Mapping[str, Sequence[str]]) -> str:
    options = [""]
    for part in parts:
        if part == until:
            break
        match part:
            case "|":
                options.append("")
            case "(":
                options[-1] += _sequence(parts, ")", terms)
            case "[":
                options[-1] += f"{_sequence(parts, ']', terms)}?"
            case _:
                options[-1] += _one(part, terms)
    return f"(?:{'|'.join(sorted(options, key=len, reverse=True))})"


def _one(part: str, terms: Mapping[str, Sequence[str]]) -> str:
    if part == "...":
        return _GAP
    if part.startswith("<"):
        options = [_spelled(each, terms) for each in terms[part[1:-1]]]
        return f"(?:{'|'.join(sorted(options, key=len, reverse=True))})"
    if part.endswith("*"):
        return f"{re.escape(plain.words(part[:-1]).strip())}\\S* "
    return re.escape(plain.words(part))
