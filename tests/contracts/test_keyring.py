"""The contract of `vault.ports.Keyring`, over every adapter, with a real OpenBao."""

import asyncio
import contextlib
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hvac
import pytest
from simulation.stores import MemoryKeys
from support.openbao import OpenBao, _command, _environment, _free_port, _stop, _wait_until_ready

from gateway import secretfile
from vault.errors import GoneError, KeyringError, TamperedError
from vault.keyrings.client import Transit
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.model import WrappedKey
from vault.ports import Keeper, Keyring

KEY = bytes(range(48))


def transit(url: str, token: Callable[[], str], **more: Any) -> TransitKeyring:
    """Return the worker's half of the transit engine at *url*."""
    return TransitKeyring(Transit(url, token, **more))


def keeper_of(keyring: Keyring) -> Keeper:
    """Return the keeper over the same KEKs as *keyring*, with the same rights."""
    if isinstance(keyring, TransitKeyring):
        return TransitKeeper(keyring._transit)
    if isinstance(keyring, MemoryKeys):
        return keyring
    assert isinstance(keyring, LocalKeyring)
    return LocalKeeper(keyring._keks._path)


@pytest.fixture(scope="module")
def mount(openbao: OpenBao) -> str:
    """Return a transit mount that makes no key by encrypting, as ours should be set up."""
    client = hvac.Client(url=openbao.url, token=openbao.token)
    name = f"transit-{secrets.token_hex(4)}"
    client.sys.enable_secrets_engine("transit", path=name)
    client.adapter.post(f"/v1/{name}/config/keys", json={"disable_upsert": True})
    return name


@pytest.fixture(params=["local", "simulated", "transit"])
def keyring(
    request: pytest.FixtureRequest, tmp_path: Path, openbao: OpenBao, mount: str
) -> Keyring:
    """Return each keyring in turn."""
    if request.param == "local":
        return LocalKeyring(tmp_path / "keyring")
    if request.param == "simulated":
        return MemoryKeys({}, lambda: datetime.now(UTC))
    return transit(openbao.url, lambda: openbao.token, mount=mount)


@pytest.fixture
def kek() -> str:
    """Return a name that no other test uses."""
    return f"raw-{secrets.token_hex(6)}"


@pytest.mark.anyio
async def test_what_was_wrapped_unwraps(keyring: Keyring, kek: str) -> None:
    """Everything kept hangs on these 48 bytes coming back as they were."""
    wrapped = await keyring.wrap(kek, KEY)

    assert await keyring.unwrap([wrapped]) == [KEY]
    assert (wrapped.kek, wrapped.version) == (kek, 1)
    assert KEY.hex() not in wrapped.ciphertext


@pytest.mark.anyio
async def test_wrapping_twice_gives_two_ciphertexts(keyring: Keyring, kek: str) -> None:
    """Equal ciphertexts would tell that two rows hold one key."""
    first, second = await keyring.wrap(kek, KEY), await keyring.wrap(kek, KEY)

    assert first.ciphertext != second.ciphertext


@pytest.mark.anyio
async def test_a_destroyed_kek_is_gone_for_good(keyring: Keyring, kek: str) -> None:
    """Crypto-shredding is this: after it, no copy of the ciphertext opens."""
    wrapped = await keyring.wrap(kek, KEY)

    await keeper_of(keyring).destroy(kek)

    [answer] = await keyring.unwrap([wrapped])
    assert isinstance(answer, GoneError)


@pytest.mark.anyio
async def test_a_kek_made_again_under_the_name_opens_nothing_old(
    keyring: Keyring, kek: str
) -> None:
    """A late writer that brings the name back must not bring the key back."""
    old = await keyring.wrap(kek, KEY)
    await keeper_of(keyring).destroy(kek)

    new = await keyring.wrap(kek, KEY)

    [dead, living] = await keyring.unwrap([old, new])
    assert isinstance(dead, TamperedError)
    assert living == KEY


@pytest.mark.anyio
async def test_destroying_twice_or_the_unknown_is_done(keyring: Keyring, kek: str) -> None:
    """A sweeper that crashed half-way asks again, and must get on."""
    await keyring.wrap(kek, KEY)

    await keeper_of(keyring).destroy(kek)
    await keeper_of(keyring).destroy(kek)

    await keeper_of(keyring).destroy(f"{kek}-never-made")


@pytest.mark.anyio
async def test_one_bad_item_spoils_only_itself(keyring: Keyring, kek: str) -> None:
    """A batch carries many people's keys: one damaged row must not stop the others."""
    good = await keyring.wrap(kek, KEY)
    body = good.ciphertext.rpartition(":")
    bad = WrappedKey(kek=kek, version=1, ciphertext=f"{body[0]}:{body[2][:-8]}AAAAAAA=")
    gone = WrappedKey(kek=f"{kek}-never-made", version=1, ciphertext=good.ciphertext)

    answers = await keyring.unwrap([good, bad, gone, good])

    assert answers[0] == answers[3] == KEY
    assert isinstance(answers[1], TamperedError)
    assert isinstance(answers[2], GoneError)


@pytest.mark.anyio
async def test_a_batch_of_only_bad_items_is_answered_per_item(keyring: Keyring, kek: str) -> None:
    """The server answers 400 then; taken as an outage it would be retried for ever."""
    await keyring.wrap(kek, KEY)
    bad = WrappedKey(kek=kek, version=1, ciphertext="vault:v1:AAAA")

    answers = await keyring.unwrap([bad, bad])

    assert [type(answer) for answer in answers] == [TamperedError, TamperedError]


@pytest.mark.anyio
async def test_a_ciphertext_under_another_kek_does_not_open(keyring: Keyring, kek: str) -> None:
    """Moving a row to another bucket must not make it readable."""
    wrapped = await keyring.wrap(kek, KEY)
    await keyring.wrap(f"{kek}-other", KEY)
    moved = WrappedKey(kek=f"{kek}-other", version=1, ciphertext=wrapped.ciphertext)

    [answer] = await keyring.unwrap([moved])

    assert isinstance(answer, TamperedError)


@pytest.mark.anyio
async def test_large_batches_over_several_keks_keep_their_order(keyring: Keyring, kek: str) -> None:
    """OpenBao refuses more than 1,000 JSON strings: a burst after a restart has more."""
    keys = {name: secrets.token_bytes(48) for name in (kek, f"{kek}-b")}
    wrapped = {name: await keyring.wrap(name, key) for name, key in keys.items()}
    names = [kek, f"{kek}-b"] * 600

    answers = await keyring.unwrap([wrapped[name] for name in names])

    assert answers == [keys[name] for name in names]


@pytest.mark.anyio
async def test_calls_overlap(keyring: Keyring, kek: str) -> None:
    """Many conversations ask at once; two first uses of a KEK must end with one KEK."""
    keys = [secrets.token_bytes(48) for _ in range(12)]

    wrapped = await asyncio.gather(*(keyring.wrap(kek, key) for key in keys))

    answers = await asyncio.gather(*(keyring.unwrap([one]) for one in wrapped))
    assert [answer for [answer] in answers] == keys


@pytest.mark.anyio
async def test_it_says_that_it_is_ready(keyring: Keyring) -> None:
    """Readiness is a real round trip, not an open port."""
    await keyring.ready()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["", "../other", "Upper", "a" * 65, "a/b", "a?x=1"])
async def test_a_name_that_is_not_one_is_refused(keyring: Keyring, name: str) -> None:
    """The name becomes a path or a URL: it must not be able to leave its place."""
    with pytest.raises(KeyringError):
        await keyring.wrap(name, KEY)


@pytest.mark.anyio
async def test_a_refused_token_is_not_a_destroyed_key(
    openbao: OpenBao, mount: str, kek: str
) -> None:
    """An expired token must read as "not now": taken for gone, people's data is written off."""
    wrapped = await transit(openbao.url, lambda: openbao.token, mount=mount).wrap(kek, KEY)
    refused = transit(openbao.url, lambda: "expired", mount=mount)

    [answer] = await refused.unwrap([wrapped])

    assert isinstance(answer, KeyringError)
    with pytest.raises(KeyringError):
        await refused.ready()
    with pytest.raises(KeyringError):
        await keeper_of(refused).destroy(kek)


@pytest.mark.anyio
async def test_a_missing_mount_is_not_a_destroyed_key(openbao: OpenBao, kek: str) -> None:
    """A wrong setting answers 404 too, and must not look like an erasure."""
    lost = transit(openbao.url, lambda: openbao.token, mount="no-such-mount")

    [answer] = await lost.unwrap([WrappedKey(kek=kek, version=1, ciphertext="vault:v1:AAAA")])

    assert isinstance(answer, KeyringError)
    with pytest.raises(KeyringError):
        await keeper_of(lost).destroy(kek)


@pytest.mark.anyio
async def test_a_version_trimmed_away_is_gone(openbao: OpenBao, mount: str, kek: str) -> None:
    """Rolling a bucket kills the old copies of its rows: that must read as gone, not broken."""
    keyring = transit(openbao.url, lambda: openbao.token, mount=mount)
    old = await keyring.wrap(kek, KEY)
    client = hvac.Client(url=openbao.url, token=openbao.token)
    client.adapter.post(f"/v1/{mount}/keys/{kek}/rotate", json={})
    least = {"min_decryption_version": 2, "min_encryption_version": 2}
    client.adapter.post(f"/v1/{mount}/keys/{kek}/config", json=least)
    client.adapter.post(f"/v1/{mount}/keys/{kek}/trim", json={"min_available_version": 2})

    new = await keyring.wrap(kek, KEY)

    [dead, living] = await keyring.unwrap([old, new])
    assert isinstance(dead, GoneError)
    assert (living, new.version) == (KEY, 2)


@pytest.mark.anyio
async def test_keks_cannot_be_exported(openbao: OpenBao, mount: str, kek: str) -> None:
    """A KEK that can be exported is one that can be kept after its destruction."""
    await transit(openbao.url, lambda: openbao.token, mount=mount).wrap(kek, KEY)

    client = hvac.Client(url=openbao.url, token=openbao.token)
    made = client.adapter.get(f"/v1/{mount}/keys/{kek}")["data"]

    assert (made["type"], made["exportable"]) == ("aes256-gcm96", False)
    assert made["allow_plaintext_backup"] is False


@pytest.mark.anyio
async def test_a_kek_destroyed_elsewhere_is_made_again(
    openbao: OpenBao, mount: str, kek: str
) -> None:
    """Another process destroyed it: the mount refuses to make keys, so we must, by name."""
    ours, theirs = (transit(openbao.url, lambda: openbao.token, mount=mount) for _ in range(2))
    await ours.wrap(kek, KEY)
    await keeper_of(theirs).destroy(kek)

    wrapped = await ours.wrap(kek, KEY)

    assert await ours.unwrap([wrapped]) == [KEY]


@pytest.fixture
def own_openbao(tmp_path: Path) -> Iterator[OpenBao]:
    """Yield a server of the test's own, which it may seal."""
    server = OpenBao(f"http://127.0.0.1:{_free_port()}", f"root-{secrets.token_hex(16)}")
    log = tmp_path / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(_command(server), env=_environment(tmp_path), stdout=out)
        try:
            _wait_until_ready(process, server.url, log)
            yield server
        finally:
            _stop(process)


@pytest.mark.anyio
async def test_a_sealed_server_is_not_a_destroyed_key(own_openbao: OpenBao, kek: str) -> None:
    """Sealed is a state that ends: jobs must wait, not be told that their data is gone."""
    client = hvac.Client(url=own_openbao.url, token=own_openbao.token)
    client.sys.enable_secrets_engine("transit")
    keyring = transit(own_openbao.url, lambda: own_openbao.token)
    wrapped = await keyring.wrap(kek, KEY)
    client.adapter.put("/v1/sys/seal")

    [answer] = await keyring.unwrap([wrapped])

    assert isinstance(answer, KeyringError)
    for call in (keyring.ready(), keyring.wrap(kek, KEY), keeper_of(keyring).destroy(kek)):
        with pytest.raises(KeyringError):
            await call


@pytest.mark.timeout(15)  # the client's own limit would be 30 s
@pytest.mark.anyio
async def test_a_server_that_hangs_is_given_up(kek: str) -> None:
    """A keyring that accepts and never answers must cost a bounded time."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        keyring = transit(url, lambda: "token", timeout_s=0.2)

        with pytest.raises(KeyringError):
            await keyring.wrap(kek, KEY)


@pytest.mark.anyio
async def test_the_environment_cannot_put_a_proxy_in_between(
    openbao: OpenBao, mount: str, kek: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would see every key in clear."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    keyring = transit(openbao.url, lambda: openbao.token, mount=mount)

    assert (await keyring.wrap(kek, KEY)).kek == kek


@pytest.mark.anyio
async def test_the_local_keyring_refuses_files_that_others_may_read(
    tmp_path: Path, kek: str
) -> None:
    """A KEK that was readable to others is no secret any more."""
    keyring = LocalKeyring(tmp_path)
    wrapped = await keyring.wrap(kek, KEY)
    (tmp_path / f"{kek}.1.key").chmod(0o640)

    [answer] = await keyring.unwrap([wrapped])

    assert isinstance(answer, KeyringError)


@pytest.mark.anyio
async def test_the_local_keyring_tells_a_lost_directory_from_a_lost_key(
    tmp_path: Path, kek: str
) -> None:
    """An unmounted disk must not read as an erasure."""
    keyring = LocalKeyring(tmp_path / "keyring")
    wrapped = await keyring.wrap(kek, KEY)
    (tmp_path / "keyring").rename(tmp_path / "elsewhere")

    [answer] = await keyring.unwrap([wrapped])

    assert isinstance(answer, KeyringError)


@pytest.mark.anyio
async def test_local_files_are_private(tmp_path: Path, kek: str) -> None:
    """The development keyring is no excuse for world-readable keys."""
    await LocalKeyring(tmp_path / "keyring").wrap(kek, KEY)

    assert (tmp_path / "keyring").stat().st_mode & 0o777 == 0o700
    assert [f.stat().st_mode & 0o777 for f in (tmp_path / "keyring").iterdir()] == [0o600]


@pytest.mark.anyio
async def test_a_token_file_that_is_being_written_is_not_now(
    openbao: OpenBao, mount: str, kek: str, tmp_path: Path
) -> None:
    """Who renews the token rewrites its file: a job that meets the moment waits, it is not lost."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    keyring = transit(openbao.url, lambda: secretfile.read(token).text, mount=mount)

    with pytest.raises(KeyringError):
        await keyring.wrap(kek, KEY)

    token.write_text(openbao.token)
    assert await keyring.wrap(kek, KEY)
