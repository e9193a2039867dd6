"""
The transfer impact record: who sent what where, on which ground, and what speaks against it; pure.

The fields follow the six steps of EDPB Recommendations 01/2020; the same record serves PDPA s. 26
and LGPD Art. 33. One record per law of a person and processor.

- A transfer is a processor in a country that is none of the person's, or one that says of
  itself that it works elsewhere too, or that names no country.
- A row that is only listed transfers nothing: an agreement is filed, or a touch was seen.
- What nobody recorded is "unknown"; nothing here concludes, a person does.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from residency import pins
from residency.model import Processor

UNKNOWN = "unknown"
NO_COUNTRY = "ZZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    One touch as the trail has it: *origin* is whose law held for the person.

    *ground* is the one its decision named, empty if it named none.
    """

    processor: str
    origin: str
    action: str
    ground: str
    at: datetime
    host: str = ""
    peers: tuple[str, ...] = ()
    tls: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of the connections, beside what is configured; each value once."""

    configured: tuple[str, ...]
    hosts: tuple[str, ...]
    peers: tuple[str, ...]
    tls: tuple[str, ...]
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    One transfer, step by step.

    *tools* are as filed in the registry, *grounds* as decisions used them. *tls* is a measure
    that is verified only where our own client saw it.
    """

    id: str
    exporter: str
    exporter_role: str
    importer: str
    importer_role: str
    purpose: str
    data_classes: tuple[str, ...]
    data_subjects: str
    special_categories: str
    encryption: str
    origin: str
    destination: str
    onward: str
    touches: int
    first_observed: datetime | None
    last_observed: datetime | None
    tools: tuple[str, ...]
    grounds: tuple[str, ...]
    law_and_practice: str
    measures: Mapping[str, str]
    conclusion: str
    approver: str
    next_review: str
    suspension: str
    observation: Observation
    contradictions: tuple[str, ...]


def records(
    rows: Iterable[Processor],
    seen: Iterable[Seen],
    *,
    exporter: str,
    country: str,
    findings: Mapping[str, Sequence[str]],
) -> list[Record]:
    """
    Return the transfers of the cell *exporter*, which stands in *country*, in the rows' order.

    *findings* are the open ones by processor, in words. A filed row without a touch is a
    transfer that may happen: its origin is *country*.
    """
    touches: defaultdict[str, defaultdict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for each in seen:
        touches[each.processor][each.origin].append(each)
    found = []
    for row in rows:
        if not row.hosts or not (row.contract or row.id in touches):
            continue
        for origin, own in sorted((touches[row.id] or {country: []}).items()):
            if leaves(row, origin):
                found.append(_record(row, origin, own, exporter, findings.get(row.id, ())))
    return found


def leaves(row: Processor, origin: str) -> bool:
    """Tell whether what *row* handles leaves, or may leave, the person's country *origin*."""
    # Candidates joined by "+": only a country that every candidate is keeps it at home.
    return {row.jurisdiction} != set(origin.split("+")) or elsewhere(row) != UNKNOWN


def elsewhere(row: Processor) -> str:
    """Return what the row says of work in other countries."""
    minutes = row.settings.get("in_use_elsewhere_minutes", "")
    return f"in use up to {minutes} minutes in other countries" if minutes else UNKNOWN


def _record(
    row: Processor, origin: str, own: Sequence[Seen], exporter: str, findings: Sequence[str]
) -> Record:
    times = sorted(each.at for each in own)
    observation = Observation(
        configured=row.hosts,
        hosts=_each(each.host for each in own),
        peers=_each(peer for each in own for peer in each.peers),
        tls=_each(each.tls for each in own),
        regions=_each(each.region for each in own),
    )
    return Record(
        id=f"{exporter}.{origin}.{row.id}",
        exporter=exporter,
        exporter_role="processor for the tenant, which is the controller",
        importer=row.vendor,
        importer_role="sub-processor" if row.contract else f"{UNKNOWN} (no agreement filed)",
        purpose=f"{row.service.value} for answering a voice note",
        data_classes=_each(_DATA.get(each.action, each.action) for each in own),
        data_subjects="people who write to the tenant's number",
        special_categories=f"{UNKNOWN} (speech may hold any)",
        encryption="in transit; the importer reads the content and holds the keys of its copy",
        origin=origin,
        destination=UNKNOWN if row.jurisdiction == NO_COUNTRY else row.jurisdiction,
        onward=elsewhere(row),
        touches=len(own),
        first_observed=times[0] if times else None,
        last_observed=times[-1] if times else None,
        tools=tuple(
            " ".join(filter(None, (t.tool, t.module and f"module {t.module}", "under", t.law)))
            + f" until {t.expires} ({t.reference})"
            for t in row.transfers
        ),
        grounds=_each(each.ground or "none named" for each in own),
        law_and_practice=f"{UNKNOWN} (no assessment is kept here)",
        measures={
            "egress only to these hosts": "enforced by the broker",
            "held to its region by": ", ".join(pins.pins(row)),
            "required options": ", ".join(f"{k}={v}" for k, v in row.options.items()) or "none",
            "TLS": "verified by our own client" if observation.tls else UNKNOWN,
        },
        conclusion=UNKNOWN,
        approver=UNKNOWN,
        next_review=row.review_expires.isoformat(),
        suspension=f"drift: {row.settings.get('on_drift', 'suspend')}",
        observation=observation,
        contradictions=(*findings, *_contradictions(row, own)),
    )


_DATA = {
    "fetch": "raw audio",
    "send": "reply",
    "speak": "reply text",
    "transcribe": "raw audio",
    "understand": "redacted transcript",
}


def _contradictions(row: Processor, own: Sequence[Seen]) -> tuple[str, ...]:
    said = []
    if own and not row.contract:
        said.append("touched without an agreement on file")
    if any(not each.ground for each in own) and row.jurisdiction not in _origins(own):
        said.append("touched abroad, and no decision named a ground")
    return tuple(said)


def _origins(own: Sequence[Seen]) -> set[str]:
    return {code for each in own for code in each.origin.split("+")}


def _each(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))
