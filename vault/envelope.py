"""
The sealed container: C2SP chunked encryption, instance Cobblestone-256.

- Format (https://c2sp.org/chunked-encryption): 24-byte random salt, 32-byte key commitment,
  then AES-256-GCM chunks of 16 KiB, the last one always shorter. Per message, key, nonce and
  commitment come from HKDF-Expand-SHA-512 over the input key, the salt and the context.
- It is the implementation in `cryptography`, byte-compatible with the specification.
- The context is bound in and not stored: whoever opens must know what the container is.
- Nothing is returned before the last chunk has been authenticated.
- Overhead: 56 bytes, and 16 for every chunk begun.
"""

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from vault.errors import TamperedError
from vault.model import Label

KEY_BYTES = 32


def bind(purpose: str, *parts: str) -> bytes:
    """Return *purpose* and *parts* in one reading only: each part after its 4-byte length."""
    fields = [part.encode() for part in (f"vocustody/{purpose}/v1", *parts)]
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def context_of(label: Label) -> bytes:
    """Return the context of an artifact's container: every field of *label*."""
    return bind("artifact", label.region, label.tenant, label.subject, label.artifact, label.kind)


def seal(key: bytes, context: bytes, content: bytes) -> bytes:
    """Return *content* sealed under the 32-byte *key* and bound to *context*."""
    encryptor = Cobblestone256Encryptor(key, context)
    return encryptor.update(content) + encryptor.finalize()


def open_sealed(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """
    Return what *sealed* holds, whole.

    Raises:
        TamperedError: it was altered, cut or prolonged, or *key* or *context* is another.

    """
    decryptor = Cobblestone256Decryptor(key, context)
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except InvalidTag:
        raise TamperedError("the container does not authenticate") from None
