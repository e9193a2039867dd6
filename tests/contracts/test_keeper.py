"""The contract of `vault.ports.Keeper`, over every adapter, with a real OpenBao."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

import hvac
import pytest
from simulation.stores import MemoryKeys
from support.openbao import OpenBao

from vault.errors import GoneError, KeyringError, TamperedError
from vault.keyrings.client import Transit
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.model import WrappedKey
from vault.ports import Keeper, Keyring

KEY = bytes(range(48))
Pair = tuple[Keyring, Keeper]


@pytest.fixture(scope="module")
def mount(openbao: OpenBao) -> str:
    """Return a transit mount of this module's own."""
    client = hvac.Client(url=openbao.url, token=openbao.token)
    name = f"transit-{secrets.token_hex(4)}"
    client.sys.enable_secrets_engine("transit", path=name)
    client.adapter.post(f"/v1/{name}/config/keys", json={"disable_upsert": True})
    return name


@pytest.fixture(params=["local", "simulated", "transit"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, openbao: OpenBao, mount: str) -> Pair:
    """Return each keyring with its keeper."""
    if request.param == "local":
        return LocalKeyring(tmp_path / "keks"), LocalKeeper(tmp_path / "keks")
    if request.param == "simulated":
        both = MemoryKeys({}, lambda: datetime.now(UTC))
        return both, both
    transit = Transit(openbao.url, lambda: openbao.token, mount=mount)
    return TransitKeyring(transit), TransitKeeper(transit)


@pytest.fixture
def kek() -> str:
    """Return a name that no other test uses."""
    return f"subjects-{secrets.token_hex(6)}"


@pytest.mark.anyio
async def test_a_rotated_kek_opens_old_and_new(pair: Pair, kek: str) -> None:
    """Rotation must not stop anybody: what was wrapped before it opens until it is trimmed."""
    keyring, keeper = pair
    old = await keyring.wrap(kek, KEY)

    version = await keeper.rotate(kek)
    new = await keyring.wrap(kek, KEY)

    assert (old.version, version, new.version) == (1, 2, 2)
    assert await keyring.unwrap([old, new]) == [KEY, KEY]


@pytest.mark.anyio
async def test_rewrapping_moves_a_key_to_the_newest_version(pair: Pair, kek: str) -> None:
    """The living must be under the new version before the old one dies."""
    keyring, keeper = pair
    old = await keyring.wrap(kek, KEY)
    await keeper.rotate(kek)

    [new] = await keeper.rewrap([old])

    assert isinstance(new, WrappedKey)
    assert (new.kek, new.version) == (kek, 2)
    assert await keyring.unwrap([new]) == [KEY]


@pytest.mark.anyio
async def test_trimming_kills_every_older_copy(pair: Pair, kek: str) -> None:
    """This is what makes yesterday's backup of the key table worthless."""
    keyring, keeper = pair
    old = await keyring.wrap(kek, KEY)
    version = await keeper.rotate(kek)
    [new] = await keeper.rewrap([old])
    assert isinstance(new, WrappedKey)

    await keeper.trim(kek, version)
    await keeper.trim(kek, version)

    [dead, living] = await keyring.unwrap([old, new])
    assert isinstance(dead, GoneError)
    assert living == KEY


@pytest.mark.anyio
async def test_a_dead_version_cannot_be_rewrapped(pair: Pair, kek: str) -> None:
    """Else a restored row would come back to life with the next roll."""
    keyring, keeper = pair
    old = await keyring.wrap(kek, KEY)
    await keeper.trim(kek, await keeper.rotate(kek))

    [answer] = await keeper.rewrap([old])

    assert isinstance(answer, GoneError)


@pytest.mark.anyio
async def test_a_damaged_row_spoils_only_itself(pair: Pair, kek: str) -> None:
    """One bad row in a bucket must not stop the roll for everybody in it."""
    keyring, keeper = pair
    good = await keyring.wrap(kek, KEY)
    bad = WrappedKey(kek=kek, version=1, ciphertext=good.ciphertext[:-8] + "AAAAAAA=")

    first, second, third = await keeper.rewrap([good, bad, good])

    assert isinstance(first, WrappedKey)
    assert isinstance(second, TamperedError)
    assert isinstance(third, WrappedKey)


@pytest.mark.anyio
async def test_a_destroyed_kek_cannot_be_rotated_or_trimmed(pair: Pair, kek: str) -> None:
    """A roll that lost its bucket must say so, and not make a new one under the name."""
    keyring, keeper = pair
    await keyring.wrap(kek, KEY)
    await keeper.destroy(kek)

    for call in (keeper.rotate(kek), keeper.trim(kek, 2)):
        with pytest.raises(GoneError):
            await call
    assert kek not in [found.name for found in await keeper.keks()]


@pytest.mark.anyio
async def test_the_future_cannot_be_trimmed(pair: Pair, kek: str) -> None:
    """A wrong number must not destroy the version that everything is wrapped under."""
    keyring, keeper = pair
    wrapped = await keyring.wrap(kek, KEY)

    with pytest.raises(KeyringError):
        await keeper.trim(kek, 7)

    assert await keyring.unwrap([wrapped]) == [KEY]


@pytest.mark.anyio
async def test_keks_are_listed_with_their_versions(pair: Pair, kek: str) -> None:
    """What nobody lists, nobody notices: the inventory is made of this."""
    keyring, keeper = pair
    await keyring.wrap(kek, KEY)
    await keeper.rotate(kek)
    await keeper.rotate(kek)
    await keeper.trim(kek, 2)

    [found] = [each for each in await keeper.keks() if each.name == kek]

    assert (found.oldest, found.newest, found.algorithm) == (2, 3, "aes256-gcm96")
    assert found.rotated_at.year >= 2026
    assert found.exportable is (keeper.name == "local")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["ed25519", "rsa-2048"])
async def test_a_signing_key_beside_the_keks_is_listed_too(
    openbao: OpenBao, mount: str, kek: str, kind: str
) -> None:
    """The audit's own key is on the same mount, and is described in another shape."""
    client = hvac.Client(url=openbao.url, token=openbao.token)
    client.adapter.post(f"/v1/{mount}/keys/{kek}", json={"type": kind})
    keeper = TransitKeeper(Transit(openbao.url, lambda: openbao.token, mount=mount))

    [found] = [each for each in await keeper.keks() if each.name == kek]

    assert (found.algorithm, found.newest) == (kind, 1)
    assert abs((datetime.now(UTC) - found.rotated_at).total_seconds()) < 3600


@pytest.mark.anyio
async def test_an_empty_service_lists_nothing(openbao: OpenBao, tmp_path: Path) -> None:
    """The server answers 404 to a list without entries: no keys is not a fault."""
    client = hvac.Client(url=openbao.url, token=openbao.token)
    client.sys.enable_secrets_engine("transit", path="transit-empty")

    transit = Transit(openbao.url, lambda: openbao.token, mount="transit-empty")

    assert await TransitKeeper(transit).keks() == []
    assert await LocalKeeper(tmp_path).keks() == []


@pytest.mark.anyio
async def test_a_missing_mount_is_a_fault(openbao: OpenBao) -> None:
    """No keys and no service must not look alike: an empty inventory raises no alarm."""
    transit = Transit(openbao.url, lambda: openbao.token, mount="no-such-mount")

    with pytest.raises(KeyringError):
        await TransitKeeper(transit).keks()
