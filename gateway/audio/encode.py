"""
Our spoken replies as WhatsApp voice notes: Ogg/Opus, mono, about 20 kbit/s.

WhatsApp shows a play button on notes up to 512 KB and takes mono Opus only; a violation comes
back as an asynchronous "failed" status after an HTTP 200, so it is checked here.
"""

import asyncio
import io

import av
from av.audio.frame import AudioFrame

from gateway.audio import ogg, opus
from gateway.errors import AudioRefusedError

MOST_REPLY_BYTES = 512 * 1024
_BIT_RATE = 20_000
_FRAME = opus.CLOCK // 50
_SAMPLE_BYTES = 2


async def encode(pcm: bytes, rate: int) -> bytes:
    """
    Return *pcm* (mono signed 16-bit little-endian at *rate* Hz) as a voice note.

    Encodes in a thread: the codec releases the interpreter, and the speech is our own.

    Raises:
        AudioRefusedError: ``reply.empty``, or see `admit`.
    """
    if len(pcm) < _SAMPLE_BYTES:
        raise AudioRefusedError("reply.empty")
    return admit(await asyncio.to_thread(to_ogg, pcm, rate))


def admit(note: bytes) -> bytes:
    """
    Return *note* if WhatsApp will show it as a voice note.

    Raises:
        AudioRefusedError: ``reply.too_long``, ``reply.not_mono``, or a code of `ogg.inspect`.
    """
    if len(note) > MOST_REPLY_BYTES:
        raise AudioRefusedError("reply.too_long")
    if ogg.inspect(note).channels != 1:
        raise AudioRefusedError("reply.not_mono")
    return note


def to_ogg(pcm: bytes, rate: int) -> bytes:
    """Return *pcm* encoded, all of it in memory; see `encode` for the units."""
    out = io.BytesIO()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=opus.CLOCK, frame_size=_FRAME)
    with av.open(out, "w", format="ogg") as container:
        stream = container.add_stream(
            "libopus", rate=opus.CLOCK, layout="mono", options={"application": "voip"}
        )
        stream.bit_rate = _BIT_RATE
        for frame in (*resampler.resample(_frame(pcm, rate)), *resampler.resample(None), None):
            container.mux(stream.encode(frame))
    return out.getvalue()


def _frame(pcm: bytes, rate: int) -> AudioFrame:
    samples = len(pcm) // _SAMPLE_BYTES
    frame = AudioFrame(format="s16", layout="mono", samples=samples)
    frame.sample_rate = rate
    plane = frame.planes[0]
    plane.update(pcm[: samples * _SAMPLE_BYTES].ljust(plane.buffer_size, b"\0"))
    return frame
