"""
Updates for another cell's number: sealed to that cell at once, and durable before 200.

- One WhatsApp app has one callback address, so a delivery may hold updates for numbers of a
  cell elsewhere. The front door keeps none of it: each update is sealed to the other cell's
  public key in memory, and only ciphertext is written. It has no key to open it again.
- Sealing is HPKE base mode (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM), bound to its id,
  tenant and both cells. Base mode proves no sender, so a MAC under the tenant's app secret, which
  both cells have, stands before the update: who can write to a stream cannot invent updates.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ForwardError, NotAcceptedError
from gateway.schema import forwards
from gateway.whatsapp.payload import Message, Parsed, Unreadable, Update

LIMIT = 64 * 1024  # bytes of one sealed update

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MAC_BYTES = 32
_OVERHEAD = 1024  # MAC and HPKE, with room
_UPDATE: msgspec.json.Decoder[Update] = msgspec.json.Decoder(Update)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The *cell* that another number belongs to, where it stands, and the key to seal to."""

    cell: str
    region: str
    key: X25519PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One tenant's numbers in other cells, and the secret that both cells share."""

    numbers: Mapping[str, Target]
    secret: bytes = field(repr=False)


def seal(
    update: Update, *, forward: str, tenant: str, sender: str, target: Target, secret: bytes
) -> bytes:
    """Return *update* sealed by the cell *sender* to *target* under the id *forward*."""
    context = _context(forward, tenant, sender, target.cell)
    body = msgspec.json.encode(update)
    return _SUITE.encrypt(_mac(secret, context, body) + body, target.key, context)


def unseal(
    sealed: bytes,
    *,
    forward: str,
    tenant: str,
    sender: str,
    cell: str,
    key: X25519PrivateKey,
    secrets_: Sequence[bytes],
) -> Update:
    """
    Return the update that *sealed* holds for this *cell*, from the cell *sender*.

    Raises:
        ForwardError: it was not sealed to us under this id and tenant (``forward.sealed``), not
            by a cell that has one of the tenant's app secrets (``forward.sender``), or it holds
            no update (``forward.update``).

    """
    context = _context(forward, tenant, sender, cell)
    try:
        opened = _SUITE.decrypt(sealed, key, context)
    except (InvalidTag, ValueError):
        raise ForwardError("forward.sealed") from None
    mac, body = opened[:_MAC_BYTES], opened[_MAC_BYTES:]
    if not any(hmac.compare_digest(mac, _mac(secret, context, body)) for secret in secrets_):
        raise ForwardError("forward.sender")
    try:
        return _UPDATE.decode(body)
    except msgspec.DecodeError:
        raise ForwardError("forward.update") from None


def _context(*parts: str) -> bytes:
    return b"\x00".join(part.encode() for part in ("vocustody/forward/1", *parts))


def _mac(secret: bytes, context: bytes, body: bytes) -> bytes:
    # A key of its own: what WhatsApp signed with the app secret can never pass for this.
    key = hmac.new(secret, b"vocustody/forward/1", hashlib.sha256).digest()
    return hmac.new(key, context + b"\x00" + body, hashlib.sha256).digest()


def divided(parsed: Parsed, own: frozenset[str]) -> tuple[Parsed, tuple[Update, ...]]:
    """Return what is for our *own* numbers or for none that can be read, and what for others'."""
    here = own | {""}
    ours = tuple(update for update in parsed.updates if update.phone_number_id in here)
    theirs = tuple(update for update in parsed.updates if update.phone_number_id not in here)
    return Parsed(updates=ours, dropped=parsed.dropped), theirs


def fitting(update: Update) -> Update:
    """Return *update*, or where it would be larger than `LIMIT` what is left of it."""
    if not isinstance(update, Message) or len(msgspec.json.encode(update)) <= LIMIT - _OVERHEAD:
        return update
    return msgspec.structs.replace(update, content=Unreadable(what="too_large"))


class Forwards:
    """Writes sealed updates for other cells; *wake* is called after each commit."""

    def __init__(
        self,
        engine: AsyncEngine,
        posts: Mapping[str, Post],
        *,
        cell: str,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._posts = posts
        self._cell = cell
        self._now = now
        self._wake = wake

    def numbers(self, tenant: str) -> frozenset[str]:
        """Return the numbers of *tenant* that live in other cells."""
        post = self._posts.get(tenant)
        return frozenset(post.numbers) if post else frozenset()

    async def accept(self, tenant: str, updates: Sequence[Update]) -> int:
        """
        Make *updates* durable, sealed to the cells of their numbers; return how many.

        A message that is too large to hand on goes as an unreadable one: refused, it would come
        again for seven days, with all others of its delivery. Raises `NotAcceptedError` if the
        database does not answer: WhatsApp then delivers again.
        """
        if not updates:
            return 0
        at = int(self._now().timestamp() * 1_000_000)
        rows = [self._row(tenant, update, at) for update in updates]
        try:
            async with self._engine.begin() as tx:
                await tx.execute(insert(forwards), rows)
        except (SQLAlchemyError, OSError):
            raise NotAcceptedError("database.unavailable") from None
        self._wake()
        return len(rows)

    def _row(self, tenant: str, update: Update, at: int) -> dict[str, object]:
        post = self._posts[tenant]
        target = post.numbers[update.phone_number_id]
        forward = f"f_{secrets.token_hex(16)}"
        sealed = seal(
            fitting(update),
            forward=forward,
            tenant=tenant,
            sender=self._cell,
            target=target,
            secret=post.secret,
        )
        return {
            "id": forward,
            "tenant": tenant,
            "cell": target.cell,
            "region": target.region,
            "sealed": sealed,
            "created_at": at,
        }
