"""Values of residency: processors, jurisdictions, and what processors return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum


class Service(StrEnum):
    """
    What a processor does; kept sorted.

    Those that take part in no stage of a note are rented to run the cell: what they hold is
    sealed, and they stand in the registry so that nobody who holds anything is left out.
    """

    DATABASE = "database"
    KEYS = "keys"
    MESSAGING = "messaging"
    OBJECTS = "objects"
    POLICY = "policy"
    QUEUE = "queue"
    SPEECH_TO_TEXT = "speech-to-text"
    TEXT_TO_SPEECH = "text-to-speech"
    UNDERSTANDING = "understanding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """
    One tool filed for a transfer (GDPR Chapter V and its likes elsewhere).

    *tool* is ``scc`` (contract clauses, with their *module*) or ``bcr``; *law* the law it was
    filed under, as the table of laws names it; *reference* says where the signed paper is.
    """

    tool: str
    module: str
    law: str
    reference: str
    expires: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """
    One service of one vendor in one region under one contract: a registry row.

    *hosts* are ``name:port`` pairs it may be reached at (empty = runs inside the cell).
    *adapter* names the code that speaks to it (``none`` = listed, not built), *settings* are
    that adapter's pins (path, query, model). *options* must be in every outgoing request. Every
    row needs *source*, *as_of* and *review_expires*. Unless it runs inside the cell, an empty
    *contract* means that no agreement is filed: it is never eligible. *transfers* are the tools
    filed for data that leaves its jurisdiction.
    """

    id: str
    vendor: str
    service: Service
    product: str
    model: str
    adapter: str
    region: str
    jurisdiction: str
    hosts: tuple[str, ...]
    languages: tuple[str, ...]
    options: Mapping[str, str]
    settings: Mapping[str, str]
    contract: str
    contract_expires: date
    retention: str
    source: str
    as_of: date
    reviewed_by: str
    review_expires: date
    transfers: tuple[Transfer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdiction:
    """
    Whose law holds, and how we know.

    *code* is an ISO 3166-1 alpha-2 country (or a candidate set joined by "+", when a number
    fits several; the strictest counts); ``ZZ`` is no country. *evidence* is ``declared``,
    ``number``, ``bsuid`` or ``none``.
    """

    code: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """
    One voice note ready for a processor.

    *ogg* is the note as it arrived (Ogg/Opus); *pcm* is 16 kHz mono signed 16-bit little-endian;
    *seconds* its decoded length; *voiced_seconds* how much of it is speech.
    """

    ogg: bytes = field(repr=False)
    pcm: bytes = field(repr=False)
    seconds: float
    voiced_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """
    Leave to reach one processor for one call: what an adapter is given beside the content.

    *proxy* is the ``host:port`` of the egress broker; *ticket* and *secret* are the user name
    and password of its Basic credentials (RFC 9110, 11.7) for this call alone. All three are
    empty for a processor inside the cell. *options* must be in the outgoing request.
    """

    proxy: str = ""
    ticket: str = ""
    secret: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)


INSIDE = Passage()
"""What a processor inside the cell is given: it opens no connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    What a live decision lets through the broker: *hosts* (``name:port``) and nothing else.

    *decision* and *touch* name the record it belongs to; after *seconds* every tunnel is cut.
    *blocks* (CIDR) are where the hosts' addresses must lie; none = anywhere that is public.
    """

    processor: str
    decision: str
    touch: str
    hosts: tuple[str, ...]
    seconds: float
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """
    One connection under a grant, as the broker saw it.

    *peer* is the address it went to, empty where none was opened: then *refused* says why.
    *sent* and *received* count bytes handed on through the tunnel, TLS included: upper bounds.
    """

    host: str
    peer: str
    refused: str
    sent: int
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """
    What was seen of actual connections; empty where nothing could be seen.

    *tls* is the version, and the certificate's subject where our own client saw it. *region*
    is what the vendor's answer said of itself, as it said it.
    """

    host: str = ""
    peer: str = ""
    tls: str = ""
    request_id: str = ""
    connections: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    peers: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The words of one note. *confidence* in [0, 1]; *language* a BCP 47 primary tag."""

    text: str = field(repr=False)
    language: str
    confidence: float
    observed: Observed = Observed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """
    What a redacted text asks for.

    *intent* is None when nothing fits; *confidence* in [0, 1]; *slots* map a slot's name to its
    value (a redaction placeholder such as ``<PHONE_1>`` counts as a value).
    """

    intent: str | None
    confidence: float
    slots: Mapping[str, str] = field(repr=False)
    observed: Observed = Observed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """Speech made from text: *pcm* mono signed 16-bit little-endian at *rate* Hz."""

    pcm: bytes = field(repr=False)
    rate: int
    observed: Observed = Observed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """
    One thing a person may ask for, as a processor needs to know it.

    *examples* per language; *slots* map a slot's name to its type: ``number``, ``digits``, or
    ``choice:a|b|c`` with one choice list per language joined as given.
    """

    name: str
    examples: Mapping[str, tuple[str, ...]]
    slots: Mapping[str, Mapping[str, str]]
