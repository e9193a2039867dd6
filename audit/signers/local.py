"""
A signing key in a file: for development and tests.

Trust: whoever reads the file can forge the log. Production keeps the key in Vault or OpenBao.
"""

import os
import stat
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from audit.errors import SignerError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class LocalSigner:
    """Signs with a private key held in this process; see `Signer`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the signer whose key is in *path* (PKCS #8 PEM, mode 0600); make it if absent."""
        try:
            if not path.exists():
                _create(path)
            return cls(_load(path))
        except OSError as exc:
            raise SignerError(f"{path.name}: {type(exc).__name__}") from None

    @property
    def public_key(self) -> bytes:
        """See `Signer.public_key`."""
        return self._key.public_key().public_bytes_raw()

    async def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`."""
        return self._key.sign(message)


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _load(path: Path) -> Ed25519PrivateKey:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise SignerError(f"{path.name}: readable by others (chmod 600, and replace the key)")
        pem = file.read()
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignerError(f"{path.name}: not a private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignerError(f"{path.name}: not an Ed25519 key")
    return key
