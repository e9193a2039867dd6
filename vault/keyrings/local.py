"""
The development keyring, not for production: KEKs are files in a directory.

A file is 32 random bytes, mode 0600, in a directory of mode 0700. Whoever reads the directory
reads everything, and a backup of it undoes every destruction: production refuses the name
``local``. Trust: fully trusted with every key; there is no second party.
"""

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import GoneError, KeyringError, TamperedError, VaultError
from vault.model import WrappedKey
from vault.ports import KEK_NAME

PREFIX = "local:v1:"
NONCE_BYTES = 12
KEK_BYTES = 32


class LocalKeyring:
    """See `vault.ports.Keyring`; *directory* is made if it is missing."""

    name = "local"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    async def wrap(self, kek: str, key: bytes) -> WrappedKey:
        """See `Keyring.wrap`."""
        secret = await asyncio.to_thread(self._load_or_make, kek)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + AESGCM(secret).encrypt(nonce, key, kek.encode())
        ciphertext = PREFIX + base64.b64encode(sealed).decode()
        return WrappedKey(kek=kek, version=1, ciphertext=ciphertext)

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """See `Keyring.unwrap`."""
        return await asyncio.to_thread(lambda: [self._unwrap(one) for one in wrapped])

    async def destroy(self, kek: str) -> None:
        """See `Keyring.destroy`."""
        await asyncio.to_thread(self._destroy, kek)

    async def ready(self) -> None:
        """See `Keyring.ready`."""
        [key] = await self.unwrap([await self.wrap("ready", bytes(KEK_BYTES))])
        if isinstance(key, Exception):
            raise KeyringError("a key that was just wrapped does not unwrap") from key

    def _unwrap(self, wrapped: WrappedKey) -> bytes | Exception:
        try:
            secret = self._load(wrapped.kek)
            sealed = base64.b64decode(wrapped.ciphertext.removeprefix(PREFIX), validate=True)
            nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return AESGCM(secret).decrypt(nonce, body, wrapped.kek.encode())
        except (InvalidTag, ValueError):
            return TamperedError(f"{wrapped.kek}: a wrapped key does not authenticate")
        except VaultError as exc:
            return exc

    def _load_or_make(self, kek: str) -> bytes:
        with contextlib.suppress(GoneError):
            return self._load(kek)
        path = self._path(kek)
        fresh = path.with_suffix(f".{secrets.token_hex(8)}")
        try:
            self._write(fresh, secrets.token_bytes(KEK_BYTES))
            # A link never replaces: of two makers, the first one's key stands for both.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(fresh)
            fresh.unlink()
            self._sync()
        except OSError as exc:
            raise KeyringError(f"{kek}: {type(exc).__name__}") from exc
        return self._load(kek)

    def _load(self, kek: str) -> bytes:
        try:
            with self._path(kek).open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise KeyringError(f"{kek}: others may read its file (chmod 600)")
                return file.read()
        except FileNotFoundError:
            if not self._directory.is_dir():
                raise KeyringError("the keyring's directory is not there") from None
            raise GoneError(f"{kek}: no such KEK") from None
        except OSError as exc:
            raise KeyringError(f"{kek}: {type(exc).__name__}") from exc

    def _destroy(self, kek: str) -> None:
        try:
            self._path(kek).unlink(missing_ok=True)
            self._sync()
        except OSError as exc:
            raise KeyringError(f"{kek}: {type(exc).__name__}") from exc

    def _path(self, kek: str) -> Path:
        if not KEK_NAME.fullmatch(kek):
            raise KeyringError("the name of a KEK is [a-z0-9-]{1,64}")
        return self._directory / f"{kek}.key"

    def _write(self, path: Path, content: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
