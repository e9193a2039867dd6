"""Alive, ready, measured: what a load balancer and an operator are told, by a real cell."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest
from starlette.requests import Request
from support.cell import Town
from support.stage import ADMIN, family, get, received, staged, until

from gateway.console import bundle, health
from gateway.console.health import Check, Vitals
from gateway.demo.graph import GraphWorld, serve
from gateway.metrics import Metrics
from policy import archive

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the cell's fixture and its tests on one loop."""
    return "asyncio"


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Yield a scripted cell that is ready."""
    world = GraphWorld(lambda: datetime.now(UTC))
    world.line()
    async with serve(world):
        town = staged(tmp_path_factory.mktemp("health") / "cell", world)
        try:
            await town.cell.start()
            yield town
        finally:
            await town.cell.kill()


def broker_of(town: Town) -> int:
    """Return the process id of the cell's child nats-server."""
    (pid,) = [pid for pid, said in family(town.cell.pid).items() if "nats.conf" in said]
    return pid


async def failing(town: Town) -> list[str]:
    """Return the failed checks that ``/readyz`` names; none when it says 200."""
    answer = await get(town, "/readyz")
    failed: list[str] = answer.json()["failed"]
    assert (answer.status_code == httpx2.codes.OK) == (failed == []) == answer.json()["ready"]
    return failed


async def test_a_cell_that_works_is_alive_and_ready(town: Town) -> None:
    """200 means: a webhook would be accepted and worked on."""
    assert (await get(town, "/healthz")).status_code == httpx2.codes.OK
    assert await failing(town) == []


async def test_a_frozen_broker_is_named(town: Town) -> None:
    """It neither answers nor hangs up; nobody would be told of a job."""
    pid = broker_of(town)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await until(lambda: _named(town, "broker"))
        assert (await get(town, "/healthz")).status_code == httpx2.codes.OK, "the process lives"
    finally:
        os.kill(pid, signal.SIGCONT)

    assert await until(lambda: _well(town))


async def test_a_killed_broker_is_named_and_comes_back(town: Town) -> None:
    """The child is the cell's own: nobody else would start it again."""
    pid = broker_of(town)
    with (town.cell.config.parent / "data" / "nats" / "lock").open() as lock:
        os.kill(pid, signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)  # while we hold it no other one can start
        assert await until(lambda: _named(town, "broker"))

    assert await until(lambda: _well(town))
    assert broker_of(town) != pid
    await town.ada.type("hello")
    await received(town, "text")


async def test_a_locked_database_is_named(town: Town) -> None:
    """What cannot be written cannot be accepted, and the probe itself must not hang for it."""
    database = sqlite3.connect(town.cell.config.parent / "data" / "cell.db")
    with contextlib.closing(database):
        database.execute("BEGIN EXCLUSIVE")
        assert "database" in await failing(town)
        database.rollback()

    assert await until(lambda: _well(town))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic " + ADMIN}, 401),
        ({"authorization": ADMIN}, 401),
        ({"authorization": f"Bearer {ADMIN}"}, 200),
    ],
)
async def test_metrics_want_the_token(town: Town, header: dict[str, str], status: int) -> None:
    """How many people write, and when, is nobody else's business."""
    answer = await get(town, "/metrics", **header)

    assert answer.status_code == status
    assert ("vocustody_stage_seconds" in answer.text) == (status == 200)


async def test_an_opa_gets_the_release_of_this_cell(town: Town) -> None:
    """At the cell's own door, and nobody else does."""
    refused = await get(town, bundle.PATH)
    given = await get(town, bundle.PATH, authorization=f"Bearer {ADMIN}")

    assert refused.status_code == 401
    state = json.loads((town.cell.config.parent / "data" / "bundles" / "active.json").read_bytes())
    assert archive.unpack(given.content).bundle.revision == state["revision"]


async def test_metrics_without_a_token_setting_are_not_served() -> None:
    """Left out means off, never open."""
    vitals = Vitals(checks={}, metrics=Metrics(), token=None)
    scope = {"type": "http", "headers": [(b"authorization", b"Bearer ")]}

    answer = await health.metrics(Request(scope | {"state": {"vitals": vitals}}))

    assert answer.status_code == 404


@pytest.mark.parametrize("hang", [True, False])
async def test_a_check_that_fails_or_hangs_is_named(
    hang: bool,  # noqa: FBT001 - pytest gives it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that waits for what it probes is no probe."""
    monkeypatch.setattr(health, "CHECK_LIMIT_S", 0.1)

    async def broken() -> bool:
        await asyncio.sleep(60 if hang else 0)
        raise RuntimeError

    async def well() -> bool:
        return True

    checks: dict[str, Check] = {"a": well, "b": broken}
    vitals = Vitals(checks=checks, metrics=Metrics(), token=None)
    scope = {"type": "http", "headers": [], "state": {"vitals": vitals}}

    answer = await health.readyz(Request(scope))

    assert answer.status_code == 503
    assert json.loads(bytes(answer.body)) == {"ready": False, "failed": ["b"], "warned": []}


async def _well(town: Town) -> bool:
    return await failing(town) == []


async def _named(town: Town, name: str) -> bool:
    return name in await failing(town)
