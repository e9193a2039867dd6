"""
Azure Speech at one region: true protocol and host name, a test authority's certificate.

- It refuses a key it does not know, as the real one refuses a key of another region.
- `faults` are taken one per connection.
- `log` has a receipt for each turn whose audio arrived, whole or not; `connections` every
  connection that came through TLS; `frames` the kind of every message.
"""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simulators import usp
from simulators.engines import Engine, Heard
from simulators.receipts import Receipt, ReceiptLog, fingerprint
from simulators.usp import RIFF_BYTES, Frame
from support.pki import Authority
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TICKS_PER_BYTE = 10_000_000 // 32_000 + 1  # rounded up: what a phrase leaves over is sent again


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    What one connection meets.

    *status* refuses the upgrade; *drop_after* cuts it after so many bytes of audio; without
    *start* a turn never begins; *said* is the phrase's RecognitionStatus, *more* replaces
    fields of it.
    """

    status: int = 0
    drop_after: int | None = None
    start: bool = True
    delay_s: float = 0.0
    end_delay_s: float = 0.0
    said: str = "Success"
    heard: Heard | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Turn:
    audio: bytearray = field(default_factory=bytearray)
    outcome: str = "cut"


@dataclass(slots=True, kw_only=True)
class AzureSpeech:
    """The service in *region*, listening at *address*; *keys* are those it knows."""

    region: str
    address: str
    engine: Engine
    keys: Sequence[str]
    log: ReceiptLog = field(default_factory=ReceiptLog)
    faults: deque[Fault] = field(default_factory=deque)
    targets: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    contexts: list[dict[str, Any]] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _met: dict[ServerConnection, tuple[str, Fault]] = field(default_factory=dict)
    _gone: asyncio.Condition = field(default_factory=asyncio.Condition)
    _server: Server | None = None

    @property
    def host(self) -> str:
        """Return the vendor's name of this endpoint."""
        return f"{self.region}.stt.speech.microsoft.com"

    async def start(self, authority: Authority) -> None:
        """Serve with a certificate of *authority*."""
        self._server = await serve(
            self._serve,
            self.address,
            0,
            ssl=authority.leaf(self.host).context(),
            process_request=self._upgrade,
            max_size=None,
            compression=None,
            ping_interval=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _upgrade(self, ws: ServerConnection, request: Request) -> Response | None:
        host, port = ws.remote_address[:2]
        fault = self.faults.popleft() if self.faults else Fault()
        self.connections.append(f"{host}:{port}")
        self.targets.append(request.path)
        known = request.headers.get("Ocp-Apim-Subscription-Key") in self.keys
        if fault.status or not known:
            return ws.respond(fault.status or 401, "no")
        self._met[ws] = self.connections[-1], fault
        return None

    async def quiet(self) -> None:
        """Wait until nobody is connected: then the receipts are complete."""
        async with self._gone:
            await self._gone.wait_for(lambda: not self._met)

    async def _serve(self, ws: ServerConnection) -> None:
        name, fault = self._met[ws]
        turns: dict[str, _Turn] = {}
        try:
            async for message in ws:
                frame = usp.parse(message)
                self.frames.append(frame.path)
                if frame.path == "speech.context":
                    self.contexts.append(json.loads(frame.body))
                if frame.path == "audio" and not await self._audio(ws, frame, turns, fault):
                    return
        except ConnectionClosed:
            return
        finally:
            for request_id, turn in turns.items():
                self.log.add(self._receipt(ws, name, request_id, turn))
            async with self._gone:
                del self._met[ws]
                self._gone.notify_all()

    async def _audio(
        self, ws: ServerConnection, frame: Frame, turns: dict[str, _Turn], fault: Fault
    ) -> bool:
        """Take one frame of audio; return False when the connection was cut."""
        turn = turns.get(frame.request_id)
        if turn is None:
            turn = turns[frame.request_id] = _Turn()
            if fault.start:
                body = {"context": {"serviceTag": f"{self.region}-1"}}
                await ws.send(usp.text("turn.start", frame.request_id, body))
        turn.audio += frame.body
        self.arrived.set()
        if fault.drop_after is not None and len(turn.audio) - RIFF_BYTES > fault.drop_after:
            ws.transport.abort()
            return False
        if not frame.body and fault.start:
            await self._answer(ws, frame.request_id, turn, fault)
        return True

    async def _answer(
        self, ws: ServerConnection, request_id: str, turn: _Turn, fault: Fault
    ) -> None:
        pcm = bytes(turn.audio[RIFF_BYTES:])
        asked = _asked(self.contexts[-1])
        await asyncio.sleep(fault.delay_s)
        heard = fault.heard or await self.engine(pcm, [each.partition("-")[0] for each in asked])
        ticks = len(pcm) * TICKS_PER_BYTE
        for body in (_phrase(heard, asked, fault.said, ticks) | fault.more, _end(ticks)):
            await ws.send(usp.text("speech.phrase", request_id, body))
        await asyncio.sleep(fault.end_delay_s)
        await ws.send(usp.text("turn.end", request_id, {}))
        turn.outcome = "done"

    def _receipt(self, ws: ServerConnection, name: str, request_id: str, turn: _Turn) -> Receipt:
        assert ws.request is not None
        audio = bytes(turn.audio[RIFF_BYTES:])
        return Receipt(
            connection=name,
            request_id=request_id,
            region=self.region,
            audio_bytes=len(audio),
            sha256=hashlib.sha256(audio).hexdigest(),
            auth=fingerprint(ws.request.headers["Ocp-Apim-Subscription-Key"]),
            outcome=turn.outcome,
        )


def _asked(context: dict[str, Any]) -> list[str]:
    choice = context.get("languageId", {}).get("languages")
    return list(choice or [context["phraseDetection"]["language"]])


def _phrase(heard: Heard, asked: Sequence[str], said: str, ticks: int) -> dict[str, Any]:
    body = {"Id": "1", "RecognitionStatus": said, "Offset": 0, "Duration": ticks, "Channel": 0}
    if said != "Success":
        return body
    code = next((each for each in asked if each.startswith(heard.language)), heard.language)
    lexical = heard.text.lower()
    best = {"Confidence": heard.confidence, "Lexical": lexical, "ITN": lexical}
    return body | {
        "DisplayText": heard.text,
        "NBest": [best | {"MaskedITN": lexical, "Display": heard.text}],
        "PrimaryLanguage": {"Language": code, "Confidence": "High"},
    }


def _end(ticks: int) -> dict[str, Any]:
    return {"RecognitionStatus": "EndOfDictation", "Offset": ticks, "Duration": 0}
