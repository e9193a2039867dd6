"""
Google Speech v2 at one location: true protocol and host name, a test authority's certificate.

- It refuses what the real one refuses: a recognizer of another location, a call without routing
  header, a token that is not for it, audio it was not told how to decode, a note too long for
  Recognize, a streaming message over 15 KB.
- `faults` are taken one per call; `cut_after` drops connections after so many bytes.
- `log` has a receipt for each call whose audio arrived, `connections` every connection.
"""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import av
import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.cloud.speech_v2.types import cloud_speech as speech
from simulators.engines import Engine, Heard
from simulators.receipts import Receipt, ReceiptLog, fingerprint
from support.pki import Authority

SERVICE = "google.cloud.speech.v2.Speech"
AUDIENCE = "https://speech.googleapis.com/"
PIECE_LIMIT = 15 * 1024
INLINE_SECONDS = 60
REGION_HEADER = "x-sim-region"

Code: TypeAlias = grpc.StatusCode
Context: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What one call meets: waiting, then an error, or an answer that is changed."""

    delay_s: float = 0.0
    code: Code | None = None
    heard: Heard | None = None
    region: str = ""


@dataclass(slots=True, kw_only=True)
class GoogleSpeech:
    """The service at *location*, listening at *address*; *keys* are public keys by account."""

    location: str
    address: str
    engine: Engine
    keys: dict[str, rsa.RSAPublicKey]
    log: ReceiptLog = field(default_factory=ReceiptLog)
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[speech.RecognitionConfig] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cut_after: int | None = None
    port: int = 0
    _peers: dict[int, str] = field(default_factory=dict)
    _server: Any = None
    _front: asyncio.Server | None = None

    @property
    def host(self) -> str:
        """Return the vendor's name of this endpoint."""
        return f"{self.location}-speech.googleapis.com"

    async def start(self, authority: Authority) -> None:
        """Serve with a certificate of *authority*."""
        leaf = authority.leaf(self.host)
        pair = (leaf.key.read_bytes(), leaf.cert.read_bytes())
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 << 20)])
        self._server.add_generic_rpc_handlers((self._handlers(),))
        inner = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        await self._server.start()
        self._front = await asyncio.start_server(
            lambda reader, writer: self._carry(reader, writer, inner), self.address, 0
        )
        self.port = self._front.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop serving."""
        if self._front is not None:
            self._front.close()
        await self._server.stop(None)

    def _handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Recognize": grpc.unary_unary_rpc_method_handler(
                    self._recognize,
                    request_deserializer=speech.RecognizeRequest.deserialize,
                    response_serializer=speech.RecognizeResponse.serialize,
                ),
                "StreamingRecognize": grpc.stream_stream_rpc_method_handler(
                    self._stream,
                    request_deserializer=speech.StreamingRecognizeRequest.deserialize,
                    response_serializer=speech.StreamingRecognizeResponse.serialize,
                ),
            },
        )

    async def _recognize(
        self, request: speech.RecognizeRequest, context: Context
    ) -> speech.RecognizeResponse:
        self.methods.append("Recognize")
        await self._admit(request.recognizer, context)
        if not request.content:
            await context.abort(Code.INVALID_ARGUMENT, "Request audio can not be empty.")
        code, heard, metadata, seconds = await self._answer(
            request.content, request.config, context
        )
        if seconds > INLINE_SECONDS:
            await context.abort(Code.INVALID_ARGUMENT, "Audio is too long for Recognize.")
        results = [speech.SpeechRecognitionResult(alternatives=[_said(heard)], language_code=code)]
        return speech.RecognizeResponse(results=results if heard.text else [], metadata=metadata)

    async def _stream(
        self, requests: AsyncIterator[speech.StreamingRecognizeRequest], context: Context
    ) -> AsyncIterator[speech.StreamingRecognizeResponse]:
        self.methods.append("StreamingRecognize")
        first = await anext(requests)
        await self._admit(first.recognizer, context)
        content = bytearray()
        async for request in requests:
            if len(request.audio) > PIECE_LIMIT:
                await context.abort(Code.INVALID_ARGUMENT, "Audio chunk is over 15 KB.")
            content += request.audio
        code, heard, metadata, _ = await self._answer(
            bytes(content), first.streaming_config.config, context
        )
        halves = _halves(heard)
        for number, half in enumerate(halves, start=1):
            yield speech.StreamingRecognizeResponse(
                results=[
                    speech.StreamingRecognitionResult(
                        alternatives=[_said(half)], is_final=True, language_code=code
                    )
                ],
                metadata=metadata if number == len(halves) else None,
            )
        if not halves:
            yield speech.StreamingRecognizeResponse(metadata=metadata)

    async def _admit(self, recognizer: str, context: Context) -> None:
        headers = dict(context.invocation_metadata())
        if not self._known(headers.get("authorization", "")):
            await context.abort(Code.UNAUTHENTICATED, "Request had invalid credentials.")
        routed = parse_qs(headers.get("x-goog-request-params", "")).get("recognizer")
        if routed != [recognizer]:
            await context.abort(Code.INVALID_ARGUMENT, "RESOURCE_PROJECT_INVALID")
        found = recognizer.split("/")[3]
        if found != self.location:
            await context.abort(
                Code.INVALID_ARGUMENT,
                f"Expected resource location to be {self.location}, "
                f"but found {found} in resource name.",
            )

    def _known(self, authorization: str) -> bool:
        signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
        try:
            claims = json.loads(_unpadded(signed.partition(".")[2]))
            key = self.keys[claims["iss"]]
            key.verify(_unpadded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (KeyError, ValueError, InvalidSignature):
            return False
        return bool(claims["aud"] == AUDIENCE and claims["sub"] == claims["iss"])

    async def _answer(
        self, content: bytes, config: speech.RecognitionConfig, context: Context
    ) -> tuple[str, Heard, speech.RecognitionResponseMetadata, float]:
        """Take one call: its receipt, its fault, its words."""
        fault = self.faults.popleft() if self.faults else Fault()
        request_id = f"req-{self.location}-{len(self.log.receipts)}"
        self.requests.append(config)
        self.log.add(self._receipt(content, request_id, context))
        self.heard.set()
        try:
            await asyncio.sleep(fault.delay_s)
        finally:
            self.ended.set()
        if fault.code is not None:
            await context.abort(fault.code, "the vendor's text, which may quote a person")
        heard, seconds = await self._heard(content, config, context)
        heard = fault.heard or heard
        await context.send_initial_metadata(((REGION_HEADER, fault.region or self.location),))
        metadata = speech.RecognitionResponseMetadata(
            request_id=request_id, total_billed_duration=timedelta(seconds=int(seconds) + 1)
        )
        return _code(heard.language, config), heard, metadata, seconds

    async def _heard(
        self, content: bytes, config: speech.RecognitionConfig, context: Context
    ) -> tuple[Heard, float]:
        how = config.explicit_decoding_config
        told = how.encoding == speech.ExplicitDecodingConfig.AudioEncoding.OGG_OPUS
        if not (told and how.sample_rate_hertz and how.audio_channel_count == 1):
            await context.abort(Code.INVALID_ARGUMENT, "Audio encoding is not as specified.")
        if not (config.model and config.language_codes):
            await context.abort(Code.INVALID_ARGUMENT, "Model and language codes are required.")
        pcm = await asyncio.to_thread(_decoded, content)
        primary = [code.partition("-")[0] for code in config.language_codes]
        return await self.engine(pcm, primary), len(pcm) / 32_000

    def _receipt(self, content: bytes, request_id: str, context: Context) -> Receipt:
        inner = int(context.peer().rpartition(":")[2])
        authorization = str(dict(context.invocation_metadata())["authorization"])
        return Receipt(
            connection=self._peers[inner],
            request_id=request_id,
            region=self.location,
            audio_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            auth=fingerprint(authorization),
        )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inner: int
    ) -> None:
        """Stand before the server: name each connection, and cut it when asked to."""
        host, port = writer.get_extra_info("peername")
        self.connections.append(f"{host}:{port}")
        behind, back = await asyncio.open_connection("127.0.0.1", inner)
        self._peers[back.get_extra_info("sockname")[1]] = f"{host}:{port}"
        inward = asyncio.create_task(_pump(behind, writer, None))
        try:
            await _pump(reader, back, self.cut_after)
        finally:
            inward.cancel()
            await asyncio.gather(inward, return_exceptions=True)
            back.transport.abort()
            writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, most: int | None) -> None:
    seen = 0
    with contextlib.suppress(OSError):
        while chunk := await source.read(4096):
            seen += len(chunk)
            if most is not None and seen > most:
                return
            sink.write(chunk)
            await sink.drain()


def _decoded(content: bytes) -> bytes:
    pcm = bytearray()
    with av.open(io.BytesIO(content), mode="r", format="ogg") as container:
        to_16k = av.AudioResampler(format="s16", layout="mono", rate=16_000)
        for frame in [*container.decode(audio=0), None]:
            for piece in to_16k.resample(frame):
                pcm += piece.to_ndarray().tobytes()
    return bytes(pcm)


def _code(language: str, config: speech.RecognitionConfig) -> str:
    """Return the asked code for *language*, in lower case as the vendor writes it."""
    codes = [str(code) for code in config.language_codes]
    return next((c for c in codes if c.partition("-")[0] == language), language).lower()


def _said(heard: Heard) -> speech.SpeechRecognitionAlternative:
    return speech.SpeechRecognitionAlternative(transcript=heard.text, confidence=heard.confidence)


def _halves(heard: Heard) -> list[Heard]:
    """Return one result per two parts of the text: a stream's results arrive one by one."""
    words = heard.text.split()
    middle = (len(words) + 1) // 2
    parts = (words[:middle], words[middle:])
    return [Heard(" ".join(part), heard.language, heard.confidence) for part in parts if part]


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
