"""
One cell on the services of production: NATS, OPA, OpenBao, PostgreSQL and an S3 server.

Nothing of it is embedded and nothing pretended. Then each service is taken away: nothing is
fetched, spilled or lost, and the cell goes on when the service is back.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import hvac
import pytest
from support import opa as real_opa
from support import openbao as real_bao
from support import roles
from support.cell import NOTE, SCRIPTED, Town
from support.objects import S3Server
from support.openbao import OpenBao
from support.postgres import Postgres
from support.roles import Role
from support.stage import agree, get, received, secret, staged, until, vocustody

from gateway.demo.graph import GraphWorld, serve
from gateway.natsd import NatsServer
from vault.keyrings import policies
from vault.keyrings.policies import Who

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PASSWORD = "password-of-a-test"
TOKEN_S = 10


@dataclass(frozen=True, slots=True)
class Vault:
    """An OpenBao of this module's own, which may be sealed."""

    server: OpenBao
    unseal_key: str
    roles: dict[Who, Role]

    def secrets(self) -> dict[str, str]:
        """Return what worker and keeper log in with, by the names of their files."""
        ids = {f"{who}-role": role.role_id for who, role in self.roles.items()}
        return ids | {f"{who}-secret": role.secret_id for who, role in self.roles.items()}

    def table(self, who: Who) -> str:
        """Return the settings of a process that logs in as *who*, and cannot as the other."""
        way = "approle" if who is Who.WORKER else "keeper_approle"
        files = f'role_id_file = "{who}-role", secret_id_file = "{who}-secret"'
        mount = self.roles[who].mount
        return f'{{ url = "{self.server.url}", {way} = {{ {files}, mount = "{mount}" }} }}'

    def call(self, method: str, path: str, body: str = "{}") -> None:
        """Send one request as root."""
        request = urllib.request.Request(
            f"{self.server.url}/v1/{path}",
            data=body.encode(),
            method=method,
            headers={"X-Vault-Token": self.server.token},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def seal(self) -> None:
        """Seal it: every request is refused until `unseal`."""
        self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        """Open it again."""
        self.call("PUT", "sys/unseal", f'{{"key": "{self.unseal_key}"}}')


@dataclass(frozen=True, slots=True)
class Services:
    """The cell's town and the services that may fail."""

    town: Town
    opa: subprocess.Popen[bytes]
    vault: Vault
    postgres: Postgres
    nats: NatsServer

    async def spoken(self) -> int:
        """Have the person speak; return how many texts they had before."""
        before = len(self.town.of_kind("text"))
        await self.town.ada.say(NOTE.read_bytes())
        return before

    async def readiness(self) -> tuple[int, list[str]]:
        """Return the status of ``/readyz`` and the failed checks that it names."""
        answer = await get(self.town, "/readyz")
        return answer.status_code, answer.json()["failed"]

    async def not_ready(self, *names: str) -> bool:
        """Whether ``/readyz`` answers 503 and names at least *names*."""
        status, failed = await self.readiness()
        return status == httpx2.codes.SERVICE_UNAVAILABLE and set(failed) >= set(names)

    async def ready(self) -> bool:
        """Whether ``/readyz`` answers 200."""
        return (await self.readiness())[0] == httpx2.codes.OK

    def downloads(self) -> int:
        """Return how many recordings were fetched."""
        return len([one for one in self.town.world.receipts if one.path.startswith("/_cdn")])


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the services' fixture and its tests on one loop."""
    return "asyncio"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """Yield an unsealed OpenBao with a transit engine."""
    home = tmp_path_factory.mktemp("vault")
    address, token = f"http://127.0.0.1:{real_bao._free_port()}", secrets.token_hex(16)
    server, log = OpenBao(address, token), home / "server.log"
    command, environment = real_bao._command(server), real_bao._environment(home)
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        try:
            real_bao._wait_until_ready(process, address, log)
            yield Vault(server, _unseal_key(log), _identities(server))
        finally:
            real_bao._stop(process)


def _identities(server: OpenBao) -> dict[Who, Role]:
    """Set the server up as the operator's page says, but that tokens last for seconds."""
    root = hvac.Client(url=server.url, token=server.token)
    root.sys.enable_secrets_engine("transit")
    root.adapter.post("/v1/transit/config/keys", json={"disable_upsert": True})
    for who in Who:
        root.sys.create_or_update_policy(who, policies.text(who, mount="transit", cell="eu-1"))
    given = {"token_ttl": f"{TOKEN_S}s", "token_no_default_policy": True}
    return {who: roles.make(root, token_policies=who, **given) for who in Who}


def _unseal_key(log: Path) -> str:
    deadline = time.monotonic() + 10
    while not (found := re.search(r"Unseal Key: (\S+)", log.read_text())):
        assert time.monotonic() < deadline, "the dev server prints its unseal key"
        time.sleep(0.02)
    return found[1]


@contextmanager
def opa(binary: str, home: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run an OPA server that has loaded ``bundle.tar.gz`` in *home*."""
    log = home / "opa.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            real_opa._command(binary, address),
            cwd=home, env=real_opa._environment(home), stdout=out, stderr=out,
        )  # fmt: skip
        try:
            real_opa._wait_until_ready(process, f"http://{address}", log)
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            real_opa._stop(process)


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Yield a NATS server that is not the cell's child."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), name="outside")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def services(
    tmp_path_factory: pytest.TempPathFactory,
    opa_binary: str,
    vault: Vault,
    nats: NatsServer,
    postgres: Postgres,
    s3_server: S3Server,
) -> AsyncIterator[Services]:
    """Yield a cell on five servers, whose person has agreed and was answered once."""
    home = tmp_path_factory.mktemp("services")
    address = f"127.0.0.1:{real_opa._free_port()}"
    given = {
        "db": PASSWORD, "nats": nats.token, **vault.secrets(),
        "s3-id": s3_server.key_id, "s3-key": s3_server.secret,
    }  # fmt: skip
    for name, value in given.items():
        secret(home / "cell", name, value)
    database = await postgres.create(password=PASSWORD)
    more = f"""
[services]
database = {{ url = "{database}", password_file = "db" }}
nats = {{ url = "{nats.url}", token_file = "nats" }}
opa = "http://{address}"
vault = {vault.table(Who.WORKER)}
objects = "s3://{s3_server.bucket()}"
objects_endpoint = "{s3_server.url}"
objects_access_key_file = "s3-id"
objects_secret_key_file = "s3-key"
"""
    world = GraphWorld(lambda: datetime.now(UTC))
    world.line()
    async with serve(world):
        town = staged(home / "cell", world, registry=SCRIPTED, more=more)
        config = str(town.cell.config)
        written = await vocustody(
            "policy", "bundle", str(home / "bundle.tar.gz"), "--config", config
        )
        assert written.status == 0, written.err
        with opa(opa_binary, home, address) as rules:
            try:
                await town.cell.start()
                await agree(town, NOTE.read_bytes())
                await received(town, "voice")
                yield Services(town, rules, vault, postgres, nats)
            finally:
                await town.cell.kill()


@pytest.fixture(autouse=True)
async def at_rest(services: Services) -> None:
    """Begin each test when nothing is being worked on: a job cut off waits for its lease."""
    await until(lambda: _idle(services.town))


async def test_a_note_is_answered_on_real_services(services: Services) -> None:
    """What works on the embedded parts must work on those of production."""
    assert len(services.town.of_kind("text")) == len(services.town.of_kind("voice")) == 1
    assert await services.ready()
    data = services.town.cell.config.parent / "data"
    # Releases that were in force stay in the cell: replays need them.
    assert {path.name for path in data.iterdir()} == {"audit", "bundles", "lock"}
    engines = {
        leaf["detail"]["engine"]
        for leaf in await services.town.leaves()
        if leaf["type"] == "policy.decided"
    }
    assert engines == {"opa"}


async def test_the_log_is_proven_with_the_vaults_key(services: Services, tmp_path: Path) -> None:
    """The signing key never leaves the vault; whoever has the log can verify it all the same."""
    config = str(services.town.cell.config)
    heard = next(
        leaf
        for leaf in await services.town.leaves()
        if leaf.get("action") == "transcribe" and leaf["type"] == "touch.began"
    )
    at = datetime.fromtimestamp(heard["ts"] / 1e6, UTC).isoformat()

    where, export = await asyncio.gather(
        vocustody("where", heard["artifact"], "--at", at, "--config", config),
        vocustody("export-log", str(tmp_path / "pack"), "--config", config),
    )
    verified = await vocustody("verify", str(tmp_path / "pack"))

    assert (where.status, export.status, verified.status) == (0, 0, 0), where.err + export.err
    assert "stt.scripted.eu-central" in where.out


async def test_the_keeper_works_beside_it_with_another_identity(services: Services) -> None:
    """It lists what the cell made and cannot open any of it; the cell can do neither's work."""
    cell, vault = services.town.cell.config, services.vault
    config = cell.with_name("keeper.toml")
    config.write_text(cell.read_text().replace(vault.table(Who.WORKER), vault.table(Who.KEEPER)))

    keys = await vocustody("keys", "--json", "--config", str(config))
    kept = await vocustody("keeper", "--once", "--config", str(config))
    as_cell = await vocustody("keys", "--config", str(cell))

    found = {row["kek"]: row["alarms"] for row in json.loads(keys.out)}
    assert {kek.split("-")[0] for kek in found} >= {"named", "raw", "subjects", "txt"}
    assert (keys.status, kept.status) == (0, 0), keys.out + kept.out + kept.err
    assert not any(found.values())
    assert "no way for the keeper to log in" in as_cell.err


async def test_without_opa_nothing_is_fetched(services: Services) -> None:
    """Undecided is not allowed: the note waits until somebody says yes."""
    downloads = services.downloads()
    services.opa.send_signal(signal.SIGSTOP)

    before = await services.spoken()
    await until(lambda: _undecided(services.town))
    assert await until(lambda: services.not_ready("policy"))
    fetched = services.downloads() - downloads
    services.opa.send_signal(signal.SIGCONT)

    assert fetched == 0
    await received(services.town, "text", before + 1)
    assert services.downloads() == downloads + 1
    assert await until(services.ready)


async def test_while_the_vault_is_sealed_nothing_goes_on(services: Services) -> None:
    """No key, no custody, no evidence: the note is refused or waits, and is answered later."""
    services.vault.seal()
    downloads = services.downloads()
    before = await services.spoken()

    assert await until(lambda: services.not_ready("keyring"))
    await asyncio.sleep(1.0)
    answered = len(services.town.of_kind("text")) - before
    fetched = services.downloads() - downloads
    services.vault.unseal()
    await services.town.settle(0)

    assert (answered, fetched) == (0, 0)
    await received(services.town, "text", before + 1)
    assert await until(services.ready)
    touches = [leaf for leaf in await services.town.leaves() if leaf["type"].startswith("touch.")]
    assert touches


async def test_while_the_database_is_down_nothing_is_accepted(services: Services) -> None:
    """200 is said of what is durable only; WhatsApp brings the rest again."""
    services.postgres.stop()
    before = await services.spoken()
    attempt = services.town.world.courier.attempts[-1]

    assert attempt.status == httpx2.codes.SERVICE_UNAVAILABLE
    assert await until(lambda: services.not_ready("database"))
    services.postgres.start()
    await until(services.ready)
    await services.town.settle(0)
    await received(services.town, "text", before + 1)


async def test_a_read_only_database_is_not_ready(services: Services) -> None:
    """A standby answers every question and takes no note."""
    url = services.town.cell.config.read_text()
    (name,) = set(re.findall(r"cell_[0-9a-f]{12}", url))
    await _read_only(services.postgres, name, "on")

    assert await until(lambda: services.not_ready("database"))
    await _read_only(services.postgres, name, "off")

    assert await until(services.ready)


async def test_a_frozen_broker_shows_and_delays_only(services: Services) -> None:
    """The database is the truth: what was accepted meanwhile is answered afterwards."""
    pid = services.nats.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    before = await services.spoken()
    accepted = services.town.world.courier.attempts[-1].status

    assert await until(lambda: services.not_ready("broker"))
    os.kill(pid, signal.SIGCONT)

    assert accepted == httpx2.codes.OK
    await received(services.town, "text", before + 1)
    assert await until(services.ready)


async def _idle(town: Town) -> bool:
    jobs: dict[str, set[str]] = {"job.accepted": set(), "job.ended": set()}
    for leaf in await town.leaves():
        jobs.setdefault(leaf["type"], set()).add(leaf.get("job", ""))
    return jobs["job.accepted"] == jobs["job.ended"]


async def _undecided(town: Town) -> list[Any]:
    return [leaf for leaf in await town.leaves() if leaf.get("outcome") == "undecided"]


async def _read_only(server: Postgres, name: str, value: str) -> None:
    admin = await server.admin()
    try:
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
    finally:
        await admin.close()
