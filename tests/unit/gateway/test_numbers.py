"""A DPO pastes what is in the letter: it leads to the person, or is refused and not repeated."""

import pytest

from gateway import numbers
from gateway.errors import NoNumberError

DIGITS = "4915112345678"


@pytest.mark.parametrize(
    "written",
    [
        "4915112345678",
        "+4915112345678",
        "+49 151 12345678",
        "+49 (0) 151 1234 5678",
        "+49 (0)151-12345678",
        "+49 0151 12345678",
        "004915112345678",
        "0049 151 / 123 456 78",
        "0151 12345678",
        "(0151)-12345678",
        "0151/123.456.78",
        "151 12345678",
        "tel:+49-151-12345678",
        "whatsapp:+4915112345678",
        "+49\u00a0151\u202f12345678",
        "\u200e+49 151 12345678\u200f",
        "\u202a+49 151 12345678\u202c",
        "\uff0b\uff14\uff19 \uff11\uff15\uff11 \uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",
        "+\u0664\u0669 \u0661\u0665\u0661 \u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        "+49 151\u201112345678",
        "+49\u2013151\u201312345678",
        "\ufeff+4915112345678",
    ],
)
def test_a_number_is_read_as_people_write_it(written: str) -> None:
    """Spaces, brackets, marks of direction and other scripts' digits mean nothing."""
    assert DIGITS in numbers.read(written, country="DE")


@pytest.mark.parametrize(
    ("written", "country", "digits"),
    [
        ("07700 900123", "GB", "447700900123"),
        ("(202) 555-0123", "US", "12025550123"),
        ("1-202-555-0123", "US", "12025550123"),
        ("011 49 151 12345678", "US", DIGITS),
        ("00 49 151 12345678", "US", DIGITS),
        ("0011 49 151 12345678", "AU", DIGITS),
        ("010 49 151 12345678", "JP", DIGITS),
        ("06 12345678", "IT", "390612345678"),
        ("8 912 345-67-89", "RU", "79123456789"),
    ],
)
def test_without_a_country_code_it_is_of_the_country_at_hand(
    written: str, country: str, digits: str
) -> None:
    """Each country dials in its own way."""
    assert digits in numbers.read(written, country=country)


def test_digits_alone_mean_all_that_they_may() -> None:
    """A number of here, or one with its country code: a person is found under either."""
    found = numbers.read("2025550123", country="US")

    assert "12025550123" in found
    assert numbers.read(DIGITS, country="DE")[0] == DIGITS


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("+52 55 1234 5678", "5215512345678"),
        ("+52 1 55 1234 5678", "525512345678"),
        ("+54 11 2345 6789", "5491123456789"),
        ("+55 11 91234 5678", "551112345678"),
        ("+55 11 1234 5678", "5511912345678"),
    ],
)
def test_the_forms_by_which_whatsapp_knows_a_mobile_are_tried(written: str, other: str) -> None:
    """People write the number that is dialled; WhatsApp kept the one of years ago."""
    assert other in numbers.read(written, country="DE")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "+",
        "Ada Lovelace",
        "ada@mail.example",
        "0151 CALL ADA",
        "+49 151 1234567890123456789",
        "12",
        "+49 12",
        "s_0123456789abcdef0123456789abcdef",
        "4915112345678; DROP TABLE aliases",
        "+49 151 12345678 ext. 5",
        "1" * 65,
    ],
)
def test_what_is_no_number_is_refused_and_not_repeated(written: str) -> None:
    """It may be a name, or a number with a slip: it belongs on no screen and in no log."""
    with pytest.raises(NoNumberError) as caught:
        numbers.read(written, country="DE")

    said = str(caught.value)
    assert not any(word in said for word in written.split() if len(word) > 2)


@pytest.mark.parametrize(
    ("written", "is_one"),
    [
        ("DE.1349012345678901234", True),
        (" DE.1349012345678901234\n", True),
        ("US.ENT.11815799212886844830", True),
        ("4915112345678", False),
        ("Ada.Lovelace", False),
        ("DE", False),
    ],
)
def test_a_user_id_is_told_from_a_number(written: str, *, is_one: bool) -> None:
    """Who hides their number is asked for by what WhatsApp calls them."""
    assert (numbers.user_id(written) is not None) is is_one
