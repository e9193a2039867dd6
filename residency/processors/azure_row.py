"""
What a registry row of Azure Speech pins, read once and held against itself.

- There is exactly one host, ``REGION.stt.speech.microsoft.com:443`` or its like in Azure
  Government (``azure.us``) or China (``azure.cn``), and ``settings.vendor_region`` is its region.
  The SDK checks neither: it dials whatever it is told, and ``usgov*`` in the public cloud.
- Every language of the row has its locale at Azure: ``settings."locale.de" = "de-DE"``.
- ``settings.max_connections`` (2) is how often one call may send its audio; ``max_calls`` (4)
  how many calls may run at a time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.errors import ProcessorRefusedError, RegistryError
from residency.model import Processor

MOST_LANGUAGES = 4  # candidates of language identification at the start (Microsoft Learn)
MOST_CONNECTIONS = 5  # what the SDK does of its own accord
MOST_CALLS = 32
CLOUDS = {"china": "azure.cn", "usdod": "azure.us", "usgov": "azure.us"}
PUBLIC = "microsoft.com"

_REGION = re.compile(r"[a-z][a-z0-9]{2,31}")
_LOCALE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Where a call goes and what it names: *locales* maps a primary tag to Azure's locale."""

    who: str
    host: str
    locales: Mapping[str, str]
    max_connections: int
    max_calls: int

    def served(self, languages: Sequence[str]) -> tuple[str, ...]:
        """Return Azure's locales of *languages*; raise `ProcessorRefusedError` if it has none."""
        found = [self.locales[tag] for tag in languages if tag in self.locales]
        if not found:
            raise ProcessorRefusedError(f"{self.who}: serves none of the languages")
        return tuple(found[:MOST_LANGUAGES])


def read(row: Processor) -> Pins:
    """Return the pins of *row*; raise `RegistryError` naming the one that does not agree."""
    region = row.settings.get("vendor_region", "")
    if not _REGION.fullmatch(region):
        raise RegistryError(
            f"{row.id}: settings.vendor_region must be a region of Azure's, "
            f"such as westeurope, not {region!r}"
        )
    host = f"{region}.stt.speech.{CLOUDS.get(region[:5], PUBLIC)}"
    if tuple(row.hosts) != (f"{host}:443",):
        raise RegistryError(f"{row.id}: hosts must be exactly {host}:443 (as vendor_region says)")
    return Pins(
        who=row.id,
        host=host,
        locales=_locales(row),
        max_connections=_count(row, "max_connections", 2, MOST_CONNECTIONS),
        max_calls=_count(row, "max_calls", 4, MOST_CALLS),
    )


def _locales(row: Processor) -> dict[str, str]:
    given = {tag: row.settings.get(f"locale.{tag}", "") for tag in row.languages}
    for tag, locale in given.items():
        if not _LOCALE.fullmatch(locale):
            raise RegistryError(f'{row.id}: settings."locale.{tag}" must be a locale such as de-DE')
    return given


def _count(row: Processor, name: str, default: int, most: int) -> int:
    given = row.settings.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= most:
        raise RegistryError(f"{row.id}: settings.{name} must be 1 to {most}, not {given!r}")
    return int(given)
