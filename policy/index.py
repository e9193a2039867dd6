"""
What follows from registry, laws and grounds, worked out once for all questions.

- *strictest* is what stands in for a law that the table does not have: of each part the most
  protective that any of its laws says.
- A jurisdiction's *regions* are those of the registry whose country its law admits.
- *rows* are the registry's, in its order, with what an answer needs; ``until`` is when agreement
  or review ends, whichever comes first (epoch seconds).
- ``kin[code]`` is the first country whose law lets data go to the same places on the same grounds:
  what follows is kept once for all of them.
- ``shelves[kin][cell's region][stage]`` are the numbers of the rows that this cell may reach there,
  by language (`ANY`: whatever is spoken): those at ``home``, and those ``abroad`` to which there
  is a way.
- ``ways[kin][data class][id]`` are the grounds on which such data may go to a row abroad, the
  strongest first: the deployment names the ground, the law admits it for the class, and it exists
  (a decision of adequacy; a tool filed under that law; a consent that may be asked).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy import canonical
from policy.model import GROUNDS, HANDED, KINDS, SINKS, DataClass, Stage

NEVER = 9_999_999_999
"""When something ends that has no end of its own: no question's *now* passes it."""
ANY = "*"
"""The language of a row that depends on none, such as messaging."""

Rows = Sequence[Mapping[str, Any]]
Law = Mapping[str, Any]
Ways = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """The two parts of a bundle's data that nobody writes by hand."""

    index: Mapping[str, Any]
    ways: Mapping[str, Ways]


def derive(rows: Rows, laws: Mapping[str, Law], grounds: Iterable[str]) -> Derived:
    """Return what follows from *rows* under *laws* (with their regions) on the named *grounds*."""
    named = [ground for ground in GROUNDS if ground in set(grounds)]
    opened = {code: _law_ways(rows, law, named) for code, law in sorted(laws.items())}
    first: dict[bytes, str] = {}
    kin = {
        code: first.setdefault(_reach(laws[code], found), code) for code, found in opened.items()
    }
    heads = sorted(set(kin.values()))
    places = sorted({row["region"] for row in rows})
    return Derived(
        index={
            "kin": kin,
            "rows": [_row(row) for row in rows],
            "shelves": {
                code: {
                    region: _shelf(rows, laws[code], opened[code], region)
                    for region in places
                    if _admits(laws[code], region)
                }
                for code in heads
            },
        },
        ways={code: opened[code] for code in heads},
    )


def regions(law: Law, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the registry's regions that lie in a country which *law* admits, sorted."""
    return sorted({row["region"] for row in rows if row["jurisdiction"] in law["within"]})


def strictest(laws: Mapping[str, Law]) -> dict[str, Any]:
    """Return the strictest that any of *laws* says of retention, redaction and rights."""
    every = list(laws.values())
    return {
        "minor_consent": bool(every) and all(law["minor_consent"] for law in every),
        "redact": {
            sink: sorted({name for law in every for name in law["redact"][sink]}) for sink in SINKS
        },
        "retention": {
            kind: min((law["retention"][kind] for law in every), default=0) for kind in KINDS
        },
        "withdrawal_erases": any(law.get("withdrawal_erases", False) for law in every),
    }


def serving(data: Mapping[str, Any], code: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return, per stage, the registry's rows that may serve under *code* in some cell, in order."""
    law, ways = data["jurisdictions"][code], data["ways"][data["index"]["kin"][code]]
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in data["processors"]:
        for stage in row["stages"]:
            abroad = _portable(row) and row["id"] in ways[HANDED[Stage(stage)]]
            if abroad or _home(row, law):
                found.setdefault(stage, []).append(row)
    return found


def _reach(law: Law, ways: Ways) -> bytes:
    return canonical.encode([law["transfers"], law["regions"], ways])


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("hosts", "id", "options", "region")}
    return kept | {"until": min(row["contract_expires"] or NEVER, row["review_expires"])}


def _admits(law: Law, region: str) -> bool:
    return law["transfers"] == "free" or region in law["regions"]


def _home(row: Mapping[str, Any], law: Law) -> bool:
    return _admits(law, row["region"])


def _shelf(rows: Rows, law: Law, ways: Ways, region: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        if row["region"] != region and not _portable(row):
            continue
        for stage in row["stages"]:
            part = _part(row, law, ways[HANDED[Stage(stage)]], region)
            for language in (row["languages"] or [ANY]) if part else []:
                shelf = found.setdefault(stage, {"abroad": {}, "home": {}})
                shelf[part].setdefault(language, []).append(number)
    return found


def _part(row: Mapping[str, Any], law: Law, ways: Mapping[str, Any], region: str) -> str:
    # Where transfers are free, the cell may stand abroad, but data does not travel on from there.
    if row["region"] == region or {row["region"], region} <= set(law["regions"]):
        return "home"
    return "abroad" if row["id"] in ways else ""


def _portable(row: Mapping[str, Any]) -> bool:
    # A WhatsApp number keeps its messages in one place, and what has no contract runs in a cell.
    return bool(row["service"] != "messaging" and row["contract_expires"] > 0)


def _law_ways(rows: Rows, law: Law, named: Sequence[str]) -> Ways:
    abroad = [
        row for row in rows if not _home(row, law) and row["jurisdiction"] not in law["barred"]
    ]
    return {
        data_class.value: {
            row["id"]: found
            for row in abroad
            if (found := [way for ground in admitted for way in _ways(ground, row, law)])
        }
        for data_class in DataClass
        for admitted in [[name for name in named if name in law["tools"].get(data_class, [])]]
    }


def _ways(ground: str, row: Mapping[str, Any], law: Law) -> Iterator[dict[str, Any]]:
    way = {"expires": NEVER, "ground": ground, "label": ground}
    if ground == "explicit-consent":
        yield way
    if ground == "adequacy" and any(a["country"] == row["jurisdiction"] for a in law["adequate"]):
        yield way | {"label": f"adequacy:{row['jurisdiction']}"}
    for filed in row["transfers"]:
        if filed["tool"] == ground and filed["law"] == law["law"]:
            label = f"{ground}:{filed['module']}" if filed["module"] else ground
            yield way | {"expires": filed["expires"], "label": label}
