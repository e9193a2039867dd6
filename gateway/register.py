"""
The register of recipients: who may handle content, who did, and whether the two agree.

Reads the registry, the tables and the trail, beside a running cell; changes nothing.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from audit import leaf
from audit.model import Event, EventType
from audit.ports import Shelf
from audit.trail import Trail
from gateway import db
from gateway.schema import findings, observations
from residency import pins, transfers
from residency.model import Processor, Service
from residency.registry import Registry, stages
from residency.transfers import Record, Seen

BATCH = 1_000
FACTS = ("host", "peer", "region", "tls")

Adapters = Collection[tuple[Service, str]]


async def processors(
    registry: Registry, engine: AsyncEngine | None, *, built: Adapters, region: str, today: date
) -> list[dict[str, Any]]:
    """
    Return each row as declared and as observed, and whether this cell (*region*) may use it.

    *built* are the (service, adapter) pairs that there is code for. Without *engine* (the cell
    never ran) nothing is known to have been observed.
    """
    seen = await _observed(engine) if engine else {}
    opened = await _open(engine) if engine else {}
    return [
        _line(row, seen.get(row.id, {}), opened.get(row.id, []), built, region, today)
        for row in registry
    ]


def _line(
    row: Processor,
    seen: Mapping[str, Any],
    opened: Sequence[Mapping[str, Any]],
    built: Adapters,
    region: str,
    today: date,
) -> dict[str, Any]:
    why = list(_refusals(row, opened, built, today))
    return {
        "processor": row.id,
        "vendor": row.vendor,
        "product": row.product,
        "eligible": not why,
        "here": row.region == region,
        "why_not": why,
        "declared": {
            "basis": "declared",
            "region": row.region,
            "country": row.jurisdiction,
            "hosts": list(row.hosts),
            "held_by": list(pins.pins(row)) if row.hosts else ["inside the cell"],
            "model": row.model,
            "options": dict(row.options),
            "retention": row.retention,
            "contract": row.contract or ("none needed" if not row.hosts else "no agreement filed"),
            "elsewhere": transfers.elsewhere(row),
            "source": row.source,
            "as_of": row.as_of.isoformat(),
            "review_expires": row.review_expires.isoformat(),
        },
        "observed": dict(seen) or {"basis": "unknown"},
        "differences": [
            f"{each['kind']}: declared {each['declared']}, observed {each['observed']}"
            for each in opened
        ],
    }


def _refusals(
    row: Processor, opened: Sequence[Mapping[str, Any]], built: Adapters, today: date
) -> Iterator[str]:
    if row.hosts and not row.contract:
        yield "no agreement filed"
    elif row.hosts and row.contract_expires < today:
        yield f"agreement expired on {row.contract_expires}"
    if row.review_expires < today:
        yield f"review expired on {row.review_expires}"
    if not stages(row) and row.adapter != "none":
        yield "takes part in no stage of a note"
    elif row.adapter == "none" or (row.service, row.adapter) not in built:
        yield "listed, not built (no adapter)"
    for each in opened:
        if each["suspends"]:
            yield f"suspended by finding {each['finding']} ({each['kind']})"


async def _observed(engine: AsyncEngine) -> dict[str, dict[str, Any]]:
    """Return the last value of each fact, and the span in which anything was seen."""
    query = select(observations).order_by(observations.c.last_at)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(query)).all()
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in rows:
        one = found[row.processor]
        one[row.fact] = {"value": row.value, "basis": row.basis, "at": _time(row.last_at)}
        one["first_seen"] = min(one.get("first_seen", _time(row.first_at)), _time(row.first_at))
        one["last_seen"] = _time(row.last_at)
    return dict(found)


async def _open(engine: AsyncEngine) -> dict[str, list[dict[str, Any]]]:
    by_processor: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in await listed(engine):
        if each["in_force"]:
            by_processor[each["processor"]].append(each)
    return dict(by_processor)


async def listed(engine: AsyncEngine) -> list[dict[str, Any]]:
    """
    Return every finding, the newest first; *in_force* until its closing is on the trail.

    A suspension holds exactly as long as a finding that suspends is in force.
    """
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(findings).order_by(findings.c.opened_at.desc()))).all()
    return [
        {
            "finding": row.id,
            "processor": row.processor,
            "kind": row.kind,
            "severity": row.severity,
            "declared": row.declared,
            "observed": row.observed,
            "basis": row.basis,
            "suspends": row.suspends,
            "in_force": row.closing_recorded_at is None,
            "opened": _time(row.opened_at),
            "closed": _time(row.closed_at) if row.closed_at else None,
            "closed_by": row.closed_by,
            "why": row.why,
        }
        for row in rows
    ]


async def moved(
    registry: Registry, shelf: Shelf, engine: AsyncEngine, *, cell: str, region: str
) -> list[Record]:
    """Return the transfer impact records of *cell*, from the whole of its trail."""
    countries = {row.region: row.jurisdiction for row in registry}
    said = {
        processor: [f"{each['kind']}: {each['observed']} ({each['finding']})" for each in opened]
        for processor, opened in (await _open(engine)).items()
    }
    return transfers.records(
        registry,
        [each async for each in _touches(shelf)],
        exporter=cell,
        country=countries.get(region, transfers.NO_COUNTRY),
        findings=said,
    )


async def _touches(shelf: Shelf) -> AsyncIterator[Seen]:
    """Yield each ended touch with the law of its person, as its decision found it."""
    origins: dict[str, str] = {}
    async for event in _events(shelf):
        if event.type is EventType.POLICY_DECIDED and event.decision:
            origins[event.decision] = str(event.detail.get("jurisdiction", transfers.UNKNOWN))
        if event.type is EventType.TOUCH_ENDED and event.decision in origins:
            yield _seen(event, origins[event.decision])


async def _events(shelf: Shelf) -> AsyncIterator[Event]:
    async with await Trail.read(shelf) as trail:
        for name in trail.quarters():
            reader = trail.reader(name)
            _, head = await reader.head()
            for begin in range(0, head.size, BATCH):
                end = min(begin + BATCH, head.size)
                for index, data in enumerate(await reader.entries(begin, end), start=begin):
                    yield leaf.decode(index, data).event


def _seen(event: Event, origin: str) -> Seen:
    detail = event.detail
    return Seen(
        processor=event.processor or "",
        origin=origin,
        action=event.action or "",
        ground=str(detail.get("transfer", "")),
        at=event.at,
        host=str(detail.get("host", "")),
        peers=tuple(detail.get("peers", ())),
        tls=str(detail.get("tls", "")),
        region=str(detail.get("attested", {}).get("region", "")),
    )


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
