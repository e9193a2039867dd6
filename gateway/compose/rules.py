"""What the cell enforces: registry, laws and tenants' tightenings, in one bundle on one engine."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway import phrases
from gateway.compose.surroundings import now
from gateway.errors import MissingPartError
from gateway.settings import Settings
from policy import archive, bundle, decide, jurisdictions
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import Decision, Question, Stage
from policy.opa import OpaEngine
from residency import registry as registries
from residency.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The active bundle's *revision*, the *engine* that evaluates it, and how to ask it."""

    registry: Registry
    revision: str
    engine: str
    decide: Callable[[Question], Awaitable[Decision]]


async def rules(settings: Settings, stack: AsyncExitStack) -> Rules:
    """Load the registry and the bundle, and open the engine."""
    known = registry(settings)
    built = build(settings, known)
    opa = settings.services.opa
    engine: EmbeddedEngine | OpaEngine
    if opa is None:
        engine = EmbeddedEngine(built)
    else:
        token = opa.token_file.value.decode() if opa.token_file else None
        engine = OpaEngine(opa.url, token=token)
    stack.push_async_callback(engine.aclose)
    facts = built.facts

    async def ask(question: Question) -> Decision:
        return await decide.decide(question, engine, facts=facts)

    return Rules(registry=known, revision=built.revision, engine=engine.name, decide=ask)


def registry(settings: Settings) -> Registry:
    """Return the processors that this cell may use."""
    return registries.load(
        settings.registry.file, today=now().date(), development=not settings.production
    )


def build(settings: Settings, known: Registry) -> Bundle:
    """Return the bundle of the shipped rules over this cell's data."""
    return bundle.build(
        bundle.load(),
        processors=known.rows(),
        jurisdictions=jurisdictions.load(),
        tenants={
            tenant.id: {"retention": tenant.retention.model_dump(exclude_none=True)}
            for tenant in settings.tenants
        },
        notices=[phrases.VERSION],
    )


def write_bundle(settings: Settings, to: Path) -> str:
    """Write the cell's bundle for an OPA server; return its revision."""
    if to.exists():
        raise MissingPartError(f"{to} exists (name a new file)")
    built = build(settings, registry(settings))
    archive.write(built, to)
    return built.revision


def probe(region: str, at: datetime) -> Question:
    """Return a question about nobody, to see whether the engine answers at all."""
    return Question(
        now=int(at.timestamp()),
        stage=Stage.NOTICE,
        purpose="readiness",
        tenant="none",
        jurisdiction="ZZ",
        region=region,
        languages=("en",),
        consent=None,
        held=False,
        minor=False,
    )
