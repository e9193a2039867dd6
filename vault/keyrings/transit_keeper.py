"""
The keeper's half of a transit engine: rotates, rewraps, trims, destroys, lists.

- Its token may do none of what the worker's may: it never sees a key in clear.
- Versions end for good only by trimming: a minimum version alone can be taken back.
- Reads that prove something go to the active node; a standby may be behind.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from vault.errors import GoneError, KeyringError, TamperedError
from vault.keyrings import answers, policies
from vault.keyrings.client import MOST_ITEMS, Transit, checked
from vault.keyrings.transit import by_kek
from vault.model import Kek, WrappedKey


class TransitKeeper:
    """See `vault.ports.Keeper`; *transit* carries the keeper's identity."""

    name = "transit"

    def __init__(self, transit: Transit) -> None:
        self._transit = transit

    async def rotate(self, kek: str) -> int:
        """See `Keeper.rotate`."""
        return await asyncio.to_thread(self._rotate, checked(kek))

    async def rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
        """See `Keeper.rewrap`."""
        return await asyncio.to_thread(self._rewrap, wrapped)

    async def trim(self, kek: str, oldest: int) -> None:
        """See `Keeper.trim`."""
        await asyncio.to_thread(self._trim, checked(kek), oldest)

    async def destroy(self, kek: str) -> None:
        """See `Keeper.destroy`."""
        await asyncio.to_thread(self._destroy, checked(kek))

    async def keks(self) -> list[Kek]:
        """See `Keeper.keks`."""
        return await asyncio.to_thread(self._keks)

    async def upserts(self) -> bool:
        """Return whether the mount makes a key whenever somebody encrypts by a name without one."""
        config = await asyncio.to_thread(self._transit.call, "get", "config/keys")
        return config.get("disable_upsert") is not True

    def _rotate(self, kek: str) -> int:
        self._transit.call("post", f"keys/{kek}/rotate", {})
        return self._read(kek).newest

    def _rewrap(self, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | Exception]:
        found: dict[int, WrappedKey | Exception] = {}
        for kek, indexes in by_kek(wrapped).items():
            for start in range(0, len(indexes), MOST_ITEMS):
                chunk = indexes[start : start + MOST_ITEMS]
                anew = self._batch(kek, [wrapped[index].ciphertext for index in chunk])
                found.update(zip(chunk, anew, strict=True))
        return [found[index] for index in range(len(wrapped))]

    def _batch(self, kek: str, ciphertexts: list[str]) -> list[WrappedKey | Exception]:
        items = [{"ciphertext": ciphertext} for ciphertext in ciphertexts]
        body = {"batch_input": items, "partial_failure_response_code": HTTPStatus.OK}
        try:
            results = self._transit.call("post", f"rewrap/{kek}", body)["batch_results"]
            anew = [_rewrapped(kek, result) for result in results]
        except (GoneError, KeyringError) as exc:
            return [exc] * len(ciphertexts)
        except (KeyError, TypeError):
            anew = []
        if len(anew) != len(ciphertexts):
            return [KeyringError(f"rewrap/{kek}: the answer is not understood")] * len(ciphertexts)
        return anew

    def _trim(self, kek: str, oldest: int) -> None:
        least = {"min_decryption_version": oldest, "min_encryption_version": oldest}
        self._transit.call("post", f"keys/{kek}/config", least)
        self._transit.call("post", f"keys/{kek}/trim", {"min_available_version": oldest})

    def _destroy(self, kek: str) -> None:
        with contextlib.suppress(GoneError):
            self._transit.call("post", f"keys/{kek}/config", {"deletion_allowed": True})
            self._transit.call("delete", f"keys/{kek}")

    def _keks(self) -> list[Kek]:
        try:
            names = self._transit.call("list", "keys").get("keys") or []
        except GoneError:
            return []
        found = []
        # The keys that logs are signed with stand there, too: no KEKs, and closed to the keeper.
        for name in sorted(name for name in names if not name.startswith(policies.OWN)):
            with contextlib.suppress(GoneError):  # destroyed since it was listed
                found.append(self._read(name))
        return found

    def _read(self, kek: str) -> Kek:
        data = self._transit.call("get", f"keys/{kek}")
        try:
            return _kek(kek, data)
        except (KeyError, TypeError, ValueError):
            raise KeyringError(f"keys/{kek}: the answer is not understood") from None


def _rewrapped(kek: str, result: dict[str, Any]) -> WrappedKey | Exception:
    if error := result.get("error"):
        gone = answers.is_gone(str(error))
        said = f"{kek}: the version of this key is destroyed"
        return GoneError(said) if gone else TamperedError(f"{kek}: a key does not authenticate")
    ciphertext = str(result["ciphertext"])
    return WrappedKey(kek=kek, version=answers.version(ciphertext), ciphertext=ciphertext)


def _kek(name: str, data: dict[str, Any]) -> Kek:
    newest = int(data["latest_version"])
    made = data["keys"][str(newest)]
    return Kek(
        name=name,
        oldest=max(1, int(data["min_available_version"]), int(data["min_decryption_version"])),
        newest=newest,
        rotated_at=_made(made),
        exportable=bool(data["exportable"]),
        backup_allowed=bool(data["allow_plaintext_backup"]),
        algorithm=str(data["type"]),
    )


def _made(told: Any) -> datetime:
    """Return when a version was made: epoch seconds, or of a key pair a table with a time."""
    if isinstance(told, dict):
        return datetime.fromisoformat(told["creation_time"])
    return datetime.fromtimestamp(int(told), UTC)
