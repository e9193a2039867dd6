"""
A release on both engines: the real OPA polls what we sign, and refuses what we refuse.

And a publication and a rollback under load, the real OPA fed by the cell: each decision is of one
law, with that law's facts; none fails for being in between.
"""

import asyncio
import functools
import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from support import opa as opas
from support.policy_world import NOW, QUESTION
from support.publishing import Publisher, expecting, two_laws, with_rules

from gateway.console import bundle
from policy import archive
from policy.active import Release
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.fetch import HttpSource
from policy.follow import Follower
from policy.model import Allowed, Decision
from policy.opa import OpaEngine
from policy.release import Releases

pytestmark = pytest.mark.anyio

OLD, NEW = two_laws()
TOKEN = "token-of-a-test"
CONFIG = """
services:
  publications:
    url: {url}
    credentials: {{bearer: {{token: {token}}}}}
keys:
  vocustody:
    algorithm: ES256
    key: |
{key}
bundles:
  main:
    service: publications
    resource: policy/bundle.tar.gz
    polling: {{min_delay_seconds: 1, max_delay_seconds: 1}}
    signing: {{keyid: vocustody}}
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Publication:
    """A directory behind a file server."""

    directory: Path
    url: str

    def publish(self, raw: bytes) -> None:
        """Put *raw* there, whole."""
        archive.place(raw, self.directory / "policy" / "bundle.tar.gz")

    def withdraw(self) -> None:
        """Let it be as if the source were gone."""
        (self.directory / "policy" / "bundle.tar.gz").unlink()

    @property
    def address(self) -> str:
        """Return where the bundle is."""
        return f"{self.url}{bundle.PATH}"


@pytest.fixture
def publication(tmp_path: Path) -> Iterator[Publication]:
    """Yield an empty directory behind a file server on loopback."""
    directory = tmp_path / "published"
    (directory / "policy").mkdir(parents=True)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(directory))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield Publication(directory, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def polling(binary: str, home: Path, source: str, trusted: Publisher) -> Iterator[str]:
    """Yield the URL of a real OPA that polls *source* and trusts one key."""
    key = "".join(f"      {line}\n" for line in trusted.public.read_text().splitlines())
    (home / "opa.yaml").write_text(CONFIG.format(url=source, key=key, token=TOKEN))
    address = f"127.0.0.1:{opas._free_port()}"
    command = [binary, "run", "--server", "--addr", address, "-c", "opa.yaml"]
    with (home / "opa.log").open("wb") as log, subprocess.Popen(
        [*command, "--skip-version-check", "--log-level", "error"],
        cwd=home, env=opas._environment(home), stdout=log, stderr=log,
    ) as process:  # fmt: skip
        try:
            yield f"http://{address}"
        finally:
            opas._stop(process)


def said(log: Path, text: str) -> None:
    """Wait until OPA says *text*."""
    deadline = time.monotonic() + 20
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def listens(url: str) -> bool:
    """Return whether somebody is at *url*."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def revision(url: str) -> str | None:
    """Return what the server at *url* answers with."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/v1/data/vocustody/revision")
        return json.loads(connection.getresponse().read()).get("result")
    finally:
        connection.close()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until *holds*."""
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.05)


async def test_opa_loads_what_we_sign(
    opa_binary: str, publication: Publication, publisher: Publisher, tmp_path: Path
) -> None:
    """The same file, the same key, the same revision as the embedded engine."""
    publication.publish(publisher.publish(OLD))

    with polling(opa_binary, tmp_path, publication.url, publisher) as url:
        await until(lambda: opas._healthy(url))
        found = revision(url)

    assert found == OLD.revision


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ("unsigned", "bundle missing .signatures.json file"),
        ("stranger", "failed to verify JWT signature"),
    ],
)
async def test_opa_refuses_what_we_refuse(
    opa_binary: str,
    publication: Publication,
    publisher: Publisher,
    stranger: Publisher,
    tmp_path: Path,
    spoil: str,
    text: str,
) -> None:
    """Who can write to the file server is not who makes the law, on either engine."""
    raw = {"unsigned": archive.pack(OLD, issued=1), "stranger": stranger.publish(OLD)}
    publication.publish(raw[spoil])

    with polling(opa_binary, tmp_path, publication.url, publisher) as url:
        await asyncio.to_thread(said, tmp_path / "opa.log", text)
        await until(lambda: listens(url))  # it looks for its bundle first
        found = revision(url)

    assert found is None


class Cell:
    """A follower on one engine, what it needs to be true before it decides, and what it told."""

    def __init__(self, follower: Follower, told: list[str]) -> None:
        self.follower = follower
        self.told = told
        self.asked = 0  # how often a server has looked for its bundle
        self.url: str | None = None

    def ready(self) -> bool:
        """Whether there is an engine with a law."""
        return self.url is None or opas._healthy(self.url)

    def archive(self) -> bytes:
        """Return what the cell offers its server."""
        self.asked += 1
        return self.follower.offered.raw


@asynccontextmanager
async def offering(cell: Cell) -> AsyncIterator[str]:
    """Yield the URL at which *cell* offers its release, behind a token."""
    offer = bundle.Offer(archive=cell.archive, token=TOKEN.encode())

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"offer": offer}

    app = Starlette(routes=[Route(bundle.PATH, bundle.serve)], lifespan=lifespan)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    serving = asyncio.create_task(server.serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture(params=["embedded", "opa"])
async def cell(
    request: pytest.FixtureRequest,
    opa_binary: str,
    publication: Publication,
    publisher: Publisher,
    tmp_path: Path,
) -> AsyncIterator[Cell]:
    """Yield a cell on each engine, under the old law; a server takes its bundle from the cell."""
    publication.publish(publisher.publish(OLD, 1))
    engines = list[OpaEngine]()
    told: list[str] = []
    follower = Follower(
        Releases(tmp_path / "bundles"),
        expected=expecting(OLD),
        opened=lambda b: Release(facts=b.facts, engine=engines[0]) if engines else embedded(b),
        served=request.param == "opa",
        now=lambda: NOW,
        told=lambda event, **_: told.append(event),
        source=HttpSource(publication.address),
        keys=publisher.keys,
        poll_s=0.2,
        deadline_s=10,
    )
    found = Cell(follower, told)
    async with AsyncExitStack() as stack:
        if request.param == "opa":
            offered = await stack.enter_async_context(offering(found))
            found.url = stack.enter_context(polling(opa_binary, tmp_path, offered, publisher))
            engines.append(OpaEngine(found.url, timeout_s=5))
            stack.push_async_callback(engines[0].aclose)
        stack.push_async_callback(follower.aclose)
        await follower.begin()
        follower.start()
        yield found


def embedded(law: Bundle) -> Release:
    """Open *law* on an engine of its own."""
    engine = EmbeddedEngine(law)
    return Release(facts=law.facts, engine=engine, close=engine.aclose)


async def test_publication_and_rollback_under_load(
    cell: Cell, publication: Publication, publisher: Publisher, tmp_path: Path
) -> None:
    """
    Each decision is of one law, whole; nothing is undecided between.

    One command rolls back cell and server alike, and neither needs the source to go on.
    """
    await until(cell.ready)
    follower, found, over = cell.follower, list[Decision](), asyncio.Event()
    releases = Releases(tmp_path / "bundles")

    async def ask() -> None:
        while not over.is_set():
            found.append(await follower.active.decide(QUESTION))
            await asyncio.sleep(0.005)

    async def decided(law: Bundle) -> None:
        await until(lambda: found and found[-1].provenance.revision == law.revision)
        enough = len(found) + 50
        await until(lambda: len(found) > enough)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    await decided(OLD)
    publication.publish(publisher.publish(NEW, 2))
    await decided(NEW)
    releases.pin(OLD.revision)
    await decided(OLD)
    publication.withdraw()
    await until(lambda: "policy.poll_failed" in cell.told)
    await decided(OLD)
    over.set()
    await asyncio.gather(*asking)

    assert {type(decision) for decision in found} == {Allowed}, {d.reasons for d in found}
    laws = {law.revision: law for law in (OLD, NEW)}
    for decision in found:
        law = laws[decision.provenance.revision]
        assert decision.provenance.data_sha256 == law.data_sha256
        assert ("stt.first.eu-west" in decision.processors) == (law is OLD)
    assert {decision.provenance.revision for decision in found} == set(laws)
    assert follower.active.facts.revision == follower.revision == OLD.revision


@pytest.mark.parametrize("cell", ["opa"], indirect=True)
async def test_a_server_is_never_ahead_of_the_gate(
    cell: Cell, publication: Publication, publisher: Publisher
) -> None:
    """What the cell refuses, its server does not get: it could not tell why it is wrong."""
    await until(cell.ready)
    mute = with_rules(OLD, route="package vocustody.route\n\ndecision := 1\n")

    publication.publish(publisher.publish(mute, 9))
    await until(lambda: "policy.refused" in cell.told)
    enough = cell.asked + 2
    await until(lambda: cell.asked > enough)

    assert cell.url is not None
    assert revision(cell.url) == OLD.revision
    assert isinstance(await cell.follower.active.decide(QUESTION), Allowed)
