"""The contract of `Signer`, on the local key file and on a real OpenBao."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.openbao import OpenBao

from audit.errors import AppendError, SignerError
from audit.ports import Signer
from audit.signers.local import LocalSigner
from audit.signers.transit import TransitSigner

pytestmark = pytest.mark.anyio
_MOUNT = "audit-signing"


@pytest.fixture
def client(openbao: OpenBao) -> Iterator[hvac.Client]:
    """Yield a client with a transit engine of its own."""
    client = hvac.Client(url=openbao.url, token=openbao.token)
    client.sys.enable_secrets_engine("transit", path=_MOUNT)
    yield client
    client.sys.disable_secrets_engine(_MOUNT)
    client.adapter.close()


@pytest.fixture(params=["local", "transit"])
async def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Signer:
    """Return a signer of each kind."""
    if request.param == "local":
        return LocalSigner.open(tmp_path / "key.pem")
    return await TransitSigner.open(request.getfixturevalue("client"), "log", mount=_MOUNT)


async def test_signatures_verify_under_the_public_key(signer: Signer) -> None:
    """An auditor has the 32-byte key and nothing else."""
    signatures = await asyncio.gather(*[signer.sign(b"message %d" % n) for n in range(8)])

    for n, signature in enumerate(signatures):
        public = Ed25519PublicKey.from_public_bytes(signer.public_key)
        public.verify(signature, b"message %d" % n)


async def test_the_local_key_is_made_once_and_private(tmp_path: Path) -> None:
    """A new key at each start would be another log; a readable key is everybody's."""
    path = tmp_path / "key.pem"

    first, again = LocalSigner.open(path), LocalSigner.open(path)

    assert first.public_key == again.public_key
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
async def test_a_local_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can read the key can forge the log."""
    path = tmp_path / "key.pem"
    LocalSigner.open(path)
    path.chmod(mode)

    with pytest.raises(SignerError, match="readable by others"):
        LocalSigner.open(path)


async def test_a_local_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A wrong file must stop the start with its name, not fail at the first append."""
    other = ec.generate_private_key(ec.SECP256R1())
    files = {
        "ec.pem": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "junk.pem": b"junk",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)

        with pytest.raises(SignerError, match=name):
            LocalSigner.open(tmp_path / name)
    with pytest.raises(SignerError):
        LocalSigner.open(tmp_path / "no" / "where.pem")


async def test_the_transit_key_is_the_same_at_each_start(client: hvac.Client) -> None:
    """Opening must find the key that signed before."""
    first = await TransitSigner.open(client, "log", mount=_MOUNT)
    again = await TransitSigner.open(client, "log", mount=_MOUNT)

    assert first.public_key == again.public_key


async def test_rotating_the_transit_key_does_not_change_a_running_log(client: hvac.Client) -> None:
    """A signature by another version would not verify under the log's vkey."""
    signer = await TransitSigner.open(client, "log", mount=_MOUNT)
    client.secrets.transit.rotate_key("log", mount_point=_MOUNT)

    signature = await signer.sign(b"message")

    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signature, b"message")


@pytest.mark.parametrize(
    "kind",
    [
        {"key_type": "aes256-gcm96"},
        {"key_type": "ecdsa-p256"},
        {"key_type": "ed25519", "derived": True},
    ],
)
async def test_a_transit_key_of_another_type_is_refused(
    client: hvac.Client, kind: dict[str, Any]
) -> None:
    """A key that cannot sign as one Ed25519 key must stop the start, not the first append."""
    client.secrets.transit.create_key("log", mount_point=_MOUNT, **kind)

    with pytest.raises(SignerError, match="log: not an Ed25519 key"):
        await TransitSigner.open(client, "log", mount=_MOUNT)


async def test_a_key_that_cannot_be_used_refuses_the_append(client: hvac.Client) -> None:
    """No signature means no evidence, and so no touch."""
    signer = await TransitSigner.open(client, "log", mount=_MOUNT)
    client.secrets.transit.update_key_configuration(
        "log", deletion_allowed=True, mount_point=_MOUNT
    )
    client.secrets.transit.delete_key("log", mount_point=_MOUNT)

    with pytest.raises(AppendError, match="log"):
        await signer.sign(b"message")


async def test_an_absent_server_is_an_error_of_ours(client: hvac.Client) -> None:
    """A refused connection must not leave the adapter as somebody else's exception."""
    signer = await TransitSigner.open(client, "log", mount=_MOUNT)
    away = hvac.Client(url="http://127.0.0.1:9", token="none", timeout=2)
    signer._client = away

    with pytest.raises(AppendError):
        await signer.sign(b"message")
    with pytest.raises(SignerError):
        await TransitSigner.open(away, "log", mount=_MOUNT)
    away.adapter.close()


async def test_a_token_is_read_anew_for_each_signature(client: hvac.Client) -> None:
    """A short-lived token is renewed outside; the one of the start would end the trail."""
    good, tokens = client.token, ["expired"]
    signer = await TransitSigner.open(client, "log", mount=_MOUNT, token=lambda: tokens[-1])

    with pytest.raises(AppendError):
        await signer.sign(b"message")
    tokens.append(good)

    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(
        await signer.sign(b"message"), b"message"
    )


async def test_a_token_that_cannot_be_read_refuses_the_append(client: hvac.Client) -> None:
    """Its file is being written: the append is tried again, and nothing of it is quoted."""

    def gone() -> str:
        raise ValueError("holds the token")

    signer = await TransitSigner.open(client, "log", mount=_MOUNT, token=gone)

    with pytest.raises(AppendError, match=r"^transit token: ValueError$"):
        await signer.sign(b"message")


async def test_a_revoked_token_is_replaced_and_the_signature_asked_for_again(
    client: hvac.Client,
) -> None:
    """Whoever revokes a token in alarm must not end the log of a cell that may log in again."""
    made = [client.auth.token.create(ttl="60s")["auth"]["client_token"]]
    replaced = []

    def refused(token: str) -> bool:
        replaced.append(token)
        made.append(str(client.token))
        return True

    signer = await TransitSigner.open(
        hvac.Client(url=client.url, token=client.token),
        "log",
        mount=_MOUNT,
        token=lambda: made[-1],
        refused=refused,
    )
    client.auth.token.revoke(made[0])

    signature = await signer.sign(b"message")

    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signature, b"message")
    assert replaced == made[:1]
