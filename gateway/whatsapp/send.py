"""
Sending to people over the WhatsApp Cloud API: text, buttons, voice, typing.

- No call has an idempotency key, so nothing is retried here. `ChannelUnknownError` means that
  the person may have got the message: *opaque* comes back in its status webhooks and settles it.
- Limits are checked before anything leaves, so that a refusal has no side effect.
- Recipient, text and Graph's messages never reach an exception; a returned id (wamid) encodes
  the recipient's number.

Source: Meta, "Messages" (WhatsApp Cloud API).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from gateway.errors import (
    ChannelRefusedError,
    ChannelUnknownError,
    MediaRefusedError,
    PayloadError,
)
from gateway.whatsapp import answers, connection, fields
from gateway.whatsapp.account import Account
from gateway.whatsapp.payload import Identity
from residency.model import INSIDE, Passage

DEADLINE_S = 15.0
MAX_TEXT = 4_096
MAX_BUTTONS_TEXT = 1_024
MAX_BUTTONS = 3
MAX_TITLE = 20
MAX_ID = 256
MAX_OPAQUE = 512
MAX_VOICE_BYTES = 16 * 1024 * 1024
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_NAME = 240
VOICE_TYPE = "audio/ogg; codecs=opus"
DOCUMENT_TYPE = "text/plain"  # JSON is not among the types that WhatsApp takes


class Graph:
    """
    One number of a tenant. Calls may overlap; *http* is shared and closed by its owner.

    Each call leaves by its *passage* (`gateway.whatsapp.connection`).

    Every method raises `ChannelBusyError` (nothing was sent), `AccountFaultError` (nothing will
    be, until the account is mended), `ChannelRefusedError` (never will be) or, for messages to a
    person, `ChannelUnknownError` (may have been).
    """

    def __init__(
        self, http: httpx2.AsyncClient, account: Account, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._http = http
        self._account = account
        self._deadline_s = deadline_s

    async def text(
        self,
        to: Identity,
        body: str,
        *,
        opaque: str,
        reply_to: str | None = None,
        passage: Passage = INSIDE,
    ) -> str:
        """Send *body* (1 to 4,096 characters), quoting *reply_to* if given; return the wamid."""
        _limit("text", body, MAX_TEXT)
        content = {"type": "text", "text": {"body": body, "preview_url": False}}
        return await self._send(to, content, passage, opaque=opaque, reply_to=reply_to)

    async def buttons(
        self,
        to: Identity,
        body: str,
        buttons: Sequence[tuple[str, str]],
        *,
        opaque: str,
        passage: Passage = INSIDE,
    ) -> str:
        """Send *body* with one to three (id, title) reply buttons; return the wamid."""
        _limit("text", body, MAX_BUTTONS_TEXT)
        for button_id, title in buttons:
            _limit("button.id", button_id, MAX_ID)
            _limit("button.title", title, MAX_TITLE)
        if not 0 < len({button_id for button_id, _ in buttons}) == len(buttons) <= MAX_BUTTONS:
            raise ChannelRefusedError("limit.buttons")
        replies = [
            {"type": "reply", "reply": {"id": id_, "title": title}} for id_, title in buttons
        ]
        interactive = {
            "type": "button",
            "body": {"text": body},
            "action": {"buttons": replies},
        }
        content = {"type": "interactive", "interactive": interactive}
        return await self._send(to, content, passage, opaque=opaque)

    async def voice(
        self, to: Identity, media_id: str, *, opaque: str, passage: Passage = INSIDE
    ) -> str:
        """Send uploaded speech as a voice message; return the wamid."""
        content = {"type": "audio", "audio": {"id": media_id, "voice": True}}
        return await self._send(to, content, passage, opaque=opaque)

    async def document(
        self, to: Identity, media_id: str, name: str, *, opaque: str, passage: Passage = INSIDE
    ) -> str:
        """Send an uploaded document under the file name *name*; return the wamid."""
        _limit("filename", name, MAX_NAME)
        content = {"type": "document", "document": {"id": media_id, "filename": name}}
        return await self._send(to, content, passage, opaque=opaque)

    async def upload(self, ogg: bytes, *, passage: Passage = INSIDE) -> str:
        """Upload a mono Ogg/Opus note (at most 16 MiB); return its media id."""
        if not ogg.startswith(b"OggS") or len(ogg) > MAX_VOICE_BYTES:
            raise MediaRefusedError("limit.voice")
        return await self._upload("voice.ogg", ogg, VOICE_TYPE, passage)

    async def upload_text(self, content: bytes, *, passage: Passage = INSIDE) -> str:
        """Upload a text file (at most 1 MiB) for `document`; return its media id."""
        if not 0 < len(content) <= MAX_DOCUMENT_BYTES:
            raise MediaRefusedError("limit.document")
        return await self._upload("document.txt", content, DOCUMENT_TYPE, passage)

    async def _upload(self, name: str, content: bytes, kind: str, passage: Passage) -> str:
        with answers.repeatable():
            found = await self._post(
                "media",
                passage,
                data={"messaging_product": "whatsapp", "type": kind},
                files={"file": (name, content, kind)},
            )
            return _id(found)

    async def typing(self, message_id: str, *, passage: Passage = INSIDE) -> None:
        """Mark *message_id* as read and show "typing" for up to 25 s, or until the reply."""
        with answers.repeatable():
            await self._post(
                "messages",
                passage,
                json={
                    "messaging_product": "whatsapp",
                    "status": "read",
                    "message_id": message_id,
                    "typing_indicator": {"type": "text"},
                },
            )

    async def _send(
        self,
        to: Identity,
        content: Mapping[str, Any],
        passage: Passage,
        *,
        opaque: str,
        reply_to: str | None = None,
    ) -> str:
        _limit("opaque", opaque, MAX_OPAQUE)
        message = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            **_recipient(to),
            **content,
            "biz_opaque_callback_data": opaque,
        }
        if reply_to is not None:
            message["context"] = {"message_id": reply_to}
        found = (await self._post("messages", passage, json=message)).get("messages")
        return _id(found[0] if isinstance(found, list) and found else None)

    async def _post(self, path: str, passage: Passage, **content: Any) -> dict[str, Any]:
        account = self._account
        with answers.translated():
            async with asyncio.timeout(self._deadline_s):
                answer = await self._http.post(
                    f"{account.graph}/{account.phone_number_id}/{path}",
                    headers=account.headers,
                    extensions=connection.by(passage),
                    **content,
                )
        return answers.read(answer)


def _recipient(to: Identity) -> dict[str, str]:
    # By number where there is one: some messages cannot be sent to a user id (131062).
    if to.phone is not None:
        return {"to": to.phone}
    if to.bsuid is not None:
        return {"recipient": to.bsuid}
    raise ChannelRefusedError("recipient.missing")


def _limit(name: str, value: str, most: int) -> None:
    if not 0 < len(value) <= most:
        raise ChannelRefusedError(f"limit.{name}")


def _id(found: Any) -> str:
    try:
        return fields.text(fields.mapping(found)["id"], MAX_OPAQUE)
    except (KeyError, PayloadError):
        raise ChannelUnknownError("answer.malformed") from None
