"""
The registry of processors: `processors.toml`, and the operator's own file beside it.

Rules, all checked before any row is used; `RegistryError` lists every fault:

- Ids are unique. Every text is in Latin letters: a Cyrillic "a" is another host.
- A region is one the file's ``[region]`` table gives a jurisdiction, and the row agrees with it.
  ``ZZ`` means that the vendor names no country: no law admits it.
- *source*, *as_of* and *reviewed_by* stand in each row: vendors' pages change and contradict
  each other. A review holds for `REVIEW` at most.
- A row is held to its region and its model as `residency.pins` says.
- What is not filed, or expired, stays in the registry: policy refuses it, so that the refusal
  has a reason in the record. A row without an adapter takes part in no stage.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from residency import pins, rows
from residency.errors import RegistryError
from residency.model import Processor, Service
from residency.rows import NO_CONTRACT, NOT_FILED, Book

SHIPPED = Path(__file__).with_name("processors.toml")
REVIEW = timedelta(days=366)
NO_ADAPTER = "none"  # listed, not built

STAGES: Mapping[Service, tuple[str, ...]] = {
    Service.MESSAGING: ("capture", "notice", "reply"),
    Service.SPEECH_TO_TEXT: ("transcribe",),
    Service.TEXT_TO_SPEECH: ("speak",),
    Service.UNDERSTANDING: ("understand",),
}
"""The stages of a voice note that a service takes part in; the others keep the cell running."""

_BEFORE_ALL = 1  # an epoch second at which nothing of ours was in force


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
        UTC after its last day); *contract_expires* is 0 where there is none to expire, and 1
        where none was ever filed.
        """
        return [_plain(processor) for processor in self]


def load(
    path: Path | None = None,
    *,
    today: date,
    extra: Path | None = None,
    development: bool = False,
    laws: Collection[str] | None = None,
) -> Registry:
    """
    Read *path* (default: the shipped file) and *extra*; *development* also admits loopback hosts.

    The regions, templates and requirements of the shipped file hold for either. *laws* are the
    names that a transfer may be filed under; None = not checked.

    Raises:
        RegistryError: listing every fault as ``file: row N (id): field: fault (fix)``.

    """
    faults: list[str] = []
    book = Book()
    shipped = rows.read(SHIPPED, book, faults)
    found = shipped if path in (None, SHIPPED) else rows.read(path, book, faults)
    found += rows.read(extra, book, faults) if extra else []
    for where, row in found:
        faults += [
            f"{where}: {fault}"
            for fault in (
                *_faults(row, book.regions, today),
                *pins.faults(
                    row,
                    nearest=book.nearest,
                    required=book.required.get(row.vendor),
                    development=development,
                ),
                *_transfer_faults(row, laws),
            )
        ]
    faults += _repeated(found)
    if faults:
        raise RegistryError("; ".join(faults))
    return Registry(processor for _, processor in found)


def regions(path: Path | None = None) -> dict[str, str]:
    """
    Return where the rows of *path* (default: the shipped file) stand: region to country.

    What is wrong with a row, `load` says.
    """
    found, _ = _read(path)
    return {row.region: row.jurisdiction for _, row in found}


def declared(path: Path | None = None) -> dict[str, str]:
    """Return the ``[region]`` tables of *path* and of the shipped file: region to country."""
    return dict(_read(path)[1].regions)


def _read(path: Path | None) -> tuple[list[tuple[str, Processor]], Book]:
    book = Book()
    found = rows.read(SHIPPED, book, [])
    if path not in (None, SHIPPED):
        found = rows.read(path, book, [])
    return found, book


def _faults(row: Processor, regions: Mapping[str, str], today: date) -> Iterator[str]:
    if row.region not in regions:
        yield f"region: {row.region!r} is not in the [region] table (add it with its jurisdiction)"
    elif row.jurisdiction != regions[row.region]:
        yield f"jurisdiction: {row.jurisdiction!r}, but {row.region} lies in {regions[row.region]}"
    if row.as_of > today:
        yield f"as_of: {row.as_of} is in the future"
    if row.review_expires <= row.as_of:
        yield f"review_expires: {row.review_expires} is not after as_of (read the source again)"
    if row.review_expires - row.as_of > REVIEW:
        yield (
            f"review_expires: {row.review_expires} is over {REVIEW.days} days after as_of"
            " (read the source each year)"
        )


def _transfer_faults(row: Processor, laws: Collection[str] | None) -> Iterator[str]:
    for transfer in row.transfers:
        if laws is not None and transfer.law not in laws:
            yield f"transfers: no law {transfer.law!r} (one of: {', '.join(sorted(laws))})"
        if (transfer.tool == "scc") != bool(transfer.module):
            yield "transfers: scc, and only scc, has a module (1 to 4)"


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
        "stages": list(stages(row)),
        "region": row.region,
        "jurisdiction": row.jurisdiction,
        "languages": list(row.languages),
        "contract_expires": _contract(row),
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


def stages(row: Processor) -> tuple[str, ...]:
    """Return the stages in which policy may name the row; none without an adapter."""
    return () if row.adapter == NO_ADAPTER else STAGES.get(row.service, ())


def _contract(row: Processor) -> int:
    match row.contract_expires:
        case rows.NO_CONTRACT:
            return 0
        case rows.NOT_FILED:
            return _BEFORE_ALL
        case day:
            return _after(day)


def _after(day: date) -> int:
    return int(datetime.combine(day + timedelta(days=1), time(), UTC).timestamp())


__all__ = [
    "NOT_FILED",
    "NO_CONTRACT",
    "SHIPPED",
    "STAGES",
    "Registry",
    "declared",
    "load",
    "regions",
    "stages",
]
