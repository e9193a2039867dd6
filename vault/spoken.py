"""
Numbers in speech: from words and digits to runs of digits that know where they stand.

- A *token* is a number written in digits, a word, or one other character.
- A *number* is one cardinal: "forty one" is 41, "quatre-vingt-onze" is 91, "double five" is 55.
- A *run* is what a listener hears as one long number: numbers and single letters with only
  fillers and marks between them. "four one, uh, eleven" is the run 4111. A long run
  goes on after a word or two: "... three four and lastly five six seven eight".
- English numbers are understood in every language: people switch to them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vault.lexicon import LEXICONS, Lexicon, fold

TOKEN = re.compile(r"\d+|[^\W\d_]+|[^\w\s]|_")
MOST_FILLERS = 4
MOST_GLUED_LETTERS = 6
MOST_STRANGERS = 2
LONG_RUN = 7
LONG_REST = 3
APOSTROPHES = "'\u2019"
BREAKS = frozenset(":\x00")  # "14:30" is two numbers; what is blanked out belongs to nobody


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text at [*start*, *end*), folded."""

    start: int
    end: int
    word: str


@dataclass(frozen=True, slots=True)
class Part:
    """One number (as digits) or one letter of a run, at [*start*, *end*)."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """Parts that belong together; *first* is its first token's index, *after* the last's + 1."""

    parts: tuple[Part, ...]
    first: int
    after: int

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.parts[0].start

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.parts[-1].end

    @property
    def compact(self) -> str:
        """Digits and letters, without anything between."""
        return "".join(part.text for part in self.parts).upper()

    @property
    def digits(self) -> str:
        """Digits alone."""
        return "".join(part.text for part in self.parts if part.text.isdigit())


def tokens(text: str) -> list[Token]:
    """Return the tokens of *text*, which is normalised."""
    return [Token(m.start(), m.end(), fold(m.group())) for m in TOKEN.finditer(text)]


class Reader:
    """Reads numbers and runs out of tokens, in one language."""

    def __init__(self, language: str) -> None:
        own, english = LEXICONS[language], LEXICONS["en"]
        self._own: Lexicon = own
        self._numbers = {**english.numbers, **own.numbers}
        if language != "en":
            del self._numbers["o"]  # an article, or a conjunction
        self._repeats = {**english.repeats, **own.repeats}
        self._hundreds = own.hundreds | english.hundreds
        self._thousands = own.thousands | english.thousands
        self._fillers = own.fillers | english.fillers
        self._quatre_vingt = language == "fr"

    def is_number(self, word: str) -> bool:
        """Return whether *word* is, or is part of, a number."""
        return (
            word.isdigit()
            or word in self._numbers
            or word in self._repeats
            or word in self._hundreds
            or word in self._thousands
            or self._compound(word) is not None
        )

    def number(self, found: list[Token], at: int) -> tuple[str, int] | None:
        """Return the number at token *at* as digits, and the index after it; None if none is."""
        word = found[at].word
        if word.isdigit():
            return word, at + 1
        if word in self._repeats and at + 1 < len(found):
            again = self._digit(found[at + 1].word)
            return (again * self._repeats[word], at + 2) if again else None
        value = self._value(word)
        if value is None:
            return None
        return self._compose(found, at + 1, value) if value else ("0", at + 1)

    def runs(self, found: list[Token]) -> Iterator[Run]:
        """Yield every run that holds a number."""
        last: Run | None = None
        for run in self._short_runs(found):
            if last is None:
                last = run
            elif self._goes_on(found, last, run):
                last = Run(last.parts + run.parts, last.first, run.after)
            else:
                yield last
                last = run
        if last is not None:
            yield last

    def _short_runs(self, found: list[Token]) -> Iterator[Run]:
        at = 0
        while at < len(found):
            first = at
            parts, at = self._run(found, first)
            if any(part.text.isdigit() for part in parts):
                yield Run(tuple(parts), first, at)

    def _goes_on(self, found: list[Token], last: Run, run: Run) -> bool:
        between = [token.word for token in found[last.after : run.first]]
        strangers = [word for word in between if not self._is_filler(word)]
        plain = all(word.isalpha() for word in strangers)
        long = len(last.digits) >= LONG_RUN and LONG_REST <= len(run.digits) < LONG_RUN
        return long and plain and len(strangers) <= MOST_STRANGERS

    def _is_filler(self, word: str) -> bool:
        return word in self._fillers or not (word.isalnum() or word in BREAKS)

    def _digit(self, word: str) -> str | None:
        value = int(word) if word.isdigit() else self._numbers.get(word)
        return str(value) if value is not None and value < 10 else None  # noqa: PLR2004  # one digit

    def _value(self, word: str) -> int | None:
        if word in self._hundreds:
            return 100
        if word in self._thousands:
            return 1000
        return self._numbers.get(word, self._compound(word))

    def _compound(self, word: str) -> int | None:
        """Return 4532 for "viertausendfunfhundertzweiunddreissig", None for other words."""
        for thousand in self._thousands:
            left, found, right = word.partition(thousand)
            high, low = self._numbers.get(left or "1", 1), self._numbers.get(right, 0)
            if found and (not left or left in self._numbers) and (not right or low):
                return high * 1000 + low
        return None

    def _compose(self, found: list[Token], at: int, value: int) -> tuple[str, int]:
        """Add what belongs to the same cardinal: "forty" + "one", "two" + "hundred"."""
        while at < len(found):
            skip = at + 1 if found[at].word in self._own.joins | {"-"} else at
            if skip >= len(found):
                break
            grown = self._grown(value, found[skip].word)
            if grown is None:
                break
            value, at = grown, skip + 1
        return str(value), at

    def _grown(self, value: int, word: str) -> int | None:
        if word in self._hundreds:
            # "two hundred", and "two thousand three hundred", where the three came first.
            unit = value % 1000
            return value + 99 * unit if 0 < unit < 10 else None  # noqa: PLR2004  # one digit
        if word in self._thousands:
            return value * 1000 if value < 1000 else None  # noqa: PLR2004  # "two thousand"
        more = self._numbers.get(word)
        if not more:
            return None
        if self._quatre_vingt and word in ("vingt", "vingts") and value == 4:  # noqa: PLR2004
            return 80
        room = 20 if self._quatre_vingt and value in (60, 80) else _room(value)
        return value + more if more < room else None

    def _run(self, found: list[Token], at: int) -> tuple[list[Part], int]:
        parts: list[Part] = []
        fillers = 0
        while at < len(found) and fillers <= MOST_FILLERS:
            number = self.number(found, at)
            if number is not None:
                digits, after = number
                parts.append(Part(found[at].start, found[after - 1].end, digits))
                at, fillers = after, 0
            elif letter := self._letters(found, at):
                parts.append(Part(found[at].start, found[at].end, letter))
                at, fillers = at + 1, 0
            elif parts and self._is_filler(found[at].word):
                at, fillers = at + 1, fillers + 1
            else:
                break
        return parts, at if parts else at + 1

    def _letters(self, found: list[Token], at: int) -> str | None:
        """Return a single letter, its name, or letters written directly beside digits."""
        token = found[at]
        if token.word in self._own.letters:
            return self._own.letters[token.word]
        if not token.word.isalpha() or not token.word.isascii():
            return None
        if len(token.word) == 1:
            return token.word
        before = at > 0 and found[at - 1].end == token.start and found[at - 1].word.isdigit()
        after = at + 1 < len(found) and found[at + 1].start == token.end
        after = after and found[at + 1].word.isdigit()
        return token.word if (before or after) and len(token.word) <= MOST_GLUED_LETTERS else None


def _room(value: int) -> int:
    """Return the least number that can no longer be added to *value*: 10 for 40, 1 for 41."""
    room = 1
    while value % (room * 10) == 0:
        room *= 10
    return room
