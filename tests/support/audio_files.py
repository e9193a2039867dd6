"""Audio files in the formats that phones and recorders write, made from one real recording."""

import io
import struct
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
from av.audio.frame import AudioFrame

from gateway.audio import child

RECORDING = Path(__file__).parents[1] / "corpus" / "media" / "good" / "psphinx_cards_en_005.ogg"

# Name -> (muxer, encoder, rate, layout).
FILES = {
    "adts.aac": ("adts", "aac", 44_100, "stereo"),
    "mp4.m4a": ("ipod", "aac", 44_100, "mono"),
    "iphone.caf-like.m4a": ("ipod", "aac", 48_000, "stereo"),
    "mp3.mp3": ("mp3", "libmp3lame", 44_100, "mono"),
    "narrow.amr": ("amr", "libopencore_amrnb", 8_000, "mono"),
    "phone.3gp": ("3gp", "libopencore_amrnb", 8_000, "mono"),
    "browser.webm": ("webm", "libopus", 48_000, "mono"),
    "plain.wav": ("wav", "pcm_s16le", 16_000, "mono"),
    "telephone.wav": ("wav", "pcm_mulaw", 8_000, "mono"),
    "lossless.flac": ("flac", "flac", 44_100, "stereo"),
}


@cache
def pcm() -> bytes:
    """Return the recording as 16 kHz mono signed 16-bit samples."""
    return child.to_pcm(RECORDING.read_bytes(), max_seconds=900)


@cache
def file(name: str) -> bytes:
    """Return the recording as the file *name* of `FILES`."""
    muxer, codec, rate, layout = FILES[name]
    return encoded(pcm(), muxer, codec, rate, layout)


def encoded(sound: bytes, muxer: str, codec: str, rate: int, layout: str) -> bytes:
    """Return *sound* (16 kHz mono) as a file."""
    out = io.BytesIO()
    frame = AudioFrame(format="s16", layout="mono", samples=len(sound) // 2)
    frame.sample_rate = child.RATE
    frame.time_base = Fraction(1, child.RATE)
    frame.planes[0].update(sound.ljust(frame.planes[0].buffer_size, b"\0"))
    with av.open(out, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        context = stream.codec_context
        resampler = av.AudioResampler(
            format=context.format.name,
            layout=layout,
            rate=rate,
            frame_size=context.frame_size or 1024,
        )
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(part))
    return out.getvalue()


def adts_silence(frames: int) -> bytes:
    """Return an ADTS file of *frames* empty AAC frames of 64 ms each: hours in a few bytes."""
    body = bytes.fromhex("01182007")  # a silent mono frame
    length = 7 + len(body)
    head = struct.pack(
        ">7B",
        0xFF, 0xF1, 0x60, 0x40 | (length >> 11), (length >> 3) & 0xFF, ((length & 7) << 5) | 0x1F,
        0xFC,
    )  # fmt: skip
    return (head + body) * frames
