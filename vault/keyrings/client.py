"""
One identity's requests to the transit engine of OpenBao or Vault.

- `hvac` is synchronous: calls run in threads, on a fixed set of clients, one request each.
- The token is read before every request, so that a short-lived one can be renewed outside.
- The environment is not consulted: no proxy from it sees a key.
"""

import queue
from collections.abc import Callable
from typing import Any

import hvac
import requests

from vault.errors import KeyringError
from vault.keyrings import answers
from vault.ports import KEK_NAME

MOST_ITEMS = 240
TIMEOUT_S = 3.0
SESSIONS = 4


class Transit:
    """
    The transit engine at *mount* of the server *url*, seen with *token*'s rights.

    *ca* is a bundle file for the server's certificate; *route* may mount on each session what
    carries its requests.
    """

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
        self._clients: queue.SimpleQueue[hvac.Client] = queue.SimpleQueue()
        for _ in range(sessions):
            self._clients.put(_client(url, timeout_s, ca, route))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Return the data of the server's answer.

        Raises:
            GoneError: there is no such KEK.
            KeyringError: the server is away, sealed, or refused.

        """
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


def checked(kek: str) -> str:
    """Return *kek*, or raise `KeyringError`: the name becomes part of a URL."""
    if not KEK_NAME.fullmatch(kek):
        raise KeyringError("the name of a KEK is [a-z0-9-]{1,64}")
    return kek


def _client(
    url: str, timeout_s: float, ca: str | None, route: Callable[[requests.Session], None]
) -> hvac.Client:
    session = requests.Session()
    session.trust_env = False
    session.verify = ca or True
    route(session)
    return hvac.Client(url=url, timeout=timeout_s, session=session, allow_redirects=False)
