"""Numbers in speech, language by language."""

import pytest

from vault.spoken import Reader, tokens


def runs(text: str, language: str) -> list[str]:
    """Return the digits of every run in *text*."""
    return [run.digits for run in Reader(language).runs(tokens(text))]


@pytest.mark.parametrize(
    ("language", "text", "digits"),
    [
        ("en", "four one one", ["411"]),
        ("en", "forty one eleven", ["4111"]),
        ("en", "forty-one", ["41"]),
        ("en", "twenty twenty six", ["2026"]),
        ("en", "double oh seven", ["007"]),
        ("en", "triple five, oh one", ["55501"]),
        ("en", "two hundred and fifty", ["250"]),
        ("en", "two thousand three hundred", ["2300"]),
        ("en", "one eight hundred", ["1800"]),
        ("en", "four, uh, one dash two", ["412"]),
        ("en", "room 214 and table six", ["214", "6"]),
        ("de", "zwo drei", ["23"]),
        ("de", "einundvierzig elf", ["4111"]),
        ("de", "zweihundertfünfzig", ["250"]),
        ("de", "viertausendfünfhundertzweiunddreißig", ["4532"]),
        ("de", "tausend", ["1000"]),
        ("es", "treinta y uno once", ["3111"]),
        ("es", "doscientos treinta y cuatro", ["234"]),
        ("es", "veintidós veintidos", ["2222"]),
        ("es", "dos mil tres", ["2003"]),
        ("pt", "meia sete", ["67"]),
        ("pt", "noventa e nove, meia meia", ["9966"]),
        ("pt", "cento e vinte e três", ["123"]),
        ("fr", "quatre-vingt-dix-sept", ["97"]),
        ("fr", "quatre-vingts", ["80"]),
        ("fr", "soixante et onze", ["71"]),
        ("fr", "zéro six douze", ["0612"]),
        ("fr", "quatre un un", ["411"]),
        ("fr", "deux cent cinquante", ["250"]),
        ("it", "ottantatré ventuno ventotto", ["832128"]),
        ("it", "trecentotrentatré", ["333"]),
        ("it", "duemila", ["2000"]),
        ("de", "my number is two zero two", ["202"]),
    ],
)
def test_a_spoken_number_is_its_digits(language: str, text: str, digits: list[str]) -> None:
    """A wrong digit breaks every checksum that would have told a card."""
    assert runs(text, language) == digits


def test_offsets_are_those_of_the_text() -> None:
    """A span that is off by one leaves a digit behind."""
    text = "it is forty one, eleven ok"

    [run] = Reader("en").runs(tokens(text))

    assert text[run.start : run.end] == "forty one, eleven"


@pytest.mark.parametrize("language", ["de", "es", "fr", "it", "pt"])
def test_an_article_is_no_zero(language: str) -> None:
    """In English "o" is a zero; elsewhere it is a small word in every sentence."""
    assert runs("o", language) == []
