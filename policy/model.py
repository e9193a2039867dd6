"""
Questions and decisions.

- A question holds every fact a rule may read; `now` is one of them, so that a decision can
  be replayed.
- A decision is `Allowed`, `Denied` or `Undecided`, never a bare bool. Whatever is malformed,
  late, undefined or of another revision is `Undecided`, and undecided is not allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

KINDS = (
    "raw_audio_seconds",
    "redacted_seconds",
    "reply_audio_seconds",
    "transcript_seconds",
)
"""The clocks that every decision sets."""

SINKS = ("analytics", "log", "understand")
"""Where a text may go; each has its own redaction."""


class Stage(StrEnum):
    """The step that asks; kept sorted."""

    CAPTURE = "capture"  # fetch a voice note from WhatsApp
    NOTICE = "notice"  # ask for consent, confirm a refusal or withdrawal, announce a human
    REPLY = "reply"  # send an answer through WhatsApp
    SPEAK = "speak"  # text to speech
    TRANSCRIBE = "transcribe"  # speech to text
    UNDERSTAND = "understand"  # language understanding


class ConsentState(StrEnum):
    """How a consent stands; kept sorted."""

    GRANTED = "granted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """
    One expression of will: the newest row per (tenant, subject, purpose) counts.

    Times are epoch seconds. *notice_version* and *notice_sha256* name the exact words shown;
    *evidence* is the keyed hash of the message that expressed it, never the message id.
    """

    id: str
    tenant: str
    subject: str
    purpose: str
    state: ConsentState
    at: int
    expires_at: int
    notice_version: str
    notice_sha256: str
    language: str
    channel: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    Everything one decision may look at. *now* in epoch seconds.

    *languages* in order of preference (BCP 47 primary tags). *consent* is the newest row for
    the purpose, or None. *region* is the cell's region.
    """

    now: int
    stage: Stage
    purpose: str
    tenant: str
    jurisdiction: str
    region: str
    languages: tuple[str, ...]
    consent: Consent | None
    held: bool
    minor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What the caller knows of the active bundle, to hold an engine's answer against.

    *processors* are the registry ids per stage: an answer that names another is no answer.
    """

    revision: str
    data_sha256: str
    processors: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligations:
    """
    What must be done if the decision is used: lifetimes in seconds, redaction classes per sink.

    *options* are vendor options per processor id that the outgoing request must carry.
    """

    raw_audio_seconds: int
    transcript_seconds: int
    redacted_seconds: int
    reply_audio_seconds: int
    redact: Mapping[str, frozenset[str]]
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What makes a decision replayable: revision, engine, and SHA-256 digests in hex."""

    id: str
    engine: str
    revision: str
    data_sha256: str
    input_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Go ahead, with *processors* in this order and no other, under *obligations*."""

    processors: tuple[str, ...]
    reasons: tuple[str, ...]
    obligations: Obligations
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The rules say no: final, audited, never retried elsewhere."""

    reasons: tuple[str, ...]
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Nobody said yes: nothing is fetched or sent; the job waits or ends in text."""

    reasons: tuple[str, ...]
    provenance: Provenance


Decision = Allowed | Denied | Undecided
