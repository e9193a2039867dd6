"""
The decoder's own process: ``python -m gateway.audio.child <process id of the gateway>``.

It loads the codec once and then forks a fresh, confined process for every note: warm, a note
costs a fork and not an interpreter start, and none is decoded where another one was.

Over standard input, a Unix socket, comes one `JOB` a time and with it the socket that carries
the note in and a state and the PCM out. Only the forked process holds that socket, and it holds
nothing else: a note that takes it over can reach neither the next note nor this process. When
the forked process is gone its exit code goes back as a `STATUS`.

Imports neither numpy nor anything else that starts threads: it forks.
"""

import io
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet

from gateway.audio import confine, encode
from gateway.audio.formats import CODECS, FORMATS, Format

# Seconds of sound, seconds of processor time, bytes of memory, place in FORMATS.
JOB = struct.Struct("<IIQB")
STATUS = struct.Struct("<i")  # an exit code, or minus a signal
DONE, FAILED, LIMITS, LONG, CODEC = b"D", b"F", b"L", b"T", b"C"

_NAMES = {kind: kind.value for kind in FORMATS} | {
    Format.MP4: "mov,mp4,m4a,3gp,3g2,mj2",
    Format.WEBM: "matroska,webm",
}
RATE = 16_000
SAMPLE_BYTES = 2
_CHUNK = 1 << 20
_PACKETS_PER_SECOND = 400  # of a file, on average: 2.5 ms each is the shortest that Opus has


class OverlongError(Exception):
    """The note decodes to more sound than was allowed."""


def to_pcm(content: bytes, *, max_seconds: int) -> bytes:
    """
    Return the Ogg/Opus note *content* as 16 kHz mono signed 16-bit little-endian PCM.

    The demuxer and the codec are named, never probed for.

    Raises:
        OverlongError: there is more than *max_seconds* of it.
        av.FFmpegError: it cannot be decoded.
    """
    pcm = bytearray()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    codec = av.CodecContext.create("libopus", "r")
    with av.open(io.BytesIO(content), "r", format="ogg") as container:
        codec.extradata = container.streams.audio[0].codec_context.extradata
        for packet in container.demux(audio=0):
            for frame in codec.decode(packet):
                pcm += _resampled(resampler, frame)
            if len(pcm) > max_seconds * RATE * SAMPLE_BYTES:
                raise OverlongError
    return bytes(pcm + _resampled(resampler, None))


class CodecError(Exception):
    """The file asks for a decoder that its format does not have here."""


def file_to_pcm(content: bytes, kind: Format, *, max_seconds: int) -> bytes:
    """
    Return the audio file *content* of *kind* as `to_pcm` does.

    Its packets are counted before a decoder sees the first one; what the decoder then makes of
    them is bounded as well. Pictures and video in it are skipped unread.

    Raises:
        OverlongError: there is more than *max_seconds* of it.
        CodecError: its codec is none of `CODECS`.
        av.FFmpegError: it cannot be decoded.
    """
    with _opened(content, kind) as container:
        _bound(container.demux(audio=0), max_seconds)
    pcm = bytearray()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with _opened(content, kind) as container:
        for frame in container.decode(audio=0):
            pcm += _resampled(resampler, frame)
            if len(pcm) > max_seconds * RATE * SAMPLE_BYTES:
                raise OverlongError
    return bytes(pcm + _resampled(resampler, None)) if pcm else b""


@contextmanager
def _opened(content: bytes, kind: Format) -> Iterator[InputContainer]:
    """Open *content* with the demuxer and decoders of *kind* alone, on this thread."""
    allowed = {"codec_whitelist": ",".join(sorted(CODECS[kind])), "format_whitelist": _NAMES[kind]}
    with av.open(io.BytesIO(content), "r", format=kind.value, options=allowed) as container:
        streams = container.streams.audio
        if not streams or streams[0].codec_context.name not in CODECS[kind]:
            raise CodecError
        streams[0].codec_context.thread_count = 1
        yield container


def _bound(packets: "Iterator[Packet[Any]]", max_seconds: int) -> None:
    seconds = 0.0
    for count, packet in enumerate(packets):
        seconds += float((packet.duration or 0) * (packet.time_base or 0))
        if seconds > max_seconds or count > max_seconds * _PACKETS_PER_SECOND:
            raise OverlongError


def _resampled(resampler: av.AudioResampler, frame: AudioFrame | None) -> bytes:
    ready = resampler.resample(frame)
    return b"".join(bytes(part.planes[0])[: part.samples * SAMPLE_BYTES] for part in ready)


def main() -> None:
    """Serve notes until the gateway closes standard input or ends."""
    confine.die_with_parent(int(sys.argv[1]))
    gateway = socket.socket(fileno=0)
    gateway.sendall(STATUS.pack(_rehearse()))
    while True:
        job, note, _, _ = socket.recv_fds(gateway, JOB.size, 1)
        if not job:
            return
        gateway.sendall(STATUS.pack(_serve(job, note[0])))


def _rehearse() -> int:
    """Decode half a second of silence here, to load the codec, and then as a job."""
    silence = encode.to_ogg(bytes(RATE), RATE)
    to_pcm(silence, max_seconds=1)
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(silence)
        ours.shutdown(socket.SHUT_WR)
        status = _serve(JOB.pack(1, 20, 1 << 30, FORMATS.index(Format.OGG)), theirs.detach())
        return status if ours.recv(1) == DONE else status or os.EX_SOFTWARE


def _serve(job: bytes, note: int) -> int:
    """Do one job in a process of its own; return how that process ended."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        confine.die_with_parent(parent)
        os.dup2(note, 0)
        os.dup2(note, 1)
        os.close(note)
        os._exit(_work(*JOB.unpack(job)))
    os.close(note)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _pcm(content: bytes, kind: Format, max_seconds: int) -> bytes:
    if kind is Format.OGG:
        return to_pcm(content, max_seconds=max_seconds)
    return file_to_pcm(content, kind, max_seconds=max_seconds)


def _work(max_seconds: int, cpu_seconds: int, memory_bytes: int, kind: int) -> int:
    try:
        confine.seal(memory_bytes=memory_bytes, cpu_seconds=cpu_seconds)
        answer = DONE + _pcm(_read(), FORMATS[kind], max_seconds)
    except OverlongError:
        answer = LONG
    except MemoryError:
        answer = LIMITS
    except CodecError:
        answer = CODEC
    except (av.FFmpegError, LookupError, ValueError):
        answer = FAILED
    except OSError:
        return os.EX_OSERR
    _write(answer)
    return os.EX_OK


def _read() -> bytes:
    found = bytearray()
    while chunk := os.read(0, _CHUNK):
        found += chunk
    return bytes(found)


def _write(content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(1, rest[:_CHUNK]) :]


if __name__ == "__main__":
    main()
