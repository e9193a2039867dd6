"""
What is missing before this cell can run, and what to do about it.

Every check is tried, so that one visit is enough; a check says what it saw, never a secret.
"""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

from sqlalchemy.exc import SQLAlchemyError

from gateway import accounts, assistant, claims, db, natsd, undelivered
from gateway.accounts import Fault
from gateway.broker import Broker
from gateway.compose import egress, engines, identities, privileges, rules, steps, stores, times
from gateway.compose.identities import Identity
from gateway.compose.privileges import Remark
from gateway.compose.steps import Step
from gateway.compose.surroundings import MACHINE, now
from gateway.errors import GatewayError, MissingPartError, SettingsError
from gateway.jobs import ACCOUNT, Jobs
from gateway.sections import Tenant
from gateway.settings import Settings
from policy.errors import PolicyError
from policy.model import Undecided
from residency.errors import EgressError, EngineMissingError, ResidencyError
from residency.jurisdiction import NOWHERE
from residency.model import Processor
from residency.registry import Registry
from vault.errors import VaultError

EXTRAS = {
    "asyncpg": "pip install 'vocustody[postgres]'",
    "boto3": "pip install 'vocustody[s3]'",
    "botocore": "pip install 'vocustody[s3]'",
    "obstore": "pip install 'vocustody[s3]'",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, and what was seen or has to be done."""

    name: str
    ok: bool
    says: str

    @property
    def line(self) -> str:
        """Return the check as one line."""
        return f"{'ok  ' if self.ok else 'FIX '} {self.name}: {self.says}"


def examine(settings: Settings) -> Iterator[Check]:
    """Yield one `Check` after the other."""
    yield Check("settings", True, f"cell {settings.cell.id} in {settings.cell.region}")
    yield from (Check("note", True, note) for note in settings.notes)
    yield _tried("data", lambda: _data(settings))
    yield _tried("listen", lambda: _listen(settings))
    yield _tried("database", lambda: asyncio.run(_database(settings)))
    yield from _accounts(settings)
    yield _tried("egress", lambda: asyncio.run(_egress(settings)))
    yield _tried("keyring", lambda: asyncio.run(_keyring(settings)))
    yield _tried("clocks", lambda: asyncio.run(_clocks(settings)))
    if settings.services.vault is not None:
        yield from _identities(settings)
    yield _tried("objects", lambda: asyncio.run(_objects(settings)))
    yield from _bucket(settings)
    yield _tried("broker", lambda: asyncio.run(_broker(settings)))
    yield _tried("registry", lambda: _registry(settings))
    yield _tried("policy", lambda: asyncio.run(_policy(settings)))
    yield from _steps(settings)
    for tenant in settings.tenants:
        yield _tried(
            f"assistant of {tenant.id}",
            partial(_assistant, tenant),
        )
    yield from _engines(settings)


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except SettingsError as exc:
        return Check(name, False, "; ".join(exc.faults))
    except ModuleNotFoundError as exc:
        return Check(
            name, False, f"{exc.name} is not installed ({EXTRAS.get(exc.name or '', 'pip')})"
        )
    except (GatewayError, PolicyError, ResidencyError, VaultError, OSError) as exc:
        return Check(name, False, str(exc) or type(exc).__name__)


def _data(settings: Settings) -> str:
    data = settings.cell.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data.stat().st_mode & 0o077:
        raise MissingPartError(f"{data} is open to others (chmod 700 {data})")
    free_mb = shutil.disk_usage(data).free // 2**20
    return f"{data}, {free_mb} MiB free"


def _listen(settings: Settings) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.cell.host, settings.cell.port))
        except OSError as exc:
            raise MissingPartError(
                f"{settings.cell.listen}: {exc.strerror} (a running gateway, or set [cell] listen)"
            ) from None
    return settings.cell.listen


async def _database(settings: Settings) -> str:
    engine = db.connect(stores.database_url(settings))
    try:
        async with engine.begin():
            return f"{engine.dialect.name} takes a transaction"
    except Exception as exc:  # noqa: BLE001 - drivers have roots of their own; the text may hold the URL
        raise MissingPartError(
            f"{type(exc).__name__} (is the server up, and [services] database right?)"
        ) from None
    finally:
        await engine.dispose()


def _accounts(settings: Settings) -> Iterator[Check]:
    """Yield what WhatsApp refuses of the operator's accounts, as the cell found it out."""
    try:
        found, failing = asyncio.run(_whatsapp(settings))
    except (SQLAlchemyError, ModuleNotFoundError, OSError):
        return  # no cell ever ran on it, or the database's own check says what is wrong
    for fault, waiting in found:
        since = datetime.fromtimestamp(fault.since / 1e6, UTC)
        says = (
            f"WhatsApp refuses {fault.told} since {since:%Y-%m-%d %H:%M}Z; "
            f"{waiting} jobs of this tenant wait ({accounts.remedy(fault.word)})"
        )
        yield Check(f"account of {fault.tenant}", False, says)
    if failing:
        yield Check("delivery", False, f"{failing} (docs/operations/whatsapp.md)")


async def _whatsapp(settings: Settings) -> tuple[list[tuple[Fault, int]], str]:
    engine = db.connect(stores.database_url(settings))
    try:
        waiting = await Jobs(engine, now=now, woken=lambda _: None).waiting(ACCOUNT)
        found = [(each, waiting.get(each.tenant, 0)) for each in await accounts.stored(engine)]
        return found, await undelivered.many(engine, now())
    finally:
        await engine.dispose()


async def _keyring(settings: Settings) -> str:
    async with _worker(settings) as worker:
        if worker is not None and (token := worker.wrapping()) is not None:
            # Opening it would be the one opening that the cell needs.
            left = await asyncio.to_thread(token)
            return f"a wrapping token of {left} s is ready, and was not opened here"
        keyring = stores.keyring(settings, worker)
        try:
            await keyring.ready()
        except VaultError as exc:
            raise MissingPartError(
                f"{exc} (is the vault up, unsealed, and [services] vault with its login right?)"
            ) from None
    return f"{keyring.name} wraps and unwraps"


async def _clocks(settings: Settings) -> str:
    engine = db.connect(stores.database_url(settings))
    try:
        async with _worker(settings) as worker:
            asked = worker is not None and worker.wrapping() is None
            time = times.timekeeper(
                settings, engine, MACHINE, who=worker if asked else None, silent=True
            )
            apart = await time.report()
    except SQLAlchemyError:
        return "no gateway has run yet: nothing is known of the time before"
    finally:
        await engine.dispose()
    if apart is not None:
        raise MissingPartError(
            f"they differ, and nothing is destroyed meanwhile: {apart.says} (set the wrong one; "
            "if the wall clock is right, vocustody clock confirm)"
        )
    return f"{', '.join(time.asked)} agree" if len(time.asked) > 1 else "the wall clock, alone"


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[Identity | None]:
    async with AsyncExitStack() as stack:
        opened = await egress.egress(settings, stack)
        yield identities.worker(settings, await egress.vault_mount(settings, opened, stack))


def _identities(settings: Settings) -> Iterator[Check]:
    """Yield a check per remark about the cell's identity and, if it is here, the keeper's."""
    for look in (_of_worker, _of_keeper):
        try:
            found = asyncio.run(look(settings))
        except (GatewayError, ResidencyError, VaultError):
            continue  # the keyring's own check says so
        for name, remark in found:
            grave = remark.grave and settings.production
            yield Check(name if grave else "note", not grave, f"{name}: {remark.says}")


async def _of_worker(settings: Settings) -> list[tuple[str, Remark]]:
    async with _worker(settings) as worker:
        return await _remarks(settings, worker)


async def _of_keeper(settings: Settings) -> list[tuple[str, Remark]]:
    who = identities.keeper(settings, lambda _session: None)
    return await _remarks(settings, who)


async def _remarks(settings: Settings, who: Identity | None) -> list[tuple[str, Remark]]:
    if who is None or who.wrapping() is not None:
        return []
    found = await asyncio.to_thread(lambda: list(privileges.remarks(who, settings.cell.id)))
    return [(f"{who.who}'s identity", remark) for remark in found]


async def _egress(settings: Settings) -> str:
    egress.check(settings, rules.registry(settings))
    async with AsyncExitStack() as stack:
        opened = await egress.egress(settings, stack)
        try:
            await egress.ready(opened)
        except EgressError as exc:
            raise MissingPartError(
                f"{exc} (start `vocustody egress`, or correct [egress] control)"
            ) from None
    return "gives tickets"


async def _objects(settings: Settings) -> str:
    try:
        return (await stores.objects(settings)).name
    except VaultError as exc:
        raise MissingPartError(
            f"{exc} (is the store up, its bucket made, and [services] objects right?)"
        ) from None


def _bucket(settings: Settings) -> Iterator[Check]:
    """Yield what the bucket's server says of it, fit or not, and how that is known."""
    if settings.services.objects is None:
        return
    # What is wrong, or that it does not answer, the check before has said.
    with contextlib.suppress(ModuleNotFoundError, VaultError):
        for fact in asyncio.run(stores.bucket(settings).facts()):
            yield Check("bucket", True, f"{fact.name} {fact.says}")


async def _broker(settings: Settings) -> str:
    given = settings.services.nats
    if given is None:
        return f"embedded: {natsd.binary()}"
    token = given.token_file.value.decode() if given.token_file else None
    broker = await Broker.connect(given.url, settings.cell.region, lanes=(), token=token)
    await broker.aclose()
    return given.url


def _registry(settings: Settings) -> str:
    return f"{len(rules.registry(settings))} processors"


async def _policy(settings: Settings) -> str:
    async with AsyncExitStack() as stack:
        opened = await egress.egress(settings, stack)
        way = await egress.source_way(settings, opened, stack)
        ruled = await rules.rules(settings, stack, way)
        found = await ruled.decide(rules.probe(settings.cell.region, now()))
    if isinstance(found, Undecided):
        raise MissingPartError(
            f"{ruled.engine}: {', '.join(found.reasons)} (is [services] opa up, and has it loaded "
            "the output of vocustody policy bundle?)"
        )
    return f"revision {ruled.revision[:16]} by {ruled.engine}"


def _steps(settings: Settings) -> Iterator[Check]:
    """Yield a check per tenant and law: every step, by whom or why by nobody."""
    try:
        found = asyncio.run(_asked(settings))
    except (GatewayError, PolicyError, ResidencyError):
        return  # the check of the policy says so
    for (tenant, law), each in groupby(found, key=lambda step: (step.tenant, step.jurisdiction)):
        taken = list(each)
        lacking = any(step.missing for step in taken)
        whose = f"{tenant} serves {'any other country' if law == NOWHERE else law}"
        says = "; ".join(step.says for step in taken)
        grave = lacking and settings.production
        yield Check("note" if lacking and not grave else whose, not grave, says)


async def _asked(settings: Settings) -> list[Step]:
    async with AsyncExitStack() as stack:
        opened = await egress.egress(settings, stack)
        way = await egress.source_way(settings, opened, stack)
        ruled = await rules.rules(settings, stack, way)
        return [step async for step in steps.steps(settings, ruled, now())]


def _assistant(tenant: Tenant) -> str:
    found = assistant.load(tenant.assistant, languages=tenant.languages)
    said = f"{len(found.intents)} intents"
    if unfounded := ", ".join(claims.unfounded(assistant.read(tenant.assistant))):
        return (
            f"{said}; warning: {unfounded} may say that something was done, and nobody does it "
            "(say what is so, or set hand_over = true there and have a human act on it)"
        )
    return said


def _engines(settings: Settings) -> Iterator[Check]:
    try:
        known: Registry = rules.registry(settings)
    except ResidencyError:
        return
    for row in known:
        if row.region == settings.cell.region and row.hosts == ():
            yield _tried(row.id, partial(_engine, row, settings))


def _engine(row: Processor, settings: Settings) -> str:
    try:
        engines.adapter(row, settings)
    except EngineMissingError as exc:
        raise MissingPartError(f"{exc}; until then the cell answers in text") from None
    return "installed"
