"""
The two proofs a webhook asks for: Meta's signature on a delivery, our token on a handshake.

- The signature is HMAC-SHA256 (RFC 2104) of the raw body under the app secret, sent as
  ``X-Hub-Signature-256: sha256=`` and 64 lower-case hexadecimal digits. The body is never
  parsed or written again before the comparison.
- Exactly that spelling is accepted: Meta sends no other, and a second one would only help to
  tell our answers apart. ``sha1=`` (the retired header) is refused.
- Every secret is tried and compared in constant time, so that neither the order nor the age
  of secrets shows during a rotation.
- The handshake's challenge is opaque, so it is echoed as text and must not hold markup.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence

from gateway.errors import ForbiddenError, SignatureError

_HEADER = re.compile(rb"sha256=[0-9a-f]{64}")
_CHALLENGE = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")


def verify(body: bytes, header: bytes | None, secrets: Sequence[bytes]) -> None:
    """
    Return when *header* signs *body* under one of *secrets*; empty secrets never sign.

    Raises:
        SignatureError: ``signature.missing``, ``signature.malformed`` or ``signature.wrong``.
    """
    if header is None:
        raise SignatureError("signature.missing")
    if not _HEADER.fullmatch(header):
        raise SignatureError("signature.malformed")
    # A list, not a generator: any() must not stop at the first secret that fits.
    matches = [hmac.compare_digest(sign(body, secret), header) for secret in secrets if secret]
    if not any(matches):
        raise SignatureError("signature.wrong")


def sign(body: bytes, secret: bytes) -> bytes:
    """Return the header's value for *body*."""
    return b"sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


def challenge(params: Iterable[tuple[str, str]], token: bytes) -> str:
    """
    Return the challenge to echo as ``text/plain`` for a handshake with these query *params*.

    *params* are all pairs, repeated ones included (Starlette: ``query_params.multi_items()``).

    Raises:
        ForbiddenError: another mode or token, a repeated parameter, an unfit challenge.
    """
    pairs = list(params)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ForbiddenError("handshake.repeated")
    if found.get("hub.mode") != "subscribe":
        raise ForbiddenError("handshake.mode")
    offered = found.get("hub.verify_token", "").encode(errors="replace")
    if not token or not hmac.compare_digest(offered, token):
        raise ForbiddenError("handshake.token")
    echo = found.get("hub.challenge", "")
    if not _CHALLENGE.fullmatch(echo):
        raise ForbiddenError("handshake.challenge")
    return echo
