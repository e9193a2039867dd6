"""
Who asks the key service: the cell's identity, or its keeper's.

One `Identity` is made per process and shared by whatever speaks in its name: a wrapping token
opens once, and a login serves keyring and log alike.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import hvac

from audit.errors import AppendError
from gateway import secretfile
from gateway.compose.egress import Mount
from gateway.errors import MissingPartError
from gateway.secretfile import SecretFile
from gateway.sections import AppRole, Kubernetes, Vault
from gateway.settings import Settings
from vault.errors import KeyringError
from vault.keyrings import credentials, policies
from vault.keyrings.client import Transit, connect, server_time
from vault.keyrings.login import Credentials, Login
from vault.keyrings.policies import Who

__all__ = ["Identity", "Who", "keeper", "policy", "policy_of", "worker"]

MOST_BYTES = 16 * 1024
CELL = r"[a-z][a-z0-9-]{0,31}"
MOUNT = r"[a-z0-9][a-z0-9/_-]{0,63}"
NO_WAY = "services.vault names no way for the cell to log in (token_file, approle or kubernetes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    Somebody whom the key service knows, and how to reach it in their name.

    *token* returns the token in force or raises `KeyringError`; *refused* hears of one that was
    refused and says whether another is to be had.
    """

    who: Who
    vault: Vault
    route: Mount
    way: SecretFile | AppRole | Kubernetes
    token: Callable[[], str] = field(repr=False)
    refused: Callable[[str], bool] = field(repr=False)

    def transit(self) -> Transit:
        """Return the transit engine as this identity sees it."""
        return Transit(
            self.vault.url,
            self.token,
            refused=self.refused,
            mount=self.vault.mount,
            ca=self.vault.ca,
            route=self.route,
        )

    def client(self) -> hvac.Client:
        """Return a client that has the token in force now."""
        client = connect(self.vault.url, ca=self.vault.ca, route=self.route)
        client.token = self.signing_token()
        return client

    def wrapping(self) -> Callable[[], int] | None:
        """Return what looks at the wrapping token and says its life in seconds, if there is one."""
        if not isinstance(self.way, AppRole) or self.way.wrapped_secret_id_file is None:
            return None
        token = _secret(self.way.wrapped_secret_id_file.path)
        client = connect(self.vault.url, ca=self.vault.ca, route=self.route)
        return partial(credentials.check, client, token, self.way.mount)

    def clock(self) -> Callable[[], datetime]:
        """Return what asks the key service for the time; it raises `KeyringError` if away."""
        return partial(server_time, connect(self.vault.url, ca=self.vault.ca, route=self.route))

    def signing_token(self) -> str:
        """Return the token in force, or raise what the log's own errors are."""
        try:
            return self.token()
        except KeyringError as exc:
            raise AppendError(str(exc)) from None


def worker(settings: Settings, route: Mount) -> Identity | None:
    """Return the cell's identity; None without a vault, `MissingPartError` without a way in."""
    vault = settings.services.vault
    if vault is None:
        return None
    for way in vault.worker_ways.values():
        return _identity(Who.WORKER, vault, way, route)
    raise MissingPartError(NO_WAY)


def keeper(settings: Settings, route: Mount) -> Identity | None:
    """Return the keeper's identity; None where its credentials are not ours."""
    vault = settings.services.vault
    ways = vault.keeper_ways if vault is not None else {}
    for way in ways.values():
        return _identity(Who.KEEPER, vault, way, route) if vault is not None else None
    return None


def policy_of(who: Who, settings: Settings) -> str:
    """Return the ACL policy of *who* in the cell that *settings* describe."""
    vault = settings.services.vault
    if vault is None:
        raise MissingPartError("services.vault is not set: a local keyring knows no policy")
    return policy(who, cell=settings.cell.id, mount=vault.mount)


def policy(who: Who, *, cell: str, mount: str) -> str:
    """Return the ACL policy of *who* in *cell*, whose keys are at *mount*."""
    for name, value, shape in (("cell", cell, CELL), ("mount", mount, MOUNT)):
        if not re.fullmatch(shape, value):
            raise MissingPartError(f"--{name} must match {shape}")
    return policies.text(who, cell=cell, mount=mount)


def _identity(
    who: Who, vault: Vault, way: SecretFile | AppRole | Kubernetes, route: Mount
) -> Identity:
    if isinstance(way, SecretFile):
        held = partial(_secret, way.path)
        # Whoever renews it does so outside, in place: it may have been replaced this moment.
        return Identity(
            who=who,
            vault=vault,
            route=route,
            way=way,
            token=held,
            refused=lambda token: held() != token,
        )
    shown = _approle(way) if isinstance(way, AppRole) else _kubernetes(way)
    login = Login(shown, connect(vault.url, ca=vault.ca, route=route))
    return Identity(who=who, vault=vault, route=route, way=way, token=login, refused=login.refused)


def _approle(way: AppRole) -> Credentials:
    held = partial(_secret, way.secret_id.path)
    return credentials.AppRole(
        role_id=partial(_secret, way.role_id_file.path),
        secret_id=credentials.Wrapped(held, mount=way.mount)
        if way.wrapped_secret_id_file
        else lambda _client: held(),
        mount=way.mount,
    )


def _kubernetes(way: Kubernetes) -> Credentials:
    return credentials.Kubernetes(role=way.role, jwt=partial(_jwt, way.jwt_file), mount=way.mount)


def _secret(path: Path) -> str:
    return secretfile.read(path).text


def _jwt(path: Path) -> str:
    """Return the pod's token; its mode is kubelet's choice, not ours."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode().strip()
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from None
