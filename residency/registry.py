"""
The registry of processors: `processors.toml`, and the operator's own file beside it.

Rules, all checked before any row is used; `RegistryError` lists every fault:

- Ids are unique. Every text is in Latin letters: a Cyrillic "a" is another host.
- A region is one the file's ``[region]`` table gives a jurisdiction, and the row agrees with it.
- *source*, *as_of* and *reviewed_by* stand in each row, and *as_of* is recent: vendors' pages
  change and contradict each other.
- Hosts are ``name:port``, never addresses. The vendor's name of the region shows in each host,
  unless ``settings.pin`` says by what else the region is held (`PINS`).
- A row with hosts has a contract. An expired one stays in the registry: policy refuses it, so
  that the refusal has a reason in the record.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from residency.errors import RegistryError
from residency.model import Processor, Service, Transfer

SHIPPED = Path(__file__).with_name("processors.toml")
STALE_AFTER = timedelta(days=400)
NO_CONTRACT = date.max  # runs inside the cell: there is nothing to expire

PINS = ("credential", "host", "none", "path", "query", "resource")
"""What holds a row to its region; ``none`` = only the vendor's word."""

PLACELESS = frozenset({"any", "auto", "default", "global", "nearest", "world"})

STAGES: Mapping[Service, tuple[str, ...]] = {
    Service.MESSAGING: ("capture", "notice", "reply"),
    Service.SPEECH_TO_TEXT: ("transcribe",),
    Service.TEXT_TO_SPEECH: ("speak",),
    Service.UNDERSTANDING: ("understand",),
}

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,63}:[1-9][0-9]{0,4}")
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]):[1-9][0-9]{0,4}")


def _latin(text: str) -> str:
    for char in text:
        if char.isalpha() and not unicodedata.name(char, "").startswith("LATIN"):
            raise ValueError(f"U+{ord(char):04X} is not a Latin letter (retype the word)")
    return text


Text = Annotated[str, Field(max_length=500), AfterValidator(_latin)]
Given = Annotated[Text, Field(min_length=1)]


class _Transfer(BaseModel):
    """One ``transfers`` entry of a row as people write it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: Literal["bcr", "scc"]
    module: Annotated[str, Field(pattern=r"^[1-4]?$")] = ""
    law: Given
    reference: Given
    expires: date


class _Row(BaseModel):
    """One ``[[processor]]`` table as people write it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,63}$")]
    vendor: Given
    service: Service
    product: Given
    model: Given
    adapter: Given
    region: Given
    jurisdiction: Given
    hosts: tuple[Text, ...]
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...]
    options: dict[Given, Text]
    settings: dict[Given, Text]
    contract: Text = ""
    contract_expires: date = NO_CONTRACT
    retention: Given
    source: Given
    as_of: date
    reviewed_by: Given
    review_expires: date
    transfers: tuple[_Transfer, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.hosts and (not self.contract or self.contract_expires == NO_CONTRACT):
            raise ValueError("hosts outside the cell need contract and contract_expires")
        if not self.languages and self.service is not Service.MESSAGING:
            raise ValueError("languages is empty (name each language it serves)")
        return self


class _File(BaseModel):
    """A registry file; rows are read one by one, so that each fault is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: dict[str, str] = {}
    processor: list[dict[str, Any]] = []


class Registry:
    """The processors in the order of the files; a cell knows no others."""

    def __init__(self, processors: Iterable[Processor]) -> None:
        self._by_id = {processor.id: processor for processor in processors}

    def __iter__(self) -> Iterator[Processor]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, processor_id: str) -> Processor:
        """Return one processor; raise `RegistryError` for an id that is not registered."""
        try:
            return self._by_id[processor_id]
        except KeyError:
            raise RegistryError(f"no processor {processor_id!r} in the registry") from None

    def find(self, service: Service, region: str) -> tuple[Processor, ...]:
        """Return the processors of *service* in *region*, in the order of the files."""
        return tuple(p for p in self if p.service is service and p.region == region)

    def rows(self) -> list[dict[str, Any]]:
        """
        Return plain rows for the policy bundle.

        *stages* are the stages the service takes part in. *languages* empty = not bound to one.
        Every ``expires`` is the first epoch second at which the thing no longer holds (midnight
        UTC after its last day); *contract_expires* is 0 where there is none to expire.
        """
        return [_plain(processor) for processor in self]


def load(
    path: Path | None = None,
    *,
    today: date,
    extra: Path | None = None,
    development: bool = False,
) -> Registry:
    """
    Read *path* (default: the shipped file) and *extra*; *development* also admits loopback hosts.

    Raises:
        RegistryError: listing every fault as ``file: row N (id): field: fault (fix)``.

    """
    faults: list[str] = []
    regions: dict[str, str] = {}
    found: list[tuple[str, Processor]] = []
    for source in (path or SHIPPED, extra):
        if source is None:
            continue
        read = _read(source, faults)
        regions |= read.region
        found += _processors(source.name, read.processor, faults)
    faults += _region_faults(regions)
    for where, processor in found:
        faults += [f"{where}: {fault}" for fault in _faults(processor, regions, today, development)]
    faults += _repeated(found)
    if faults:
        raise RegistryError("; ".join(faults))
    return Registry(processor for _, processor in found)


def _read(path: Path, faults: list[str]) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as exc:
        faults.append(f"{path.name}: {type(exc).__name__} (must be a readable UTF-8 file)")
    except tomllib.TOMLDecodeError as exc:
        faults.append(f"{path.name}: not TOML: {exc}")
    except ValidationError as exc:
        faults += [f"{path.name}: {fault}" for fault in _reasons(exc)]
    return _File()


def _processors(
    name: str, rows: Sequence[Mapping[str, Any]], faults: list[str]
) -> list[tuple[str, Processor]]:
    found = []
    for number, row in enumerate(rows, start=1):
        where = f"{name}: row {number} ({row.get('id', 'no id')})"
        try:
            read = _Row.model_validate(row)
            filed = tuple(Transfer(**dict(transfer)) for transfer in read.transfers)
            found.append((where, Processor(**(dict(read) | {"transfers": filed}))))
        except ValidationError as exc:
            faults += [f"{where}: {fault}" for fault in _reasons(exc)]
    return found


def _reasons(exc: ValidationError) -> list[str]:
    return [
        ": ".join(filter(None, (".".join(map(str, error["loc"])), error["msg"])))
        for error in exc.errors(include_input=False, include_url=False)
    ]


def _region_faults(regions: Mapping[str, str]) -> Iterator[str]:
    for region, code in regions.items():
        if region in PLACELESS:
            yield f"region {region}: not a place (name where the machines stand)"
        if code not in phonenumbers.SUPPORTED_REGIONS:
            yield f"region {region}: jurisdiction {code!r} is no ISO 3166-1 alpha-2 code"


def _faults(
    row: Processor,
    regions: Mapping[str, str],
    today: date,
    development: bool,  # noqa: FBT001 - private, one caller
) -> Iterator[str]:
    if row.region not in regions:
        yield f"region: {row.region!r} is not in the [region] table (add it with its jurisdiction)"
    elif row.jurisdiction != regions[row.region]:
        yield f"jurisdiction: {row.jurisdiction!r}, but {row.region} lies in {regions[row.region]}"
    if row.as_of > today:
        yield f"as_of: {row.as_of} is in the future"
    if today - row.as_of > STALE_AFTER:
        yield f"as_of: {row.as_of} is over {STALE_AFTER.days} days old (read the source again)"
    pin = row.settings.get("pin", "host")
    if pin not in PINS:
        yield f"settings.pin: {pin!r} is none of {', '.join(PINS)}"
    place = row.settings.get("vendor_region", row.region)
    if row.hosts and pin != "none" and place in PLACELESS:
        yield f"settings.vendor_region: {place!r} is not a place"
    for host in row.hosts:
        if not (development and _LOOPBACK.fullmatch(host)):
            yield from _host_faults(host, place if pin == "host" else None)


def _host_faults(host: str, place: str | None) -> Iterator[str]:
    port = host.rpartition(":")[2]
    if not _HOST.fullmatch(host) or int(port) > 65535 or "xn--" in host:  # noqa: PLR2004 - RFC 6335
        yield f"hosts: {host!r} is not name:port (lower case, ASCII, no address)"
    elif place and not re.search(rf"(?:^|[.-]){re.escape(place)}[.-]", host):
        yield f"hosts: {host!r} does not show {place!r} (set settings.vendor_region or .pin)"


def _repeated(found: Sequence[tuple[str, Processor]]) -> Iterator[str]:
    first: dict[str, str] = {}
    for where, processor in found:
        if processor.id in first:
            yield f"{where}: id: already used by {first[processor.id]}"
        first.setdefault(processor.id, where)


def _plain(row: Processor) -> dict[str, Any]:
    return {
        "id": row.id,
        "service": row.service.value,
        "stages": list(STAGES[row.service]),
        "region": row.region,
        "jurisdiction": row.jurisdiction,
        "languages": list(row.languages),
        "contract_expires": 0
        if row.contract_expires == NO_CONTRACT
        else _after(row.contract_expires),
        "hosts": list(row.hosts),
        "options": dict(row.options),
        "review_expires": _after(row.review_expires),
        "transfers": [
            {
                "expires": _after(transfer.expires),
                "law": transfer.law,
                "module": transfer.module,
                "tool": transfer.tool,
            }
            for transfer in row.transfers
        ],
    }


def _after(day: date) -> int:
    return int(datetime.combine(day + timedelta(days=1), time(), UTC).timestamp())
