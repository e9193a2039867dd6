"""
What a registry row of Google Speech v2 pins, read once and held against itself.

- The endpoint host, the recognizer's location and ``settings.vendor_region`` name one location.
  Google's client compares none of them, and a host without a location is the global service.
- There is exactly one host; ``global`` is no location.
- Every language of the row has its code at Google: ``settings."locale.de" = "de-DE"``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.errors import ProcessorRefusedError, RegistryError
from residency.model import Processor

MOST_LANGUAGES = 3  # alternatives that one request may name (Cloud Speech-to-Text v2 docs)

_LOCATION = re.compile(r"[a-z]+(?:-[a-z]+[0-9]+)?")
_RECOGNIZER = re.compile(r"projects/[A-Za-z0-9.-]+/locations/([a-z0-9-]+)/recognizers/[a-z0-9_-]+")
_LOCALE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """
    Where a call goes and what it names: *locales* maps a primary tag to Google's language code.

    *region_header* is the response header that says where it was processed, empty if none does.
    """

    who: str
    host: str
    location: str
    recognizer: str
    model: str
    locales: Mapping[str, str]
    region_header: str

    @property
    def carried(self) -> dict[str, str]:
        """Return what every outgoing request says, under the names an option may ask for."""
        return {"location": self.location, "model": self.model, "recognizer": self.recognizer}

    def served(self, languages: Sequence[str]) -> list[str]:
        """Return Google's codes of *languages*; raise `ProcessorRefusedError` if it has none."""
        found = [self.locales[tag] for tag in languages if tag in self.locales]
        if not found:
            raise ProcessorRefusedError(f"{self.who}: serves none of the languages")
        return found[:MOST_LANGUAGES]


def read(row: Processor) -> Pins:
    """Return the pins of *row*; raise `RegistryError` naming the one that does not agree."""
    location = _location(row)
    host = f"{location}-speech.googleapis.com"
    if tuple(row.hosts) != (f"{host}:443",):
        raise RegistryError(f"{row.id}: hosts must be exactly {host}:443 (as vendor_region says)")
    return Pins(
        who=row.id,
        host=host,
        location=location,
        recognizer=_recognizer(row, location),
        model=row.model,
        locales=_locales(row),
        region_header=row.settings.get("region_header", "").lower(),
    )


def _location(row: Processor) -> str:
    location = row.settings.get("vendor_region", "")
    if location == "global" or not _LOCATION.fullmatch(location):
        raise RegistryError(
            f"{row.id}: settings.vendor_region must be one location of Google's, "
            f"such as europe-west4 or eu, not {location!r}"
        )
    return location


def _recognizer(row: Processor, location: str) -> str:
    recognizer = row.settings.get("recognizer", "")
    found = _RECOGNIZER.fullmatch(recognizer)
    if found is None:
        raise RegistryError(
            f"{row.id}: settings.recognizer must be projects/P/locations/L/recognizers/R"
        )
    if found[1] != location:
        raise RegistryError(
            f"{row.id}: settings.recognizer is in {found[1]}, vendor_region is {location}"
        )
    return recognizer


def _locales(row: Processor) -> dict[str, str]:
    given = {tag: row.settings.get(f"locale.{tag}", "") for tag in row.languages}
    for tag, locale in given.items():
        if not _LOCALE.fullmatch(locale):
            raise RegistryError(f'{row.id}: settings."locale.{tag}" must be a code such as de-DE')
    return given
