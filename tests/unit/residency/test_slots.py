"""Values for slots, as people say them and as redaction leaves them."""

import pytest

from residency.model import Intent
from residency.processors import slots

SUIT = {"en": "choice:clubs|hearts", "fr": "choice:trèfle|cœur"}


def _fill(text: str, language: str = "en", **types: str | dict[str, str]) -> dict[str, str]:
    given = {name: {"*": kind} if isinstance(kind, str) else kind for name, kind in types.items()}
    return slots.fill(Intent(name="i", examples={}, slots=given), text, language)


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("Go forward 10 meters.", "en", "10"),
        ("go forward ten meters", "en", "10"),
        ("go two meters", "en", "2"),
        ("avance de vingt-deux mètres", "fr", "22"),
        ("avanza un poco: dos metros", "es", "2"),
        ("transférer un appel au poste huit", "fr", "8"),
        ("zweiundzwanzig Meter", "de", "22"),
        ("2.5 metres", "en", "2.5"),
    ],
)
def test_numbers_are_read_as_spoken(text: str, language: str, value: str) -> None:
    """Whisper writes figures or words as it pleases."""
    assert _fill(text, language, n="number") == {"n": value}


@pytest.mark.parametrize(
    ("text", "language"),
    [("borra un mensaje", "es"), ("une conférence", "fr"), ("call <PHONE_1>", "en"), ("b2b", "en")],
)
def test_what_is_no_number_fills_nothing(text: str, language: str) -> None:
    """An article is not a one; a placeholder's index is not a distance."""
    assert _fill(text, language, n="number") == {}


def test_several_numbers_fill_in_order() -> None:
    """A way from 3 to 7 must not read back as 3 to 3."""
    assert _fill("from 3 to 7", first="number", second="number") == {"first": "3", "second": "7"}


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("9-0-1-0", "en", "9010"),
        ("3, 1, 3 5", "en", "3135"),
        ("nine six two four", "en", "9624"),
        ("my number is 5550 123, room 4", "en", "5550123"),
        ("uno", "it", "1"),
        ("block <PHONE_1> please", "en", "<PHONE_1>"),
        ("<CARD_2>", "en", "<CARD_2>"),
    ],
)
def test_digits_are_one_run(text: str, language: str, value: str) -> None:
    """Speech engines cut runs with blanks, dashes and commas; redaction takes them out."""
    assert _fill(text, language, d="digits") == {"d": value}


@pytest.mark.parametrize(
    ("text", "language"),
    [("I'm one of the agents", "en"), ("haz una llamada", "es"), ("un coup de fil", "fr")],
)
def test_an_everyday_word_is_no_digit(text: str, language: str) -> None:
    """Dialling "1" because somebody asked for *a* call would ring a stranger."""
    assert _fill(text, language, d="digits") == {}


def test_a_choice_is_a_word_of_the_language() -> None:
    """Case, accents and ligatures differ between speech engines and tenants' files."""
    assert _fill("7 of CLUBS.", suit=SUIT) == {"suit": "clubs"}
    assert _fill("le sept de coeur", "fr", suit=SUIT) == {"suit": "cœur"}
    assert _fill("le trefle", "fr", suit=SUIT) == {"suit": "trèfle"}


def test_part_of_a_word_is_no_choice() -> None:
    """A nightclub is not a card."""
    assert _fill("nightclubs", suit=SUIT) == {}


def test_a_type_of_another_language_does_not_serve() -> None:
    """No Italian list, no guess."""
    assert _fill("clubs", "it", suit=SUIT) == {}


@pytest.mark.parametrize(
    ("text", "language", "bare"),
    [
        ("8, 3, 6.", "it", True),
        ("<PHONE_1>", "en", True),
        ("three five", "en", True),
        ("call 5", "en", False),
        ("hello", "xx", False),
    ],
)
def test_a_bare_value_asks_for_nothing(text: str, language: str, *, bare: bool) -> None:
    """Such a note continues what was asked before; alone it must not start anything."""
    assert slots.bare(text, language) is bare
