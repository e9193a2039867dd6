"""
The sealed container: C2SP chunked encryption, instance Cobblestone-256.

- Format (https://c2sp.org/chunked-encryption): 24-byte random salt, 32-byte key commitment,
  then AES-256-GCM chunks of 16 KiB, the last one always shorter. Per message, key, nonce and
  commitment come from HKDF-Expand-SHA-512 over the input key, the salt and the context.
- It is the implementation in `cryptography`, byte-compatible with the specification.
- The context is bound in and not stored: whoever opens must know what the container is.
- `open_sealed` returns nothing before the last chunk has been authenticated. `open_chunks` must:
  what it yields is genuine and in order, but only its end says that nothing was cut off.
- Overhead: 56 bytes, and 16 for every chunk begun.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from io import BytesIO

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from vault.errors import TamperedError
from vault.model import Label

KEY_BYTES = 32
# The cipher makes a new buffer for what it is given: a large one is a page fault every 4 KiB.
STEP = 64 * 1024


def bind(purpose: str, *parts: str) -> bytes:
    """Return *purpose* and *parts* in one reading only: each part after its 4-byte length."""
    fields = [part.encode() for part in (f"vocustody/{purpose}/v1", *parts)]
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def context_of(label: Label) -> bytes:
    """Return the context of an artifact's container: every field of *label*."""
    return bind("artifact", label.region, label.tenant, label.subject, label.artifact, label.kind)


def seal(key: bytes, context: bytes, content: bytes) -> bytes:
    """Return *content* sealed under the 32-byte *key* and bound to *context*."""
    encryptor, sealed = Cobblestone256Encryptor(key, context), BytesIO()
    sealed.writelines(_through(encryptor, content))
    sealed.write(encryptor.finalize())
    return sealed.getvalue()


def open_sealed(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """
    Return what *sealed* holds, whole.

    Raises:
        TamperedError: it was altered, cut or prolonged, or *key* or *context* is another.

    """
    decryptor, content = Cobblestone256Decryptor(key, context), BytesIO()
    try:
        content.writelines(_through(decryptor, sealed))
        content.write(decryptor.finalize())
    except InvalidTag:
        raise TamperedError("the container does not authenticate") from None
    return content.getvalue()


async def seal_chunks(
    key: bytes, context: bytes, content: AsyncIterable[bytes]
) -> AsyncIterator[bytes]:
    """Yield the container that `seal` makes, in pieces, as *content* comes in."""
    encryptor = Cobblestone256Encryptor(key, context)
    async for piece in content:
        for sealed in _through(encryptor, piece):
            yield sealed
    yield encryptor.finalize()


async def open_chunks(
    key: bytes, context: bytes, sealed: AsyncIterable[bytes]
) -> AsyncIterator[bytes]:
    """
    Yield what *sealed* holds, in pieces.

    Nothing may be done with the pieces before the last one: a container that was cut is only
    found out at its end. Whoever cannot take back what was done gathers them first.

    Raises:
        TamperedError: it was altered, cut or prolonged, or *key* or *context* is another.

    """
    decryptor = Cobblestone256Decryptor(key, context)
    try:
        async for piece in sealed:
            for content in _through(decryptor, piece):
                yield content
        yield decryptor.finalize()
    except InvalidTag:
        raise TamperedError("the container does not authenticate") from None


def _through(
    cipher: Cobblestone256Encryptor | Cobblestone256Decryptor, data: bytes
) -> Iterator[bytes]:
    """Yield what *cipher* makes of *data*, a `STEP` at a time."""
    whole = memoryview(data)
    for start in range(0, len(whole), STEP):
        if made := cipher.update(whole[start : start + STEP]):
            yield made
