"""The operator's page on keys: its commands set a real server up, and its words are the code's."""

import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.openbao import _environment, _free_port
from support.openbao_raft import RaftBao
from support.pki import Authority
from support.settings import Configure

from gateway import settings
from gateway.compose import identities, privileges, stores
from gateway.compose.identities import Identity
from gateway.settings import Settings
from vault.errors import BootstrapError, KeyringError
from vault.keyrings.transit_keeper import TransitKeeper

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations" / "keys.md").read_text()
PLACES = {
    "/run/secrets": "secrets",
    "/etc/openbao": "etc",
    "/var/backups/openbao": "backups",
    "/var/lib/openbao": "raft",
    "/var/log/openbao": "log",
    "/mnt/audit/openbao": "audit",
}
WHOLE = "sys/storage/raft/snapshot"


def blocks(kind: str) -> list[str]:
    """Return the page's code blocks of *kind*."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever works through the page, as the administrator of *server*."""

    server: RaftBao
    home: Path
    configure: Configure

    def run(self, block: str) -> None:
        """Run a block of commands as it stands, but for its places and addresses."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(block)],
            env=self._environment(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def settings(self, block: str) -> Settings:
        """Return the settings of a cell with the page's *block* in them."""
        return settings.load(self.configure(self.here(block)))

    def here(self, block: str) -> str:
        """Return *block* for this machine."""
        for place, name in PLACES.items():
            block = block.replace(place, str(self.home / name))
        return block.replace("https://vault.example:8200", self.server.url)

    def _environment(self) -> dict[str, str]:
        scripts = f"{self.home / 'bin'}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        return _environment(self.home) | {
            "PATH": scripts,
            "PYTHONPATH": str(ROOT),
            "BAO_ADDR": self.server.url,
            "BAO_CACERT": str(self.server.ca),
            "BAO_TOKEN": self.server.token,
        }


@pytest.fixture
def operator(tmp_path: Path, authority: Authority, configure: Configure) -> Iterator[Operator]:
    """Yield an operator before a server that runs by the page's own settings, and is unsealed."""
    home = tmp_path / "operator"
    for name in [*PLACES.values(), "bin"]:
        (home / name).mkdir(mode=0o700, parents=True)
    shim = home / "bin" / "vocustody"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    shim.chmod(0o755)
    leaf = authority.leaf("localhost")
    for source, name in ((leaf.cert, "server.pem"), (leaf.key, "server.key")):
        (home / "etc" / name).write_bytes(source.read_bytes())
    for name in ("ca.pem", "cluster-ca.pem"):
        (home / "etc" / name).write_bytes(authority.ca.read_bytes())
    port, other = _free_port(), _free_port()
    devices = (home / "log" / "audit.log", home / "audit" / "audit.log")
    server = RaftBao(
        home, f"https://localhost:{port}", f"127.0.0.1:{other}", devices, ca=authority.ca
    )
    operator = Operator(server, home, configure)
    (hcl,) = blocks("hcl")
    server.settings = (
        operator.here(hcl)
        .replace("0.0.0.0:8200", f"127.0.0.1:{port}")
        .replace("0.0.0.0:8201", server.cluster)
        .replace('"vault-1"', '"vault-1"\n  performance_multiplier = 1')  # elects itself sooner
        .replace("https://vault.example:8201", f"https://{server.cluster}")
    )
    try:
        server.start()
        server.initialise()
        yield operator
    finally:
        server.stop()


def directly(found: Settings) -> tuple[Identity | None, Identity | None]:
    """Return both identities that *found* settings name."""
    vault = found.services.vault
    assert vault is not None
    worker = identities.worker(found, lambda _session: None) if vault.worker_ways else None
    return worker, identities.keeper(found, lambda _session: None)


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_the_page_sets_a_region_up_and_keeps_it_so(operator: Operator) -> None:
    """Whoever follows it has two identities that do their work and nothing else."""
    mount, rules, approle, deliver, incident, keeper_files, pod, shut_out, snapshot = blocks("sh")
    cell_toml, keeper_toml = blocks("toml")
    for block in (mount, rules, approle, deliver, keeper_files, pod):
        operator.run(block)
    roles_are_as_told(operator.server)

    cell, keeps = operator.settings(cell_toml), operator.settings(keeper_toml)
    (worker, _), (_, keeper) = directly(cell), directly(keeps)
    assert worker is not None
    assert keeper is not None
    await stores.keyring(cell, worker).ready()
    keks = await TransitKeeper(keeper.transit()).keks()
    assert [kek.name for kek in keks] == ["ready"]
    assert list(privileges.remarks(worker, "eu-1")) == []
    assert list(privileges.remarks(keeper, "eu-1")) == []
    assert all('"path":"auth/approle/login"' in file.read_text() for file in operator.server.audit)

    strangers = operator.settings(cell_toml.replace('ca_file = "/etc/openbao/ca.pem"', ""))
    (unsure, _) = directly(strangers)
    assert unsure is not None
    with pytest.raises(KeyringError, match="SSLError"):
        unsure.token()

    (again, _) = directly(cell)
    assert again is not None
    with pytest.raises(BootstrapError):
        again.token()
    operator.run(incident)
    operator.run(deliver)
    (after, _) = directly(operator.settings(cell_toml))
    assert after is not None
    keyring = stores.keyring(cell, after)
    await keyring.ready()

    operator.run(shut_out)
    with pytest.raises(KeyringError, match="HTTP 403"):
        await keyring.ready()
    operator.run(rules)
    await keyring.ready()

    old = operator.home / "backups" / "old.snap"
    old.write_bytes(b"")
    os.utime(old, (time.time() - 6.1 * 86_400,) * 2)
    operator.run(snapshot)
    (kept,) = (operator.home / "backups").iterdir()
    assert kept.stat().st_size > 0
    assert kept != old


def roles_are_as_told(server: RaftBao) -> None:
    """Check what the page says of its roles: short batch tokens, one policy, no lockout."""
    for who in ("worker", "keeper"):
        for method in ("approle", "kubernetes"):
            path = f"auth/{method}/role/vocustody-{who}-eu-1"
            role = server.call("GET", path)[1]["data"]
            assert (role["token_type"], role["token_ttl"]) == ("batch", 900)
            assert role["token_policies"] == [f"vocustody-{who}-eu-1"]
            assert role["token_no_default_policy"] is True
    role_id = server.call("GET", "auth/approle/role/vocustody-keeper-eu-1/role-id")[1]
    wrong = {"role_id": role_id["data"]["role_id"], "secret_id": "wrong"}
    refused = {server.call("POST", "auth/approle/login", wrong, token="")[0] for _ in range(7)}
    assert refused == {400}  # 403 would say that it is locked out


def test_every_alarm_is_explained() -> None:
    """An alarm that nobody understands is one that is switched off."""
    source = (ROOT / "vault" / "inventory.py").read_text().partition("def _alarms(")[2]
    alarms = re.findall(r'^        "([a-z0-9 :-]+)": ', source, re.MULTILINE)
    keepers = (ROOT / "gateway" / "compose" / "keepers.py").read_text()
    alarms += re.findall(r'alarm = "([^"{]+)"', keepers)

    assert len(alarms) > 6
    for alarm in [*alarms, "missing: living keys are wrapped by it"]:
        assert f"| `{alarm}` |" in PAGE, alarm
