"""Everything one job may use, wired once by `gateway.compose` and passed along as a value."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.accounts import Accounts
from gateway.assistant import Assistant
from gateway.audio.decode import Decoder
from gateway.decisions import Decisions
from gateway.findings import Findings
from gateway.jobs import Jobs
from gateway.metrics import Metrics
from gateway.settings import Tenant
from gateway.timekeeping import Agreed
from gateway.touch import Trail
from gateway.whatsapp.media import Media
from gateway.whatsapp.send import Graph
from policy.access import Approval, Request, Verdict
from policy.model import Asked, Decision, Question
from policy.ports import Consents
from residency.limits import Limits
from residency.model import Processor
from residency.ports import Egress, SpeechToText, TextToSpeech, Understander
from residency.route import Health
from vault.custody import Custody
from vault.keys import Keys


class Decide(Protocol):
    """Asks the rules; *kept* is told what an engine was asked and answered, for a replay."""

    async def __call__(
        self, question: Question, kept: Callable[[Asked], None] | None = None, /
    ) -> Decision:
        """Return the decision; it never raises for want of an answer (`Undecided`)."""
        ...


class AskAccess(Protocol):
    """Asks the rules who may do what, given the *approvals* of other people."""

    async def __call__(self, request: Request, approvals: Sequence[Approval] = (), /) -> Verdict:
        """Return the verdict; it never raises for want of an answer (`Undecided`)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """
    One cell's parts.

    *now* is the time that work goes by; what cannot be undone waits for *agreed*, which is None
    while clocks differ.
    *graphs* and *media* are per phone number id; *hearing*, *speaking* and *understanding* hold
    the processors that this cell can really reach, by registry id. *asks_transfer_consent* tells
    whether a consent to a transfer could change any decision here: else nobody reads it.
    *simulators* are the ``host:port`` that a development cell's messaging may reach beside its
    registry row's. *erasing* tells whether a law of
    some countries erases what rested on a withdrawn consent; *unlisted* which of some countries
    have no law in the bundle in force.
    """

    region: str
    cell: str
    now: Callable[[], datetime]
    agreed: Agreed
    engine: AsyncEngine
    jobs: Jobs
    trail: Trail
    custody: Custody
    keys: Keys
    consents: Consents
    decide: Decide
    ask_access: AskAccess
    decisions: Decisions
    processors: Mapping[str, Processor]
    health: Health
    limits: Limits
    hearing: Mapping[str, SpeechToText]
    speaking: Mapping[str, TextToSpeech]
    understanding: Mapping[str, Understander]
    decoder: Decoder
    graphs: Mapping[str, Graph]
    media: Mapping[str, Media]
    tenants: Mapping[str, Tenant]
    assistants: Mapping[str, Assistant]
    metrics: Metrics
    findings: Findings
    accounts: Accounts
    unknown_grace_s: float
    egress: Egress
    simulators: tuple[str, ...] = ()
    asks_transfer_consent: bool = False
    unlisted: Callable[[Collection[str]], Collection[str]] = lambda _countries: ()
    erasing: Callable[[Collection[str]], bool] = lambda _countries: False
