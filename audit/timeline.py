"""
What happened to an artifact, told from its leaves; pure.

- A touch is one entry from its ``touch.began`` to its ``touch.ended``; without an end it is
  open. Every other leaf is a fact: an entry of no length.
- A ``touch.ended`` of the outcome "killed" is no end: it says when a successor noticed that the
  process had died. Of the time in between nobody knows whether the processor was at work.
- Before ``job.accepted`` an artifact is "unknown to us"; until ``artifact.stored`` it is
  "announced" (WhatsApp holds it); until ``artifact.destroyed`` it is "kept".
- What a row declared of a processor's place stands beside what was observed of the connection
  (`compared`); nothing observed is said as such.
- An instant belongs to a touch from its beginning to its end, both included; a touch without a
  recorded end is never said to have been under way.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from audit.errors import NotInLogError
from audit.model import Entry, Event, EventType, Leaf, Whereabouts

_STATES = {
    EventType.JOB_ACCEPTED: "announced",
    EventType.ARTIFACT_STORED: "kept",
    EventType.ARTIFACT_DESTROYED: "destroyed",
}
KILLED = "killed"
_NOUNS = {
    "raw_audio": "recording",
    "redacted_transcript": "redacted transcript",
    "reply_audio": "spoken reply",
    "transcript": "transcript",
}


def timeline(leaves: Sequence[Leaf]) -> tuple[Entry, ...]:
    """Return the entries of *leaves* in order of their beginning."""
    ends = {leaf.event.touch: leaf for leaf in leaves if leaf.event.type is EventType.TOUCH_ENDED}
    entries = [
        _touch(leaf, ends.get(leaf.event.touch))
        if leaf.event.type is EventType.TOUCH_BEGAN
        else _fact(leaf)
        for leaf in leaves
        if leaf.event.type is not EventType.TOUCH_ENDED
    ]
    return tuple(sorted(entries, key=lambda entry: entry.began))


def whereabouts(artifact: str, at: datetime, leaves: Sequence[Leaf]) -> Whereabouts:
    """
    Return where *artifact* was at *at* and who handled it, from its *leaves*.

    Raises: `NotInLogError` if no leaf speaks of it.
    """
    own = [leaf for leaf in leaves if leaf.event.artifact == artifact]
    if not own:
        raise NotInLogError(f"{artifact}: no leaf of the log speaks of it")
    turn = _turn([leaf.event for leaf in own], at)
    state = _STATES[turn.type] if turn else "unknown to us"
    touches = timeline([leaf for leaf in own if leaf.event.touch])
    covering = [entry for entry in touches if _covers(entry, at)]
    handling = tuple(entry for entry in covering if entry.ended)
    unended = tuple(entry for entry in covering if not entry.ended)
    previous = max(
        (entry for entry in touches if (over := _over(entry)) and over < at),
        key=lambda entry: _over(entry) or at,
        default=None,
    )
    following = next((entry for entry in touches if entry.began > at), None)
    told = _told(artifact, at, [leaf.event for leaf in own], turn)
    return Whereabouts(
        artifact=artifact,
        at=at,
        state=state,
        region=turn.region if turn and state == "kept" else None,
        basis=_basis(turn),
        handling=handling,
        unended=unended,
        previous=previous,
        following=following,
        sentence=f"{told}; {_handled(handling, unended, at)}.{_next(following, at)}",
    )


def compared(entry: Entry) -> str:
    """
    Return what *entry* says was declared of a connection, beside what was observed of it.

    Empty where neither is. What was not seen is said to be unknown, and what the vendor says of
    itself stands apart from what we saw.
    """
    detail = entry.detail
    if not any(name in detail for name in ("declared", "host", "peer", "peers", "refused")):
        return ""
    region = detail.get("attested", {}).get("region")
    vendor = f"; attested by vendor: {region}" if region else ""
    return f"declared {_declared(detail.get('declared'))}; observed {_observed(detail)}{vendor}"


def _declared(said: object) -> str:
    if not isinstance(said, Mapping):
        return "nothing"
    hosts = " or ".join(map(str, said.get("hosts", ())))
    return f"{said.get('region')} ({said.get('country')}), host {hosts}"


def _observed(detail: Mapping[str, Any]) -> str:
    peers = detail.get("peers") or [peer for peer in (detail.get("peer"),) if peer]
    refused = [f"refused {each}" for each in detail.get("refused", ())]
    if not peers and not detail.get("host"):
        return ", ".join(["no connection" if refused else "nothing (unknown)", *refused])
    sent = detail.get("bytes")
    parts = [
        f"host {detail['host']}" if detail.get("host") else "host unknown",
        f"peer {' and '.join(map(str, peers))}" if peers else "peer unknown",
        str(detail["tls"]) if detail.get("tls") else "TLS not seen (tunnel)",
        f"{sent:,} bytes out" if isinstance(sent, int) else "bytes out unknown",
    ]
    return ", ".join([*parts, *refused])


def _touch(began: Leaf, ended: Leaf | None) -> Entry:
    event = began.event
    died = ended is not None and ended.event.outcome == KILLED
    return Entry(
        began=event.at,
        ended=ended.event.at if ended and not died else None,
        died_before=ended.event.at if ended and died else None,
        what=event.action or event.type,
        processor=event.processor,
        region=event.region,
        outcome=ended.event.outcome if ended else None,
        decision=event.decision,
        detail={**event.detail, **(ended.event.detail if ended else {})},
        indexes=(began.index, ended.index) if ended else (began.index,),
    )


def _fact(leaf: Leaf) -> Entry:
    event = leaf.event
    return Entry(
        began=event.at,
        ended=event.at,
        what=event.type,
        processor=event.processor,
        region=event.region,
        outcome=event.outcome,
        decision=event.decision,
        detail=event.detail,
        indexes=(leaf.index,),
    )


def _over(entry: Entry) -> datetime | None:
    """Return when *entry* was over at the latest; None if nothing says that it is."""
    return entry.ended or entry.died_before


def _covers(entry: Entry, at: datetime) -> bool:
    over = _over(entry)
    return entry.began <= at and (over is None or at <= over)


def _turn(events: Sequence[Event], at: datetime) -> Event | None:
    """Return the event that put the artifact into its state at *at*."""
    for kind in reversed(_STATES):
        for event in events:
            if event.type is kind and event.at <= at:
                return event
    return None


def _basis(turn: Event | None) -> str:
    match turn:
        case None:
            return "unknown"
        case Event(type=EventType.JOB_ACCEPTED):
            return "declared"
        case Event(type=EventType.ARTIFACT_DESTROYED) if turn.detail.get("verified") is not True:
            return "declared"
        case _:
            return "observed"


def _told(artifact: str, at: datetime, events: Sequence[Event], turn: Event | None) -> str:
    kinds = [e.detail.get("kind") for e in events if e.type is EventType.ARTIFACT_STORED]
    subject = f"At {_full(at)} UTC the {_NOUNS.get(str(*kinds[:1]), 'artifact')} {artifact}"
    match turn:
        case None:
            return f"{subject} was unknown to us"
        case Event(type=EventType.JOB_ACCEPTED):
            return (
                f"{subject} was announced: WhatsApp held it, we did not, and we do not know where"
                " (Meta may use it elsewhere for up to 60 minutes)"
            )
        case Event(type=EventType.ARTIFACT_DESTROYED):
            return f"{subject} was no more: {_destroyed(turn, at)}"
        case _:
            return f"{subject} was kept sealed in {turn.region} (cell of {turn.tenant})"


def _destroyed(event: Event, at: datetime) -> str:
    methods = " and ".join(map(str, event.detail.get("methods", ()))) or "an unnamed method"
    checked = "verified" if event.detail.get("verified") is True else "not verified"
    return f"destroyed at {_short(event.at, at)} UTC by {methods} ({checked})"


def _handled(handling: Sequence[Entry], unended: Sequence[Entry], at: datetime) -> str:
    sure = [
        f"{_who(entry)} was handling it: {entry.what}, since {_short(entry.began, at)} UTC,"
        f" {_under(entry)}{_beside(entry)}"
        for entry in handling
    ]
    unsure = [
        f"whether {_who(entry)} was handling it is unknown: {entry.what},"
        f" began {_short(entry.began, at)} UTC, {_no_end(entry, at)}, {_under(entry)}"
        f"{_beside(entry)}"
        for entry in unended
    ]
    return " and ".join([*sure, *unsure]) or "nobody was handling it"


def _no_end(entry: Entry, at: datetime) -> str:
    if entry.died_before is None:
        return "no end on record"
    return f"no end on record, the process died before {_short(entry.died_before, at)} UTC"


def _next(entry: Entry | None, at: datetime) -> str:
    if entry is None:
        return ""
    if entry.ended is None:
        return (
            f" Next, {_who(entry)}: {entry.what}, began {_short(entry.began, at)} UTC,"
            f" {_no_end(entry, at)}, {_under(entry)}{_beside(entry)}."
        )
    return (
        f" Next, from {_short(entry.began, at)} to {_short(entry.ended, at)} UTC,"
        f" {_who(entry)} handled it: {entry.what}, {entry.outcome}, {_under(entry)}"
        f"{_beside(entry)}."
    )


def _beside(entry: Entry) -> str:
    return f" ({told})" if (told := compared(entry)) else ""


def _who(entry: Entry) -> str:
    return f"{entry.processor} ({entry.region})"


def _under(entry: Entry) -> str:
    return f"under decision {entry.decision}" if entry.decision else "under no decision"


def _full(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _short(at: datetime, beside: datetime) -> str:
    """Return the time of *at*, with its date if that is not the date of *beside*."""
    same = at.astimezone(UTC).date() == beside.astimezone(UTC).date()
    return f"{at.astimezone(UTC):%H:%M:%S}" if same else _full(at)
