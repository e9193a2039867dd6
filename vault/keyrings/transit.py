"""
The transit engine of OpenBao or Vault as a keyring (https://openbao.org/api-docs/secret/transit/).

- A KEK is an ``aes256-gcm96`` transit key that cannot be exported. It is made by name before
  its first use, so the mount may (and should) set ``disable_upsert``: a late writer then never
  brings a destroyed KEK back.
- `hvac` is synchronous: calls run in threads, on a fixed set of clients, one request each.
- A request holds at most 240 items: OpenBao refuses bodies of more than 1,000 JSON strings.
- One bad item spoils only itself: whatever the status, results per item are read as such.
- Trust: the server sees every subject key and epoch key, never content. It can refuse, and it
  can keep snapshots: a destroyed KEK lives on in those until they expire.
"""

import asyncio
import base64
import contextlib
import queue
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import hvac
import requests

from vault.errors import GoneError, KeyringError
from vault.keyrings import answers
from vault.model import WrappedKey
from vault.ports import KEK_NAME

MOST_ITEMS = 240
TIMEOUT_S = 3.0
SESSIONS = 4


class TransitKeyring:
    """
    See `vault.ports.Keyring`.

    *token* is read before every request, so that a short-lived token can be renewed outside.
    *ca* is a bundle file for the server's certificate; *route* may mount on each session what
    carries its requests. The environment is not consulted.
    """

    name = "transit"

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        mount: str = "transit",
        timeout_s: float = TIMEOUT_S,
        sessions: int = SESSIONS,
        ca: str | None = None,
        route: Callable[[requests.Session], None] = lambda _session: None,
    ) -> None:
        self._token = token
        self._mount = mount
        self._made: set[str] = set()
        self._clients: queue.SimpleQueue[hvac.Client] = queue.SimpleQueue()
        for _ in range(sessions):
            self._clients.put(_client(url, timeout_s, ca, route))

    async def wrap(self, kek: str, key: bytes) -> WrappedKey:
        """See `Keyring.wrap`."""
        _check(kek)
        return await asyncio.to_thread(self._wrap, kek, key)

    async def unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        """See `Keyring.unwrap`."""
        return await asyncio.to_thread(self._unwrap, wrapped)

    async def destroy(self, kek: str) -> None:
        """See `Keyring.destroy`."""
        _check(kek)
        await asyncio.to_thread(self._destroy, kek)

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
            data = self._call("post", f"encrypt/{kek}", body)
        except GoneError:
            # Destroyed since we made it, and the mount refuses to make keys by encrypting.
            self._make(kek)
            data = self._call("post", f"encrypt/{kek}", body)
        ciphertext = str(data["ciphertext"])
        return WrappedKey(kek=kek, version=answers.version(ciphertext), ciphertext=ciphertext)

    def _make(self, kek: str) -> None:
        kind = {"type": "aes256-gcm96", "exportable": False, "allow_plaintext_backup": False}
        self._call("post", f"keys/{kek}", kind)
        self._made.add(kek)

    def _unwrap(self, wrapped: Sequence[WrappedKey]) -> list[bytes | Exception]:
        keys: dict[int, bytes | Exception] = {}
        by_kek: dict[str, list[int]] = {}
        for index, one in enumerate(wrapped):
            by_kek.setdefault(one.kek, []).append(index)
        for kek, indexes in by_kek.items():
            for start in range(0, len(indexes), MOST_ITEMS):
                chunk = indexes[start : start + MOST_ITEMS]
                found = self._decrypt(kek, [wrapped[index].ciphertext for index in chunk])
                keys.update(zip(chunk, found, strict=True))
        return [keys[index] for index in range(len(wrapped))]

    def _decrypt(self, kek: str, ciphertexts: list[str]) -> list[bytes | Exception]:
        items = [{"ciphertext": ciphertext} for ciphertext in ciphertexts]
        body = {"batch_input": items, "partial_failure_response_code": HTTPStatus.OK}
        try:
            results = self._call("post", f"decrypt/{kek}", body)["batch_results"]
            keys = [answers.key(kek, result) for result in results]
        except (GoneError, KeyringError) as exc:
            return [exc] * len(ciphertexts)
        except (KeyError, TypeError, ValueError):
            keys = []
        if len(keys) != len(ciphertexts):
            return [KeyringError(f"decrypt/{kek}: the answer is not understood")] * len(ciphertexts)
        return keys

    def _destroy(self, kek: str) -> None:
        self._made.discard(kek)
        with contextlib.suppress(GoneError):
            self._call("post", f"keys/{kek}/config", {"deletion_allowed": True})
            self._call("delete", f"keys/{kek}", None)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        client = self._clients.get()
        try:
            client.token = self._token()
            answer = client.adapter.request(
                method, f"/v1/{self._mount}/{path}", json=body, raise_exception=False
            )
        except (requests.RequestException, ValueError) as exc:
            # Its text may hold the request, and the request holds a key. `ValueError`: the file
            # of the token was being written, or is gone.
            raise KeyringError(f"{path}: {type(exc).__name__}") from None
        finally:
            self._clients.put(client)
        return answers.data(path, answer)


def _client(
    url: str, timeout_s: float, ca: str | None, route: Callable[[requests.Session], None]
) -> hvac.Client:
    session = requests.Session()
    session.trust_env = False  # no proxy from the environment sees a key
    session.verify = ca or True
    route(session)
    return hvac.Client(url=url, timeout=timeout_s, session=session, allow_redirects=False)


def _check(kek: str) -> None:
    if not KEK_NAME.fullmatch(kek):
        raise KeyringError("the name of a KEK is [a-z0-9-]{1,64}")
