"""
What is sent to Google Speech v2: pure messages from a note and a row's pins.

The note goes undecoded. Opus always decodes at 48 kHz (RFC 7845, section 5.1); the rate in its
head is that of the microphone, named only where it is one of those that Google takes.
"""

import struct
from collections.abc import AsyncIterator, Sequence

from google.cloud.speech_v2.types import cloud_speech as speech

from residency.errors import ProcessorRefusedError
from residency.processors.google_row import Pins

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # hertz
PIECE_BYTES = 15_000  # of audio in one streaming message; the limit is 15 KB

_HEAD_AT = 28  # behind the header of an Ogg page with one segment (RFC 3533, section 6)
_HEAD = struct.Struct("<8sBBHI")


def config(pins: Pins, ogg: bytes, codes: Sequence[str]) -> speech.RecognitionConfig:
    """Return the configuration for *ogg*; raise `ProcessorRefusedError` if it is no Opus note."""
    rate, channels = _opus(pins, ogg)
    return speech.RecognitionConfig(
        explicit_decoding_config=speech.ExplicitDecodingConfig(
            encoding=speech.ExplicitDecodingConfig.AudioEncoding.OGG_OPUS,
            sample_rate_hertz=rate,
            audio_channel_count=channels,
        ),
        model=pins.model,
        language_codes=codes,
    )


def whole(pins: Pins, ogg: bytes, how: speech.RecognitionConfig) -> speech.RecognizeRequest:
    """Return *ogg* as one request."""
    return speech.RecognizeRequest(recognizer=pins.recognizer, config=how, content=ogg)


async def pieces(
    pins: Pins, ogg: bytes, how: speech.RecognitionConfig
) -> AsyncIterator[speech.StreamingRecognizeRequest]:
    """Yield the configuration, then *ogg* in order."""
    yield speech.StreamingRecognizeRequest(
        recognizer=pins.recognizer,
        streaming_config=speech.StreamingRecognitionConfig(config=how),
    )
    for at in range(0, len(ogg), PIECE_BYTES):
        yield speech.StreamingRecognizeRequest(audio=ogg[at : at + PIECE_BYTES])


def _opus(pins: Pins, ogg: bytes) -> tuple[int, int]:
    head = ogg[_HEAD_AT : _HEAD_AT + _HEAD.size]
    if len(head) < _HEAD.size or not head.startswith(b"OpusHead"):
        raise ProcessorRefusedError(f"{pins.who}: not an Ogg/Opus note")
    _, _, channels, _, rate = _HEAD.unpack(head)
    return (rate if rate in RATES else RATES[-1]), channels
