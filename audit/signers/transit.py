"""
A signing key in Vault or OpenBao transit: it never leaves the server.

Trust: the server signs whatever a caller with ``update`` on this key asks for; it cannot be
made to hand the key out. A log stays on the key version it was opened with.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any, Self

import hvac
import requests
from hvac.exceptions import Forbidden, VaultError

from audit.errors import AppendError, SignerError


def _no_other(_token: str) -> bool:
    """Have no other token than the refused one."""
    return False


class TransitSigner:
    """Signs with version *version* of a transit key; see `Signer`."""

    def __init__(
        self,
        client: hvac.Client,
        name: str,
        mount: str,
        *,
        public_key: bytes,
        version: int,
        token: Callable[[], str] | None = None,
        refused: Callable[[str], bool] = _no_other,
    ) -> None:
        self._client = client
        self._token = token
        self._refused = refused
        self._name = name
        self._mount = mount
        self._public_key = public_key
        self._version = version

    @classmethod
    async def open(
        cls,
        client: hvac.Client,
        name: str,
        *,
        mount: str = "transit",
        token: Callable[[], str] | None = None,
        refused: Callable[[str], bool] = _no_other,
    ) -> Self:
        """
        Return the signer of key *name*, made if absent; `SignerError` if it is no Ed25519.

        *token* returns the token in force, which may live for minutes only; *refused* hears of
        one that the server refused, and says whether *token* has another.
        """
        try:
            key = await asyncio.to_thread(_read, client, name, mount)
            version, public = _newest(key)
        except (VaultError, requests.RequestException) as exc:
            raise SignerError(f"transit key {name}: {type(exc).__name__}") from None
        except (KeyError, TypeError, ValueError):
            raise SignerError(f"transit key {name}: not an Ed25519 key we can read") from None
        return cls(
            client,
            name,
            mount,
            public_key=public,
            version=version,
            token=token,
            refused=refused,
        )

    @property
    def public_key(self) -> bytes:
        """See `Signer.public_key`."""
        return self._public_key

    async def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`."""
        try:
            answer = await asyncio.to_thread(self._sign, base64.b64encode(message).decode())
            return base64.b64decode(answer["data"]["signature"].split(":")[2], validate=True)
        except (VaultError, requests.RequestException) as exc:
            raise AppendError(f"transit key {self._name}: {type(exc).__name__}") from None
        except (KeyError, TypeError, AttributeError, IndexError, binascii.Error):
            raise AppendError(f"transit key {self._name}: no signature in the answer") from None

    def _sign(self, encoded: str) -> Any:
        if self._token is None:
            return self._ask(encoded)
        held = self._hold(self._token)
        try:
            return self._ask(encoded)
        except Forbidden:
            if not self._refused(held):
                raise
            self._hold(self._token)
            return self._ask(encoded)

    def _hold(self, token: Callable[[], str]) -> str:
        try:
            self._client.token = held = token()
        except (OSError, ValueError) as exc:  # its file is being written, or is gone
            raise AppendError(f"transit token: {type(exc).__name__}") from None
        return held

    def _ask(self, encoded: str) -> Any:
        return self._client.secrets.transit.sign_data(
            self._name, hash_input=encoded, key_version=self._version, mount_point=self._mount
        )


def _read(client: hvac.Client, name: str, mount: str) -> Any:
    # Creating a key that exists changes nothing, so this needs no look before.
    client.secrets.transit.create_key(name, key_type="ed25519", mount_point=mount)
    return client.secrets.transit.read_key(name, mount_point=mount)["data"]


def _newest(key: Any) -> tuple[int, bytes]:
    """Return version and public key; a derived key has no one public key."""
    if key["type"] != "ed25519" or key["derived"]:
        raise ValueError(key["type"])
    version = int(key["latest_version"])
    return version, base64.b64decode(key["keys"][str(version)]["public_key"], validate=True)
