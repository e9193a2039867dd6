"""
Leaves: how an event is written as one entry of the log, and read back.

- An entry is canonical JSON (`canonical`) of at most 4 KiB; absent facts are left out.
- ``ts`` is integer microseconds UTC; ``region`` is where the processor stands, ``log_region``
  whose log this is.
- No string of a leaf looks like a phone number, a message id or an address (`personal`).
- ``aseq`` counts the events of one artifact in this log from 0 without gaps, and ``aprev`` is
  the hex leaf hash of the one before: a missing event shows.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from audit import canonical, personal
from audit.errors import EventError
from audit.model import Event, EventType, Leaf

VERSION = 1
SKEW = "clock_skew_us"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_SECOND = re.compile(r"\.1[0-9]{9}$", re.ASCII)  # told again in another second: another event
_TEXTS = (
    "artifact", "subject", "job", "touch", "action", "processor", "region", "decision", "outcome",
)  # fmt: skip
_REQUIRED = {
    EventType.ARTIFACT_DESTROYED: ("artifact",),
    EventType.ARTIFACT_STORED: ("artifact", "region"),
    EventType.JOB_ACCEPTED: ("job",),
    EventType.JOB_ENDED: ("job",),
    EventType.TOUCH_BEGAN: ("touch", "action", "processor", "region"),
    EventType.TOUCH_ENDED: ("touch", "action", "processor", "region", "outcome"),
}
TOUCH_FACTS = (
    "artifact", "processor", "region", "action", "decision", "tenant", "job", "subject",
)  # fmt: skip
"""What a touch is about: its end says the same of each as its beginning."""

_OUTCOMES = frozenset({"done", "raised", "cancelled", "killed"})
_FIELDS = frozenset(
    {"v", "id", "ts", "type", "log_region", "tenant", "aseq", "aprev", "actor", "detail", *_TEXTS}
)


def check(event: Event) -> None:
    """Return if *event* may become a leaf, else raise `EventError` naming the field."""
    for name in ("id", "artifact", "subject", "job", "touch", "tenant"):
        value = getattr(event, name)
        if value is not None and not (isinstance(value, str) and _ID.fullmatch(value)):
            raise EventError(f"{name}: not an opaque id (letters, digits and _.:-, at most 128)")
    if event.at.utcoffset() != timedelta(0):
        raise EventError("at: not an aware UTC time")
    for name in _REQUIRED.get(event.type, ()):
        if not getattr(event, name):
            raise EventError(f"{name}: {event.type} needs it")
    if event.type is EventType.TOUCH_ENDED and event.outcome not in _OUTCOMES:
        raise EventError(f"outcome: expected one of {', '.join(sorted(_OUTCOMES))}")
    if SKEW in event.detail:
        raise EventError(f"detail.{SKEW}: only the log writes this")
    texts = {name: getattr(event, name) or "" for name in ("tenant", "actor", *_TEXTS)}
    texts["id"] = _SECOND.sub("", event.id)
    if path := personal.fault({**texts, "detail": event.detail}):
        raise EventError(f"{path}: looks like a phone number, a message id or an address")


def touch_facts(event: Event) -> dict[str, str | None]:
    """Return what *event* says its touch is about."""
    return {name: getattr(event, name) for name in TOUCH_FACTS}


def encode(event: Event, *, ts: int, log_region: str, aseq: int | None, aprev: str | None) -> bytes:
    """Return the entry of *event* at *ts*; raise `EventError` if it is not canonical."""
    skew = ts - micros(event.at)
    fields: dict[str, Any] = {
        "v": VERSION,
        "id": event.id,
        "ts": ts,
        "type": event.type.value,
        "log_region": log_region,
        "tenant": event.tenant,
        "aseq": aseq,
        "aprev": aprev,
        "actor": event.actor,
        "detail": {**event.detail, SKEW: skew} if skew else event.detail,
    }
    fields |= {name: getattr(event, name) for name in _TEXTS}
    return canonical.encode({k: v for k, v in fields.items() if v is not None})


def decode(index: int, data: bytes) -> Leaf:
    """Return the leaf that *data* is, or raise `EventError` if this version cannot read it."""
    fields = canonical.decode(data)
    if fields.get("v") != VERSION or not fields.keys() <= _FIELDS:
        raise EventError(f"leaf {index}: another version, or a field this one does not know")
    try:
        event = _event(fields)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise EventError(f"leaf {index}: a field is missing or of another type") from None
    return Leaf(
        index=index, data=data, event=event, aseq=fields.get("aseq"), aprev=fields.get("aprev")
    )


def micros(at: datetime) -> int:
    """Return *at* as microseconds since the epoch, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def instant(ts: int) -> datetime:
    """Return the aware UTC time of *ts* microseconds since the epoch, exactly."""
    return _EPOCH + ts * _MICROSECOND


def _event(fields: Mapping[str, Any]) -> Event:
    return Event(
        id=fields["id"],
        type=EventType(fields["type"]),
        at=instant(fields["ts"]),
        tenant=fields["tenant"],
        actor=fields["actor"],
        detail=fields["detail"],
        **{name: fields.get(name) for name in _TEXTS},
    )
