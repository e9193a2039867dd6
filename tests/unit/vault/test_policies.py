"""What a cell's worker and its keeper may do, as a real OpenBao answers it."""

import asyncio
import base64
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import hvac
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.ext.asyncio import AsyncEngine
from support import roles
from support.agreeing import agreed
from support.custody import Clock, FaultyObjects, label
from support.openbao_raft import RaftBao

from audit.errors import SignerError
from audit.signers.transit import TransitSigner
from vault import roll
from vault.custody import Custody
from vault.errors import GoneError, KeyringError
from vault.keyrings import policies
from vault.keyrings.client import Transit, connect
from vault.keyrings.login import Login
from vault.keyrings.policies import Who
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.keys import Keys

CELLS = {"a": "cell-a", "b": "cell-b"}
KEK = "subjects-0000"
PLAIN = {"plaintext": base64.b64encode(bytes(48)).decode()}
SAFE = {"type": "aes256-gcm96", "exportable": False, "allow_plaintext_backup": False}

DONE = {200, 204}
REFUSED = {403}


@dataclass(frozen=True, slots=True)
class World:
    """Two regions on one server, each a mount of its own with a worker and a keeper."""

    server: RaftBao
    logins: dict[tuple[Who, str], Login]
    ciphertexts: dict[str, str]

    def ask(self, who: Who, cell: str, call: str, body: dict[str, Any] | None) -> int:
        """Return the status of *call* (``POST a/keys/x``: of region a) by *who* of *cell*."""
        method, _, path = call.partition(" ")
        token = self.logins[who, cell]()
        return self.server.call(method, path, body, token=token)[0]

    def transit(self, who: Who, cell: str = "a") -> Transit:
        """Return the transit engine of *cell*'s own region, as *who* sees it."""
        login = self.logins[who, cell]
        return Transit(self.server.url, login, refused=login.refused, mount=f"transit-{cell}")

    def root(self) -> hvac.Client:
        """Return a client that may do everything."""
        return hvac.Client(url=self.server.url, token=self.server.token)


@pytest.fixture(scope="module")
def world(openbao_raft: RaftBao) -> World:
    """Return two regions set up as the operator's page says, and a KEK in each."""
    root = hvac.Client(url=openbao_raft.url, token=openbao_raft.token)
    logins, ciphertexts = {}, {}
    for cell in CELLS:
        mount = f"transit-{cell}"
        root.sys.enable_secrets_engine("transit", path=mount)
        # `disable_upsert` is left out: the policy has to hold on a mount where it was forgotten.
        for who in Who:
            logins[who, cell] = _login(root, who, cell)
        root.adapter.post(f"/v1/{mount}/keys/{KEK}", json=SAFE)
        made = root.adapter.post(f"/v1/{mount}/encrypt/{KEK}", json=PLAIN)
        ciphertexts[cell] = made["data"]["ciphertext"]
    return World(openbao_raft, logins, ciphertexts)


def _login(root: hvac.Client, who: Who, cell: str, ttl: str = "900s") -> Login:
    name = f"{who}-{cell}"
    text = policies.text(who, mount=f"transit-{cell}", cell=CELLS[cell])
    root.sys.create_or_update_policy(name, text)
    role = roles.make(root, token_policies=name, token_no_default_policy=True, token_ttl=ttl)
    return Login(role.shown(), connect(root.url))


@pytest.fixture
def name() -> str:
    """Return the name of a KEK that is not there."""
    return f"raw-{secrets.token_hex(6)}"


WORKER = [
    # In its own region: wrap, unwrap, and make a KEK as ours have to be.
    ("POST transit-a/keys/{name}", SAFE, DONE),
    ("POST transit-a/encrypt/{kek}", PLAIN, DONE),
    ("POST transit-a/decrypt/{kek}", {"ciphertext": "{a}"}, DONE),
    # In another's: nothing.
    ("POST transit-b/encrypt/{kek}", PLAIN, REFUSED),
    ("POST transit-b/decrypt/{kek}", {"ciphertext": "{b}"}, REFUSED),
    ("POST transit-b/rewrap/{kek}", {"ciphertext": "{b}"}, REFUSED),
    ("POST transit-b/keys/{name}", SAFE, REFUSED),
    ("GET transit-b/keys/{kek}", None, REFUSED),
    # It makes no KEK by encrypting, and none that could leave.
    ("POST transit-a/encrypt/{name}", PLAIN, REFUSED),
    ("POST transit-a/keys/{name}", SAFE | {"exportable": True}, REFUSED),
    ("POST transit-a/keys/{name}", SAFE | {"allow_plaintext_backup": True}, REFUSED),
    ("POST transit-a/keys/{name}", SAFE | {"type": "rsa-2048"}, REFUSED),
    ("POST transit-a/keys/{name}", SAFE | {"derived": True}, REFUSED),
    ("POST transit-a/keys/{name}/import", {"ciphertext": "x", "type": "aes256-gcm96"}, REFUSED),
    # It ends nothing, changes nothing, and carries nothing away.
    ("POST transit-a/keys/{kek}/trim", {"min_available_version": 1}, REFUSED),
    ("POST transit-a/keys/{kek}/config", {"deletion_allowed": True}, REFUSED),
    ("POST transit-a/keys/{kek}/rotate", {}, REFUSED),
    ("POST transit-a/rewrap/{kek}", {"ciphertext": "{a}"}, REFUSED),
    ("DELETE transit-a/keys/{kek}", None, REFUSED),
    ("DELETE transit-a/keys/{kek}/soft-delete", None, REFUSED),
    ("GET transit-a/keys/{kek}", None, REFUSED),
    ("LIST transit-a/keys", None, REFUSED),
    ("GET transit-a/export/encryption-key/{kek}", None, REFUSED),
    ("GET transit-a/byok-export/{kek}/{kek}", None, REFUSED),
    ("GET transit-a/backup/{kek}", None, REFUSED),
    ("POST transit-a/restore/{name}", {"backup": "x"}, REFUSED),
    ("POST transit-a/datakey/plaintext/{kek}", {}, REFUSED),
    ("POST transit-a/config/keys", {"disable_upsert": False}, REFUSED),
    ("POST transit-a/cache-config", {"size": 0}, REFUSED),
    # It signs as itself alone, and its signing key is no more its own to change.
    ("POST transit-a/keys/vocustody-audit-cell-a", {"type": "ed25519"}, DONE),
    ("POST transit-a/sign/vocustody-audit-cell-a", {"input": "AAAA"}, DONE),
    ("GET transit-a/keys/vocustody-audit-cell-a", None, DONE),
    ("POST transit-a/sign/vocustody-keeper-cell-a", {"input": "AAAA"}, REFUSED),
    ("POST transit-a/keys/vocustody-keeper-cell-a", {"type": "ed25519"}, REFUSED),
    ("POST transit-a/keys/vocustody-audit-cell-a", {"exportable": True}, REFUSED),
    ("POST transit-a/keys/vocustody-audit-cell-a/rotate", {}, REFUSED),
    ("POST transit-a/keys/vocustody-audit-cell-a/config", {"deletion_allowed": True}, REFUSED),
    ("DELETE transit-a/keys/vocustody-audit-cell-a", None, REFUSED),
    # It is nobody at the server itself.
    ("GET sys/mounts", None, REFUSED),
    ("GET sys/storage/raft/snapshot", None, REFUSED),
    ("PUT sys/seal", {}, REFUSED),
    ("POST sys/policies/acl/worker-a", {"policy": ""}, REFUSED),
    ("POST auth/token/create", {}, REFUSED),
    ("GET auth/token/lookup-self", None, DONE),
]  # fmt: skip
KEEPER = [
    ("LIST transit-a/keys", None, DONE),
    ("GET transit-a/keys/{kek}", None, DONE),
    ("GET transit-a/config/keys", None, DONE),
    ("POST transit-a/keys/{kek}/rotate", {}, DONE),
    ("POST transit-a/rewrap/{kek}", {"ciphertext": "{a}"}, DONE),
    ("POST transit-a/keys/{kek}/config", {"min_decryption_version": 1}, DONE),
    # It ends keys that it cannot use.
    ("POST transit-a/encrypt/{kek}", PLAIN, REFUSED),
    ("POST transit-a/decrypt/{kek}", {"ciphertext": "{a}"}, REFUSED),
    ("POST transit-a/datakey/plaintext/{kek}", {}, REFUSED),
    ("POST transit-a/datakey/wrapped/{kek}", {}, REFUSED),
    ("GET transit-a/export/encryption-key/{kek}", None, REFUSED),
    ("GET transit-a/byok-export/{kek}/{kek}", None, REFUSED),
    ("GET transit-a/backup/{kek}", None, REFUSED),
    ("POST transit-a/restore/{name}", {"backup": "x"}, REFUSED),
    ("POST transit-a/keys/{name}", SAFE, REFUSED),
    ("POST transit-a/keys/{kek}/config", {"exportable": True}, REFUSED),
    ("POST transit-a/keys/{kek}/config", {"allow_plaintext_backup": True}, REFUSED),
    ("POST transit-a/config/keys", {"disable_upsert": False}, REFUSED),
    # In another region: nothing.
    ("POST transit-b/keys/{kek}/trim", {"min_available_version": 1}, REFUSED),
    ("POST transit-b/keys/{kek}/rotate", {}, REFUSED),
    ("POST transit-b/rewrap/{kek}", {"ciphertext": "{b}"}, REFUSED),
    ("DELETE transit-b/keys/{kek}", None, REFUSED),
    ("LIST transit-b/keys", None, REFUSED),
    # It signs as itself, and cannot end the log of the cell.
    ("POST transit-a/keys/vocustody-keeper-cell-a", {"type": "ed25519"}, DONE),
    ("POST transit-a/sign/vocustody-keeper-cell-a", {"input": "AAAA"}, DONE),
    ("POST transit-a/sign/vocustody-audit-cell-a", {"input": "AAAA"}, REFUSED),
    ("POST transit-a/keys/vocustody-audit-cell-a/rotate", {}, REFUSED),
    ("POST transit-a/keys/vocustody-audit-cell-a/config", {"deletion_allowed": True}, REFUSED),
    ("POST transit-a/keys/vocustody-audit-cell-a/trim", {"min_available_version": 1}, REFUSED),
    ("DELETE transit-a/keys/vocustody-audit-cell-a", None, REFUSED),
    ("GET sys/storage/raft/snapshot", None, REFUSED),
    ("GET auth/token/lookup-self", None, DONE),
]  # fmt: skip
MATRIX = [(Who.WORKER, *row) for row in WORKER] + [(Who.KEEPER, *row) for row in KEEPER]


@pytest.mark.parametrize(("who", "call", "body", "expected"), MATRIX)
def test_the_server_itself_answers(
    world: World, name: str, who: Who, call: str, body: dict[str, Any] | None, expected: set[int]
) -> None:
    """Our code may be taken over: what must not happen has to be refused by somebody else."""
    named = call.format(name=name, kek=KEK)
    filled = body and {
        key: value.format(**world.ciphertexts) if isinstance(value, str) else value
        for key, value in body.items()
    }

    assert world.ask(who, "a", named, filled) in expected


def test_the_paths_that_are_refused_are_the_servers(world: World, name: str) -> None:
    """A path that is misspelt is refused, too, and such a row would prove nothing."""
    for _, call, _, _ in MATRIX:
        path = call.partition(" ")[2].format(name=name, kek=KEK)

        assert world.server.call("GET", f"{path}?help=1")[0] == 200, path


def test_a_misspelt_path_would_show(world: World) -> None:
    """The control of the test above."""
    assert world.server.call("GET", f"transit-a/keyz/{KEK}?help=1")[0] != 200


@pytest.mark.anyio
async def test_a_region_works_within_these_policies(
    world: World, tables: AsyncEngine, objects: FaultyObjects, vault_clock: Clock
) -> None:
    """A policy that stops the work is soon replaced by one that stops nothing."""
    worker = TransitKeyring(world.transit(Who.WORKER))
    keeper = TransitKeeper(world.transit(Who.KEEPER))
    keys = Keys(tables, worker, region="eu-central-1", now=vault_clock, buckets=1)
    custody = Custody(tables, keys, objects, now=vault_clock)
    await worker.ready()
    kept = await custody.put(b"OggS", label(), vault_clock.at + timedelta(hours=6))
    erased = await custody.put(
        b"OggS", label("a2", subject="s2"), vault_clock.at + timedelta(hours=6)
    )
    row = await keys.planted("s2")
    assert row is not None

    assert await custody.open(kept) == b"OggS"
    await keys.destroy_subject("s2")
    vault_clock.pass_by(seconds=1)
    rolled = await roll.roll(
        tables, keeper, objects, row.kek, agreed(vault_clock()), now=vault_clock
    )
    await keeper.destroy(kept.epoch)

    assert (rolled.rows, rolled.lost) == (1, 0)
    assert rolled.version > row.version
    with pytest.raises(GoneError):
        await custody.open(erased)
    assert isinstance((await worker.unwrap([row]))[0], GoneError)
    names = {kek.name for kek in await keeper.keks()}
    assert row.kek in names
    assert kept.epoch not in names
    assert not any(name.startswith(policies.OWN) for name in names)


@pytest.mark.anyio
async def test_a_kek_that_was_destroyed_can_be_made_again(world: World, name: str) -> None:
    """Where the policy refuses to encrypt by a free name, the answer is 403 and not "gone"."""
    worker = TransitKeyring(world.transit(Who.WORKER))
    await worker.wrap(name, bytes(48))
    await TransitKeeper(world.transit(Who.KEEPER)).destroy(name)

    with pytest.raises(KeyringError, match="HTTP 403"):
        await worker.wrap(name, bytes(48))

    assert (await worker.wrap(name, bytes(48))).version == 1


@pytest.mark.anyio
@pytest.mark.parametrize("who", Who)
async def test_each_signs_its_own_log(world: World, who: Who) -> None:
    """The rows that the matrix asks by hand are what the signer asks, and no more is needed."""
    login = world.logins[who, "a"]
    client = connect(world.server.url)
    client.token = login()

    own = policies.signing_key(who, CELLS["a"])
    signer = await TransitSigner.open(client, own, mount="transit-a", token=login)
    signature = await signer.sign(b"message")

    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signature, b"message")
    other = next(policies.signing_key(one, CELLS["a"]) for one in Who if one is not who)
    with pytest.raises(SignerError, match="Forbidden"):
        await TransitSigner.open(client, other, mount="transit-a", token=login)


@pytest.mark.anyio
async def test_work_goes_on_while_tokens_end(world: World, name: str) -> None:
    """A token of two seconds ends again and again in the middle of things; nobody may notice."""
    login = _login(world.root(), Who.WORKER, "a", ttl="2s")
    shown: set[str] = set()

    def token() -> str:
        shown.add(held := login())
        return held

    at = Transit(world.server.url, token, refused=login.refused, mount="transit-a")
    worker = TransitKeyring(at)
    wrapped = await worker.wrap(name, bytes(48))
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        answers = await asyncio.gather(*(worker.unwrap([wrapped]) for _ in range(4)))
        assert answers == [[bytes(48)]] * 4
        await asyncio.sleep(0.05)

    assert len(shown) >= 3
    first = hvac.Client(url=world.server.url, token=world.server.token)
    dead = [one for one in shown if not _lives(first, one)]
    assert dead


@pytest.mark.anyio
async def test_a_stolen_token_ends_by_itself(world: World) -> None:
    """What cannot be renewed and lasts for minutes is worth little to who copied it."""
    token = _login(world.root(), Who.WORKER, "a", ttl="2s")()
    before = world.server.call("POST", f"transit-a/encrypt/{KEK}", PLAIN, token=token)[0]
    renewed = world.server.call("POST", "auth/token/renew-self", {}, token=token)[0]

    await asyncio.sleep(2.1)

    after = world.server.call("POST", f"transit-a/encrypt/{KEK}", PLAIN, token=token)[0]
    assert (before, after) == (200, 403)
    assert renewed == 400


@pytest.mark.parametrize("who", Who)
def test_a_token_of_more_rights_shows(world: World, who: Who) -> None:
    """Who widened a policy in a hurry, or gave the root token, must hear of it from us."""
    limit = policies.limits(who, mount="transit-a", cell=CELLS["a"])
    asked = {"paths": sorted(limit)}
    exact, wide = (
        world.server.call("POST", "sys/capabilities-self", asked, token=token)[1]["data"]
        for token in (world.logins[who, "a"](), world.server.token)
    )

    assert policies.excess(limit, exact) == []
    assert sorted(policies.excess(limit, wide)) == sorted(limit)


@pytest.mark.anyio
async def test_a_mount_that_makes_keys_by_encrypting_shows(world: World) -> None:
    """A late writer would bring a destroyed KEK's name back, and nobody would know."""
    keeper = TransitKeeper(world.transit(Who.KEEPER))
    assert await keeper.upserts()

    world.root().adapter.post("/v1/transit-a/config/keys", json={"disable_upsert": True})

    assert not await keeper.upserts()


def _lives(root: hvac.Client, token: str) -> bool:
    try:
        root.auth.token.lookup(token)
    except hvac.exceptions.VaultError:
        return False
    return True
