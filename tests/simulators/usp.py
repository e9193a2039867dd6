"""
Frames of the Universal Speech Protocol, as Azure's Speech SDK 1.53 writes and reads them.

A text frame is header lines, an empty line and a body; a binary one has two bytes of header
length (big-endian), header lines, and audio. Audio begins with a RIFF header of 44 bytes.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RIFF_BYTES = 44


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Return what kind of message it is."""
        return self.headers["path"]

    @property
    def request_id(self) -> str:
        """Return the turn that it belongs to."""
        return self.headers.get("x-requestid", "")


def parse(message: str | bytes) -> Frame:
    """Return *message* as a frame."""
    if isinstance(message, str):
        head, _, text = message.partition("\r\n\r\n")
        return Frame(_headers(head), text.encode())
    (length,) = struct.unpack(">H", message[:2])
    return Frame(_headers(message[2 : 2 + length].decode()), message[2 + length :])


def _headers(head: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.split("\r\n") if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


def text(path: str, request_id: str, body: Mapping[str, Any]) -> str:
    """Return a text frame."""
    head = f"X-RequestId:{request_id}\r\nPath:{path}\r\nContent-Type:application/json"
    return f"{head}\r\n\r\n{json.dumps(body)}"
