"""
One identity's requests to the transit engine of OpenBao or Vault.

- `hvac` is synchronous: calls run in threads, on a fixed set of clients, one request each.
- The token is asked for before every request: it may live for minutes only.
- A refused request is made once more if another token is to be had: one may be revoked.
- The environment is not consulted: no proxy from it sees a key.
"""

import queue
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import hvac
import requests

from vault.errors import KeyringError
from vault.keyrings import answers
from vault.ports import KEK_NAME

MOST_ITEMS = 240
TIMEOUT_S = 3.0
SESSIONS = 4
HEALTH = "sys/health"
Answer = dict[str, Any] | requests.Response


def _no_other(_token: str) -> bool:
    """Have no other token than the refused one."""
    return False


class Transit:
    """
    The transit engine at *mount* of the server *url*, seen with *token*'s rights.

    *refused* hears of a token that the server refused, and says whether *token* has another.
    *ca* is a bundle file for the server's certificate; *route* may mount on each session what
    carries its requests.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        refused: Callable[[str], bool] = _no_other,
        mount: str = "transit",
        timeout_s: float = TIMEOUT_S,
        sessions: int = SESSIONS,
        ca: str | None = None,
        route: Callable[[requests.Session], None] = lambda _session: None,
    ) -> None:
        self._token = token
        self._refused = refused
        self._mount = mount
        self._clients: queue.SimpleQueue[hvac.Client] = queue.SimpleQueue()
        for _ in range(sessions):
            self._clients.put(connect(url, timeout_s=timeout_s, ca=ca, route=route))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Return the data of the server's answer.

        Raises:
            GoneError: there is no such KEK.
            KeyringError: the server is away, sealed, or refused.

        """
        client = self._clients.get()
        try:
            token = self._held()
            answer = ask(client, method, f"{self._mount}/{path}", body, token=token)
            if _forbidden(answer) and self._refused(token):
                token = self._held()
                answer = ask(client, method, f"{self._mount}/{path}", body, token=token)
        finally:
            self._clients.put(client)
        return answers.data(path, answer)

    def _held(self) -> str:
        try:
            return self._token()
        except ValueError as exc:  # its file is being written, or is gone
            raise KeyringError(f"token: {type(exc).__name__}") from None


def ask(
    client: hvac.Client, method: str, path: str, body: dict[str, Any] | None, *, token: str
) -> Answer:
    """Return what the server answers to *token*'s request (JSON if 200); `KeyringError` if not."""
    headers = {"X-Vault-Token": token} if token else {}
    try:
        answer: Answer = client.adapter.request(
            method, f"/v1/{path}", json=body, headers=headers, raise_exception=False
        )
    except (requests.RequestException, ValueError) as exc:
        # Its text may hold the request, and the request holds a key.
        raise KeyringError(f"{path}: {type(exc).__name__}") from None
    if not isinstance(answer, dict | requests.Response):
        raise KeyringError(f"{path}: the answer is not understood")
    return answer


def server_time(client: hvac.Client) -> datetime:
    """Return what time it is to the server, standby or not; `KeyringError` if it does not say."""
    answer = ask(client, "get", f"{HEALTH}?standbyok=true&perfstandbyok=true", None, token="")
    said = answer.get("server_time_utc") if isinstance(answer, dict) else None
    if not isinstance(said, int):
        raise KeyringError(f"{HEALTH}: it does not say what time it is")
    return datetime.fromtimestamp(said, UTC)


def _forbidden(answer: Answer) -> bool:
    return not isinstance(answer, dict) and answer.status_code == HTTPStatus.FORBIDDEN


def checked(kek: str) -> str:
    """Return *kek*, or raise `KeyringError`: the name becomes part of a URL."""
    if not KEK_NAME.fullmatch(kek):
        raise KeyringError("the name of a KEK is [a-z0-9-]{1,64}")
    return kek


def connect(
    url: str,
    *,
    timeout_s: float = TIMEOUT_S,
    ca: str | None = None,
    route: Callable[[requests.Session], None] = lambda _session: None,
) -> hvac.Client:
    """Return a client without a token of its own, that goes by *route* and nowhere else."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca or True
    route(session)
    # Left out, hvac would take the token from the environment or from a file in the home.
    return hvac.Client(url=url, token="", timeout=timeout_s, session=session, allow_redirects=False)
