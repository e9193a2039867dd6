"""
How people write a registry: TOML tables, and templates for what many rows share.

- ``template = "NAME"`` in a row takes the keys of ``[template.NAME]`` that it does not write
  itself; *options* and *settings* are merged key by key. ``{place}`` in a host or a setting
  becomes the vendor's name of the row's region (``settings.vendor_region``, else *region*).
- ``[[offer]]`` writes one row per entry of its *places* (our region = the vendor's name of it),
  with the region added to its *id*; its other keys are those of a row.
- What the shipped file says of regions, templates, required options and nearest hosts holds
  for an operator's file too; it may add to them, and a region it moves is a fault.
- An unknown or doubled key is a fault, and a date is a TOML date: a number is none.
"""

import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from residency.model import Processor, Service, Transfer
from residency.pins import PLACELESS

NO_CONTRACT = date.max  # runs inside the cell: there is nothing to expire
UNKNOWN_COUNTRY = "ZZ"  # CLDR: unknown or unspecified; no law admits it
NOT_FILED = date.min  # listed, and nobody has signed anything: never eligible

_FIXES = {
    "extra_forbidden": "no such key (correct or remove it)",
    "missing": "is missing (every row says it)",
    "date_type": "is no date (write it like 2027-01-31, without quotes)",
    "string_type": 'is no text (write it in quotes, such as "true")',
}


def _latin(text: str) -> str:
    for char in text:
        if char.isalpha() and not unicodedata.name(char, "").startswith("LATIN"):
            raise ValueError(f"U+{ord(char):04X} is not a Latin letter (retype the word)")
    return text


Text = Annotated[str, Field(max_length=500), AfterValidator(_latin)]
Given = Annotated[Text, Field(min_length=1)]
Day = Annotated[date, Field(strict=True)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Transfer(_Table):
    """One ``transfers`` entry of a row as people write it."""

    tool: Literal["bcr", "scc"]
    module: Annotated[str, Field(pattern=r"^[1-4]?$")] = ""
    law: Given
    reference: Given
    expires: Day


class _Row(_Table):
    """One ``[[processor]]`` table as people write it, its template filled in."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,63}$")]
    vendor: Given
    service: Service
    product: Given
    model: Given
    adapter: Given
    region: Given
    jurisdiction: Given
    hosts: tuple[Text, ...]
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ()
    options: dict[Given, Text]
    settings: dict[Given, Text]
    contract: Text = ""
    contract_expires: Day | None = None
    retention: Given
    source: Given
    as_of: Day
    reviewed_by: Given
    review_expires: Day
    transfers: tuple[_Transfer, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.contract) != (self.contract_expires is not None) and self.hosts:
            raise ValueError(
                "contract and contract_expires stand together (neither = no agreement filed)"
            )
        if not self.languages and self.service in SPOKEN:
            raise ValueError("languages is empty (name each language it serves)")
        return self

    def processor(self) -> Processor:
        """Return the row as a value."""
        nothing = NOT_FILED if self.hosts else NO_CONTRACT
        return Processor(
            **(
                dict(self)
                | {"transfers": tuple(Transfer(**dict(transfer)) for transfer in self.transfers)}
                | {"contract_expires": self.contract_expires or nothing}
            )
        )


SPOKEN = frozenset({Service.SPEECH_TO_TEXT, Service.TEXT_TO_SPEECH, Service.UNDERSTANDING})


class _File(_Table):
    """A registry file; rows are read one by one, so that each fault is named."""

    nearest: tuple[str, ...] = ()
    offer: list[dict[str, Any]] = []
    region: dict[str, str] = {}
    required: dict[str, dict[str, str]] = {}
    template: dict[str, dict[str, Any]] = {}
    processor: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Book:
    """
    What every row is held against; grows by each file that is read.

    *regions* map a region to its country, *required* a vendor to options that no row of its
    may lack, *nearest* are hosts that answer from wherever the caller is.
    """

    regions: dict[str, str] = field(default_factory=dict)
    required: dict[str, dict[str, str]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    nearest: set[str] = field(default_factory=set)


def read(path: Path, book: Book, faults: list[str]) -> list[tuple[str, Processor]]:
    """Return the rows of *path*, each with where it stands; add to *book* and *faults*."""
    file = _file(path, faults)
    faults += [f"{path.name}: {fault}" for fault in _region_faults(file.region, book.regions)]
    book.regions.update({r: country for r, country in file.region.items() if r not in book.regions})
    book.required.update({v: book.required.get(v, {}) | o for v, o in file.required.items()})
    book.templates.update(file.template)
    book.nearest.update(file.nearest)
    return list(_rows(path.name, file, book, faults))


def _file(path: Path, faults: list[str]) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as exc:
        faults.append(f"{path.name}: {type(exc).__name__} (must be a readable UTF-8 file)")
    except tomllib.TOMLDecodeError as exc:
        faults.append(f"{path.name}: not TOML: {exc}")
    except ValidationError as exc:
        faults += [f"{path.name}: {fault}" for fault in _reasons(exc)]
    return _File()


def _region_faults(given: Mapping[str, str], known: Mapping[str, str]) -> Iterator[str]:
    for region, code in given.items():
        if region in PLACELESS:
            yield f"region {region}: not a place (name where the machines stand)"
        if code not in phonenumbers.SUPPORTED_REGIONS and code != UNKNOWN_COUNTRY:
            yield f"region {region}: jurisdiction {code!r} is no ISO 3166-1 alpha-2 code"
        if known.get(region, code) != code:
            yield f"region {region}: {code!r}, but it lies in {known[region]} (name your own)"


def _rows(name: str, file: _File, book: Book, faults: list[str]) -> Iterator[tuple[str, Processor]]:
    offered = (row for offer in file.offer for row in _offered(offer))
    for number, row in enumerate((*file.processor, *offered), start=1):
        where = f"{name}: row {number} ({row.get('id', 'no id')})"
        template = row.get("template")
        if template is not None and template not in book.templates:
            faults.append(f"{where}: template: there is no {template!r} (write [template.NAME])")
            continue
        try:
            yield where, _Row.model_validate(_filled(row, book)).processor()
        except ValidationError as exc:
            faults += [f"{where}: {fault}" for fault in _reasons(exc)]


def _offered(offer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    places = offer.get("places")
    if not isinstance(places, dict) or not places:
        yield {**offer, "places": "missing"}  # no row has this key: the fault names it
        return
    rest = {key: value for key, value in offer.items() if key != "places"}
    for region, place in places.items():
        yield rest | {
            "id": f"{offer.get('id', '')}.{region}",
            "region": region,
            "settings": {**rest.get("settings", {}), "vendor_region": place},
        }


def _filled(row: Mapping[str, Any], book: Book) -> dict[str, Any]:
    """Return *row* with its template's keys, its country and its place filled in."""
    template = book.templates.get(str(row.get("template")), {})
    whole = {**template, **{key: value for key, value in row.items() if key != "template"}}
    for key in ("options", "settings"):
        if isinstance(template.get(key), dict) and isinstance(row.get(key), dict):
            whole[key] = {**template[key], **row[key]}
    if isinstance(country := book.regions.get(str(whole.get("region"))), str):
        whole.setdefault("jurisdiction", country)
    settings = whole.get("settings")
    named = settings.get("vendor_region") if isinstance(settings, dict) else None
    return whole | {
        key: _placed(whole[key], str(named or whole.get("region")))
        for key in ("hosts", "retention", "settings")
        if key in whole
    }


def _placed(value: Any, place: str) -> Any:
    match value:
        case str():
            return value.replace("{place}", place)
        case list():
            return [_placed(each, place) for each in value]
        case dict():
            return {key: _placed(each, place) for key, each in value.items()}
        case _:
            return value


def _reasons(exc: ValidationError) -> list[str]:
    return [
        ": ".join(
            filter(
                None,
                (
                    ".".join(map(str, error["loc"])),
                    _FIXES.get(error["type"], error["msg"].removeprefix("Value error, ")),
                ),
            )
        )
        for error in exc.errors(include_input=False, include_url=False)
    ]
