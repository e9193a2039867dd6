"""Everything one job may use, wired once by `gateway.compose` and passed along as a value."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.assistant import Assistant
from gateway.audio.decode import Decoder
from gateway.jobs import Jobs
from gateway.metrics import Metrics
from gateway.settings import Tenant
from gateway.touch import Trail
from gateway.whatsapp.media import Media
from gateway.whatsapp.send import Graph
from policy.model import Decision, Question
from policy.ports import Consents
from residency.model import Processor
from residency.ports import SpeechToText, TextToSpeech, Understander
from residency.route import Health
from vault.custody import Custody
from vault.keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """
    One cell's parts.

    *graphs* and *media* are per phone number id; *hearing*, *speaking* and *understanding* hold
    the processors that this cell can really reach, by registry id.
    """

    region: str
    cell: str
    now: Callable[[], datetime]
    engine: AsyncEngine
    jobs: Jobs
    trail: Trail
    custody: Custody
    keys: Keys
    consents: Consents
    decide: Callable[[Question], Awaitable[Decision]]
    processors: Mapping[str, Processor]
    health: Health
    hearing: Mapping[str, SpeechToText]
    speaking: Mapping[str, TextToSpeech]
    understanding: Mapping[str, Understander]
    decoder: Decoder
    graphs: Mapping[str, Graph]
    media: Mapping[str, Media]
    tenants: Mapping[str, Tenant]
    assistants: Mapping[str, Assistant]
    metrics: Metrics
    unknown_grace_s: float
