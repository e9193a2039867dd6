"""What custody needs from outside: a keyring that wraps, and a store that keeps ciphertext."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Protocol

from vault.model import Kek, WrappedKey

KEK_NAME = re.compile(r"[a-z0-9-]{1,64}")
# No empty, "." or ".." segment: a name is never a way out of its directory or bucket.
OBJECT_NAME = re.compile(r"(?=.{1,128}\Z)[a-z0-9_-][a-z0-9_.-]*(?:/[a-z0-9_-][a-z0-9_.-]*)*")


class Keyring(Protocol):
    """
    The worker's half of a key service: it wraps and unwraps, and can destroy nothing.

    Wraps and unwraps 256-bit keys under key-encryption keys (KEKs) that never leave it.

    *kek* names are ``[a-z0-9-]{1,64}``. `wrap` creates a missing KEK. Unwrapping under a
    destroyed KEK raises `GoneError`; an unreachable or sealed keyring raises `KeyringError`.
    Implementations do not retry; calls may overlap. Production refuses the ``local`` one.
    """

    name: str

    async def wrap(self, kek: str, key: bytes) -> WrappedKey:
        """Return *key* (32 to 64 bytes) sealed under *kek*'s newest version."""
        ...

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """Return one key, or the error that stands for it, per item, in order."""
        ...

    async def ready(self) -> None:
        """Return if keys can be wrapped and unwrapped now, else raise `KeyringError`."""
        ...


class Keeper(Protocol):
    """
    The keeper's half of a key service, another identity than the keyring's: it never unwraps.

    Every call may be made again after a failure. An unreachable, sealed or refusing service
    raises `KeyringError`; a KEK that is not there raises `GoneError`, but in `destroy`.
    """

    name: str

    async def rotate(self, kek: str) -> int:
        """Give *kek* a new version, in which keys are wrapped from now on; return its number."""
        ...

    async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
        """Return each key under its KEK's newest version, or the error for it, in order."""
        ...

    async def trim(self, kek: str, oldest: int) -> None:
        """Destroy every version of *kek* below *oldest*; what was wrapped by them is dead."""
        ...

    async def destroy(self, kek: str) -> None:
        """Destroy every version of *kek*; a missing one is already destroyed."""
        ...

    async def keks(self) -> list[Kek]:
        """Return every KEK there is, by name."""
        ...


class Objects(Protocol):
    """
    Keeps sealed containers under opaque names ``[a-z0-9_/.-]{1,128}``.

    `put` is durable once it returns and replaces nothing (an existing name raises
    `ObjectsError`); if it fails, or what flows into it does, nothing is under the name. `delete`
    removes every version and is idempotent. `get` and `stream` of an absent name raise
    `GoneError`, and only if no older version of it is left. Trust: sees ciphertext and sizes only.
    """

    name: str

    async def put(self, name: str, sealed: bytes | AsyncIterable[bytes]) -> None:
        """Keep *sealed* under *name*; of what flows in, a few pieces are held at a time."""
        ...

    async def get(self, name: str) -> bytes:
        """Return what is kept under *name*."""
        ...

    def stream(self, name: str) -> AsyncIterator[bytes]:
        """Yield what is kept under *name*, in pieces."""
        ...

    async def delete(self, name: str) -> None:
        """Remove *name* and all its versions."""
        ...

    async def names(self) -> list[str]:
        """Return every name kept, for reconciliation, and clear what failed writers left."""
        ...
