"""
A search for what must not be there: each secret in every form it might be written in.

Compressed members are inflated where they are found, and searched as well; a marker tone is
looked for by its spectrum, so that sound which was coded anew is found too.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import numpy as np
from support import inflating, tones

WINDOW = 16
LEAST = 6  # shorter ones stand everywhere by chance
LIVELY = 10  # so many different bytes are no silence and no padding
CONTROL, TONE = "control", "tone"

Forms = Mapping[str, bytes]


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
        units = text.encode("utf-16-be")
        escaped = "".join(
            f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2)
        )
        found |= {
            f"{case}utf-16-le": text.encode("utf-16-le"),
            f"{case}utf-16-be": units,
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
    """Return up to *count* lively windows of *content*, spread over it."""
    step = max(1, (len(content) - WINDOW) // count)
    found = [content[at : at + WINDOW] for at in range(step // 2, len(content) - WINDOW, step)]
    return [window for window in found if len(set(window)) >= LIVELY]


class Needles:
    """*secrets* (name -> its forms), arranged so that a text is gone through once for all."""

    def __init__(self, secrets: Mapping[str, Forms]) -> None:
        self._by_head: dict[int, list[tuple[bytes, str, str]]] = defaultdict(list)
        for secret, written in secrets.items():
            for form, needle in written.items():
                if len(needle) < LEAST:
                    raise ValueError(f"{secret}, {form}: too short to search for")
                head = int.from_bytes(needle[:4], "little")
                self._by_head[head].append((needle, secret, form))
        self._heads = np.array(sorted(self._by_head), dtype=np.uint32)
        self._begins = np.zeros(1 << 16, dtype=bool)
        self._begins[self._heads & 0xFFFF] = True

    def found(self, text: bytes) -> set[tuple[str, str]]:
        """Return (secret, form) of everything that stands in *text*."""
        seen: set[tuple[str, str]] = set()
        for at, head in self._candidates(text):
            for needle, secret, form in self._by_head[head]:
                if (secret, form) not in seen and text.startswith(needle, at):
                    seen.add((secret, form))
        return seen

    def _candidates(self, text: bytes) -> Iterator[tuple[int, int]]:
        if len(text) < LEAST:
            return
        chars = np.frombuffer(text, dtype=np.uint8).astype(np.uint32)
        pairs = chars[:-3] | chars[1:-2] << 8
        at = np.flatnonzero(self._begins[pairs])
        heads = pairs[at] | chars[at + 2] << 16 | chars[at + 3] << 24
        known = np.isin(heads, self._heads)
        yield from zip(at[known].tolist(), heads[known].tolist(), strict=True)


def scan(texts: Mapping[str, bytes], needles: Needles) -> set[Hit]:
    """Return each of *needles*, and each tone, that stands in *texts* (place -> bytes)."""
    hits: set[Hit] = set()
    for place, text in texts.items():
        for how, part in {"": text, **inflating.members(text)}.items():
            inside = f"{how}: " if how else ""
            hits |= {Hit(place, one, f"{inside}{form}") for one, form in needles.found(part)}
            hits |= {Hit(place, mark, f"{inside}{form}") for mark, form in tones.found(part)}
    return hits


def every_form(secret: str) -> bytes:
    """Return *secret* in every form, the forms in every compression, and the marker tone."""
    plain = b"\n".join(forms(secret).values())
    return b"\n".join([plain, *inflating.packed(plain).values(), *tones.written().values()])


def unseen(secret: str, hits: Iterable[Hit]) -> set[str]:
    """Return what of `every_form` of the control *secret* was not hit: any makes a scan void."""
    wanted = set(forms(secret)) | set(tones.FORMS)
    wanted |= {f"{how}: {form}" for how in inflating.KINDS for form in forms(secret)}
    return wanted - {hit.form for hit in hits if hit.secret == CONTROL}


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
