"""
What people write for a country or a region, and what they meant.

- A country is an ISO 3166-1 alpha-2 code. People write ``UK``, ``EL``, ``de``, a country's name, or
  ``EU``, which is not the place of any controller.
- A region is one of the registry's. People write their cloud's name for it, a city, or a guess.
"""

import difflib
import re
from collections.abc import Mapping

from residency import jurisdiction

_RESERVED = {"EL": "GR", "UK": "GB"}  # exceptionally reserved, and used for these (ISO 3166-1)
_UNIONS = frozenset({"EEA", "EU", "EUROPE", "EUROPEAN UNION"})
_MAINLAND = {"asia": "ap", "australia": "ap", "europe": "eu", "southamerica": "sa", "uk": "gb"}
_NAMES = ("aa", "en", "de", "es", "fr", "it", "pt")  # languages; "aa" is where English stands


def country_fault(written: str) -> str:
    """Return what is wrong with *written* as a country, and what was meant; empty if it is one."""
    if jurisdiction.known(written):
        return ""
    if written.strip().upper() in _UNIONS:
        return "must be one country, where the controller is established, such as DE (not a union)"
    if meant := _RESERVED.get(written.strip().upper()) or _code(written):
        return f"must be {meant} (the ISO 3166-1 alpha-2 code, in capitals)"
    return "must be an ISO 3166-1 alpha-2 code such as DE"


def _code(written: str) -> str:
    if jurisdiction.known(written.strip().upper()):
        return written.strip().upper()
    return _named(written.strip().casefold()) if written.strip() else ""


def _named(name: str) -> str:
    # Takes a second to load, and only who made a mistake waits for it.
    from phonenumbers.geodata.locale import LOCALE_DATA  # noqa: PLC0415

    for code, names in LOCALE_DATA.items():
        if jurisdiction.known(code) and name in {names.get(tag, "").casefold() for tag in _NAMES}:
            return code
    return ""


def nearest(written: str, regions: Mapping[str, str]) -> str:
    """Return which of *regions* (name to country) *written* may have meant; empty for none."""
    labels = re.findall(r"[a-z]+|[0-9]+", written.casefold())
    for near in (_longer_or_shorter, _same_country, _same_mainland):
        if found := near(written, labels, regions):
            return found
    alike = difflib.get_close_matches(written, sorted(regions), n=1)
    return alike[0] if alike else ""


def _longer_or_shorter(written: str, _labels: list[str], regions: Mapping[str, str]) -> str:
    fits = [
        name for name in sorted(regions) if written.startswith(name) or name.startswith(written)
    ]
    return fits[0] if fits else ""


def _same_country(_written: str, labels: list[str], regions: Mapping[str, str]) -> str:
    first = _MAINLAND.get(labels[0], labels[0]) if labels else ""
    return next((name for name, code in sorted(regions.items()) if code.lower() == first), "")


def _same_mainland(written: str, labels: list[str], regions: Mapping[str, str]) -> str:
    first = _MAINLAND.get(labels[0], labels[0]) if labels else ""
    fits = [name for name in sorted(regions) if name.partition("-")[0] == first]
    return (difflib.get_close_matches(written, fits, n=1, cutoff=0.0) or [""])[0]


def region_fault(
    written: str,
    regions: Mapping[str, str],
    says: str = "no processor of the registry stands in",
) -> str:
    """Return what is wrong with *written* as a region of *regions*; empty if it is one."""
    if written in regions:
        return ""
    meant = nearest(written, regions)
    there = ", ".join(sorted(regions))
    hint = f"; nearest: {meant}" if meant else ""
    return f"{says} {written!r} (there are: {there}{hint})"
