"""Signed notes and checkpoints."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle, note
from audit.errors import NoteError
from audit.note import Checkpoint, Key

_NAME = "audit.vocustody.example/eu-central/2026q4"
_PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
_KEY = Key(_NAME, _PRIVATE.public_key().public_bytes_raw())
_HEAD = Checkpoint(_NAME, 3, merkle.leaf_hash(b"x"))


def _sign(text: str, private: Ed25519PrivateKey = _PRIVATE) -> str:
    signature = base64.b64encode(_KEY.id + private.sign(text.encode())).decode()
    return f"{text}\n— {_NAME} {signature}\n"


def _sum(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
    """Add two points of edwards25519 (RFC 8032, section 5.1)."""
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime)
    (x1, y1), (x2, y2) = p, q
    t = d * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + t, -1, prime) % prime,
        (y1 * y2 + x1 * x2) * pow(1 - t, -1, prime) % prime,
    )


def test_reads_the_key_of_the_reference_implementation() -> None:
    """Go's sumdb/note defines the vkey form; its published key must parse here, id and all."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

    key = note.parse_key(text)

    assert (key.name, key.id.hex(), str(key)) == ("PeterNeumann", "c74f20a3", text)


def test_what_is_signed_is_read_back() -> None:
    """A checkpoint that its own log cannot verify would stop the log at the next start."""
    text = note.assemble(_HEAD, _KEY, _PRIVATE.sign(_HEAD.text().encode()))

    assert note.verify(text, _KEY) == _HEAD
    assert note.unverified(text) == _HEAD
    assert note.parse_key(str(_KEY)) == _KEY


@pytest.mark.parametrize(
    "text",
    [
        f"{_NAME}\n03\n{base64.b64encode(_HEAD.root).decode()}\n",
        f"{_NAME}\n+3\n{base64.b64encode(_HEAD.root).decode()}\n",
        f"{_NAME}\n3\n{base64.b64encode(_HEAD.root[:31]).decode()}\n",
        f"{_NAME}\n3\n{base64.b64encode(_HEAD.root).decode()}\nextension\n",
        f"{_NAME}\n3\n",
        f"{_NAME}/other\n3\n{base64.b64encode(_HEAD.root).decode()}\n",
        f"{_NAME}\n3\n{base64.b64encode(_HEAD.root).decode()[:-2]}x=\n",
    ],
)
def test_a_signature_does_not_excuse_a_malformed_checkpoint(text: str) -> None:
    """Size 03, an extension line or another origin reads differently in different tools."""
    with pytest.raises(NoteError):
        note.verify(_sign(text), _KEY)


def _variants() -> dict[str, str]:
    good = _sign(_HEAD.text())
    text, line = good.split("\n\n")
    other = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
    return {
        "no signature": f"{text}\n",
        "no final newline": good[:-1],
        "two by one key": f"{good}{line}",
        "another key": _sign(_HEAD.text(), other),
        "another text": good.replace("\n3\n", "\n4\n"),
        "a control character": good.replace("\n3\n", "\n3\r\n"),
        "a hyphen for the dash": good.replace("— ", "- "),
        "no base64": f"{text}\n\n— {_NAME} !!!!\n",
        "loose base64": good[:-3] + chr(ord(good[-3]) + 1) + good[-2:],
        "too long": good + f"— x {base64.b64encode(bytes(70_000)).decode()}\n",
        "too many": good + "".join(f"— x{n} AAAAAAAA\n" for n in range(40)),
        "an empty line at the end": good + "\n",
    }


@pytest.mark.parametrize("name", _variants())
def test_a_note_of_any_other_form_is_refused(name: str) -> None:
    """Every leniency in reading is a place to hide a second meaning under one signature."""
    with pytest.raises(NoteError):
        note.verify(_variants()[name], _KEY)


def test_signatures_of_strangers_are_ignored() -> None:
    """Witnesses add lines of their own; the specification says to pass over unknown ones."""
    text = _sign(_HEAD.text()) + "— witness.example AAAAAAAAAAAA\n"

    assert note.verify(text, _KEY) == _HEAD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        f"name+00000000+{base64.b64encode(bytes([1]) + _KEY.public).decode()}",
        str(_KEY).replace("+A", "+B"),
        str(_KEY)[:-4],
        str(_KEY).replace(_NAME, "two words"),
        str(_KEY) + "\n" + str(_KEY),
    ],
)
def test_a_vkey_of_any_other_form_is_refused(text: str) -> None:
    """The verifier rests on this one line: a slip in it must not go unseen."""
    with pytest.raises(NoteError):
        note.parse_key(text)


def test_keys_of_small_order_are_refused() -> None:
    """Under a small-order key one signature verifies for many messages; list computed here."""
    prime = 2**255 - 19
    y = note._ORDER_8_Y
    d = -121665 * pow(121666, -1, prime)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
    x = pow(x2, (prime + 3) // 8, prime)
    x = x if x * x % prime == x2 else x * pow(2, (prime - 1) // 4, prime) % prime
    orders, point = [], (x, y)
    for _ in range(8):
        orders.append(point)
        point = _sum(point, (x, y))

    assert len(set(orders)) == 8
    assert orders[-1] == (0, 1)
    for _, small in orders:
        for sign in (0, 1 << 255):
            with pytest.raises(NoteError):
                Key(_NAME, (small | sign).to_bytes(32, "little"))


def test_keys_of_non_canonical_encoding_are_refused() -> None:
    """A second encoding of one point is a second key id for the same key."""
    with pytest.raises(NoteError):
        Key(_NAME, (2**255 - 19 + 3).to_bytes(32, "little"))
