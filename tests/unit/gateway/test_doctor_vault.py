"""Doctor on the key service: who the cell is there, and whether it may do more than it should."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import hvac
import pytest
from support import roles
from support.openbao import OpenBao
from support.settings import CANARY, Configure
from support.stage import secret

from gateway import broker, cli
from vault.keyrings import credentials, policies
from vault.keyrings.client import connect
from vault.keyrings.policies import Who

WORKER, KEEPER = "worker's identity", "keeper's identity"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no server longer than a test should."""
    monkeypatch.setattr(broker, "CONNECT_LIMIT_S", 0.2)


@dataclass(frozen=True, slots=True)
class Clinic:
    """A server with a region's mount, and a way to write a cell's settings for it."""

    server: OpenBao
    root: hvac.Client
    mount: str
    home: Path
    configure: Configure

    def role(self, who: Who, more: str = "", **settings: str) -> roles.Role:
        """Make an AppRole with the policy of *who*, and *more* in it."""
        name = f"{who}-{secrets.token_hex(4)}"
        text = policies.text(who, mount=self.mount, cell="eu-1") + more
        self.root.sys.create_or_update_policy(name, text)
        given = {"token_policies": name, "token_no_default_policy": True} | settings
        return roles.make(self.root, **given)

    def way(self, role: roles.Role, who: str = "", *, wrapped: str = "") -> str:
        """Return the setting by which *who* logs in as *role*."""
        secret(self.home, f"{who}role", role.role_id)
        secret(self.home, f"{who}secret", wrapped or role.secret_id)
        kind = "wrapped_secret_id_file" if wrapped else "secret_id_file"
        files = f'role_id_file = "{who}role", {kind} = "{who}secret", mount = "{role.mount}"'
        return f"{who}approle = {{ {files} }}"

    def settings(self, *ways: str, production: bool = False) -> Path:
        """Write the settings of a cell that logs in by *ways*."""
        text = f'[services.vault]\nurl = "{self.server.url}"\nmount = "{self.mount}"\n'
        text += "\n".join(ways)
        if not production:
            return self.configure(text)
        objects = 's3://sealed", access_key_file = "token", secret_key_file = "token'
        rest = f'[services]\nnats = "nats://127.0.0.1:9"\nobjects = {{ url = "{objects}" }}\n'
        return self.configure(rest + text, mode='"production"')


@pytest.fixture
def clinic(openbao: OpenBao, tmp_path: Path, configure: Configure) -> Clinic:
    """Return a server with a mount of its own."""
    root = hvac.Client(url=openbao.url, token=openbao.token)
    mount = f"transit-{secrets.token_hex(4)}"
    root.sys.enable_secrets_engine("transit", path=mount)
    root.adapter.post(f"/v1/{mount}/config/keys", json={"disable_upsert": True})
    return Clinic(openbao, root, mount, tmp_path, configure)


def examined(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, str], list[str]]:
    """Return doctor's lines that ask for a fix, by check, and its notes."""
    cli.main(["doctor", "--config", str(config)])
    said = capsys.readouterr()
    assert "keyring" in said.out, said.err
    assert CANARY not in said.out + said.err
    lines = [line[5:].partition(": ")[::2] for line in said.out.splitlines()]
    fixes = {
        name: rest
        for line, (name, rest) in zip(said.out.splitlines(), lines, strict=True)
        if line.startswith("FIX")
    }
    return fixes, [rest for name, rest in lines if name == "note" and "identity" in rest]


def test_two_identities_of_just_their_rights_are_well(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the operator's page sets up must not be complained about by the next command."""
    ways = (
        clinic.way(clinic.role(Who.WORKER)),
        clinic.way(clinic.role(Who.KEEPER), "keeper_"),
    )

    fixes, notes = examined(clinic.settings(*ways, production=True), capsys)

    assert not {"keyring", WORKER, KEEPER} & set(fixes)
    assert notes == []


def test_the_root_token_is_for_development(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what a first try is made with, and what must not be forgotten there."""
    secret(clinic.home, "root", clinic.server.token)

    noted = examined(clinic.settings('token_file = "root"'), capsys)
    fixes, notes = examined(clinic.settings('token_file = "root"', production=True), capsys)

    assert noted[0] == {}
    assert "root policy" in noted[1][0]
    assert "root policy" in fixes[WORKER]
    assert "vocustody vault-policy worker" in fixes[WORKER]
    assert "for ever" in notes[0]


def test_a_policy_that_was_widened_is_told(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody in a hurry wrote a star; nobody would have noticed."""
    more = f'path "{clinic.mount}/keys/+/trim" {{ capabilities = ["update"] }}'
    way = clinic.way(clinic.role(Who.WORKER, more))

    fixes, _ = examined(clinic.settings(way, production=True), capsys)

    assert f"{clinic.mount}/keys/probe/trim" in fixes[WORKER]


def test_a_token_that_lasts_is_noted(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever copies it has as long as it lasts."""
    way = clinic.way(clinic.role(Who.WORKER, token_ttl="16m"))

    fixes, notes = examined(clinic.settings(way), capsys)

    assert fixes == {}
    assert notes == [f"{WORKER}: its token lasts 16 minutes (15 minutes are enough: token_ttl=15m)"]


def test_a_mount_that_makes_keys_by_encrypting_is_told(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keeper may read that setting; it is the only one that can tell."""
    clinic.root.adapter.post(f"/v1/{clinic.mount}/config/keys", json={"disable_upsert": False})
    ways = (
        clinic.way(clinic.role(Who.WORKER)),
        clinic.way(clinic.role(Who.KEEPER), "keeper_"),
    )

    fixes, _ = examined(clinic.settings(*ways, production=True), capsys)

    assert f"bao write {clinic.mount}/config/keys disable_upsert=true" in fixes[KEEPER]


def test_a_wrapping_token_is_looked_at_and_left_for_the_cell(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    """It opens once: a doctor that opened it would be what the cell then takes for a thief."""
    role = clinic.role(Who.WORKER)
    wrapping = role.wrapped()
    config = clinic.settings(clinic.way(role, wrapped=wrapping))

    fixes, _ = examined(config, capsys)

    assert fixes == {}
    client = connect(clinic.server.url)
    assert credentials.Wrapped(lambda: wrapping, mount=role.mount)(client)
    fixes, _ = examined(config, capsys)
    assert "was opened already" in fixes["keyring"]
