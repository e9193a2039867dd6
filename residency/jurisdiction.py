"""
Whose law holds for a person, and how we know.

- Order: declared residence, then the number, then the BSUID's country. Where nothing names a
  country (a satellite phone, a declaration that nobody can read), the person is of `NOWHERE`:
  the rules know no law of it, and hold to the strictest. Weaker evidence never stands in.
- A number is evidence, not proof (roaming, foreign SIMs), and often of several countries: the
  candidates are kept, joined by "+", unless the tenant's own is among them.
- `phonenumbers.is_valid_number` never decides: WhatsApp knows numbers that no plan lists any
  more. It only narrows the candidates of a calling code.
"""

import re

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber

from residency.model import Jurisdiction

_BSUID = re.compile(r"([A-Z]{2})\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
_E164 = re.compile(r"[1-9][0-9]{6,14}")
_MEXICO = 52
_MEXICO_OLD_MOBILE = re.compile(r"521([0-9]{10})")  # dropped from the plan in 2019, still a wa_id


NOWHERE = "ZZ"
"""The code of no country (ISO 3166-1 leaves it to users): no table has a law for it."""


def locate(
    *, declared: str | None, phone: str | None, bsuid: str | None, tenant: str
) -> Jurisdiction:
    """Return the jurisdiction of a person; *phone* is E.164 digits without "+"."""
    if declared is not None:
        return Jurisdiction(code=declared if known(declared) else NOWHERE, evidence="declared")
    if found := candidates(phone or ""):
        code = tenant if tenant in found else "+".join(sorted(found))
        return Jurisdiction(code=code, evidence="number")
    if (match := _BSUID.fullmatch(bsuid or "")) and known(match[1]):
        return Jurisdiction(code=match[1], evidence="bsuid")
    return Jurisdiction(code=NOWHERE, evidence="none")


def known(code: str) -> bool:
    """Tell whether *code* is an ISO 3166-1 alpha-2 country that has telephones."""
    return code in phonenumbers.SUPPORTED_REGIONS


def candidates(phone: str) -> frozenset[str]:
    """Return the countries a number may belong to; empty when it is no one country's number."""
    number = _parse(phone)
    if number is None:
        return frozenset()
    sharing = phonenumbers.region_codes_for_country_code(number.country_code or 0)
    listed = [r for r in sharing if phonenumbers.is_valid_number_for_region(number, r)]
    return frozenset(filter(known, listed or sharing))


def _parse(phone: str) -> PhoneNumber | None:
    if not _E164.fullmatch(phone):
        return None
    if old := _MEXICO_OLD_MOBILE.fullmatch(phone):
        return PhoneNumber(country_code=_MEXICO, national_number=int(old[1]))
    try:
        number = phonenumbers.parse("+" + phone)
    except NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None
