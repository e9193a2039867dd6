"""Between cells: where the updates of other cells' numbers go, and what arrives for ours."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from gateway.broker import Arrivals
from gateway.crossing import Receiver
from gateway.errors import MissingPartError
from gateway.forwards import Post, Target
from gateway.sections import Forward, Tenant
from gateway.settings import Settings

FIX = "make one with vocustody cell-key"


def posts(settings: Settings) -> dict[str, Post]:
    """Return, per tenant, the numbers that live in other cells."""
    return {tenant.id: _post(tenant) for tenant in settings.tenants if tenant.forward}


def _post(tenant: Tenant) -> Post:
    numbers = {
        number: Target(cell=there.cell, region=there.region, key=public_key(there.seal_key_file))
        for there in tenant.forward
        for number in there.phone_number_ids
    }
    return Post(numbers=numbers, secret=tenant.whatsapp.app_secrets[0])


def streams(settings: Settings) -> dict[str, Callable[[], Awaitable[Arrivals]]]:
    """Return how to open the stream of each other cell that updates are handed to."""
    found = {there.cell: there for tenant in settings.tenants for there in tenant.forward}
    return {cell: partial(_open, there) for cell, there in found.items()}


def _open(there: Forward) -> Awaitable[Arrivals]:
    token = there.nats.token_file
    return Arrivals.connect(
        there.nats.url,
        region=there.region,
        cell=there.cell,
        token=token.text if token else None,
    )


def receivers(settings: Settings) -> dict[str, Receiver]:
    """Return, per tenant, what may arrive for it here."""
    return {
        tenant.id: Receiver(
            phone_number_ids=frozenset(tenant.whatsapp.phone_number_ids),
            app_secrets=tenant.whatsapp.app_secrets,
        )
        for tenant in settings.tenants
    }


def private_key(settings: Settings) -> X25519PrivateKey | None:
    """Return the key that other cells seal to, or None if nothing arrives here."""
    if settings.cell.arrival_key_file is None:
        return None
    try:
        key = serialization.load_pem_private_key(settings.cell.arrival_key_file.value, None)
    except (TypeError, ValueError):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise MissingPartError(f"cell.arrival_key_file: no X25519 private key in PEM ({FIX})")
    return key


def public_key(path: Path) -> X25519PublicKey:
    """Return the public key in *path*; raise `MissingPartError` if it holds none."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise MissingPartError(f"{path}: no X25519 public key in PEM ({FIX})")
    return key


def make_key(path: Path) -> Path:
    """Write a new private key to *path* (mode 600) and its public half beside it."""
    public = path.with_name(f"{path.name}.pub")
    for place in (path, public):
        if place.exists() or place.is_symlink():
            raise MissingPartError(f"{place} exists (name a new file)")
    key = X25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return public
