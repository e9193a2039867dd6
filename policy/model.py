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
from typing import Any

KINDS = (
    "raw_audio_seconds",
    "redacted_seconds",
    "reply_audio_seconds",
    "transcript_seconds",
)
"""The clocks that every decision sets."""

SINKS = ("analytics", "log", "understand")
"""Where a text may go; each has its own redaction."""

GROUNDS = ("adequacy", "scc", "bcr", "explicit-consent")
"""On what data may go abroad, the strongest first (GDPR Art. 45, 46(2)(c), 47, 49(1)(a))."""

ABROAD = ("decline", "serve")
"""What a controller does about people who are under another law than its own."""

TRANSFER_ABROAD = "transfer_abroad"
"""The purpose of an explicit consent to a transfer."""

PURPOSES = ("analytics", "human_review", "training", TRANSFER_ABROAD, "transcribe_and_answer")
"""What a person is asked about, each by itself; ``answer_typed`` is not: it needs no consent."""


class Stage(StrEnum):
    """The step that asks; kept sorted."""

    CAPTURE = "capture"  # fetch a voice note from WhatsApp
    NOTICE = "notice"  # ask for consent, confirm a refusal or withdrawal, announce a human
    REPLY = "reply"  # send an answer through WhatsApp
    SPEAK = "speak"  # text to speech
    TRANSCRIBE = "transcribe"  # speech to text
    UNDERSTAND = "understand"  # language understanding


class DataClass(StrEnum):
    """What a step is about to hand over; kept sorted."""

    MESSAGE = "message"  # words of ours that hold nothing of the person's
    REDACTED_TEXT = "redacted_text"  # what was said, identifiers taken out
    REPLY_TEXT = "reply_text"  # the answer, which may repeat what was said
    VOICE = "voice"  # the recording


HANDED: Mapping[Stage, DataClass] = {
    Stage.CAPTURE: DataClass.VOICE,
    Stage.NOTICE: DataClass.MESSAGE,
    Stage.REPLY: DataClass.REPLY_TEXT,
    Stage.SPEAK: DataClass.REPLY_TEXT,
    Stage.TRANSCRIBE: DataClass.VOICE,
    Stage.UNDERSTAND: DataClass.REDACTED_TEXT,
}
"""What each step hands over; a question that says otherwise is denied."""


class ConsentState(StrEnum):
    """How a consent stands; kept sorted. Only GRANTED and RENEWED can be live (`YES`)."""

    EXPIRED = "expired"  # its time ran out: the clock's row, nobody's will
    GRANTED = "granted"
    REFUSED = "refused"
    RENEWED = "renewed"  # granted again after an earlier yes
    WITHDRAWN = "withdrawn"


YES = frozenset({ConsentState.GRANTED, ConsentState.RENEWED})
"""The states that permit processing while they last (ISO/IEC TS 27560: given, renewed)."""

NO = frozenset({ConsentState.REFUSED, ConsentState.WITHDRAWN})
"""The states that say a person does not want it; `EXPIRED` is nobody's will."""


class Expressed(StrEnum):
    """How a will was expressed; kept sorted."""

    BUTTON = "button"
    CLOCK = "clock"  # not at all: time ran out
    TYPED = "typed"
    UNKNOWN = "unknown"
    VOICE = "voice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """
    One expression of will: the newest row per (tenant, subject, purpose) counts.

    Times are epoch seconds. *notice_version* and *notice_sha256* name the exact words shown;
    *evidence* is the keyed hash of the message that expressed it, never the message id; *shown*
    that of the message that showed the notice, empty where none is known.
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
    shown: str = ""
    expressed: Expressed = Expressed.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    Everything one decision may look at. *now* in epoch seconds.

    *controller* is the country of the tenant's establishment, *jurisdiction* the person's (several
    candidates joined by "+"): both laws count.

    *languages* in order of preference (BCP 47 primary tags). *consent* is the newest row for
    the purpose, *transfer_consent* the newest for `TRANSFER_ABROAD`, or None. *region* is the
    cell's region. *bundle_age* are the seconds since the active bundle's publication was last
    confirmed. *suspended* are processors that a finding took out of service.
    """

    now: int
    stage: Stage
    purpose: str
    tenant: str
    controller: str
    jurisdiction: str
    region: str
    languages: tuple[str, ...]
    consent: Consent | None
    held: bool
    minor: bool
    data_class: DataClass
    bundle_age: int
    suspended: tuple[str, ...]
    transfer_consent: Consent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What the caller knows of the active bundle, to hold an engine's answer against.

    *processors* are the registry ids per stage: an answer that names another is no answer.
    *hosts* are each row's ``name:port`` pairs, which an answer must repeat. *asks_transfer_consent*
    tells whether a transfer consent could matter anywhere: the deployment names that ground and
    a law admits it. *countries* are those that the bundle has a law of.
    """

    revision: str
    data_sha256: str
    processors: Mapping[str, frozenset[str]]
    hosts: Mapping[str, tuple[str, ...]]
    asks_transfer_consent: bool = False
    countries: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligations:
    """
    What must be done if the decision is used: lifetimes in seconds, redaction classes per sink.

    Per processor id: *options* are vendor options that the outgoing request must carry; *egress*
    the ``name:port`` pairs it may be reached at and no other; *transfers* the ground on which data
    goes there: ``domestic``, ``adequacy:XX``, ``scc:MODULE``, ``bcr`` or ``explicit-consent``.
    """

    raw_audio_seconds: int
    transcript_seconds: int
    redacted_seconds: int
    reply_audio_seconds: int
    redact: Mapping[str, frozenset[str]]
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    egress: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    transfers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """
    What makes a decision replayable: revision, engine, and SHA-256 digests in hex.

    *input_sha256* is empty if nothing was asked, *answer_sha256* if there is no canonical answer.
    """

    id: str
    engine: str
    revision: str
    data_sha256: str
    input_sha256: str
    answer_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    One question as an engine got it, and what came back: what a replay needs.

    *answer* is the raw answer, None if there was none (then ``provenance.answer_sha256`` is
    empty). Neither holds who the person is, but both are about one: keep them sealed.
    """

    entrypoint: str
    question: Mapping[str, Any] = field(repr=False)
    answer: Any = field(repr=False)
    provenance: Provenance


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
