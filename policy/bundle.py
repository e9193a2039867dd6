"""
The bundle: rules and slow data as one value, under one revision.

- Everything lies under ``data.vocustody``. What does not depend on the question is worked out
  when the bundle is built (`policy.index`), and again when one is checked: a hand-made index
  could list a processor where no law admits it.
- *data_sha256* is the digest of the data without the revision; *revision* is the digest of
  modules and data. Two bundles with one revision answer every question alike.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from policy import canonical, index, subset
from policy.errors import BundleError
from policy.jurisdictions import law_faults, redact_faults, retention_faults
from policy.model import ABROAD, GROUNDS, PURPOSES, Facts, Stage

SHIPPED = Path(__file__).parent / "rego"
DATA_KEYS = frozenset(
    {
        "grounds",
        "index",
        "jurisdictions",
        "notices",
        "processors",
        "strictest",
        "tenants",
        "ways",
    }
)
# A bundle made before the controller's law counted is kept for replays, and has none.
_SINCE = frozenset({"strictest"})
ROW_KEYS = frozenset(
    {
        "contract_expires",
        "hosts",
        "id",
        "jurisdiction",
        "languages",
        "options",
        "region",
        "review_expires",
        "service",
        "stages",
        "transfers",
    }
)

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z0-9]{1,32}){1,4}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_HOST = re.compile(r"[A-Za-z0-9.\[\]:-]{1,260}:[1-9][0-9]{0,4}")
_OVERLAY_KEYS = frozenset(
    {"abroad", "redact", "refused", "refused_grounds", "refused_purposes", "retention"}
)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """
    What an engine loads.

    *modules* map a path to Rego text; *data* is ``data.vocustody`` without its revision.
    """

    modules: Mapping[str, str]
    data: Mapping[str, Any]

    @cached_property
    def data_sha256(self) -> str:
        """Return the hex digest of the data."""
        return canonical.digest(dict(self.data))

    @cached_property
    def revision(self) -> str:
        """Return the hex digest of modules and data."""
        return canonical.digest({"data": self.data_sha256, "modules": dict(self.modules)})

    @property
    def document(self) -> dict[str, Any]:
        """Return the whole ``data`` document, revision included."""
        return {"vocustody": {**self.data, "revision": self.revision}}

    @property
    def facts(self) -> Facts:
        """Return what `decide.decide` holds an answer against."""
        served = {stage.value: set[str]() for stage in Stage}
        for row in self.data["processors"]:
            for stage in row["stages"]:
                served[stage].add(row["id"])
        return Facts(
            revision=self.revision,
            data_sha256=self.data_sha256,
            processors={stage: frozenset(ids) for stage, ids in served.items()},
            hosts={row["id"]: tuple(row["hosts"]) for row in self.data["processors"]},
            countries=frozenset(self.data["jurisdictions"]),
            asks_transfer_consent=any(
                way["ground"] == "explicit-consent"
                for classes in self.data["ways"].values()
                for ways in classes.values()
                for found in ways.values()
                for way in found
            ),
        )


def load(directory: Path | None = None) -> dict[str, str]:
    """Return the modules of *directory* (default: ours) by path, tests left out."""
    root = directory or SHIPPED
    found = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*.rego"))
        if not path.name.endswith("_test.rego")
    }
    if not found:
        raise BundleError(f"{root.name}: holds no rules")
    return found


def build(
    modules: Mapping[str, str],
    *,
    processors: Iterable[Mapping[str, Any]],
    jurisdictions: Mapping[str, Mapping[str, Any]],
    tenants: Mapping[str, Mapping[str, Any]],
    notices: Sequence[str],
    grounds: Sequence[str] = (),
) -> Bundle:
    """
    Return the bundle of *modules* over this data.

    *processors* are the registry's rows (`ROW_KEYS`) in order of preference, *jurisdictions*
    come from `jurisdictions.load`. *tenants* map each id to what it tightens: ``retention``
    (kind to seconds), ``redact`` (sink to classes), ``refused`` (processor ids),
    ``refused_grounds``, ``refused_purposes``; ``abroad`` says whether it serves people under
    another law than its own (`ABROAD`). *notices* are the versions of the consent notices
    that are still accepted. *grounds* are those (`GROUNDS`) on which this deployment lets data
    go abroad; by default nothing leaves.

    Raises:
        BundleError: listing every fault of rows and tenants, or of the modules' Rego.

    """
    rows = [dict(row) for row in processors]
    faults = [*_row_faults(rows), *_tenant_faults(tenants), *_notice_faults(notices)]
    _refuse([*faults, *_ground_faults(list(grounds))])
    laws = {
        code: {**law, "regions": index.regions(law, rows)} for code, law in jurisdictions.items()
    }
    derived = index.derive(rows, laws, grounds)
    data = {
        "grounds": sorted(set(grounds)),
        "index": derived.index,
        "jurisdictions": laws,
        "notices": sorted(set(notices)),
        "processors": rows,
        "strictest": index.strictest(laws),
        "tenants": {tenant: dict(overlay) for tenant, overlay in tenants.items()},
        "ways": derived.ways,
    }
    bundle = Bundle(modules=dict(modules), data=data)
    check(bundle)
    return bundle


def check(bundle: Bundle) -> None:
    """
    Return if *bundle* may be enforced.

    Raises:
        BundleError: no rules, Rego outside the portable subset, data of another shape, or
            regions, ways or an index that do not follow from its own rows.

    """
    if not bundle.modules:
        raise BundleError("holds no rules")
    subset.check(bundle.modules)
    if set(bundle.data) | _SINCE != DATA_KEYS:
        raise BundleError(f"data must have exactly: {', '.join(sorted(DATA_KEYS))}")
    try:
        faults = list(_data_faults(bundle.data))
    except (AttributeError, KeyError, TypeError) as exc:
        raise BundleError(f"data is of another shape ({type(exc).__name__})") from None
    _refuse(faults)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise BundleError("; ".join(faults))


def _data_faults(data: Mapping[str, Any]) -> Iterator[str]:
    rows, laws = data["processors"], data["jurisdictions"]
    canonical.encode(dict(data))
    yield from _row_faults(rows)
    yield from _tenant_faults(data["tenants"])
    yield from _notice_faults(data["notices"])
    yield from _ground_faults(data["grounds"])
    for code, law in laws.items():
        yield from (f"jurisdiction {code}: {fault}" for fault in law_faults(law))
        if law["regions"] != index.regions(law, rows):
            yield f"jurisdiction {code}: regions do not follow from processors"
    if "strictest" in data and data["strictest"] != index.strictest(laws):
        yield "strictest does not follow from jurisdictions"
    derived = index.derive(rows, laws, data["grounds"])
    if data["ways"] != derived.ways:
        yield "ways do not follow from processors, jurisdictions and grounds"
    if data["index"] != derived.index:
        yield "index does not follow from processors and jurisdictions"


def _row_faults(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    countries: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        where = f"processor {number}"
        if set(row) != ROW_KEYS:
            yield f"{where}: must have exactly: {', '.join(sorted(ROW_KEYS))}"
            continue
        yield from (f"{where}: {fault}" for fault in _values_faults(row))
        if row["id"] in seen:
            yield f"{where}: id is used before"
        if countries.setdefault(row["region"], row["jurisdiction"]) != row["jurisdiction"]:
            yield f"{where}: its region lies in two countries"
        seen.add(row["id"])


def _values_faults(row: Mapping[str, Any]) -> Iterator[str]:
    if not _all([row["id"]], _ID):
        yield "id is malformed"
    if not _all([row["region"]], _REGION):
        yield "region is malformed (lower-case ASCII, such as eu-central)"
    if not _all(row["languages"], _LANGUAGE):
        yield "languages must be a list of BCP 47 primary tags"
    if not _all(row["stages"], _ID) or set(row["stages"]) - {stage.value for stage in Stage}:
        yield f"stages must be among: {', '.join(stage.value for stage in Stage)}"
    if type(row["contract_expires"]) is not int or row["contract_expires"] < 0:
        yield "contract_expires must be epoch seconds, or 0 for what runs inside the cell"
    if type(row["review_expires"]) is not int or row["review_expires"] < 0:
        yield "review_expires must be epoch seconds"
    if not _all(row["hosts"], _HOST) or (row["contract_expires"] == 0 and row["hosts"]):
        yield "hosts must be name:port, and none for what runs inside the cell"
    if not isinstance(row["transfers"], list) or not all(map(_filed, row["transfers"])):
        yield "transfers must have exactly: expires, law, module, tool"
    options = row["options"]
    if not isinstance(options, dict) or not all(isinstance(v, str) for v in options.values()):
        yield "options must map names to texts"


def _filed(tool: Any) -> bool:
    return (
        isinstance(tool, dict)
        and set(tool) == {"expires", "law", "module", "tool"}
        and type(tool["expires"]) is int
        and tool["tool"] in {"bcr", "scc"}
        and re.fullmatch("[1-4]?", tool["module"]) is not None
    )


def _ground_faults(grounds: Sequence[str]) -> Iterator[str]:
    if set(grounds) - set(GROUNDS):
        yield f"grounds must be among: {', '.join(GROUNDS)}"


def _tenant_faults(tenants: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for tenant, overlay in tenants.items():
        where = f"tenant {tenant}"
        if not _ID.fullmatch(tenant) or set(overlay) - _OVERLAY_KEYS:
            yield f"{where}: may only have: {', '.join(sorted(_OVERLAY_KEYS))}"
        if overlay.get("abroad", "serve") not in ABROAD:
            yield f"{where}: abroad must be one of: {', '.join(ABROAD)}"
        if not _all(overlay.get("refused", []), _ID):
            yield f"{where}: refused must be a list of processor ids"
        if set(overlay.get("refused_grounds", [])) - set(GROUNDS):
            yield f"{where}: refused_grounds must be among: {', '.join(GROUNDS)}"
        if set(overlay.get("refused_purposes", [])) - {*PURPOSES, "answer_typed"}:
            yield f"{where}: refused_purposes must be purposes that rules know"
        clocks, classes = overlay.get("retention", {}), overlay.get("redact", {})
        yield from (f"{where}: {fault}" for fault in retention_faults(clocks, complete=False))
        yield from (f"{where}: {fault}" for fault in redact_faults(classes, complete=False))


def _notice_faults(notices: Sequence[str]) -> Iterator[str]:
    if isinstance(notices, str) or not _all(list(notices), _ID):
        yield "notices must be versions of the consent notice"


def _all(values: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, str) and pattern.fullmatch(value) for value in values
    )
