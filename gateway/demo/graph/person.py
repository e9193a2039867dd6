"""A person with WhatsApp, seen from their side: what they do, and what reaches them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.demo.graph import wire
from gateway.demo.graph.media import INBOUND_LIFE, NO_STORAGE_LIFE, OPUS, Stored

if TYPE_CHECKING:
    from gateway.demo.graph.world import GraphWorld, Line

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message on the phone. *kind* is ``text``, ``buttons``, ``document`` or ``voice``."""

    kind: str
    id: str
    at: datetime
    text: str = ""
    buttons: tuple[tuple[str, str], ...] = ()
    filename: str = ""
    audio: bytes = field(default=b"", repr=False)
    opaque: str = ""
    reply_to: str | None = None


class Person:
    """
    Somebody who writes to one business line, known by *phone*, *bsuid* or both.

    Every act returns the message id once WhatsApp has tried to deliver it for the first time.
    `inbox`, `typing` (times a typing sign showed) and `read` (ids marked read) only grow.
    """

    def __init__(
        self, world: "GraphWorld", line: "Line", *, phone: str | None, bsuid: str | None, name: str
    ) -> None:
        if phone is None and bsuid is None:
            raise ValueError("a person has a phone number, a user id, or both")
        self._world = world
        self._line = line
        self.phone = phone
        self.bsuid = bsuid
        self.name = name
        self.inbox: list[Received] = []
        self.typing: list[datetime] = []
        self.read: list[str] = []
        self.last_wrote: datetime | None = None
        self._news = asyncio.Event()

    @property
    def line(self) -> "Line":
        """The business line this person writes to."""
        return self._line

    async def say(
        self, audio: bytes, *, voice: bool = True, mime: str = OPUS, forwarded: bool = False
    ) -> str:
        """Send a voice note (or, with ``voice=False``, an audio file)."""
        return await self.send(
            self.audio(self.attach(audio, mime), voice=voice), forwarded=forwarded
        )

    def attach(self, audio: bytes, mime: str = OPUS) -> Stored:
        """Upload *audio* without sending it yet: its `Stored.trick` can be set in between."""
        life = NO_STORAGE_LIFE if self._line.no_storage else INBOUND_LIFE
        until = self._world.clock.now() + life
        return self._world.media.add(self._line.phone_number_id, mime, audio, until)

    def audio(self, item: Stored, *, voice: bool = True) -> dict[str, Any]:
        """Return the message that carries *item*."""
        now = self._world.clock.now()
        audio = {
            "mime_type": item.mime,
            "sha256": wire.digest_base64(item.content),
            "id": item.id,
            "url": self._world.media.link(item, self._world.url, now, "webhook"),
            "voice": voice,
        }
        return {"type": "audio", "audio": audio}

    async def type(self, text: str) -> str:
        """Send a typed message."""
        return await self.send({"type": "text", "text": {"body": text}})

    async def press(self, button_id: str) -> str:
        """Press a reply button of the latest message that shows it; KeyError if none does."""
        for message in reversed(self.inbox):
            if title := dict(message.buttons).get(button_id):
                reply = {"id": button_id, "title": title}
                return await self.send(
                    {
                        "context": {"from": self._line.display, "id": message.id},
                        "type": "interactive",
                        "interactive": {"type": "button_reply", "button_reply": reply},
                    }
                )
        raise KeyError(button_id)

    async def revoke(self, message_id: str) -> str:
        """Delete an own message for everyone."""
        return await self.send({"type": "revoke", "revoke": {"original_message_id": message_id}})

    async def edit(self, message_id: str, text: str) -> str:
        """Change the text of an own message."""
        message = {"type": "text", "text": {"body": text}}
        edit = {"original_message_id": message_id, "message": message}
        return await self.send({"type": "edit", "edit": edit})

    async def react(self, message_id: str, emoji: str = "") -> str:
        """Put an emoji on a message; an empty one takes it off."""
        reaction = {"message_id": message_id} | ({"emoji": emoji} if emoji else {})
        return await self.send({"type": "reaction", "reaction": reaction})

    async def change_number(self, phone: str) -> str:
        """Move to another number."""
        system = {"type": "user_changed_number", "wa_id": phone, "body": "changed number"}
        sent = await self.send({"type": "system", "system": system})
        self.phone = phone
        return sent

    async def change_user_id(self, bsuid: str) -> str:
        """Get another business-scoped user id."""
        system = {
            "type": "user_changed_user_id",
            "previous_user_id": self.bsuid,
            "user_id": bsuid,
        }
        sent = await self.send({"type": "system", "system": system})
        self.bsuid = bsuid
        return sent

    async def send(self, content: dict[str, Any], *, forwarded: bool = False) -> str:
        """Send any message *content* of the Cloud API (the part after id and timestamp)."""
        now = self._world.clock.now()
        self.last_wrote = now
        message_id = wire.wamid(self.phone or self.bsuid or "")
        message: dict[str, Any] = {"id": message_id, "timestamp": str(int(now.timestamp()))}
        message |= content
        if forwarded:
            message["context"] = {"forwarded": True}
        self._world.courier.post(self._line, "messages", self._value(message))
        if not self._world.courier.held:
            await self._world.courier.settle()
        return message_id

    def receive(self, message: Received) -> None:
        """Take a message from the business."""
        self.inbox.append(message)
        self._news.set()

    async def expect(
        self, predicate: Callable[[Received], bool], *, within_s: float = PATIENCE_S
    ) -> Received:
        """Return the first message that fits; raise `TimeoutError` after *within_s* real time."""
        async with asyncio.timeout(within_s):
            while True:
                for message in self.inbox:
                    if predicate(message):
                        return message
                self._news.clear()
                await self._news.wait()

    def _value(self, message: dict[str, Any]) -> dict[str, Any]:
        contact: dict[str, Any] = {"profile": {"name": self.name}}
        if self.phone is not None:
            contact["wa_id"] = self.phone
            message["from"] = self.phone
        if self.bsuid is not None:
            contact["user_id"] = self.bsuid
            message["from_user_id"] = self.bsuid
        if message["type"] == "system":
            return self._line.value(messages=[message])
        return self._line.value(contacts=[contact], messages=[message])
