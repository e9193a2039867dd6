"""Redaction: no number survives, no class is claimed that was not looked for."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import recognise
from vault.lexicon import LEXICONS
from vault.model import NotAnalysed, Redacted
from vault.redact import for_analytics, normalise, redact

ALL = recognise.CLASSES
CORPUS = Path(__file__).parents[2] / "corpus" / "redaction.jsonl"

# Measured on the whole corpus. The first set was written before the rules, the second one after
# them; at first sight, before any rule was changed for it, the second gave card 12/14,
# national_id 9/10, phone 14/15, address 6/14, health 1/14 (its illnesses were on no list).
FLOORS = {"card": 1.0, "national_id": 1.0, "phone": 1.0, "address": 0.7, "health": 0.95}


def cleaned(text: str, language: str = "en", classes: frozenset[str] = ALL) -> str:
    """Return *text* redacted."""
    result = redact(text, classes, language=language)
    assert isinstance(result, Redacted)
    return result.text


def test_recall_on_the_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    """We publish recall per class: a change that lowers it must be seen before it ships."""
    wanted, found = Counter[str](), Counter[str]()
    clean, touched = 0, []
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        spans = recognise.spans(case["text"], case["language"])
        hidden = {at for span in spans for at in range(span.start, span.end)}
        for gold in case["spans"]:
            letters = {at for at in range(gold["start"], gold["end"]) if case["text"][at].isalnum()}
            wanted[gold["kind"]] += 1
            found[gold["kind"]] += letters <= hidden
        if not case["spans"]:
            clean += 1
            touched += [case["text"]] if spans else []

    with capsys.disabled():
        print()  # noqa: T201  # the figures go into the published pack
        for kind, count in sorted(wanted.items()):
            print(f"redaction recall {kind}: {found[kind]}/{count}")  # noqa: T201
    assert {k: n for k, n in wanted.items() if found[k] / n < FLOORS[k]} == {}
    assert sum(wanted.values()) + clean >= 120
    assert touched == []


@pytest.mark.parametrize(
    "written",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111\u200b1111\u200b1111\u200b1111",
        "4\u00ad111111111111111",
        "4\u03361\u03361\u03361\u0336 1111 1111 1111",
        "41\u246a 1111 1111 1111",
        "fo\u200bur one one one one one one one one one one one one one one one",
        "4111*1111*1111*1111",
        "4111? 1111? 1111! 1111",
        "4111_1111_1111_1111",
        "4111|1111|1111|1111",
        "\uff14" + "\uff11" * 15,
        "٤١١١١١١١١١١١١١١١",
        "४१११११११११११११११",
        "four one one one one one one one one one one one one one one one",
        "four, one, one... one one one one one - one one one one uh one one one one",
    ],
)
def test_a_card_does_not_hide_behind_how_it_is_written(written: str) -> None:
    """Other scripts, invisible characters and words are the known ways past a pattern."""
    assert cleaned(f"the card is {written}") == "the card is <CARD_1>"


def test_an_iban_is_found_among_other_numbers() -> None:
    """Whatever is said right after it must not break its check."""
    assert cleaned("pay DE89 3704 0044 0532 0130 00, 12") == "pay <CARD_1>"


def test_a_misheard_digit_does_not_save_a_card() -> None:
    """Speech recognition gets one digit wrong; the other fifteen are still somebody's."""
    assert cleaned("it is 4111 1111 1111 1112") == "it is <CARD_1>"


@pytest.mark.parametrize("digits", ["1234567", "12 34 56 7", "1-2-3-4-5-6-7"])
def test_seven_digits_are_never_shown(digits: str) -> None:
    """What nothing explains is masked: better one blank too many."""
    assert cleaned(f"so {digits} then") == "so <PHONE_1> then"


@pytest.mark.parametrize(
    "text",
    [
        "on 22/11/2026 at 14:30",
        "since 2026-11-22",
        "am 22.11.2026",
        "order 48213",
        "open 9:00 - 12:30",
    ],
)
def test_dates_and_short_numbers_stay(text: str) -> None:
    """An appointment that loses its date cannot be booked."""
    assert cleaned(text) == text


@pytest.mark.parametrize("text", ["22/11/2026/4111", "4111 11.11.2011 1111 1111"])
def test_a_number_does_not_pass_as_a_date(text: str) -> None:
    """The exception for dates must not become the way out for a card."""
    assert "<" in cleaned(text)


def test_placeholders_are_numbered_in_order() -> None:
    """Whoever reads must be able to tell the first number from the second."""
    text = "call 202 555 0143 or maybe try instead of that line 202 555 0199, card 4111111111111111"

    result = redact(text, ALL, language="en")

    assert isinstance(result, Redacted)
    assert result.text == (
        "call <PHONE_1> or maybe try instead of that line <PHONE_2>, card <CARD_1>"
    )
    assert result.counts == {"phone": 2, "card": 1}
    assert result.classes == ALL


def test_a_placeholder_is_no_cue() -> None:
    """Its words would make a number beside it a phone number on the second pass."""
    once = cleaned("202 555 0143 is for gate number 12345")

    assert once == "<PHONE_1> is for gate number 12345"
    assert cleaned(once) == once


def test_only_what_was_asked_for_is_replaced() -> None:
    """A sink may need the phone number and must not get the card."""
    text = "card 4111111111111111, phone 202 555 0143"

    assert cleaned(text, classes=frozenset({"card"})) == "card <CARD_1>, phone 202 555 0143"


def test_a_long_number_goes_on_after_a_word() -> None:
    """People breathe: "and then the last four ..." is the rest of the same card."""
    text = "it is 4916 3382 0119 and my last seven two oh two"

    assert cleaned(text) == "it is <CARD_1>"


@pytest.mark.parametrize(
    ("text", "language", "classes"),
    [
        ("hello", "xx", ALL),
        ("hello", "", ALL),
        ("hello", "en", frozenset({"card", "names"})),
        ("x" * 20_001, "en", ALL),
        (None, "en", ALL),
    ],
)
def test_what_was_not_analysed_has_no_text(
    text: str, language: str, classes: frozenset[str]
) -> None:
    """An unknown language, class or fault must never let the text through as clean."""
    for result in (
        redact(text, classes, language=language),
        for_analytics(text, frozenset(), language=language) if classes is ALL else None,
    ):
        assert result is None or isinstance(result, NotAnalysed)


def test_why_it_was_not_analysed_quotes_nothing() -> None:
    """The reason goes to logs."""
    result = redact("4111111111111111" * 2000, ALL, language="en")

    assert isinstance(result, NotAnalysed)
    assert "4111" not in result.why


@pytest.mark.parametrize("language", ["pt-BR", "PT", "pt"])
def test_a_tag_counts_by_its_language(language: str) -> None:
    """Vendors return regional tags."""
    assert cleaned("cpf 529.982.247-25", language) == "cpf <NATIONAL_ID_1>"


NUMBERS = st.lists(
    st.sampled_from(
        [
            *"0123456789",
            "four",
            "oh",
            "double five",
            ",",
            "uh",
            "-",
            "call",
            "22/11/2026",
            "<CARD_1>",
        ]
    ),
    max_size=40,
).map(" ".join)


@given(text=st.text(max_size=60) | NUMBERS, language=st.sampled_from(sorted(LEXICONS)))
@settings(max_examples=150, deadline=None)
def test_redacting_twice_changes_nothing_more(text: str, language: str) -> None:
    """Stages redact what an earlier stage redacted: placeholders must not be eaten."""
    once = cleaned(text, language)

    assert cleaned(once, language) == once


@given(digits=st.text("0123456789", min_size=7, max_size=30), gap=st.sampled_from(["", " ", "-"]))
@settings(max_examples=150, deadline=None)
def test_no_long_run_of_digits_survives(digits: str, gap: str) -> None:
    """Whatever the digits are: seven in a row do not come out."""
    result = cleaned(f"well {gap.join(digits)} it was")

    assert not any(char.isdigit() for char in recognise.PLACEHOLDER.sub("", result))


def test_analytics_keep_allowed_words_only() -> None:
    """A name is on no list of ours; on a list of allowed words it is not either."""
    result = for_analytics(
        "Hello, Mrs Featherstone wants a Table for two, card 4111 1111 1111 1111",
        frozenset({"hello", "wants", "a", "table", "for", "card", "two"}),
        language="en",
    )

    assert isinstance(result, Redacted)
    assert result.text == ("Hello, <WORD> <WORD> wants a Table for <NUMBER>, card <CARD_1>")


def test_analytics_never_keep_a_number() -> None:
    """Number words on the allowed list would let a number out word by word."""
    words = frozenset({"my", "code", "is", "four", "two"})

    result = for_analytics("my code is four two 42", words, language="en")

    assert isinstance(result, Redacted)
    assert result.text == "my code is <NUMBER> <NUMBER> <NUMBER>"


def test_normalising_keeps_what_people_write() -> None:
    """Accents carry meaning; only disguises go."""
    assert normalise("Straße à l'été \u200bn° \uff12 ٤٨ ४ ﬁ") == "Straße à l'été n° 2 48 4 fi"
