"""
Values of the audit trail.

- An `Event` is what somebody claims happened; a leaf is an event as the log stored it.
- Nothing here identifies a person: *subject* is a random pseudonym, *artifact*, *job* and
  *touch* are random ids.
- *detail* holds facts with their basis, such as ``{"host": ..., "basis": "observed"}``; its
  JSON stays in the subset where sorted keys are byte-identical to RFC 8785: ASCII keys, no
  floats, integers within 53 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """What happened, as ``noun.verb``; kept sorted."""

    ACCESS_APPROVED = "access.approved"
    ACCESS_ASKED = "access.asked"
    ACCESS_DENIED = "access.denied"
    ACCESS_EXPORTED = "access.exported"
    ACCESS_USED = "access.used"
    ARTIFACT_DESTROYED = "artifact.destroyed"
    ARTIFACT_STORED = "artifact.stored"
    CONSENT_ASKED = "consent.asked"
    CONSENT_EXPIRED = "consent.expired"
    CONSENT_GRANTED = "consent.granted"
    CONSENT_REFUSED = "consent.refused"
    CONSENT_RENEWED = "consent.renewed"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    ERASURE_CERTIFIED = "erasure.certified"
    ERASURE_EXECUTED = "erasure.executed"
    ERASURE_HARDENED = "erasure.hardened"
    ERASURE_REQUESTED = "erasure.requested"
    FINDING_CLOSED = "finding.closed"
    FINDING_OPENED = "finding.opened"
    HANDOVER_CLOSED = "handover.closed"
    HANDOVER_OPENED = "handover.opened"
    HOLD_PLACED = "hold.placed"
    HOLD_PROPOSED = "hold.proposed"
    HOLD_RELEASED = "hold.released"
    JOB_ACCEPTED = "job.accepted"
    JOB_ENDED = "job.ended"
    KEY_DESTROYED = "key.destroyed"
    KEY_REPLACED = "key.replaced"
    KEY_ROLLED = "key.rolled"
    POLICY_DECIDED = "policy.decided"
    PROCESSING_PAUSED = "processing.paused"
    PROCESSING_RESUMED = "processing.resumed"
    RECEIPT_ISSUED = "receipt.issued"
    REPLY_SETTLED = "reply.settled"
    REPLY_UNKNOWN = "reply.unknown"
    RETENTION_CHECKED = "retention.checked"
    RETENTION_OVERDUE = "retention.overdue"
    SUBJECT_DECLARED = "subject.declared"
    SUBJECT_MERGED = "subject.merged"
    SUBJECT_SPLIT = "subject.split"
    TOUCH_BEGAN = "touch.began"
    TOUCH_ENDED = "touch.ended"
    UPDATE_ARRIVED = "update.arrived"
    UPDATE_FORWARDED = "update.forwarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    One claim for the log.

    *id* makes a repeated append one leaf. *at* is aware UTC and is the writer's claim; the
    signed checkpoint is the evidence. *touch* pairs a ``touch.began`` with its
    ``touch.ended``. *region* is where the processor of a touch (or the store of an artifact)
    stands, not the log's own region.
    """

    id: str
    type: EventType
    at: datetime
    tenant: str
    artifact: str | None = None
    subject: str | None = None
    job: str | None = None
    touch: str | None = None
    actor: str = "gateway"
    action: str | None = None
    processor: str | None = None
    region: str | None = None
    decision: str | None = None
    outcome: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """An event as stored: its index, its exact bytes, and the fields read back from them."""

    index: int
    data: bytes
    event: Event
    aseq: int | None
    aprev: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof that an append is durable: *index* in the log *origin*, under a tree of *size*."""

    origin: str
    index: int
    leaf_hash: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One line of a timeline. *began* = *ended* for a fact.

    *ended* is None where nobody recorded the end of a touch. Where the process that would have
    done so died, *died_before* is when its successor noticed: the end lies somewhere before.
    """

    began: datetime
    ended: datetime | None
    what: str
    processor: str | None
    region: str | None
    outcome: str | None
    decision: str | None
    detail: Mapping[str, Any]
    indexes: tuple[int, ...]
    died_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """
    The answer to "where was this artifact then, and who touched it".

    *state* is "unknown to us" before the first leaf, "announced" (WhatsApp holds it, we do
    not), "kept" or "destroyed". *handling* are the touches under way at *at*, by their recorded
    beginning and end; *unended* those that had begun and have no end on record: whether they
    were still under way is unknown. *previous* and *following* are the nearest ones before and
    after. *basis* says how *state* is known.
    """

    artifact: str
    at: datetime
    state: str
    region: str | None
    basis: str
    handling: tuple[Entry, ...]
    unended: tuple[Entry, ...]
    previous: Entry | None
    following: Entry | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a verifier found wrong, and where."""

    where: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verification said: *ok* is true only when everything was checked and held."""

    origin: str
    leaves: int
    root: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing at all was found."""
        return not self.findings
