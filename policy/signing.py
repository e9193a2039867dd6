"""
Signatures of a bundle, in OPA's own form.

One JWT (RFC 7519, ES256 of RFC 7518 3.4) in ``.signatures.json`` holds the digest of every
other file.

- ``data.json`` and ``.manifest`` are digested as JSON, as OPA does: keys sorted, no spaces,
  text as Go prints it; any other file as its bytes.
- A signature covers exactly the files that are there.
- The keys are those given. What a token says of its key or its scope chooses nothing; an
  algorithm other than ES256, or a scope, is refused.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from policy import canonical
from policy.errors import BundleError

SIGNATURES = ".signatures.json"
KEYID = "vocustody"  # what OPA's configuration calls our key, unless told otherwise

PublicKey = ec.EllipticCurvePublicKey

_STRUCTURED = frozenset({".manifest", "data.json"})
_ES256 = ec.ECDSA(hashes.SHA256())
_HALF = 32  # bytes of each of the two numbers of a P-256 signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A private P-256 key and the name that OPA's configuration gives to its public half."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    keyid: str = KEYID


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in *pem*; raise `BundleError` for any other content."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BundleError("signing key: not an unencrypted private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise BundleError("signing key: not on the curve P-256, which ES256 needs")
    return key


def public_key(pem: bytes) -> PublicKey:
    """Return the P-256 key in *pem*; raise `BundleError` for any other content."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise BundleError("verification key: not a public key in PEM") from None
    if not isinstance(key, PublicKey) or key.curve.name != "secp256r1":
        raise BundleError("verification key: not on the curve P-256, which ES256 needs")
    return key


def sign(files: Mapping[str, bytes], signer: Signer) -> bytes:
    """Return the ``.signatures.json`` of *files* (name to content)."""
    listed = [
        {"name": name, "hash": digest(name, content), "algorithm": "SHA-256"}
        for name, content in sorted(files.items())
    ]
    header = {"alg": "ES256", "kid": signer.keyid, "typ": "JWT"}
    signed = f"{_encode(header)}.{_encode({'files': listed, 'keyid': signer.keyid})}"
    r, s = decode_dss_signature(signer.key.sign(signed.encode(), _ES256))
    raw = r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
    return canonical.encode({"signatures": [f"{signed}.{_text(raw)}"]})


def verify(files: Mapping[str, bytes], keys: Sequence[PublicKey]) -> None:
    """
    Return if one of *keys* has signed exactly *files*, ``.signatures.json`` among them.

    Raises:
        BundleError: unsigned, signed by another key, or changed since.

    """
    if SIGNATURES not in files:
        raise BundleError(f"unsigned ({SIGNATURES} is missing)")
    claimed = _claimed(_payload(_token(files[SIGNATURES]), keys))
    found = {name: digest(name, content) for name, content in files.items() if name != SIGNATURES}
    for name in sorted(found.keys() | claimed.keys()):
        if name not in claimed:
            raise BundleError(f"{name}: not signed")
        if name not in found:
            raise BundleError(f"{name}: signed, but missing")
        if found[name] != claimed[name]:
            raise BundleError(f"{name}: not what was signed")


def digest(name: str, content: bytes) -> str:
    """Return the hex SHA-256 that OPA gives the file *name*; raise `BundleError` if it has none."""
    if name not in _STRUCTURED:
        return hashlib.sha256(content).hexdigest()
    try:
        text = canonical.encode(json.loads(content))
    except (ValueError, TypeError, RecursionError) as exc:
        raise BundleError(f"{name}: no JSON that can be digested ({type(exc).__name__})") from None
    # Go's encoder escapes these two even when told not to escape for HTML.
    text = text.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029")
    return hashlib.sha256(text).hexdigest()


def _token(raw: bytes) -> str:
    found = _json(raw)
    tokens = found.get("signatures") if isinstance(found, dict) else None
    if not isinstance(tokens, list) or len(tokens) != 1 or not isinstance(tokens[0], str):
        raise BundleError(f"{SIGNATURES}: must hold exactly one signature")
    if found.get("plugin", "_default") != "_default":
        raise BundleError(f"{SIGNATURES}: of an unknown plugin")
    return tokens[0]


def _payload(token: str, keys: Sequence[PublicKey]) -> Any:
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    said = _json(_bytes(header))
    if not isinstance(said, dict) or said.get("alg") != "ES256":
        raise BundleError(f"{SIGNATURES}: not signed with ES256")
    if not any(_holds(key, signed.encode(), _bytes(signature)) for key in keys):
        raise BundleError(f"{SIGNATURES}: signed by none of the verification keys")
    return _json(_bytes(payload))


def _holds(key: PublicKey, signed: bytes, raw: bytes) -> bool:
    if len(raw) != 2 * _HALF:
        return False
    r, s = int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, _ES256)
    except InvalidSignature:
        return False
    return True


def _claimed(payload: Any) -> dict[str, str]:
    if not isinstance(payload, dict) or payload.get("scope"):
        raise BundleError(f"{SIGNATURES}: signed for another scope")
    try:
        listed = [(entry["name"], entry["hash"], entry["algorithm"]) for entry in payload["files"]]
        claimed = {name: found for name, found, algorithm in listed if algorithm == "SHA-256"}
    except (KeyError, TypeError):
        raise BundleError(f"{SIGNATURES}: lists no files") from None
    if len(claimed) != len(listed):
        raise BundleError(f"{SIGNATURES}: a file is there twice, or not digested with SHA-256")
    return claimed


def _encode(value: Any) -> str:
    return _text(canonical.encode(value))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BundleError(f"{SIGNATURES}: not a JWT") from None


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BundleError(f"{SIGNATURES}: not JSON") from None
