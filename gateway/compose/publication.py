"""The release that this cell enforces: followed from its source, or built here."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import log
from gateway.compose.surroundings import now
from gateway.console.bundle import Offer
from gateway.errors import MissingPartError
from gateway.settings import Settings, Tenant
from policy import archive, gate, signing
from policy.active import Release
from policy.archive import Packed
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.fetch import FileSource, HttpSource, Source, Way, straight
from policy.follow import STALE_S, Follower
from policy.gate import Expected
from policy.opa import OpaEngine
from policy.release import Releases
from policy.signing import PublicKey, Signer
from residency.registry import Registry


async def followed(
    settings: Settings,
    known: Registry,
    built: Bundle | None,
    stack: AsyncExitStack,
    way: Way = straight,
) -> Follower:
    """Return the follower of the source, reached by *way*, or of *built*: a release in force."""
    opa = settings.services.opa
    server = None
    if opa is not None:
        server = OpaEngine(opa.url, token=opa.token_file.text if opa.token_file else None)
        stack.push_async_callback(server.aclose)

    def opened(bundle: Bundle) -> Release:
        if server is not None:
            return Release(facts=bundle.facts, engine=server)
        engine = EmbeddedEngine(bundle)
        return Release(facts=bundle.facts, engine=engine, close=engine.aclose)

    follower = Follower(
        releases(settings),
        expected=expected(settings, known),
        opened=opened,
        served=server is not None,
        now=_now_s,
        told=_told,
        source=source(settings, way),
        keys=keys(settings),
        poll_s=settings.policy.poll_seconds,
    )
    stack.push_async_callback(follower.aclose)
    await follower.begin(_as_built(settings, built) if built else None)
    follower.start()
    return follower


def offer(settings: Settings, follower: Follower) -> Offer:
    """Return what an OPA server may fetch here; production gives only what somebody signed."""
    given = settings.policy
    signed = given.source is not None or given.sign_key_file is not None
    token = given.opa_token_file or settings.admin.token_file
    return Offer(
        archive=lambda: follower.offered.raw if signed or not settings.production else None,
        token=token.value if token else None,
    )


def releases(settings: Settings) -> Releases:
    """Return the releases that this cell keeps."""
    return Releases(settings.cell.data / "bundles")


def expected(settings: Settings, known: Registry) -> Expected:
    """Return what this cell holds a bundle against."""
    return Expected(
        processors={row["id"]: row for row in known.rows()},
        tightened={tenant.id: overlay(tenant) for tenant in settings.tenants},
        grounds=frozenset(settings.policy.grounds),
    )


def overlay(tenant: Tenant) -> dict[str, Any]:
    """Return what the settings tighten for *tenant*, as a bundle holds it."""
    given = tenant.policy
    lists = {
        "refused": given.refused_processors,
        "refused_grounds": given.refused_grounds,
        "refused_purposes": given.refused_purposes,
    }
    redact = {sink: sorted(names) for sink, names in given.redact.items()}
    found: dict[str, Any] = {
        "retention": tenant.retention.model_dump(exclude_none=True, exclude={"keep_raw_audio"})
    }
    found |= {name: sorted(values) for name, values in lists.items() if values}
    found |= {"abroad": tenant.abroad} if tenant.abroad == "decline" else {}
    return found | ({"redact": redact} if redact else {})


def source(settings: Settings, way: Way = straight) -> Source | None:
    """Return where this cell's bundle is published, or None if it is built here."""
    given = settings.policy.source
    if given is None:
        return None
    return HttpSource(given, way=way) if "://" in given else FileSource(Path(given))


def keys(settings: Settings) -> Sequence[PublicKey] | None:
    """Return the keys of who may publish, or None if the bundle is built here."""
    if settings.policy.source is None:
        return None
    return [signing.public_key(path.read_bytes()) for path in settings.policy.verify_keys]


async def check(settings: Settings, known: Registry, path: Path) -> str:
    """Return the revision in *path* if this cell would enforce it; raise `BundleError`."""
    packed = archive.unpack(archive.load(path), keys=keys(settings))
    state = releases(settings).state
    newest = state.newest if state and settings.policy.source else gate.NEVER
    await gate.admit(packed, expected=expected(settings, known), newest=newest, now=_now_s())
    return packed.bundle.revision


def sign(path: Path, key: Path, keyid: str) -> str:
    """Sign the bundle in *path*, in place; return its revision."""
    raw = archive.sign(archive.load(path), signer(key, keyid))
    archive.place(raw, path)
    return archive.unpack(raw).bundle.revision


def signer(key: Path, keyid: str) -> Signer:
    """Return who signs with the private key in *key*; it must be its owner's alone."""
    try:
        mode, pem = key.stat().st_mode, key.read_bytes()
    except OSError as exc:
        # Its name may be the key itself, pasted where a file's name belongs.
        raise MissingPartError(f"the key file cannot be read: {exc.strerror}") from None
    if mode & 0o077:
        raise MissingPartError(f"{key} is open to group or world (chmod 600 {key})")
    return Signer(key=signing.private_key(pem), keyid=keyid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What ``vocustody policy status`` says; *age_seconds* is None for a bundle built here."""

    active: str
    age_seconds: int | None
    stale: bool
    pinned: str
    previous: str
    kept: tuple[str, ...]
    refused: str


def status(settings: Settings) -> Status:
    """Return how the release in force stands; raise `MissingPartError` if there is none."""
    kept = releases(settings)
    state, refusal = kept.state, kept.refusal
    if state is None:
        raise MissingPartError("no release was ever enforced here (has the gateway run once?)")
    age = _now_s() - state.confirmed if settings.policy.source else None
    return Status(
        active=state.revision,
        age_seconds=age,
        stale=age is not None and age >= STALE_S,
        pinned=kept.pinned or "",
        previous=state.previous,
        kept=kept.revisions(),
        refused=refusal.fault if refusal else "",
    )


def roll_back(settings: Settings, revision: str | None) -> str:
    """Pin *revision* (its beginning is enough; default: the one before); return it."""
    if settings.policy.source is None:
        raise MissingPartError("the bundle is built here: there is no publication to roll back")
    kept = releases(settings)
    state = kept.state
    if not revision and (state is None or not state.previous):
        raise MissingPartError("there is no release before this one (name a REVISION)")
    found = kept.find(revision or (state.previous if state else ""))
    kept.pin(found)
    return found


def _as_built(settings: Settings, bundle: Bundle) -> Packed:
    pem = settings.policy.sign_key_file
    by = Signer(key=signing.private_key(pem.value)) if pem else None
    return Packed(bundle=bundle, issued=0, raw=archive.pack(bundle, signer=by))


def _now_s() -> int:
    return int(now().timestamp())


def _told(event: str, *, revision: str = "", reason: str = "") -> None:
    quiet = event in {"policy.activated", "policy.staged"}
    say = log.get().info if quiet else log.get().warning
    say(event, revision=revision[:16] or None, reason=reason or None)
