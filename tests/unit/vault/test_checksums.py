"""Checks of official numbers, on published examples and their neighbours."""

from collections.abc import Callable

import pytest

from vault import checksums

VALID: list[tuple[Callable[[str], bool], str]] = [
    (checksums.luhn, "4111111111111111"),
    (checksums.luhn, "378282246310005"),
    (checksums.iban, "DE89370400440532013000"),
    (checksums.iban, "FR1420041010050500013M02606"),
    (checksums.german_tax_id, "86095742719"),
    (checksums.german_tax_id, "65929970489"),
    (checksums.cpf, "52998224725"),
    (checksums.cpf, "11144477735"),
    (checksums.nif, "123456789"),
    (checksums.nir, "255081416802538"),
    (checksums.dni, "12345678Z"),
    (checksums.dni, "X1234567L"),
    (checksums.nric, "S1234567D"),
    (checksums.nric, "G1234567X"),
]


@pytest.mark.parametrize(("check", "number"), VALID)
def test_a_published_example_passes(check: Callable[[str], bool], number: str) -> None:
    """A check that refuses real numbers finds nobody's."""
    assert check(number)


@pytest.mark.parametrize(("check", "number"), VALID)
def test_a_changed_digit_fails(check: Callable[[str], bool], number: str) -> None:
    """A check that accepts everything would call every number an official one."""
    at = max(index for index, char in enumerate(number) if char.isdigit())
    changed = number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :]

    assert not check(changed)


@pytest.mark.parametrize(("check", "number"), VALID)
@pytest.mark.parametrize("other", ["", "x", "00000000000"])
def test_what_is_no_such_number_fails(
    check: Callable[[str], bool], number: str, other: str
) -> None:
    """Recognisers hand over anything: no shape may raise or pass."""
    assert not check(other) or check is checksums.luhn


@pytest.mark.parametrize(
    ("digits", "valid"),
    [
        ("078051120", True),
        ("000051120", False),
        ("666051120", False),
        ("900051120", False),
        ("078001120", False),
        ("078050000", False),
        ("07805112", False),
    ],
)
def test_an_ssn_is_told_by_what_is_never_issued(digits: str, valid: bool) -> None:  # noqa: FBT001
    """It has no check digit; the ranges that were never issued are all there is."""
    assert checksums.ssn(digits) is valid
