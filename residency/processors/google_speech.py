"""
`SpeechToText` on Google Cloud Speech-to-Text v2, at one location's endpoint.

- A note up to a minute goes in one request (Recognize), a longer one in pieces
  (StreamingRecognize). BatchRecognize reads a bucket, which is another processor: never.
- The SDK's messages travel over stubs of ours: its own client logs whole requests and answers,
  which are a person's words, once a log level is DEBUG; and on streams it sends no routing header.
- One call, one connection, no retry.

Trusted for the words it returns, not for where it keeps audio. Google's data logging is a switch
of the project: no request carries it, so no option can be proven by it.
"""

from collections.abc import Sequence
from typing import Any

import grpc.aio  # type: ignore[import-untyped]
from google.cloud.speech_v2.types import cloud_speech as speech

from residency.errors import ProcessorRefusedError
from residency.model import INSIDE, Audio, Observed, Passage, Processor, Transcript
from residency.processors import google_request, google_row, grpc_tunnel, options
from residency.processors.google_account import ServiceAccount

DEADLINE_S = 70.0  # the caller's is the one that counts; this one ends what it forgot
INLINE_SECONDS = 60.0  # Recognize's documented limits
INLINE_BYTES = 10_000_000
STREAM_SECONDS = 300.0  # StreamingRecognize's

SERVICE = "/google.cloud.speech.v2.Speech"


class GoogleSpeechToText:
    """
    Google Speech v2 as one registry row describes it; *roots* are PEM, None for gRPC's own.

    Raises `RegistryError` when the row's host, recognizer and location do not agree.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        credentials: ServiceAccount,
        roots: bytes | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.processor = processor
        self._pins = google_row.read(processor)
        self._credentials = credentials
        self._roots = roots
        self._deadline_s = deadline_s

    async def transcribe(
        self, audio: Audio, *, languages: Sequence[str], passage: Passage = INSIDE
    ) -> Transcript:
        """See `SpeechToText.transcribe`; audio without speech is not shown to the vendor."""
        self._check(audio, passage)
        codes = self._pins.served(languages)
        if audio.voiced_seconds <= 0:
            return Transcript(text="", language=_primary(codes[0]), confidence=0.0)
        how = google_request.config(self._pins, audio.ogg, codes)
        try:
            async with grpc_tunnel.channel(self._pins.host, passage, self._roots) as channel:
                return await self._heard(channel, audio, how)
        except grpc.aio.AioRpcError as exc:
            # From None: the vendor's text may quote the request.
            raise grpc_tunnel.failure(self.processor.id, exc) from None

    async def aclose(self) -> None:
        """Do nothing: each call closes its own connection."""

    def _check(self, audio: Audio, passage: Passage) -> None:
        if not (passage.proxy and passage.ticket and passage.secret):
            raise ProcessorRefusedError(f"{self.processor.id}: no passage through the broker")
        wanted = {**self.processor.options, **passage.options}
        options.prove(wanted, self._pins.carried, self.processor.id)
        if audio.seconds > STREAM_SECONDS:
            raise ProcessorRefusedError(f"{self.processor.id}: longer than {STREAM_SECONDS:.0f} s")

    async def _heard(
        self, channel: grpc.aio.Channel, audio: Audio, how: speech.RecognitionConfig
    ) -> Transcript:
        if audio.seconds <= INLINE_SECONDS and len(audio.ogg) <= INLINE_BYTES:
            call = self._recognize(channel, google_request.whole(self._pins, audio.ogg, how))
            answers = [await call]
        else:
            call = self._stream(channel, google_request.pieces(self._pins, audio.ogg, how))
            answers = [answer async for answer in call]
        headers = [*await call.initial_metadata(), *await call.trailing_metadata()]
        return self._transcript(answers, dict(headers), how.language_codes[0])

    def _recognize(self, channel: grpc.aio.Channel, request: speech.RecognizeRequest) -> Any:
        stub = channel.unary_unary(
            f"{SERVICE}/Recognize",
            request_serializer=speech.RecognizeRequest.serialize,
            response_deserializer=speech.RecognizeResponse.deserialize,
        )
        return stub(request, timeout=self._deadline_s, metadata=self._metadata())

    def _stream(self, channel: grpc.aio.Channel, requests: Any) -> Any:
        stub = channel.stream_stream(
            f"{SERVICE}/StreamingRecognize",
            request_serializer=speech.StreamingRecognizeRequest.serialize,
            response_deserializer=speech.StreamingRecognizeResponse.deserialize,
        )
        return stub(requests, timeout=self._deadline_s, metadata=self._metadata())

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (
            ("authorization", self._credentials.bearer()),
            ("x-goog-request-params", f"recognizer={self._pins.recognizer}"),
        )

    def _transcript(
        self, answers: Sequence[Any], headers: dict[str, Any], asked: str
    ) -> Transcript:
        results = [r for answer in answers for r in answer.results if r.alternatives]
        best = [result.alternatives[0] for result in results]
        said = next((result.language_code for result in results if result.language_code), asked)
        return Transcript(
            text=" ".join(each.transcript.strip() for each in best),
            language=_primary(said),
            confidence=min((_share(each.confidence) for each in best), default=0.0),
            observed=Observed(
                request_id=next(filter(None, (a.metadata.request_id for a in answers)), ""),
                region=str(headers.get(self._pins.region_header, "")),
            ),
        )


def _share(confidence: float) -> float:
    return min(max(confidence, 0.0), 1.0)


def _primary(code: str) -> str:
    return code.partition("-")[0].lower()
