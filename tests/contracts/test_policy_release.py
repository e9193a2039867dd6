"""
A release on both engines: the real OPA polls what we sign, and refuses what we refuse.

And a swap under load: each decision is of one law, with that law's facts; none fails for
being in between.
"""

import asyncio
import functools
import http.client
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import opa as opas
from support.policy_world import NOW, QUESTION
from support.publishing import Publisher, expecting, two_laws

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
CONFIG = """
services:
  publications:
    url: {url}
keys:
  vocustody:
    algorithm: ES256
    key: |
{key}
bundles:
  main:
    service: publications
    resource: bundle.tar.gz
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
        archive.place(raw, self.directory / "bundle.tar.gz")

    @property
    def address(self) -> str:
        """Return where the bundle is."""
        return f"{self.url}/bundle.tar.gz"


@pytest.fixture
def publication(tmp_path: Path) -> Iterator[Publication]:
    """Yield an empty directory behind a file server on loopback."""
    directory = tmp_path / "published"
    directory.mkdir()
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
def polling(binary: str, home: Path, publication: Publication, trusted: Publisher) -> Iterator[str]:
    """Yield the URL of a real OPA that polls *publication* and trusts one key."""
    key = "".join(f"      {line}\n" for line in trusted.public.read_text().splitlines())
    (home / "opa.yaml").write_text(CONFIG.format(url=publication.url, key=key))
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

    with polling(opa_binary, tmp_path, publication, publisher) as url:
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

    with polling(opa_binary, tmp_path, publication, publisher) as url:
        await asyncio.to_thread(said, tmp_path / "opa.log", text)
        found = revision(url)

    assert found is None


@dataclass
class Cell:
    """A follower on one engine, and what it needs to be true before it decides."""

    follower: Follower
    ready: Callable[[], Any]


@pytest.fixture(params=["embedded", "opa"])
async def cell(
    request: pytest.FixtureRequest,
    opa_binary: str,
    publication: Publication,
    publisher: Publisher,
    tmp_path: Path,
) -> AsyncIterator[Cell]:
    """Yield a cell on each engine; the publication holds the old law."""
    publication.publish(publisher.publish(OLD, 1))
    releases = Releases(tmp_path / "bundles")

    def followed(opened: Callable[[Bundle], Release], *, served: bool) -> Follower:
        return Follower(
            releases,
            expected=expecting(OLD),
            opened=opened,
            served=served,
            now=lambda: NOW,
            told=lambda *_, **__: None,
            source=HttpSource(publication.address),
            keys=publisher.keys,
            poll_s=0.2,
            deadline_s=10,
        )

    if request.param == "embedded":
        follower = followed(embedded, served=False)
        await follower.begin()
        yield Cell(follower, lambda: True)
        await follower.aclose()
        return
    with polling(opa_binary, tmp_path, publication, publisher) as url:
        engine = OpaEngine(url, timeout_s=5)
        follower = followed(lambda b: Release(facts=b.facts, engine=engine), served=True)
        await follower.begin()
        yield Cell(follower, lambda: opas._healthy(url))
        await follower.aclose()
        await engine.aclose()


def embedded(bundle: Bundle) -> Release:
    """Open *bundle* on an engine of its own."""
    engine = EmbeddedEngine(bundle)
    return Release(facts=bundle.facts, engine=engine, close=engine.aclose)


async def test_a_swap_under_load(
    cell: Cell, publication: Publication, publisher: Publisher
) -> None:
    """Each decision is of the old law or of the new one, whole; nothing is undecided between."""
    await until(cell.ready)
    follower, found, over = cell.follower, list[Decision](), asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            found.append(await follower.active.decide(QUESTION))
            await asyncio.sleep(0.002)

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    await until(lambda: len(found) > 50)
    # The cell verifies first; OPA polls every second, the cell every fifth of one.
    raw = publisher.publish(NEW, 2)
    follower._releases.keep(archive.unpack(raw))
    await follower._turn(NEW.revision)
    publication.publish(raw)
    follower.start()
    await until(lambda: found[-1].provenance.revision == NEW.revision)
    enough = len(found) + 50
    await until(lambda: len(found) > enough)
    over.set()
    await asyncio.gather(*asking)

    assert {type(decision) for decision in found} == {Allowed}, {d.reasons for d in found}
    laws = {law.revision: law for law in (OLD, NEW)}
    for decision in found:
        law = laws[decision.provenance.revision]
        assert decision.provenance.data_sha256 == law.data_sha256
        assert ("stt.first.eu-west" in decision.processors) == (law is OLD)
    assert {decision.provenance.revision for decision in found} == set(laws)
    assert follower.active.facts.revision == NEW.revision
