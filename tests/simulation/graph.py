"""
WhatsApp as one object: it has people's phones, their recordings, and moods.

It speaks the face of `gateway.whatsapp.send.Graph` and of `gateway.whatsapp.media.Media`. A mood is
what happens to the next message: it arrives; it arrives and we are not told so; nothing is sent; it
is refused; or it is taken and later reported as failed.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from simulation.stores import Durable
from support.oggs import note as ogg

from gateway.errors import (
    ChannelBusyError,
    ChannelRefusedError,
    ChannelUnknownError,
    MediaGoneError,
)
from gateway.whatsapp.media import Fetched
from gateway.whatsapp.payload import Identity, VoiceNote
from residency.model import INSIDE, Observed, Passage

RECORDING = ogg(1.0)
DIGEST = sha256(RECORDING).digest()


class Mood(StrEnum):
    """What becomes of the next message; kept sorted."""

    BUSY = "busy"
    FINE = "fine"
    LOST = "lost"  # it arrived, and the answer that says so did not
    REFUSED = "refused"
    SWALLOWED = "swallowed"  # neither it nor an answer arrived


@dataclass(frozen=True, slots=True)
class Shown:
    """What a person saw: when, of which kind, the words, the buttons, and the reply's own id."""

    at: datetime
    to: str
    kind: str
    text: str
    buttons: tuple[str, ...]
    opaque: str


@dataclass(slots=True)
class WhatsApp:
    """See the module; *at* tells the true time."""

    at: Callable[[], datetime]
    shown: list[Shown] = field(default_factory=list)
    moods: list[Mood] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    fetched: list[tuple[datetime, str]] = field(default_factory=list)
    reports: list[tuple[str, str]] = field(default_factory=list)


class SimulatedGraph:
    """See `Graph`: what the one number of the tenant can send."""

    def __init__(self, world: WhatsApp, durable: Durable) -> None:
        self._world = world
        self._durable = durable

    async def text(
        self,
        to: Identity,
        body: str,
        *,
        opaque: str,
        reply_to: str | None = None,
        passage: Passage = INSIDE,
    ) -> str:
        """See `Graph.text`."""
        return await self._sent(to, "text", body, (), opaque)

    async def buttons(
        self,
        to: Identity,
        body: str,
        buttons: Sequence[tuple[str, str]],
        *,
        opaque: str,
        passage: Passage = INSIDE,
    ) -> str:
        """See `Graph.buttons`."""
        return await self._sent(to, "buttons", body, tuple(each for each, _ in buttons), opaque)

    async def typing(self, message_id: str, *, passage: Passage = INSIDE) -> None:
        """See `Graph.typing`."""
        await asyncio.sleep(0)

    async def _sent(
        self, to: Identity, kind: str, text: str, buttons: tuple[str, ...], opaque: str
    ) -> str:
        await asyncio.sleep(0)
        mood = self._world.moods.pop(0) if self._world.moods else Mood.FINE
        if mood is Mood.BUSY:
            raise ChannelBusyError("simulated")
        if mood is Mood.REFUSED:
            raise ChannelRefusedError("simulated")
        if mood is not Mood.SWALLOWED:
            shown = Shown(self._world.at(), to.phone or to.bsuid or "", kind, text, buttons, opaque)
            self._durable("graph", lambda: self._world.shown.append(shown))
            self._world.reports.append((opaque, "delivered"))
        if mood in {Mood.LOST, Mood.SWALLOWED}:
            raise ChannelUnknownError("simulated")
        return f"wamid.{opaque}"


class SimulatedMedia:
    """See `Media`: the recordings that people sent to the number."""

    def __init__(self, world: WhatsApp, durable: Durable) -> None:
        self._world = world
        self._durable = durable

    async def fetch(self, note: VoiceNote, *, passage: Passage = INSIDE) -> Fetched:
        """See `Media.fetch`."""
        await asyncio.sleep(0)
        if note.media_id in self._world.gone:
            raise MediaGoneError("simulated")
        fetch = (self._world.at(), note.media_id)
        self._durable("graph", lambda: self._world.fetched.append(fetch))
        return Fetched(content=RECORDING, mime="audio/ogg", observed=Observed(host=""))

    async def delete(self, media_id: str, *, passage: Passage = INSIDE) -> None:
        """See `Media.delete`."""
        await asyncio.sleep(0)
        self._world.gone.add(media_id)


class SimulatedDecoder:
    """Has decoded the one recording before: a second of a tone that passes for speech."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm = pcm

    async def decode(self, _content: bytes) -> bytes:
        """Return the sound."""
        return self._pcm


def anything(found: object) -> Any:
    """Return *found* where a class of the product is asked for by name, and a face is enough."""
    return found
