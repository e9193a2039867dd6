"""
Media at WhatsApp: ids that lapse, URLs that lapse sooner, and the tricks of a bad CDN.

Lifetimes, on the world's clock: a URL 5 minutes; an id from a webhook 7 days, from an upload
30 days, on a No Storage number 1 hour.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from gateway.demo.graph.wire import GraphError, number

URL_LIFE = timedelta(minutes=5)
INBOUND_LIFE = timedelta(days=7)
UPLOAD_LIFE = timedelta(days=30)
NO_STORAGE_LIFE = timedelta(hours=1)
MAX_UPLOAD = 16 * 1024 * 1024
OPUS = "audio/ogg; codecs=opus"
AUDIO_TYPES = frozenset(
    {"audio/aac", "audio/amr", "audio/mp4", "audio/mpeg", "audio/ogg", OPUS, "audio/opus"}
)
DOCUMENT_TYPES = frozenset({"application/pdf", "text/plain"})


class Trick(Enum):
    """How the CDN misbehaves for one item."""

    NONE = auto()
    GONE = auto()
    GONE_ONCE = auto()
    GZIP = auto()
    HUGE = auto()
    REDIRECT = auto()
    SLOW = auto()
    TRUNCATED = auto()
    WRONG_BYTES = auto()
    WRONG_TYPE = auto()


@dataclass(slots=True, kw_only=True)
class Stored:
    """One item. *stated_size*, *stated_sha256* and *stated_url* replace the true metadata."""

    id: str
    phone_number_id: str
    mime: str
    content: bytes = field(repr=False)
    until: datetime
    trick: Trick = Trick.NONE
    stated_size: int | None = None
    stated_sha256: str | None = None
    stated_url: str | None = None


@dataclass(frozen=True, slots=True)
class _Link:
    item: Stored
    until: datetime


class MediaStore:
    """All media of the world, and the URLs that lead to them."""

    def __init__(self) -> None:
        self.items: dict[str, Stored] = {}
        self._links: dict[str, _Link] = {}

    def add(self, phone_number_id: str, mime: str, content: bytes, until: datetime) -> Stored:
        """Keep *content* until *until* under a new id."""
        item = Stored(
            id=number(),
            phone_number_id=phone_number_id,
            mime=mime,
            content=content,
            until=until,
        )
        self.items[item.id] = item
        return item

    def find(self, media_id: str, phone_number_id: str, now: datetime) -> Stored:
        """Return a living item of that number; raise `GraphError` as Graph answers."""
        item = self.items.get(media_id)
        if item is None or item.phone_number_id != phone_number_id or now >= item.until:
            raise GraphError(100, 400, "Object does not exist, or missing permissions")
        return item

    def link(self, item: Stored, base: str, now: datetime, source: str) -> str:
        """Return a fresh URL for *item*."""
        token = secrets.token_urlsafe(18)
        self._links[token] = _Link(item, now + URL_LIFE)
        return f"{base}/_cdn/{token}?mid={item.id}&source={source}&ext={int(now.timestamp())}"

    def follow(self, token: str, now: datetime) -> Stored | None:
        """Return what *token* leads to, or None when it lapsed or its item is gone."""
        link = self._links.get(token)
        if link is None or now >= link.until or link.item.id not in self.items:
            return None
        if link.item.trick is Trick.GONE_ONCE:
            link.item.trick = Trick.NONE
            return None
        return None if link.item.trick is Trick.GONE else link.item

    def describe(self, item: Stored, url: str) -> dict[str, Any]:
        """Return the answer to ``GET /{media-id}``."""
        size = len(item.content) if item.stated_size is None else item.stated_size
        return {
            "messaging_product": "whatsapp",
            "url": item.stated_url or url,
            "mime_type": item.mime,
            "sha256": item.stated_sha256 or hashlib.sha256(item.content).hexdigest(),
            "file_size": str(size),
            "id": item.id,
        }


def is_voice(item: Stored) -> bool:
    """Whether WhatsApp can send *item*: for Ogg, mono Opus declared as such (RFC 7845, 5.1)."""
    if "ogg" not in item.mime and "opus" not in item.mime:
        return True
    head = item.content.find(b"OpusHead", 0, 128)
    mono = head > 0 and item.content[head + 9 : head + 10] == b"\x01"
    return item.mime == OPUS and item.content.startswith(b"OggS") and mono
