"""
The bytes that Meta puts on the wire: escaped JSON, signatures, message ids, error bodies.

Meta's encoder writes ASCII only and escapes ``/``, ``<``, ``%`` and ``@``, so a receiver that
parses and re-serialises before it checks the signature fails on almost every delivery.
"""

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

_ESCAPES = {"/": "\\/", "<": "\\u003C", "%": "\\u0025", "@": "\\u0040"}


def encode(value: Any) -> bytes:
    """Return *value* as Meta's JSON encoder writes it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return "".join(_ESCAPES.get(char, char) for char in text).encode()


def envelope(waba_id: str, changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one delivery with *changes*."""
    entry = {"id": waba_id, "changes": changes}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def signature(body: bytes, secret: bytes, algorithm: str = "sha256") -> str:
    """Return the value of Meta's signature header for *body*."""
    return f"{algorithm}={hmac.new(secret, body, algorithm).hexdigest()}"


def wamid(who: str) -> str:
    """Return a message id that holds *who* in clear under its base64, as real ones do."""
    owner = who.encode()
    head = bytes([0x1C, 0x18, len(owner)]) + owner
    tail = b"\x15\x02\x00\x12\x18\x20" + secrets.token_hex(16).upper().encode() + b"\x00"
    return "wamid." + base64.b64encode(head + tail).decode()


def owner(message_id: str) -> str:
    """Return whose number or user id a `wamid` holds; empty if it is not one."""
    try:
        packed = base64.b64decode(message_id.removeprefix("wamid."), validate=True)
    except ValueError:
        return ""
    return packed[3 : 3 + packed[2]].decode(errors="replace") if len(packed) > 3 else ""  # noqa: PLR2004


def number(digits: int = 16) -> str:
    """Return a random Graph object id."""
    return str(10 ** (digits - 1) + secrets.randbelow(9 * 10 ** (digits - 1)))


def digest_base64(content: bytes) -> str:
    """Return a SHA-256 as webhooks spell it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


class GraphError(Exception):
    """
    A request that Graph refuses, with its *code*, HTTP *status* and *details*.

    *subcode* and *kind* are those of Graph itself, below WhatsApp: it tells no ``error_data``.
    """

    def __init__(
        self,
        code: int,
        status: int,
        details: str = "",
        *,
        subcode: int | None = None,
        kind: str = "OAuthException",
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.details = details
        self.subcode = subcode
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """Return the answer's body; like Meta's, its text may quote the request."""
        error: dict[str, Any] = {
            "message": f"(#{self.code}) {self.details}",
            "type": self.kind,
            "code": self.code,
        }
        if self.subcode is None:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        else:
            error |= {"message": self.details, "error_subcode": self.subcode}
        return {"error": error | {"fbtrace_id": secrets.token_urlsafe(9)}}


def failure(code: int, title: str) -> dict[str, Any]:
    """Return one item of an ``errors`` array in a webhook."""
    return {"code": code, "title": title, "message": title, "error_data": {"details": title}}
