"""A search for what must not be there: one secret, in every form it might be written in."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

WINDOW = 16


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A secret (by its name, never itself) that was found in some form at some place."""

    place: str
    secret: str
    form: str


def forms(secret: str) -> dict[str, bytes]:
    """Return the forms in which text is written to disks, logs and URLs, by name."""
    found = {}
    for case, text in {"": secret, "lower ": secret.lower(), "upper ": secret.upper()}.items():
        escaped = "".join(f"\\u{ord(char):04x}" for char in text)
        found |= {
            f"{case}utf-16-le": text.encode("utf-16-le"),
            f"{case}utf-16-be": text.encode("utf-16-be"),
            f"{case}url": quote(text, safe="").encode(),
            f"{case}url, small": quote(text, safe="").lower().encode(),
            f"{case}form": quote_plus(text).encode(),
            f"{case}json": json.dumps(text)[1:-1].encode(),
            f"{case}json, all": escaped.encode(),
        }
        found |= {f"{case}{name}": form for name, form in of_bytes(text.encode()).items()}
    return found


def of_bytes(secret: bytes) -> dict[str, bytes]:
    """Return the forms in which bytes are written, by name."""
    found = {"raw": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    for shift in range(3):
        text = _base64(secret, shift)
        found[f"base64+{shift}"] = text
        found[f"base64url+{shift}"] = text.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def windows(content: bytes, count: int) -> list[bytes]:
    """Return *count* windows of *content*, spread over it."""
    step = max(1, (len(content) - WINDOW) // count)
    return [content[at : at + WINDOW] for at in range(step // 2, len(content) - WINDOW, step)]


def scan(texts: Mapping[str, bytes], secrets: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hit]:
    """Yield each of *secrets* (name -> its forms) found in one of *texts* (place -> bytes)."""
    for place, text in texts.items():
        for secret, written in secrets.items():
            for form, needle in written.items():
                if needle in text:
                    yield Hit(place, secret, form)


def files(roots: Iterable[Path]) -> dict[str, bytes]:
    """Return the bytes, and the name, of every file under *roots*; names may leak too."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            try:
                content = path.read_bytes() if path.is_file() else b""
            except OSError:  # it went away meanwhile
                continue
            found[str(path)] = path.name.encode() + b"\n" + content
    return found


def _base64(secret: bytes, shift: int) -> bytes:
    """Return the characters that *secret* alone decides when it begins at *shift* modulo 3."""
    text = base64.b64encode(bytes(shift) + secret)
    first = -(-shift * 8 // 6)
    return text[first : (shift + len(secret)) * 8 // 6]
