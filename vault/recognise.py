"""
Recognisers: where in a text cards, national ids, phone numbers, addresses and health stand.

- Numbers are judged as runs (see `vault.spoken`), so a spoken number counts like a typed one.
- Checks decide first, then a cue word shortly before, then the length. A run of seven digits
  or more that nothing explains is a phone number: better one blank too many.
- A misheard digit breaks a checksum: sixteen digits are a card, valid or not.
- Dates and the placeholders of an earlier pass are not looked at.
- Addresses and health are found by word lists, which miss what they do not list.
"""

import re
from collections.abc import Callable, Iterator

from vault import checksums
from vault.lexicon import LEXICONS, Lexicon
from vault.model import Span
from vault.spoken import APOSTROPHES, Part, Reader, Run, Token, tokens

CLASSES = frozenset({"address", "card", "health", "national_id", "phone"})
PLACEHOLDER = re.compile(r"<[A-Z_]+_\d+>")
DAY = r"(?:0?[1-9]|[12]\d|3[01])"
MONTH = r"(?:0?[1-9]|1[0-2])"
YEAR = r"(?:19|20)\d\d"
DATE = re.compile(
    rf"(?<![\d.,/-])(?<!\d )"
    rf"(?:{DAY}[./-]{MONTH}[./-]{YEAR}|{MONTH}/{DAY}/{YEAR}|{YEAR}-{MONTH}-{DAY})"
    rf"(?![\s.,/-]*\d{{3}})(?![\d/-])"
)
CUE_REACH = 7
CARD_DIGITS = range(13, 20)
SURE_CARD_DIGITS = range(16, 20)
LEAST_CUED_CARD = 12
LEAST_CUED = 5
LEAST_PHONE = 7
MOST_STREET_WORDS = 4
NAME_MARKS = "-" + APOSTROPHES
SSN_SHAPE = re.compile(r"\d{3}-\d{2}-\d{4}")
NATIONAL: tuple[Callable[[str], bool], ...] = (
    checksums.german_tax_id,
    checksums.cpf,
    checksums.nir,
)


def spans(text: str, language: str) -> list[Span]:
    """Return what is found in *text* (normalised), in order and without overlaps."""
    visible = DATE.sub(_blank, PLACEHOLDER.sub(_blank, text))
    found = tokens(visible)
    lexicon, reader = LEXICONS[language], Reader(language)
    spans = [
        *_numbers(visible, found, reader, lexicon),
        *_addresses(found, reader, lexicon),
        *_health(found, lexicon),
    ]
    return _without_overlaps(spans)


def _blank(match: re.Match[str]) -> str:
    return "\x00" * len(match.group())


def _numbers(text: str, found: list[Token], reader: Reader, lexicon: Lexicon) -> Iterator[Span]:
    cues = {**LEXICONS["en"].cues, **lexicon.cues}
    for run in reader.runs(found):
        cue = _cue(found, run.first, cues)
        coded = _coded(run)
        if coded is not None:
            yield coded
            continue
        parts = run.parts if cue == "national_id" else _digits_only(run.parts)
        start, end = parts[0].start, parts[-1].end
        kind = _kind(run.digits, text[start:end], cue)
        if kind is not None:
            yield Span(start=start, end=end, kind=kind)


def _cue(found: list[Token], first: int, cues: dict[str, str]) -> str | None:
    """Return the class that the nearest cue word before token *first* speaks of."""
    before = found[max(0, first - 3 * CUE_REACH) : first]
    near = reversed([token.word for token in before if token.word.isalpha()][-CUE_REACH:])
    return next((cues[word] for word in near if word in cues), None)


def _coded(run: Run) -> Span | None:
    """Return the number with letters that *run* holds, if it passes its check."""
    if checksums.has_iban(run.compact):
        return Span(start=run.start, end=run.end, kind="card")
    checks = (
        (checksums.FISCAL_CODE, lambda _: True),
        (checksums.NRIC, checksums.nric),
        (checksums.DNI, checksums.dni),
    )
    for shape, check in checks:
        if any(check(match.group()) for match in shape.finditer(run.compact)):
            return Span(start=run.start, end=run.end, kind="national_id")
    return None


def _digits_only(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return *parts* without the letters at either end, which are words ("a 12")."""
    digits = [index for index, part in enumerate(parts) if part.text.isdigit()]
    return parts[digits[0] : digits[-1] + 1]


def _kind(digits: str, written: str, cue: str | None) -> str | None:
    if _is_card(digits, cue):
        return "card"
    if len(digits) < LEAST_CUED:
        return None
    if cue == "national_id" or _is_national(digits, written, cue):
        return "national_id"
    return "phone" if cue == "phone" or len(digits) >= LEAST_PHONE else None


def _is_card(digits: str, cue: str | None) -> bool:
    if cue != "card" and checksums.nir(digits):
        return False
    if len(digits) in SURE_CARD_DIGITS or (cue == "card" and len(digits) >= LEAST_CUED_CARD):
        return True
    return len(digits) in CARD_DIGITS and checksums.luhn(digits)


def _is_national(digits: str, written: str, cue: str | None) -> bool:
    if SSN_SHAPE.fullmatch(written):
        return checksums.ssn(digits)
    return cue != "phone" and any(check(digits) for check in NATIONAL)


def _addresses(found: list[Token], reader: Reader, lexicon: Lexicon) -> Iterator[Span]:
    for at, token in enumerate(found):
        if not _is_street(token.word, lexicon):
            continue
        if lexicon.number_first:
            start = _number_before(found, at, reader)
            if start is not None:
                yield Span(start=start, end=_street_end(found, at, lexicon), kind="address")
                continue
        end = _number_after(found, at, reader)
        if end is not None:
            yield Span(start=token.start, end=end, kind="address")


def _is_street(word: str, lexicon: Lexicon) -> bool:
    return word in lexicon.streets or (bool(lexicon.suffixes) and word.endswith(lexicon.suffixes))


def _number_before(found: list[Token], at: int, reader: Reader) -> int | None:
    """Return where the house number before the street word *at* begins ("12 bis rue")."""
    for first in range(max(0, at - MOST_STREET_WORDS - 1), at):
        if reader.number(found, first) is not None:
            between = found[first + 1 : at]
            if all(token.word.isalnum() or token.word in NAME_MARKS for token in between):
                return found[first].start
    return None


def _street_end(found: list[Token], at: int, lexicon: Lexicon) -> int:
    """Return the end of the street's name: "rue de la Paix" goes on, "Maple Street" does not."""
    if lexicon is LEXICONS["en"]:
        return found[at].end
    end = found[at].end
    for token in found[at + 1 : at + 1 + MOST_STREET_WORDS]:
        if not token.word.isalnum() and token.word not in NAME_MARKS:
            break
        end = token.end
    return end


def _number_after(found: list[Token], at: int, reader: Reader) -> int | None:
    """Return the end of the house number after the street word *at* ("calle Mayor 12")."""
    for index in range(at + 1, min(len(found), at + 2 + MOST_STREET_WORDS + 1)):
        number = reader.number(found, index)
        if number is not None:
            return _house_end(found, number[1], reader)
        if not found[index].word.isalpha() and found[index].word not in NAME_MARKS + ".,º":
            return None
    return None


def _house_end(found: list[Token], after: int, reader: Reader) -> int:
    """Return the end of the house number, with one more number and a letter ("1000 3", "7a")."""
    if after < len(found) and (more := reader.number(found, after)) is not None:
        after = more[1]
    glued = after < len(found) and found[after].start == found[after - 1].end
    letter = glued and len(found[after].word) == 1 and found[after].word.isalpha()
    return found[after].end if letter else found[after - 1].end


def _health(found: list[Token], lexicon: Lexicon) -> Iterator[Span]:
    for stem in lexicon.health:
        stems = stem.split("|")
        for at in range(len(found) - len(stems) + 1):
            words = found[at : at + len(stems)]
            if all(t.word.startswith(s) for t, s in zip(words, stems, strict=True)):
                yield Span(start=words[0].start, end=words[-1].end, kind="health")


def _without_overlaps(spans: list[Span]) -> list[Span]:
    """Return *spans* in order; of two that overlap the longer stays, stretched over both."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if kept and span.start < kept[-1].end:
            longer = max(kept[-1], span, key=lambda s: s.end - s.start)
            end = max(kept[-1].end, span.end)
            kept[-1] = Span(start=kept[-1].start, end=end, kind=longer.kind)
        else:
            kept.append(span)
    return kept
