"""Identities, wired: which credentials are read, when, and how often somebody logs in."""

import secrets
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import hvac
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from support import roles
from support.openbao import OpenBao
from support.settings import Configure
from support.stage import secret, vocustody

from audit.errors import AppendError
from gateway import settings
from gateway.compose import identities, keepers, stores, times
from gateway.compose.identities import Identity
from gateway.compose.surroundings import MACHINE, now
from gateway.errors import MissingPartError
from gateway.sections import Kubernetes
from gateway.settings import Settings
from vault.errors import KeyringError
from vault.keyrings import policies
from vault.keyrings.client import connect
from vault.keyrings.policies import Who


@pytest.fixture
def root(openbao: OpenBao) -> hvac.Client:
    """Return a client that may do everything."""
    return hvac.Client(url=openbao.url, token=openbao.token)


@pytest.fixture
def mount(root: hvac.Client) -> str:
    """Return a mount of the test's own."""
    name = f"transit-{secrets.token_hex(4)}"
    root.sys.enable_secrets_engine("transit", path=name)
    return name


def table(openbao: OpenBao, way: str, mount: str = "transit") -> str:
    """Return the settings of a vault that is logged in to in one *way*."""
    return f'[services.vault]\nurl = "{openbao.url}"\nmount = "{mount}"\n{way}\n'


def worker(found: Settings) -> Identity:
    """Return the cell's identity."""
    who = identities.worker(found, lambda _session: None)
    assert who is not None
    return who


def role(root: hvac.Client, mount: str, who: Who, **given: object) -> roles.Role:
    """Return a role with the policy of *who*."""
    root.sys.create_or_update_policy(mount, policies.text(who, mount=mount, cell="eu-1"))
    return roles.make(root, token_policies=mount, token_no_default_policy=True, **given)


def approle(home: Path, role: roles.Role, who: str = "") -> str:
    """Return the way in by *role*, its files written."""
    secret(home, "role", role.role_id)
    secret(home, "secret", role.secret_id)
    files = 'role_id_file = "role", secret_id_file = "secret"'
    return f'{who}approle = {{ {files}, mount = "{role.mount}" }}'


@pytest.mark.anyio
async def test_the_key_service_is_a_second_clock(
    openbao: OpenBao,
    root: hvac.Client,
    mount: str,
    configure: Configure,
    tmp_path: Path,
    cell_db: AsyncEngine,
) -> None:
    """It is asked without logging in, so also while nobody may."""
    once = role(root, mount, Who.WORKER, secret_id_num_uses=1)
    found = settings.load(configure(table(openbao, approle(tmp_path, once), mount)))
    ahead = replace(MACHINE, wall=lambda: now() + timedelta(hours=2))

    right = times.timekeeper(found, cell_db, MACHINE, who=worker(found))
    wrong = times.timekeeper(found, cell_db, ahead, who=worker(found))

    assert await right.agreed() is not None
    assert right.asked == ("wall", "key_service")
    assert await wrong.agreed() is None
    worker(found).token()  # the control: the one login was not used


@pytest.mark.anyio
async def test_keyring_and_log_share_one_login(
    openbao: OpenBao, root: hvac.Client, mount: str, configure: Configure, tmp_path: Path
) -> None:
    """A wrapping token opens once: the second of two logins of one process would be the thief."""
    once = role(root, mount, Who.WORKER, secret_id_num_uses=1)
    found = settings.load(configure(table(openbao, approle(tmp_path, once), mount)))
    who = worker(found)

    async with AsyncExitStack() as stack:
        await stores.keyring(found, who).ready()
        trail = await stores.trail(found, who, stack, now)
        await stores.keyring(found, who).ready()

    assert trail is not None
    with pytest.raises(KeyringError, match="HTTP 400"):
        worker(found).token()  # the control: another login is one too many


@pytest.mark.anyio
async def test_a_cell_whose_secret_id_somebody_read_does_not_start(
    openbao: OpenBao, root: hvac.Client, mount: str, configure: Configure, tmp_path: Path
) -> None:
    """An incident that reads like a server that is down is one that nobody looks into."""
    read = role(root, mount, Who.WORKER)
    wrapping = read.wrapped()
    way = approle(tmp_path, read).replace("secret_id_file", "wrapped_secret_id_file")
    secret(tmp_path, "secret", wrapping)
    thief = hvac.Client(url=openbao.url, token=wrapping)
    assert thief.sys.unwrap()["data"]["secret_id"]

    said = await vocustody("serve", "--config", str(configure(table(openbao, way, mount))))

    assert said.status == 2
    assert "the wrapping token was opened already" in said.err
    assert "somebody else has the secret id" in said.err
    assert wrapping not in said.out + said.err


def test_a_token_that_was_replaced_in_its_file_is_taken_up(
    openbao: OpenBao, configure: Configure, tmp_path: Path
) -> None:
    """Whoever keeps it in force writes it in place, between our reading and our asking."""
    who = worker(settings.load(configure(table(openbao, 'token_file = "token"'))))
    old = who.token()

    assert not who.refused(old)
    secret(tmp_path, "token", "another")

    assert who.refused(old)
    assert who.token() == "another"


def test_a_pods_token_may_be_readable_by_others(
    openbao: OpenBao, configure: Configure, tmp_path: Path
) -> None:
    """Kubelet makes the file, with a mode of its own, and replaces it."""
    jwt = tmp_path / "jwt"
    jwt.write_text("first\n")
    jwt.chmod(0o644)
    way = 'kubernetes = { role = "cell", jwt_file = "jwt", mount = "pods" }'
    who = worker(settings.load(configure(table(openbao, way))))

    assert isinstance(who.way, Kubernetes)
    shown = identities._kubernetes(who.way)
    client = connect(openbao.url)
    first = shown.login(client)
    jwt.write_text("second\n")

    assert first == ("auth/pods/login", {"role": "cell", "jwt": "first"})
    assert shown.login(client)[1]["jwt"] == "second"
    jwt.unlink()
    with pytest.raises(KeyringError, match="jwt cannot be read"):
        who.token()
    with pytest.raises(AppendError, match="jwt cannot be read"):
        who.signing_token()


def test_the_keepers_settings_are_none_for_a_cell(openbao: OpenBao, configure: Configure) -> None:
    """A cell that went on without an identity would take notes that it cannot keep."""
    found = settings.load(configure(table(openbao, 'keeper_token_file = "token"')))

    with pytest.raises(MissingPartError, match="no way for the cell to log in"):
        identities.worker(found, lambda _session: None)
    keeper = identities.keeper(found, lambda _session: None)
    assert keeper is not None
    assert keeper.who is Who.KEEPER


@pytest.mark.anyio
async def test_keys_names_a_mount_that_makes_keys_by_encrypting(
    openbao: OpenBao, root: hvac.Client, mount: str, configure: Configure, tmp_path: Path
) -> None:
    """A destroyed KEK's name comes back there, and every list would look well."""
    config = configure(
        table(openbao, approle(tmp_path, role(root, mount, Who.KEEPER), "keeper_"), mount)
    )
    found = settings.load(config)
    async with AsyncExitStack() as stack:
        found.cell.data.mkdir(mode=0o700)
        await stores.database(found, stack)

    open_to_all = await keepers.keys(found)
    root.adapter.post(f"/v1/{mount}/config/keys", json={"disable_upsert": True})

    assert [(row["kek"], row["alarms"]) for row in open_to_all] == [
        (f"{mount}/", ("keys are made by encrypting: set disable_upsert",))
    ]
    assert await keepers.keys(found) == []
    root.sys.create_or_update_policy(mount, f'path "{mount}/keys" {{ capabilities = ["list"] }}')
    (unknown,) = await keepers.keys(found)
    assert "is not known" in unknown["alarms"][0]
