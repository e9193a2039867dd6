"""
The cell's way out: the broker, inside this process or beside it, and who goes through it.

- The broker runs inside the gateway unless ``[egress] control`` names the socket of a separate
  one (``vocustody egress``), which an operator can run as another user: then only that user
  needs a route out of the machine.
- Processors and WhatsApp get a ticket per touch (`gateway.passage`). A vault and a source of
  policy elsewhere get a standing one, renewed long before it ends: their calls belong to no touch.
- What WhatsApp is reached at must be what its registry row says; in development, the simulator
  that the settings name is admitted besides.
"""

import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import requests
from requests.adapters import HTTPAdapter

from gateway import addresses, log
from gateway.compose.surroundings import MACHINE
from gateway.errors import MissingPartError, SettingsError
from gateway.sections import Tenant
from gateway.settings import Settings
from gateway.timekeeping import Machine
from policy.fetch import Way, straight
from residency import egress as rules
from residency.control import Control, RemoteEgress
from residency.errors import EgressError
from residency.model import Grant, Passage, Service
from residency.ports import Egress
from residency.proxy import Broker, Connect, Resolve, lookup
from residency.registry import Registry

RENEW_S = 20.0
AGAIN_S = 1.0
HTTPS = 443

Mount = Callable[[requests.Session], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """
    The world as a cell meets it: names, sockets, and who may vouch for a vendor (PEM *roots*).

    *roots* None leaves each client its own: the system's, or those it ships with. *machine* has
    the clocks.
    """

    resolve: Resolve = lookup
    connect: Connect = asyncio.open_connection
    roots: bytes | None = None
    machine: Machine = MACHINE

    @property
    def trust(self) -> ssl.SSLContext | None:
        """Return a context that knows *roots* alone; None where there are none."""
        return ssl.create_default_context(cadata=self.roots.decode()) if self.roots else None


WORLD = Outside()
"""The real one."""


async def egress(settings: Settings, stack: AsyncExitStack, outside: Outside = WORLD) -> Egress:
    """Return the cell's broker: the separate one that is named, else one in this process."""
    control = settings.egress.control
    opened: Egress = (
        RemoteEgress(control, development=not settings.production)
        if control
        else await _started(settings, outside)
    )
    stack.push_async_callback(opened.aclose)
    return opened


async def _started(settings: Settings, outside: Outside = WORLD) -> Broker:
    broker = Broker(
        development=not settings.production,
        private=[host for _, host in _standing(settings)],
        resolve=outside.resolve,
        connect=outside.connect,
    )
    try:
        await broker.start(settings.egress.host, settings.egress.port)
    except OSError as exc:
        raise MissingPartError(
            f"egress: {settings.egress.listen}: {exc.strerror} (set another [egress] listen)"
        ) from None
    return broker


async def ready(egress: Egress) -> bool:
    """Tell whether the broker gives tickets now; raise `EgressError` if not."""
    grant = Grant(
        processor="none", decision="none", touch="none", hosts=("ready.invalid:443",), seconds=1
    )
    await egress.end(await egress.admit(grant))
    return True


def run(settings: Settings) -> None:
    """Run a separate broker until SIGTERM or SIGINT."""
    if settings.egress.control is None:
        raise SettingsError(["egress.control: missing (the Unix socket that gateways ask)"])
    log.configure(human=not settings.production and sys.stdout.isatty())
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    control = settings.egress.control
    assert control is not None  # noqa: S101 - for the type checker: `run` looked
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with AsyncExitStack() as stack:
        broker = await _started(settings)
        stack.push_async_callback(broker.aclose)
        served = Control(broker, development=not settings.production)
        await served.start(control)
        stack.push_async_callback(served.aclose)
        print(f"vocustody: broker on {broker.proxy}", file=sys.stderr, flush=True)  # noqa: T201 - an operator waits for it
        await stopped.wait()
        log.get().info("egress.stopping", cell=settings.cell.id)


def simulators(settings: Settings) -> tuple[str, ...]:
    """Return the hosts that a development cell's messaging may reach beside its row's."""
    if settings.production:
        return ()
    hosts = [host for tenant in settings.tenants for _, host in _hosts(tenant)]
    return tuple(dict.fromkeys(hosts))


def check(settings: Settings, registry: Registry) -> None:
    """Raise `SettingsError` for what the broker would never let out, before anything starts."""
    faults = [*_messaging_faults(settings, registry), *_standing_faults(settings)]
    if faults:
        raise SettingsError(faults)


def _messaging_faults(settings: Settings, registry: Registry) -> Iterator[str]:
    rows = registry.find(Service.MESSAGING, settings.cell.region)
    known = {host for row in rows for host in row.hosts}
    if not settings.production or not rows:
        return
    for index, tenant in enumerate(settings.tenants):
        for name, host in _hosts(tenant):
            if host not in known:
                yield (
                    f"tenants[{index}].whatsapp.{name}: {host} is not among the hosts of "
                    f"{rows[0].id} (correct it, or the registry row)"
                )


def _hosts(tenant: Tenant) -> Iterator[tuple[str, str]]:
    """Yield (setting, ``host:port``) of everything a tenant's channel may connect to."""
    yield "graph_url", _host(tenant.whatsapp.graph_url)
    for host in tenant.whatsapp.media_hosts:
        yield "media_hosts", host if ":" in host else f"{host}:{HTTPS}"


def _host(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (HTTPS if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _vault(settings: Settings) -> str | None:
    """Return ``host:port`` of a vault that stands elsewhere and speaks TLS."""
    return _elsewhere(settings.services.vault.url) if settings.services.vault else None


def _source(settings: Settings) -> str | None:
    """Return ``host:port`` of a source of policy that stands elsewhere and speaks TLS."""
    return _elsewhere(settings.policy.source or "")


def _elsewhere(url: str) -> str | None:
    if not url.startswith("https://"):
        return None  # a file, or plain http: that reaches this machine only, but for development
    return None if addresses.loopback(urlsplit(url).hostname or "") else _host(url)


def _standing(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (setting, ``host:port``) of what is ours, stands elsewhere and belongs to no touch."""
    if vault := _vault(settings):
        yield "services.vault.url", vault
    if source := _source(settings):
        yield "policy.source", source


def _standing_faults(settings: Settings) -> Iterator[str]:
    for name, host in _standing(settings):
        if rules.is_literal(host.rpartition(":")[0]):
            yield f"{name}: an address (the broker lets out to names only: name the host)"


class Standing:
    """
    A passage for what belongs to no touch; `passage` is the newest.

    It is renewed every `RENEW_S`, and at once when it leads nowhere any more (`failed`): the
    broker may have started again.
    """

    def __init__(self, egress: Egress, processor: str, host: str) -> None:
        self._egress = egress
        self._grant = Grant(
            processor=processor,
            decision="standing",
            touch="none",
            hosts=(host,),
            seconds=3 * RENEW_S,
        )
        self._passages: list[Passage] = []
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._dead = asyncio.Event()

    @property
    def passage(self) -> Passage:
        """Return leave to go now."""
        return self._passages[-1]

    def failed(self, passage: Passage) -> None:
        """Have *passage* renewed now, unless it was; any thread may say so."""
        if passage is self.passage:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody goes on
                self._loop.call_soon_threadsafe(self._dead.set)

    async def start(self) -> None:
        """Get the first passage; raise `EgressError` when there is none to be had."""
        self._passages.append(await self._egress.admit(self._grant))
        self._task = asyncio.create_task(self._renew(), name="standing passage")

    async def aclose(self) -> None:
        """Give every passage back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._give_back(self._passages)

    async def _renew(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._dead.wait()
            replaced = await self._replaced()
            if self._dead.is_set() or not replaced:
                await asyncio.sleep(AGAIN_S)  # a host that is down must not cost a ticket per call
            if replaced:
                self._dead.clear()
            else:
                self._dead.set()

    async def _replaced(self) -> bool:
        try:
            await self._replace()
        except EgressError as exc:
            log.get().error("egress.closed", error=exc)
            return False
        return True

    async def _replace(self) -> None:
        self._passages.append(await self._egress.admit(self._grant))
        *gone, older, newest = self._passages  # calls under way may still need the older one
        self._passages = [older, newest]
        await self._give_back(gone)

    async def _give_back(self, passages: Sequence[Passage]) -> None:
        for passage in passages:
            with contextlib.suppress(EgressError):  # the broker that gave it is gone
                await self._egress.end(passage)


class ByPassage(HTTPAdapter):
    """Sends the requests of a `requests.Session` through the broker, and in no other way."""

    def __init__(self, standing: Standing) -> None:
        super().__init__()
        self._standing = standing
        self._proxy = ""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - the base class's signature
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002 - same
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002 - same
    ) -> requests.Response:
        """See the base class; connections of an older passage are not used again."""
        passage = self._standing.passage
        proxy = f"http://{passage.ticket}:{passage.secret}@{passage.proxy}"
        if proxy != self._proxy:
            self.close()
            self.proxy_manager.clear()
            self._proxy = proxy
        try:
            return super().send(request, stream, timeout, verify, cert, {"https": proxy})
        except requests.exceptions.ProxyError:
            self._standing.failed(passage)
            raise


async def vault_mount(settings: Settings, egress: Egress, stack: AsyncExitStack) -> Mount:
    """Return what makes a session reach the vault by the broker, where it stands elsewhere."""
    host = _vault(settings)
    if host is None:
        return lambda _session: None
    standing = await _stands(egress, "vault", host, stack)
    return lambda session: session.mount("https://", ByPassage(standing))


async def source_way(settings: Settings, egress: Egress, stack: AsyncExitStack) -> Way:
    """Return how the source of policy is reached: by the broker, where it stands elsewhere."""
    host = _source(settings)
    if host is None:
        return straight
    standing = await _stands(egress, "policy", host, stack)

    def way() -> httpx2.Proxy:
        passage = standing.passage
        return httpx2.Proxy(f"http://{passage.proxy}", auth=(passage.ticket, passage.secret))

    return way


async def _stands(egress: Egress, name: str, host: str, stack: AsyncExitStack) -> Standing:
    standing = Standing(egress, name, host)
    await standing.start()
    stack.push_async_callback(standing.aclose)
    return standing
