"""
Whether each tenant's people can be served here, step by step: the rules are asked beforehand.

- Asked as for a person of the controller's own country who agreed to everything, and, unless the
  tenant declines people abroad, as for one of a country without a law in the table.
- A step for which nobody may be used would refuse everybody later, one by one. Production does
  not start so, but for speech: without it the cell answers in text.
- An engine that does not answer says nothing about the law: it is another check's fault.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from gateway import log, phrases
from gateway.compose.rules import Rules
from gateway.errors import MissingPartError
from gateway.note import SPOKEN
from gateway.sections import Tenant
from gateway.settings import Settings
from policy.model import HANDED, Allowed, Consent, ConsentState, Denied, Question, Stage
from residency.jurisdiction import NOWHERE

STEPS = (Stage.NOTICE, Stage.CAPTURE, Stage.TRANSCRIBE, Stage.UNDERSTAND, Stage.REPLY, Stage.SPEAK)
OPTIONAL = frozenset({Stage.SPEAK})
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step for one tenant's people of one country: by which processors, or why by none."""

    tenant: str
    jurisdiction: str
    stage: Stage
    processors: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether nobody can be served because of it."""
        return not self.processors and self.stage not in OPTIONAL

    @property
    def says(self) -> str:
        """Return the step in words."""
        by = ", ".join(self.processors) or f"nobody ({', '.join(self.reasons)})"
        return f"{self.stage.value} by {by}"


async def steps(settings: Settings, ruled: Rules, at: datetime) -> AsyncIterator[Step]:
    """Yield each step of each tenant, as the rules in force decide it *at* that time."""
    for tenant in settings.tenants:
        for person in _people(tenant):
            for stage in STEPS:
                found = await ruled.decide(_question(settings, tenant, person, stage, at))
                if isinstance(found, Allowed | Denied):
                    yield _step(tenant.id, person, stage, found)


def _step(tenant: str, person: str, stage: Stage, found: Allowed | Denied) -> Step:
    return Step(
        tenant=tenant,
        jurisdiction=person,
        stage=stage,
        processors=found.processors if isinstance(found, Allowed) else (),
        reasons=found.reasons,
    )


async def demand(settings: Settings, ruled: Rules, at: datetime) -> None:
    """
    Warn of each step that nobody can do.

    Raises:
        MissingPartError: a step without which nobody is served is missing, in production.

    """
    lacking = [step async for step in steps(settings, ruled, at) if not step.processors]
    for step in lacking:
        log.get().warning(
            "step.impossible",
            tenant=step.tenant,
            jurisdiction=step.jurisdiction,
            stage=step.stage.value,
            reason=step.reasons[0],
        )
    if settings.production and (fatal := [step for step in lacking if step.missing]):
        told = "; ".join(f"{step.tenant} ({step.jurisdiction}): {step.says}" for step in fatal)
        raise MissingPartError(f"{told} (vocustody doctor shows every step)")


def _people(tenant: Tenant) -> tuple[str, ...]:
    serves = tenant.abroad == "serve"
    return (tenant.jurisdiction, NOWHERE) if serves else (tenant.jurisdiction,)


def _question(
    settings: Settings, tenant: Tenant, person: str, stage: Stage, at: datetime
) -> Question:
    now = int(at.timestamp())
    return Question(
        now=now,
        stage=stage,
        purpose=SPOKEN,
        tenant=tenant.id,
        controller=tenant.jurisdiction,
        jurisdiction=person,
        region=settings.cell.region,
        languages=tenant.languages,
        consent=_agreed(tenant, now),
        held=False,
        minor=False,
        data_class=HANDED[stage],
        bundle_age=0,
        suspended=(),
        transfer_consent=None,
    )


def _agreed(tenant: Tenant, now: int) -> Consent:
    """Return the consent of nobody, to ask what would be possible if somebody gave theirs."""
    return Consent(
        id="c_nobody",
        tenant=tenant.id,
        subject="s_nobody",
        purpose=SPOKEN,
        state=ConsentState.GRANTED,
        at=now,
        expires_at=now + _DAY_S,
        notice_version=phrases.VERSION,
        notice_sha256="0" * 64,
        language=tenant.languages[0],
        channel="none",
        evidence="0" * 64,
    )
