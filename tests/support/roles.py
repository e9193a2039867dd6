"""AppRoles on a real OpenBao: who may log in, for how long, and with which policy."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hvac

from vault.keyrings.credentials import AppRole, Wrapped


@dataclass(frozen=True, slots=True)
class Role:
    """One AppRole of the server that *root* speaks to; *mount* is where AppRoles live."""

    root: hvac.Client
    mount: str
    name: str
    role_id: str
    secret_id: str = field(repr=False)

    def shown(self, **changed: str) -> AppRole:
        """Return what logs in with a secret id as it is; *changed* puts wrong ones in place."""
        given = {"role_id": self.role_id, "secret_id": self.secret_id} | changed
        return AppRole(
            role_id=lambda: given["role_id"],
            secret_id=lambda _client: given["secret_id"],
            mount=self.mount,
        )

    def unwrapping(self, token: Callable[[], str]) -> AppRole:
        """Return what logs in with the secret id inside a wrapping *token*."""
        return AppRole(
            role_id=lambda: self.role_id,
            secret_id=Wrapped(token, mount=self.mount),
            mount=self.mount,
        )

    def wrapped(self, method: str = "post", what: str = "secret-id") -> str:
        """Return a wrapping token around a new secret id, or around something else of the role."""
        path = f"/v1/auth/{self.mount}/role/{self.name}/{what}"
        made = self.root.adapter.request(method, path, json={}, wrap_ttl="60s")
        return str(made["wrap_info"]["token"])


def make(root: hvac.Client, mount: str = "", **settings: Any) -> Role:
    """Make an AppRole of *settings* (a batch token of 15 minutes) at a *mount* of its own."""
    mount = mount or f"approle-{secrets.token_hex(4)}"
    if f"{mount}/" not in root.sys.list_auth_methods()["data"]:
        root.sys.enable_auth_method("approle", path=mount)
    name = f"role-{secrets.token_hex(4)}"
    kind = {"token_type": "batch", "token_ttl": "900s", "token_policies": "default"} | settings
    root.adapter.post(f"/v1/auth/{mount}/role/{name}", json=kind)
    role_id = root.adapter.get(f"/v1/auth/{mount}/role/{name}/role-id")["data"]["role_id"]
    made = root.adapter.post(f"/v1/auth/{mount}/role/{name}/secret-id", json={})["data"]
    return Role(root, mount, name, role_id, made["secret_id"])
