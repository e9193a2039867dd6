"""
Signed notes and checkpoints: C2SP signed-note, tlog-checkpoint and the vkey format.

- A checkpoint is ``origin LF size LF base64(root) LF``, with no extension lines (nobody can
  audit them), an empty line, and one line per signature.
- Signatures are Ed25519, type 0x01; the key id is SHA-256(name, LF, 0x01, key)[:4].
- Reading is strict: canonical base64, no leading zeros, no repeated (name, key id), and a
  signature of the expected key that does not verify refuses the whole note.
- Ed25519 keys that are non-canonical or of small order are refused: under them, one
  signature may verify for many messages.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.errors import NoteError

ED25519 = b"\x01"
MAX_NOTE_CHARS = 64 * 1024
MAX_SIGNATURES = 32

_P = 2**255 - 19
_ORDER_8_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_NAME = re.compile(r"[^\s+\x00-\x1f]{1,255}")


@dataclass(frozen=True, slots=True)
class Key:
    """A verifier key: the *name* it signs under and its 32 raw bytes."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise NoteError("a key name is empty or has a space or a plus")
        if len(self.public) != 32 or is_weak(self.public):  # noqa: PLR2004 - RFC 8032, 5.1.5
            raise NoteError(f"{self.name}: not an Ed25519 key that may be trusted")

    @property
    def id(self) -> bytes:
        """Return the 4-byte key id."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_b64(ED25519 + self.public)}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: *root* (32 bytes) over its first *size* leaves."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text that is signed."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


def is_weak(public: bytes) -> bool:
    """Return whether *public* is a non-canonical or small-order point (RFC 8032, 5.1.3)."""
    y = int.from_bytes(public, "little") & (2**255 - 1)
    return y >= _P or y in _SMALL_ORDER_Y


def parse_key(text: str) -> Key:
    """Return the key of a vkey ``name+hex(id)+base64(0x01 || key)``."""
    parts = text.strip().split("+", 2)
    if len(parts) != 3:  # noqa: PLR2004 - the three parts just named
        raise NoteError("not a vkey: expected name+id+key")
    raw = _unb64(parts[2])
    if raw[:1] != ED25519:
        raise NoteError("not a vkey of type Ed25519")
    key = Key(parts[0], raw[1:])
    if parts[1] != key.id.hex():
        raise NoteError("a vkey whose id is not that of its key")
    return key


def assemble(checkpoint: Checkpoint, key: Key, signature: bytes) -> str:
    """Return the note of *checkpoint* with *signature* made by *key* over its text."""
    return f"{checkpoint.text()}\n— {key.name} {_b64(key.id + signature)}\n"


def verify(note: str, key: Key) -> Checkpoint:
    """Return the checkpoint of *note* if *key* signed it, else raise `NoteError`."""
    text, signatures = _split(note)
    signature = signatures.get((key.name, key.id))
    if signature is None:
        raise NoteError(f"{key.name}: this key did not sign the note")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        raise NoteError(f"{key.name}: the signature does not verify") from None
    checkpoint = _parse(text)
    if checkpoint.origin != key.name:
        raise NoteError(f"{key.name}: signed a checkpoint of another origin")
    return checkpoint


def unverified(note: str) -> Checkpoint:
    """Return what *note* claims, whoever signed it: for display and navigation only."""
    return _parse(_split(note)[0])


def _split(note: str) -> tuple[str, dict[tuple[str, bytes], bytes]]:
    if len(note) > MAX_NOTE_CHARS or re.search(r"[\x00-\x09\x0b-\x1f]", note):
        raise NoteError("a note is too long or holds control characters")
    text, gap, lines = note.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise NoteError("a note has no signature, or does not end in a newline")
    found: dict[tuple[str, bytes], bytes] = {}
    for line in lines[:-1].split("\n"):
        name, key_id, signature = _signature(line)
        if (name, key_id) in found:
            raise NoteError(f"{name}: two signatures by one key")
        found[name, key_id] = signature
    if len(found) > MAX_SIGNATURES:
        raise NoteError("a note has too many signatures")
    return text + "\n", found


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    raw = _unb64(encoded)
    if dash != "—" or not _NAME.fullmatch(name) or len(raw) <= 4:  # noqa: PLR2004 - the key id
        raise NoteError("a line that is not a signature")
    return name, raw[:4], raw[4:]


def _parse(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:  # noqa: PLR2004 - three lines and an end
        raise NoteError("a checkpoint has exactly an origin, a size and a root")
    root = _unb64(lines[2])
    if not _SIZE.fullmatch(lines[1]) or len(root) != 32:  # noqa: PLR2004 - SHA-256
        raise NoteError("a checkpoint's size or root is malformed")
    return Checkpoint(lines[0], int(lines[1]), root)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unb64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("not base64") from None
    if _b64(raw) != text:
        raise NoteError("base64 that is not canonical")
    return raw
