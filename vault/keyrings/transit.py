"""
The worker's half of a transit engine (https://openbao.org/api-docs/secret/transit/).

- A KEK is an ``aes256-gcm96`` transit key that cannot be exported. It is made by name before
  its first use, so the mount may (and should) set ``disable_upsert``: a late writer then never
  brings a destroyed KEK back.
- A request holds at most 240 items: OpenBao refuses bodies of more than 1,000 JSON strings.
- One bad item spoils only itself: whatever the status, results per item are read as such.
- Trust: the server sees every subject key and epoch key, never content. It can refuse, and it
  can keep snapshots: a destroyed KEK lives on in those until they expire.
"""

import asyncio
import base64
from collections.abc import Sequence
from http import HTTPStatus

from vault.errors import GoneError, KeyringError
from vault.keyrings import answers
from vault.keyrings.client import MOST_ITEMS, Transit, checked
from vault.model import WrappedKey


class TransitKeyring:
    """See `vault.ports.Keyring`; *transit* carries the worker's identity."""

    name = "transit"

    def __init__(self, transit: Transit) -> None:
        self._transit = transit
        self._made: set[str] = set()

    async def wrap(self, kek: str, key: bytes) -> WrappedKey:
        """See `Keyring.wrap`."""
        return await asyncio.to_thread(self._wrap, checked(kek), key)

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """See `Keyring.unwrap`."""
        return await asyncio.to_thread(self._unwrap, wrapped)

    async def ready(self) -> None:
        """See `Keyring.ready`."""
        [key] = await self.unwrap([await self.wrap("ready", bytes(32))])
        if isinstance(key, Exception):
            raise KeyringError("a key that was just wrapped does not unwrap") from key

    def _wrap(self, kek: str, key: bytes) -> WrappedKey:
        if kek not in self._made:
            self._make(kek)
        body = {"plaintext": base64.b64encode(key).decode()}
        try:
            data = self._transit.call("post", f"encrypt/{kek}", body)
        except GoneError:
            # Destroyed since we made it, and the mount refuses to make keys by encrypting.
            self._make(kek)
            data = self._transit.call("post", f"encrypt/{kek}", body)
        except KeyringError:
            # Destroyed, perhaps: a worker's policy answers 403 to encrypting where no key is.
            self._made.discard(kek)
            raise
        ciphertext = str(data["ciphertext"])
        return WrappedKey(kek=kek, version=answers.version(ciphertext), ciphertext=ciphertext)

    def _make(self, kek: str) -> None:
        kind = {"type": "aes256-gcm96", "exportable": False, "allow_plaintext_backup": False}
        self._transit.call("post", f"keys/{kek}", kind)
        self._made.add(kek)

    def _unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        keys: dict[int, bytes | Exception] = {}
        for kek, indexes in by_kek(wrapped).items():
            for start in range(0, len(indexes), MOST_ITEMS):
                chunk = indexes[start : start + MOST_ITEMS]
                found = self._decrypt(kek, [wrapped[index].ciphertext for index in chunk])
                keys.update(zip(chunk, found, strict=True))
        return [keys[index] for index in range(len(wrapped))]

    def _decrypt(self, kek: str, ciphertexts: list[str]) -> list[bytes | Exception]:
        items = [{"ciphertext": ciphertext} for ciphertext in ciphertexts]
        body = {"batch_input": items, "partial_failure_response_code": HTTPStatus.OK}
        try:
            results = self._transit.call("post", f"decrypt/{kek}", body)["batch_results"]
            keys = [answers.key(kek, result) for result in results]
        except (GoneError, KeyringError) as exc:
            return [exc] * len(ciphertexts)
        except (KeyError, TypeError, ValueError):
            keys = []
        if len(keys) != len(ciphertexts):
            return [KeyringError(f"decrypt/{kek}: the answer is not understood")] * len(ciphertexts)
        return keys


def by_kek(wrapped: Sequence[WrappedKey]) -> dict[str, list[int]]:
    """Return the indexes in *wrapped* of each KEK's keys: a request is about one KEK."""
    found: dict[str, list[int]] = {}
    for index, one in enumerate(wrapped):
        found.setdefault(one.kek, []).append(index)
    return found
