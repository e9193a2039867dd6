"""
The laws: `jurisdictions.toml`, one table per law, spread over the countries it holds in.

Rules, all checked before any row is used; `BundleError` lists every fault:

- A country has one law. Codes are ISO 3166-1 alpha-2 in capitals.
- *within* are the countries in which cell and processors may stand: by country, not by the
  region's name, for a region may be called ``eu-...`` and stand outside the Union.
- *adequate* are the countries that its authority found adequate, each with *reference* and
  *as_of*; *tools* map a data class to the grounds (`GROUNDS`) on which it may leave *within*;
  *barred* are countries to which nothing goes on any ground. A deployment must also name the
  ground: the law alone sends nothing anywhere.
- *localises* names the article by which the law keeps such data in the country; empty if it
  does not. Only then does a person's law say where the controller's cell may stand.
- *minor_consent* says whether a minor's own consent counts.
- *withdrawal_erases* says whether what rests on a consent goes when that is withdrawn; if so,
  *articles* has ``withdrawal``. A tenant may do so elsewhere, too.
- *transfers* is ``restricted`` (cell and processors stand *within*) or ``free``.
- *retention* has every kind, in seconds; raw audio has under 24 hours. *redact* has every
  sink with at least one class. *articles*, *source* and *as_of* say how we know.
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from policy.errors import BundleError
from policy.model import GROUNDS, KINDS, SINKS, DataClass

SHIPPED = Path(__file__).with_name("jurisdictions.toml")
# Custody refuses 24 hours, by a clock it reads later: a minute less is never on the edge.
RAW_AUDIO_LIMIT_S = 86_340
KEEP_LIMIT_S = 366 * 86_400

_FIELDS = frozenset(
    {
        "adequate",
        "articles",
        "as_of",
        "barred",
        "countries",
        "law",
        "localises",
        "minor_consent",
        "redact",
        "retention",
        "source",
        "tools",
        "transfers",
        "withdrawal_erases",
        "within",
    }
)
# A table that is silent sends nothing abroad, keeps nothing in, lets no minor agree, and leaves
# erasing to tenants.
_DEFAULTS: dict[str, Any] = {
    "adequate": [],
    "barred": [],
    "localises": "",
    "minor_consent": False,
    "tools": {},
    "withdrawal_erases": False,
}
_COUNTRY = re.compile(r"[A-Z]{2}")
_CLASS = re.compile(r"[a-z_]{1,32}")


def load(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the law of each country of *path* (default: the shipped file), ready for a bundle."""
    source = path or SHIPPED
    try:
        tables = tomllib.loads(source.read_text(encoding="utf-8"))["law"]
        tables = [_DEFAULTS | {"within": table["countries"]} | table for table in tables]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as exc:
        fault = f"{type(exc).__name__} (must be TOML: [[law]] with countries)"
        raise BundleError(f"{source.name}: {fault}") from None
    faults = [f"{source.name}: {where}: {fault}" for where, fault in _table_faults(tables)]
    if faults:
        raise BundleError("; ".join(faults))
    return {country: _plain(table) for table in tables for country in table["countries"]}


def erases(countries: Collection[str], laws: Mapping[str, Mapping[str, Any]]) -> bool:
    """
    Tell whether a law of *countries* erases what rested on a withdrawn consent.

    Of a country that *laws* do not have, the strictest holds.
    """
    return any(code not in laws or laws[code]["withdrawal_erases"] for code in countries)


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: table[name] for name in sorted(_FIELDS - {"countries"})}
    adequate = [entry | {"as_of": entry["as_of"].isoformat()} for entry in table["adequate"]]
    return row | {"adequate": adequate, "as_of": table["as_of"].isoformat()}


def _table_faults(tables: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for number, table in enumerate(tables, start=1):
        where = f"law {number}"
        if set(table) != _FIELDS:
            yield where, f"must have exactly: {', '.join(sorted(_FIELDS))}"
            continue
        for fault in _faults(table):
            yield where, fault
        for country in table["countries"]:
            if country in seen or not _COUNTRY.fullmatch(country):
                yield where, f"country {country!r} is repeated or no ISO 3166-1 alpha-2 code"
            seen.add(country)


def _faults(table: Mapping[str, Any]) -> Iterator[str]:
    if not table["countries"] or not all(map(_COUNTRY.fullmatch, table["within"])):
        yield "countries and within must be ISO 3166-1 alpha-2 codes"
    if not isinstance(table["as_of"], date) or not table["source"] or not table["articles"]:
        yield "articles, source and as_of (a date) say how we know"
    if not all(isinstance(entry.get("as_of"), date) for entry in table["adequate"]):
        yield "adequate: as_of (a date) says how we know"
    if table["withdrawal_erases"] and not table["articles"].get("withdrawal"):
        yield "withdrawal_erases: articles.withdrawal says how we know"
    yield from law_faults(table)


def law_faults(law: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the part of *law* that rules read."""
    if law["transfers"] not in {"free", "restricted"}:
        yield "transfers must be free or restricted"
    if type(law["minor_consent"]) is not bool:
        yield "minor_consent must be true or false"
    if type(law.get("withdrawal_erases", False)) is not bool:
        yield "withdrawal_erases must be true or false"
    if type(law.get("localises", "")) is not str:
        yield "localises must be the article that says so, or empty"
    yield from _transfer_faults(law)
    yield from retention_faults(law["retention"], complete=True)
    yield from redact_faults(law["redact"], complete=True)


def _transfer_faults(law: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(law["barred"], list) or not all(map(_COUNTRY.fullmatch, law["barred"])):
        yield "barred must be a list of ISO 3166-1 alpha-2 codes"
    for entry in law["adequate"]:
        if set(entry) != {"as_of", "country", "reference"} or not entry["reference"]:
            yield "adequate: each entry has country, reference and as_of"
        elif not _COUNTRY.fullmatch(entry["country"]):
            yield "adequate: country must be an ISO 3166-1 alpha-2 code"
    for data_class, grounds in law["tools"].items():
        if data_class not in set(DataClass) or not isinstance(grounds, list):
            yield f"tools must map {', '.join(DataClass)} to a list of grounds"
        elif set(grounds) - set(GROUNDS):
            yield f"tools.{data_class} must be among: {', '.join(GROUNDS)}"


def retention_faults(clocks: Mapping[str, Any], *, complete: bool) -> Iterator[str]:
    """Yield what is wrong with *clocks*: kind to seconds, every kind if *complete*."""
    if set(clocks) - set(KINDS) or (complete and set(clocks) != set(KINDS)):
        yield f"retention must have: {', '.join(KINDS)}"
    for kind, seconds in clocks.items():
        limit = RAW_AUDIO_LIMIT_S if kind == "raw_audio_seconds" else KEEP_LIMIT_S
        if type(seconds) is not int or not 0 < seconds <= limit:
            yield f"retention.{kind} must be 1 to {limit} seconds"


def redact_faults(classes: Mapping[str, Any], *, complete: bool) -> Iterator[str]:
    """Yield what is wrong with *classes*: sink to class names, every sink if *complete*."""
    if set(classes) - set(SINKS) or (complete and set(classes) != set(SINKS)):
        yield f"redact must have: {', '.join(SINKS)}"
    for sink, names in classes.items():
        if not isinstance(names, list) or (complete and not names):
            yield f"redact.{sink} must be a list of classes"
        elif not all(isinstance(name, str) and _CLASS.fullmatch(name) for name in names):
            yield f"redact.{sink} must hold lower-case class names"
