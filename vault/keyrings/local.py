"""
The development keyring and its keeper, not for production: KEKs are files in a directory.

A file is one version: 32 random bytes, mode 0600, in a directory of mode 0700. Whoever reads
the directory reads everything, and a backup of it undoes every destruction: production refuses
the name ``local``. Trust: fully trusted with every key; keyring and keeper are one party here.
"""

import asyncio
import base64
import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import GoneError, KeyringError, TamperedError, VaultError
from vault.model import Kek, WrappedKey
from vault.ports import KEK_NAME

WRAPPED = re.compile(r"local:v([0-9]{1,9}):([A-Za-z0-9+/=]+)")
FILE = re.compile(r"([a-z0-9-]{1,64})\.([0-9]{1,9})\.key")
NONCE_BYTES = 12
KEK_BYTES = 32


class LocalKeyring:
    """See `vault.ports.Keyring`; *directory* is made if it is missing."""

    name = "local"

    def __init__(self, directory: Path) -> None:
        self._keks = _Directory(directory)

    async def wrap(self, kek: str, key: bytes) -> WrappedKey:
        """See `Keyring.wrap`."""
        return await asyncio.to_thread(self._keks.wrap, kek, key)

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """See `Keyring.unwrap`."""
        return await asyncio.to_thread(lambda: [_tried(self._keks, one) for one in wrapped])

    async def ready(self) -> None:
        """See `Keyring.ready`."""
        [key] = await self.unwrap([await self.wrap("ready", bytes(KEK_BYTES))])
        if isinstance(key, Exception):
            raise KeyringError("a key that was just wrapped does not unwrap") from key


class LocalKeeper:
    """See `vault.ports.Keeper`; over the same *directory* as the keyring."""

    name = "local"

    def __init__(self, directory: Path) -> None:
        self._keks = _Directory(directory)

    async def rotate(self, kek: str) -> int:
        """See `Keeper.rotate`."""
        return await asyncio.to_thread(self._keks.rotate, kek)

    async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
        """See `Keeper.rewrap`."""
        return await asyncio.to_thread(lambda: [self._again(one) for one in wrapped])

    async def trim(self, kek: str, oldest: int) -> None:
        """See `Keeper.trim`."""
        await asyncio.to_thread(self._keks.trim, kek, oldest)

    async def destroy(self, kek: str) -> None:
        """See `Keeper.destroy`."""
        await asyncio.to_thread(self._keks.destroy, kek)

    async def keks(self) -> list[Kek]:
        """See `Keeper.keks`."""
        return await asyncio.to_thread(self._keks.all)

    def _again(self, wrapped: WrappedKey) -> WrappedKey | Exception:
        key = _tried(self._keks, wrapped)
        return key if isinstance(key, Exception) else self._keks.wrap(wrapped.kek, key)


def _tried(keks: "_Directory", wrapped: WrappedKey) -> bytes | Exception:
    try:
        return keks.unwrap(wrapped)
    except VaultError as exc:
        return exc


class _Directory:
    """The files: every public method may raise `GoneError`, `KeyringError`, `TamperedError`."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path

    def wrap(self, kek: str, key: bytes) -> WrappedKey:
        version = self._newest_or_first(kek)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + AESGCM(self._load(kek, version)).encrypt(nonce, key, kek.encode())
        ciphertext = f"local:v{version}:{base64.b64encode(sealed).decode()}"
        return WrappedKey(kek=kek, version=version, ciphertext=ciphertext)

    def unwrap(self, wrapped: WrappedKey) -> bytes:
        shape = WRAPPED.fullmatch(wrapped.ciphertext)
        if shape is None:
            self._require(wrapped.kek)
            raise TamperedError(f"{wrapped.kek}: a wrapped key is malformed")
        secret = self._load(wrapped.kek, int(shape[1]))
        try:
            sealed = base64.b64decode(shape[2], validate=True)
            nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return AESGCM(secret).decrypt(nonce, body, wrapped.kek.encode())
        except (InvalidTag, ValueError):
            raise TamperedError(f"{wrapped.kek}: a wrapped key does not authenticate") from None

    def rotate(self, kek: str) -> int:
        version = self._require(kek)[-1] + 1
        self._make(kek, version)
        return version

    def trim(self, kek: str, oldest: int) -> None:
        versions = self._require(kek)
        if oldest > versions[-1]:
            raise KeyringError(f"{kek}: it has no version {oldest} yet")
        self._unlink(kek, [version for version in versions if version < oldest])

    def destroy(self, kek: str) -> None:
        self._unlink(kek, self._versions(kek))

    def all(self) -> list[Kek]:
        names = {found[1] for path in self._files() if (found := FILE.fullmatch(path.name))}
        return [self._kek(name) for name in sorted(names)]

    def _kek(self, name: str) -> Kek:
        versions = self._require(name)
        made = self._file(name, versions[-1]).stat().st_mtime
        return Kek(
            name=name,
            oldest=versions[0],
            newest=versions[-1],
            rotated_at=datetime.fromtimestamp(made, UTC),
            exportable=True,
            backup_allowed=True,
            algorithm="aes256-gcm96",
        )

    def _newest_or_first(self, kek: str) -> int:
        if not (versions := self._versions(kek)):
            self._make(kek, 1)
            versions = self._require(kek)
        return versions[-1]

    def _require(self, kek: str) -> list[int]:
        if versions := self._versions(kek):
            return versions
        raise GoneError(f"{kek}: no such KEK")

    def _versions(self, kek: str) -> list[int]:
        _check(kek)
        found = (FILE.fullmatch(path.name) for path in self._files())
        return sorted(int(each[2]) for each in found if each and each[1] == kek)

    def _files(self) -> list[Path]:
        try:
            return list(self._path.iterdir())
        except OSError as exc:
            raise KeyringError(f"the keyring's directory: {type(exc).__name__}") from exc

    def _make(self, kek: str, version: int) -> None:
        path = self._file(kek, version)
        fresh = path.with_suffix(f".{secrets.token_hex(8)}")
        try:
            _write(fresh, secrets.token_bytes(KEK_BYTES))
            # A link never replaces: of two makers, the first one's key stands for both.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(fresh)
            fresh.unlink()
            self._sync()
        except OSError as exc:
            raise KeyringError(f"{kek}: {type(exc).__name__}") from exc

    def _load(self, kek: str, version: int) -> bytes:
        try:
            with self._file(kek, version).open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise KeyringError(f"{kek}: others may read its file (chmod 600)")
                return file.read()
        except FileNotFoundError:
            self._files()
            raise GoneError(f"{kek}: this version is destroyed") from None
        except OSError as exc:
            raise KeyringError(f"{kek}: {type(exc).__name__}") from exc

    def _unlink(self, kek: str, versions: list[int]) -> None:
        try:
            for version in versions:
                self._file(kek, version).unlink(missing_ok=True)
            self._sync()
        except OSError as exc:
            raise KeyringError(f"{kek}: {type(exc).__name__}") from exc

    def _file(self, kek: str, version: int) -> Path:
        _check(kek)
        return self._path / f"{kek}.{version}.key"

    def _sync(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(kek: str) -> None:
    if not KEK_NAME.fullmatch(kek):
        raise KeyringError("the name of a KEK is [a-z0-9-]{1,64}")


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
