"""Where a cell keeps things: database, keys, objects, trail, broker."""

import asyncio
import contextlib
import fcntl
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, false
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.ports import Shelf, Signer
from audit.signers.local import LocalSigner
from audit.signers.transit import TransitSigner
from audit.stores.folder import Folder
from audit.trail import Trail
from gateway import db, log, migrations, subjects
from gateway.broker import Broker
from gateway.compose.identities import Identity
from gateway.compose.surroundings import now
from gateway.decisions import Decisions
from gateway.errors import MissingPartError, SettingsError
from gateway.metrics import Metrics
from gateway.natsd import NatsServer
from gateway.schema import relay
from gateway.sections import Database
from gateway.settings import Settings
from gateway.slots import URGENT
from vault.bucket import Terms
from vault.custody import Custody
from vault.errors import UnfitBucketError
from vault.keyrings import policies
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keyrings.policies import Who
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.keys import Keys
from vault.objects.local import LocalObjects
from vault.ports import Keeper, Keyring, Objects

if TYPE_CHECKING:
    from vault.objects.s3 import S3Objects

CHILD_TICK_S = 0.5
Clock = Callable[[], datetime]


def lock(data: Path, stack: AsyncExitStack) -> None:
    """Be the only gateway on *data* until *stack* closes, or raise `MissingPartError`."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = stack.enter_context((data / "lock").open("w"))
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise MissingPartError(
            f"{data} is in use by another gateway (stop it, or set another [cell] data)"
        ) from None


async def database(settings: Settings, stack: AsyncExitStack) -> AsyncEngine:
    """Return the database, migrated to this version's schema."""
    engine = db.connect(database_url(settings))
    stack.push_async_callback(engine.dispose)
    await migrations.upgrade(engine)
    return engine


def existing_database(settings: Settings) -> AsyncEngine:
    """Return the database for reading; raise `MissingPartError` where no cell has made one."""
    url = make_url(database_url(settings))
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise MissingPartError(f"{url.database} does not exist (start the gateway once)")
    return db.connect(database_url(settings))


def database_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of the cell's database, its password included."""
    given = settings.services.database
    if given is None:
        return f"sqlite+aiosqlite:///{settings.cell.data / 'cell.db'}"
    return _url(given)


def newest_backup(settings: Settings) -> Callable[[], AsyncEngine] | None:
    """Return what opens the database restored from the newest backup; None if none is named."""
    given = settings.backups.newest
    return None if given is None else lambda: db.connect(_url(given))


def _url(given: Database) -> str:
    url = make_url(given.url)
    if given.password_file:
        url = url.set(password=given.password_file.value.decode())
    return url.render_as_string(hide_password=False)


def keyring(settings: Settings, worker: Identity | None) -> Keyring:
    """Return the keyring: transit as *worker* sees it, else the local one."""
    if worker is None:
        return LocalKeyring(settings.cell.data / "keys")
    return TransitKeyring(worker.transit())


def keys(
    settings: Settings,
    engine: AsyncEngine,
    wrapped_by: Keyring,
    *,
    clock: Clock = now,
    replaced: Callable[[str, str], None] | None = None,
) -> Keys:
    """Return the cell's keys; a tenant with buckets of its own has its people's keys in them."""
    return Keys(
        engine,
        wrapped_by,
        region=settings.cell.region,
        now=clock,
        buckets=settings.keys.buckets,
        own={each.id: each.key_buckets for each in settings.tenants if each.key_buckets},
        owner=partial(subjects.owner_of, engine),
        replaced=replaced or _replaced,
    )


def keeper(settings: Settings, keeping: Identity | None) -> Keeper | None:
    """Return the keeper's half of the key service; None where its credentials are not ours."""
    if settings.services.vault is None:
        return LocalKeeper(settings.cell.data / "keys")
    return TransitKeeper(keeping.transit()) if keeping is not None else None


def _replaced(lost: str, instead: str) -> None:
    log.get().error("key.replaced", kind=lost, state=instead)


async def keeper_trail(
    settings: Settings, who: Identity | None, stack: AsyncExitStack, clock: Clock
) -> Trail:
    """Open the keeper's own log, signed by its own key, which *who* may sign with."""
    signer: Signer
    if who is None:
        signer = LocalSigner.open(settings.cell.data / "keeper-signing-key.pem")
    else:
        signer = await _transit_signer(settings, Who.KEEPER, who)
    opened = await Trail.open(keeper_shelf(settings), signer, clock)
    stack.push_async_callback(opened.close)
    return opened


def keeper_shelf(settings: Settings) -> Shelf:
    """Return where the keeper's logs stand: beside the cell's, under a name of their own."""
    return Folder(settings.cell.data / "keeper", f"{settings.cell.region}-keeper")


async def objects(settings: Settings) -> Objects:
    """Return the object store: the bucket that is named, if it is fit, else local files."""
    if settings.services.objects is None:
        return LocalObjects(settings.cell.data / "objects")
    store = bucket(settings)
    try:
        found = await store.ready()
    except UnfitBucketError as exc:
        raise SettingsError([f"services.objects: {fault}" for fault in exc.faults]) from None
    for fact in found:
        log.get().info("bucket.observed", field=fact.name, state=fact.value or fact.basis)
    return store


def bucket(settings: Settings) -> "S3Objects":
    """Return the bucket that is named; it has not been looked at."""
    from vault.objects.client import Credentials  # noqa: PLC0415 - needs the extra [s3]
    from vault.objects.s3 import S3Objects  # noqa: PLC0415 - same

    given = settings.services.objects
    if given is None:
        raise MissingPartError("services.objects is not set: there is no bucket")
    name, *folders = filter(None, given.url.removeprefix("s3://").split("/"))
    return S3Objects(
        given.endpoint or f"https://s3.{given.region}.amazonaws.com",
        name,
        prefix="/".join([*folders, settings.cell.id, ""]),
        terms=Terms(
            region=given.region,
            purge_versions=given.purge_versions,
            accepted=frozenset(given.accept_unknown),
            strict=settings.production,
        ),
        credentials=Credentials(
            given.access_key_file.value.decode(), given.secret_key_file.value.decode()
        ),
        now=now,
    )


async def trail(
    settings: Settings, worker: Identity | None, stack: AsyncExitStack, clock: Clock
) -> Trail:
    """Open the audit trail of the cell's region, signed by *worker*'s key, else by a local one."""
    signer: Signer
    if worker is None:
        signer = LocalSigner.open(settings.cell.data / "audit-signing-key.pem")
    else:
        signer = await _transit_signer(settings, Who.WORKER, worker)
    opened = await Trail.open(shelf(settings), signer, clock)
    stack.push_async_callback(opened.close)
    return opened


def shelf(settings: Settings) -> Shelf:
    """Return where the cell's logs stand."""
    return Folder(settings.cell.data / "audit", settings.cell.region)


async def _transit_signer(settings: Settings, key: Who, who: Identity) -> Signer:
    # In a thread: the way there may lead by the broker, which may run on this very loop.
    client = await asyncio.to_thread(who.client)
    return await TransitSigner.open(
        client,
        policies.signing_key(key, settings.cell.id),
        mount=who.vault.mount,
        token=who.signing_token,
        refused=who.refused,
    )


async def broker(settings: Settings, stack: AsyncExitStack) -> Broker:
    """Connect to the broker that is named, else start a child nats-server."""
    given = settings.services.nats
    if given is None:
        server = NatsServer(
            settings.cell.data / "nats", name=settings.cell.id, region=settings.cell.region
        )
        await asyncio.to_thread(server.start)
        stack.push_async_callback(asyncio.to_thread, server.stop)
        stack.push_async_callback(_ended, asyncio.create_task(_keep(server), name="broker"))
        url: str = server.url
        token: str | None = server.token
    else:
        url = given.url
        token = given.token_file.value.decode() if given.token_file else None
    lanes = [URGENT, *(tenant.id for tenant in settings.tenants)]
    connected = await Broker.connect(url, settings.cell.region, lanes=lanes, token=token)
    stack.push_async_callback(connected.aclose)
    await connected.prepare()
    return connected


async def _keep(server: NatsServer) -> None:
    """Start the child broker again whenever it died: the cell cannot work without one."""
    while True:
        await asyncio.sleep(CHILD_TICK_S)
        if not server.alive():
            log.get().error("broker.died")
            with contextlib.suppress(MissingPartError):
                await asyncio.to_thread(server.start)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def decisions(
    settings: Settings,
    engine: AsyncEngine,
    custody: Custody,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> Decisions:
    """Start the store of decisions; it is written to the end before the database closes."""
    kept_for = timedelta(days=settings.decisions.kept_days)
    store = Decisions(engine, custody, metrics, kept_for=kept_for)
    store.start()
    stack.push_async_callback(store.aclose)
    return store


async def writable(engine: AsyncEngine) -> bool:
    """Whether the database takes a write now; a read-only standby refuses even an empty one."""
    async with engine.begin() as tx:
        await tx.execute(delete(relay).where(false()))
    return True
