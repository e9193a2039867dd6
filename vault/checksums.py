"""
Checks that tell an official number from any other: pure functions over digits and letters.

Sources: ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN), ISO 7064 MOD 11,10 (German tax id), and the
published rules of CPF (BR), NIF (PT), DNI and NIE (ES), NRIC (SG), NIR (FR), SSN (US).
"""

import re

DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
NRIC_WEIGHTS = (2, 7, 6, 5, 4, 3, 2)
NRIC_LETTERS = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK"}
IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
LEAST_IBAN = 15
NRIC = re.compile(r"[STFG]\d{7}[A-Z]")
DNI = re.compile(r"(?:\d{8}|[XYZ]\d{7})[A-Z]")
FISCAL_CODE = re.compile(r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]")


def luhn(digits: str) -> bool:
    """Return whether *digits* pass the check of payment cards."""
    if not re.fullmatch(r"\d{2,}", digits):
        return False
    doubled = [int(d) * 2 for d in digits[-2::-2]]
    total = sum(d - 9 if d > 9 else d for d in doubled) + sum(map(int, digits[-1::-2]))  # noqa: PLR2004
    return total % 10 == 0


def iban(text: str) -> bool:
    """Return whether *text* is an IBAN."""
    if not IBAN.fullmatch(text):
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def has_iban(text: str) -> bool:
    """Return whether *text* holds an IBAN, whatever stands around it."""
    return any(
        iban(found.group()[:length])
        for start in range(len(text))
        if (found := IBAN.match(text, start))
        for length in range(LEAST_IBAN, len(found.group()) + 1)
    )


def german_tax_id(digits: str) -> bool:
    """Return whether *digits* are a Steuer-ID (eleven digits)."""
    if not re.fullmatch(r"[1-9]\d{10}", digits):
        return False
    product = 10
    for digit in digits[:10]:
        product = (int(digit) + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def cpf(digits: str) -> bool:
    """Return whether *digits* are a Brazilian CPF (eleven digits, not all equal)."""
    if not re.fullmatch(r"\d{11}", digits) or len(set(digits)) == 1:
        return False
    return all(
        sum(int(d) * w for d, w in zip(digits, range(n + 1, 1, -1), strict=False)) * 10 % 11 % 10
        == int(digits[n])
        for n in (9, 10)
    )


def nif(digits: str) -> bool:
    """Return whether *digits* are a Portuguese NIF (nine digits)."""
    if not re.fullmatch(r"[1235689]\d{8}", digits):
        return False
    rest = sum(int(d) * w for d, w in zip(digits, range(9, 1, -1), strict=False)) % 11
    return int(digits[8]) == (0 if rest < 2 else 11 - rest)  # noqa: PLR2004


def nir(digits: str) -> bool:
    """Return whether *digits* are a French NIR with its key (fifteen digits)."""
    if not re.fullmatch(r"[12]\d{14}", digits):
        return False
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def ssn(digits: str) -> bool:
    """Return whether *digits* can be a US social security number; it has no check digit."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    valid = len(digits) == 9 and area not in ("000", "666") and area[0] != "9"  # noqa: PLR2004
    return valid and group != "00" and serial != "0000"


def dni(text: str) -> bool:
    """Return whether *text* is a Spanish DNI or NIE."""
    if not DNI.fullmatch(text):
        return False
    number = int(text[:-1].translate(str.maketrans("XYZ", "012")))
    return DNI_LETTERS[number % 23] == text[-1]


def nric(text: str) -> bool:
    """Return whether *text* is a Singapore NRIC or FIN."""
    if not NRIC.fullmatch(text):
        return False
    total = sum(int(d) * w for d, w in zip(text[1:8], NRIC_WEIGHTS, strict=True))
    total += 4 if text[0] in "TG" else 0
    return NRIC_LETTERS[text[0]][total % 11] == text[8]
