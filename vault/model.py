"""Values of custody: what is kept, under which label, until when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """The class of an artifact; each has its own clock. Kept sorted."""

    RAW_AUDIO = "raw_audio"
    REDACTED_TRANSCRIPT = "redacted_transcript"
    REPLY_AUDIO = "reply_audio"
    TRANSCRIPT = "transcript"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What is bound into a container's key and header: change one field and it will not open."""

    tenant: str
    subject: str
    artifact: str
    kind: Kind
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """
    One kept piece of content.

    *size* is the content's length in bytes, *commitment* the hex SHA-256 of a 32-byte random
    salt and the sealed container, *due* the aware UTC time at which it must be unreadable.
    """

    label: Label
    due: datetime
    size: int
    commitment: str
    epoch: str
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """
    What is left of a destroyed artifact.

    *methods* say how, in order (``object-deleted``, ``key-destroyed``); *verified* that a read
    after it failed. *late_seconds* is how far past *due* it happened (0 = in time).
    """

    label: Label
    due: datetime
    destroyed_at: datetime
    reason: str
    methods: tuple[str, ...]
    verified: bool
    late_seconds: int


class HoldState(StrEnum):
    """How far a legal hold is; kept sorted."""

    ENDED = "ended"
    OPENING = "opening"  # what it covers is being counted
    PLACED = "placed"  # a second person approved it
    PROPOSED = "proposed"  # it stops clocks for a day, and opens and closes nothing


class Ended(StrEnum):
    """Why a legal hold is over; kept sorted."""

    EXPIRED = "expired"
    LAPSED = "lapsed"  # nobody approved it in time
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    What a legal hold of *tenant* is about: one of the three.

    *artifacts* by id; everything of *subjects*, stored now or while the hold lasts; or everything
    stored from *since* on and before *before*.
    """

    tenant: str
    artifacts: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """
    One legal hold: the *case* it is for, its legal *ground*, and the people behind it.

    *placed_by* proposed it, *approved_by* is another person; so with *release_by* and
    *released_by*. *kept* and *too_late* count artifacts at the time it was proposed.
    """

    id: str
    case: str
    ground: str
    scope: Scope
    state: HoldState
    placed_by: str
    placed_role: str
    proposed_at: datetime
    expires_at: datetime
    approved_by: str | None = None
    placed_at: datetime | None = None
    release_by: str | None = None
    release_role: str | None = None
    release_asked_at: datetime | None = None
    released_by: str | None = None
    ended_at: datetime | None = None
    ended: str = ""
    kept: int = 0
    too_late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Which artifacts a hold keeps, and for which it came too late; both sorted."""

    kept: tuple[str, ...]
    too_late: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A 256-bit key as the keyring returned it: *ciphertext* is opaque, *version* the KEK's."""

    kek: str
    version: int
    ciphertext: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kek:
    """
    A key-encryption key as the key service lists it: never the key itself.

    Versions *oldest* to *newest* can still unwrap; *rotated_at* is when the newest was made.
    *exportable* and *backup_allowed* (in plain text) are alarms: a shred key must be neither.
    """

    name: str
    oldest: int
    newest: int
    rotated_at: datetime
    exportable: bool
    backup_allowed: bool
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Text [*start*, *end*) is of class *kind* (``card``, ``national_id``, ``phone``, ...)."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """
    Text after analysis: each found span replaced by ``<KIND_n>``.

    That no span was found is ``counts == {}``; that nobody looked is `NotAnalysed`, another type.
    """

    text: str
    counts: Mapping[str, int]
    classes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAnalysed:
    """Nobody looked (*why*): the text may not leave the job."""

    why: str
