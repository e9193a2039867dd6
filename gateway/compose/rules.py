"""What the cell enforces: registry, laws and tenants' tightenings, in one bundle on one engine."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from audit.personal import looks_personal
from gateway import phrases
from gateway.compose import publication
from gateway.compose.surroundings import now
from gateway.console.bundle import Offer
from gateway.errors import MissingPartError
from gateway.ports import AskAccess, Decide
from gateway.settings import Settings
from policy import archive, bundle, jurisdictions
from policy.access import Approval, Request, Verdict
from policy.bundle import Bundle
from policy.fetch import Way, straight
from policy.model import HANDED, Asked, Decision, Question, Stage
from policy.signing import Signer
from residency import registry as registries
from residency.errors import RegistryError
from residency.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    The *revision* that the cell began with, the *engine* that evaluates it, and how to ask it.

    *age* says for how many seconds nobody has stood by the release in force; 0 if it was built
    here. `decide` puts it into each question. *following* says whether the next release would be
    heard of. *unlisted* names those of some countries that the release has no law of. *offer* is
    the release for an OPA server.
    """

    registry: Registry
    revision: str
    engine: str
    decide: Decide
    ask_access: AskAccess
    asks_transfer_consent: bool
    unlisted: Callable[[Collection[str]], Collection[str]]
    age: Callable[[], int]
    following: Callable[[], bool]
    offer: Offer


async def rules(settings: Settings, stack: AsyncExitStack, way: Way = straight) -> Rules:
    """Load the registry and the bundle, published ones by *way*, and open the engine."""
    known = registry(settings)
    published = settings.policy.source is not None
    built = None if published else build(settings, known)
    follower = await publication.followed(settings, known, built, stack, way)

    async def ask(question: Question, kept: Callable[[Asked], None] | None = None) -> Decision:
        # How old the bundle is, only who follows it knows.
        return await follower.active.decide(replace(question, bundle_age=follower.age), kept)

    async def ask_access(request: Request, approvals: Sequence[Approval] = ()) -> Verdict:
        at = int(now().timestamp())
        return await follower.active.access(request, now=at, approvals=approvals)

    return Rules(
        registry=known,
        revision=follower.revision,
        engine=follower.active.engine,
        decide=ask,
        ask_access=ask_access,
        # The next release may look at it, whatever this one does.
        asks_transfer_consent=built is None or built.facts.asks_transfer_consent,
        unlisted=lambda codes: sorted({*codes} - follower.active.facts.countries),
        age=lambda: follower.age,
        following=lambda: follower.alive,
        offer=publication.offer(settings, follower),
    )


def registry(settings: Settings) -> Registry:
    """
    Return the processors that this cell may use.

    Raises `RegistryError`, also for a row of which the log could record nothing.
    """
    known = registries.load(
        settings.registry.file,
        today=now().date(),
        development=not settings.production,
        laws={law["law"] for law in jurisdictions.load().values()},
    )
    for row in known:
        if looks_personal(row.id) or looks_personal(row.region):
            raise RegistryError("a processor: its id or region looks like a number (name it anew)")
    return known


def build(settings: Settings, known: Registry) -> Bundle:
    """Return the bundle of the shipped rules over this cell's data."""
    return bundle.build(
        bundle.load(),
        processors=known.rows(),
        jurisdictions=jurisdictions.load(),
        tenants={tenant.id: publication.overlay(tenant) for tenant in settings.tenants},
        notices=[phrases.VERSION],
        grounds=settings.policy.grounds,
    )


def write_bundle(settings: Settings, to: Path, signer: Signer | None = None) -> str:
    """Write the cell's bundle, issued now and signed by *signer*; return its revision."""
    if to.exists() or to.is_symlink():
        raise MissingPartError(f"{to} exists (name a new file)")
    built = build(settings, registry(settings))
    archive.write(built, to, issued=int(now().timestamp()) if signer else None, signer=signer)
    return built.revision


def probe(region: str, at: datetime) -> Question:
    """Return a question about nobody, to see whether the engine answers at all."""
    return Question(
        now=int(at.timestamp()),
        stage=Stage.NOTICE,
        purpose="readiness",
        tenant="none",
        controller="ZZ",
        jurisdiction="ZZ",
        region=region,
        languages=("en",),
        consent=None,
        held=False,
        minor=False,
        data_class=HANDED[Stage.NOTICE],
        bundle_age=0,
        suspended=(),
        transfer_consent=None,
    )
