"""Values of residency: processors, jurisdictions, and what processors return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum


class Service(StrEnum):
    """What a processor does; kept sorted."""

    MESSAGING = "messaging"
    SPEECH_TO_TEXT = "speech-to-text"
    TEXT_TO_SPEECH = "text-to-speech"
    UNDERSTANDING = "understanding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """
    One service of one vendor in one region under one contract: a registry row.

    *hosts* are ``name:port`` pairs it may be reached at (empty = runs inside the cell).
    *adapter* names the code that speaks to it, *settings* are that adapter's pins (path,
    query, model). *options* must be in every outgoing request. Every row needs *source*,
    *as_of* and, unless it runs inside the cell, *contract* with *contract_expires*.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdiction:
    """
    Whose law holds, and how we know.

    *code* is an ISO 3166-1 alpha-2 country (or a candidate set joined by "+", when a number
    fits several; the strictest counts). *evidence* is ``declared``, ``tenant``, ``number`` or
    ``bsuid``.
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
class Observed:
    """What was seen of an actual connection; empty strings where nothing could be seen."""

    host: str = ""
    peer: str = ""
    tls: str = ""
    request_id: str = ""
    connections: int = 0
    bytes_sent: int = 0


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
