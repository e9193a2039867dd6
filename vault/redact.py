"""
Redaction: text with what was found replaced by numbered placeholders, or no text at all.

- `redact` is best effort per class, with recall measured in ``tests/corpus``: its result is an
  operational transcript, still personal data, sealed and short-lived.
- `for_analytics` keeps only words that are allowed; everything else becomes a typed blank.
- What was not analysed is `NotAnalysed`, another type: it can never pass for clean text.
- Returned text is normalised (NFKC, digits of every script as 0-9, no invisible characters),
  for a number must not hide behind how it is written.
"""

import unicodedata
from collections import Counter
from typing import Any

from presidio_anonymizer import AnonymizerEngine
from presidio_anonymizer.entities import OperatorConfig, RecognizerResult
from presidio_anonymizer.operators import Operator, OperatorType

from vault import recognise
from vault.errors import NotAnalysedError
from vault.lexicon import LEXICONS, fold
from vault.model import NotAnalysed, Redacted, Span
from vault.spoken import TOKEN, Reader

MOST_CHARS = 20_000


def redact(text: str, classes: frozenset[str], *, language: str) -> Redacted | NotAnalysed:
    """
    Return *text* with every span of *classes* replaced by ``<CLASS_n>``.

    *language* is a BCP 47 tag; its primary part counts. Nothing is raised: a language, class or
    text that cannot be analysed gives `NotAnalysed`.
    """
    try:
        clean, spans = _analysed(text, classes, language)
        return Redacted(
            text=_replaced(clean, spans),
            counts=dict(Counter(span.kind for span in spans)),
            classes=classes,
        )
    except NotAnalysedError as exc:
        return NotAnalysed(why=str(exc))
    except Exception as exc:  # noqa: BLE001  # a fault here must close the door, not open it
        return NotAnalysed(why=f"analyser failed: {type(exc).__name__}")


def for_analytics(text: str, allowed: frozenset[str], *, language: str) -> Redacted | NotAnalysed:
    """
    Return *text* with only the *allowed* words left; numbers and all others are typed blanks.

    *allowed* are words as a person would write them; number words are never allowed.
    """
    redacted = redact(text, recognise.CLASSES, language=language)
    if isinstance(redacted, NotAnalysed):
        return redacted
    words = frozenset(fold(word) for word in allowed)
    return Redacted(
        text=_masked(redacted.text, words, Reader(_primary(language))),
        counts=redacted.counts,
        classes=redacted.classes,
    )


def normalise(text: str) -> str:
    """Return *text* in NFKC, with digits as 0-9 and without invisible or struck-out characters."""
    kept: list[str] = []
    for char in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(char)
        on_digit = category == "Mn" and kept and kept[-1].isdigit()
        if category != "Cf" and not on_digit:
            kept.append(str(unicodedata.digit(char)) if char.isdigit() else char)
    return "".join(kept)


def _analysed(text: str, classes: frozenset[str], language: str) -> tuple[str, list[Span]]:
    unknown = classes - recognise.CLASSES
    if unknown:
        raise NotAnalysedError(f"unknown class: {', '.join(sorted(unknown))}")
    if _primary(language) not in LEXICONS:
        raise NotAnalysedError("unsupported language")
    if len(text) > MOST_CHARS:
        raise NotAnalysedError("text too long")
    clean = normalise(text)
    found = recognise.spans(clean, _primary(language))
    return clean, [span for span in found if span.kind in classes]


def _primary(language: str) -> str:
    return language.partition("-")[0].lower()


class _Placeholder(Operator):
    """Replaces a span by its class and number."""

    def operate(self, text: str, params: dict[str, Any] | None = None) -> str:
        """Return the next number; the engine works from the end of the text to its start."""
        del text
        numbers: list[str] = (params or {})["numbers"]
        return numbers.pop()

    def validate(self, params: dict[str, Any] | None = None) -> None:
        """Accept what `_replaced` gives."""

    def operator_name(self) -> str:
        """Return the name under which `_replaced` asks for it."""
        return "placeholder"

    def operator_type(self) -> OperatorType:
        """Return the direction."""
        return OperatorType.Anonymize


_ENGINE = AnonymizerEngine()  # type: ignore[no-untyped-call]
_ENGINE.add_anonymizer(_Placeholder)


def _replaced(text: str, spans: list[Span]) -> str:
    results = [
        RecognizerResult(entity_type=span.kind, start=span.start, end=span.end, score=1.0)
        for span in spans
    ]
    operators = {
        kind: OperatorConfig(
            "placeholder", {"numbers": [f"<{kind.upper()}_{n + 1}>" for n in range(count)]}
        )
        for kind, count in Counter(span.kind for span in spans).items()
    }
    return str(_ENGINE.anonymize(text, results, operators, merge_entities_with_spaces=False).text)


def _masked(text: str, words: frozenset[str], reader: Reader) -> str:
    out, at = [], 0
    for match in recognise.PLACEHOLDER.finditer(text):
        out += [_masked_words(text[at : match.start()], words, reader), match.group()]
        at = match.end()
    return "".join([*out, _masked_words(text[at:], words, reader)])


def _masked_words(text: str, words: frozenset[str], reader: Reader) -> str:
    def blank(match: Any) -> str:
        word = fold(match.group())
        if reader.is_number(word):
            return "<NUMBER>"
        return match.group() if word in words or not word.isalnum() else "<WORD>"

    return TOKEN.sub(blank, text)
