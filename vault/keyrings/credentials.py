"""
What a cell or a keeper shows when it logs in: AppRole or Kubernetes.

Everything secret is read when it is used: a file that was replaced counts from the next login.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import hvac

from vault.errors import BootstrapError
from vault.keyrings import answers
from vault.keyrings.client import ask

LOOKUP = "sys/wrapping/lookup"
UNWRAP = "sys/wrapping/unwrap"
REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)
SPENT = (
    "the wrapping token was opened already, or has expired. Unless it was this process that opened "
    "it, somebody else has the secret id: destroy that on the server, and deliver another"
)
FOREIGN = (
    "the wrapping token does not hold a secret id of this AppRole mount: somebody put another in "
    "its place. Deliver a new one, and find out who"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRole:
    """An AppRole at *mount*; *secret_id* gets a client, for one that must be unwrapped first."""

    role_id: Callable[[], str] = field(repr=False)
    secret_id: Callable[[hvac.Client], str] = field(repr=False)
    mount: str = "approle"

    def login(self, client: hvac.Client) -> tuple[str, dict[str, str]]:
        """See `Credentials.login`."""
        body = {"role_id": self.role_id(), "secret_id": self.secret_id(client)}
        return f"auth/{self.mount}/login", body


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """A role at the Kubernetes auth *mount*; *jwt* is the pod's token, which kubelet replaces."""

    role: str
    jwt: Callable[[], str] = field(repr=False)
    mount: str = "kubernetes"

    def login(self, client: hvac.Client) -> tuple[str, dict[str, str]]:  # noqa: ARG002 - `Credentials`
        """See `Credentials.login`."""
        return f"auth/{self.mount}/login", {"role": self.role, "jwt": self.jwt()}


class Wrapped:
    """
    A secret id that comes inside a wrapping token, which opens once.

    What it held stays in memory only: each start of a process needs a wrapping token of its own.
    A token that is delivered later is opened at the next login.
    """

    def __init__(self, token: Callable[[], str], *, mount: str = "approle") -> None:
        self._token = token
        self._mount = mount
        self._opened = ""
        self._secret_id = ""

    def __call__(self, client: hvac.Client) -> str:
        """Return the secret id; raise `BootstrapError` where somebody else was here before."""
        token = self._token()
        if token != self._opened:
            check(client, token, self._mount)
            answer = _spent(client, UNWRAP, None, token=token)
            self._secret_id = str(answer.get("secret_id") or "")
            self._opened = token
        return self._secret_id


def check(client: hvac.Client, token: str, mount: str) -> int:
    """Return for how many seconds a wrapping *token* was made; it stays unopened."""
    answer = _spent(client, LOOKUP, {"token": token})
    path = str(answer.get("creation_path"))
    before, _, role = path.partition(f"auth/{mount}/role/")
    name, _, what = role.partition("/")
    if before or not name or what != "secret-id":
        raise BootstrapError(FOREIGN)
    return int(answer["creation_ttl"])


def _spent(
    client: hvac.Client, path: str, body: dict[str, str] | None, token: str = ""
) -> dict[str, Any]:
    answer = ask(client, "post", path, body, token=token)
    if not isinstance(answer, dict) and answer.status_code in REFUSED:
        raise BootstrapError(SPENT)
    return answers.data(path, answer)
