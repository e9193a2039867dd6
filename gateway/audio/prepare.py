"""From the bytes of a voice note to what a processor may hear."""

import asyncio

from gateway.audio import activity, child, encode, formats, ogg
from gateway.audio.decode import Decoder
from gateway.audio.formats import Format
from gateway.errors import AudioRefusedError
from residency.model import Audio


async def prepare(content: bytes, decoder: Decoder) -> Audio:
    """
    Return the voice note or audio file *content* inspected, decoded and measured.

    Nothing is decoded that was not bounded first: Ogg by a walk of ours, the other formats by a
    count of their packets in the decoder's process. What vendors may not read (another format,
    streams in a chain, a stream cut out of a longer one) is encoded anew as a plain voice note.
    Computing steps run in a thread: a long note must not hold up the event loop.

    Raises:
        AudioRefusedError: it is not audio that we decode.
        AudioBusyError: it could not be decoded now.
    """
    pcm, plain = await _decoded(content, decoder)
    note = content if plain else await asyncio.to_thread(encode.to_ogg, pcm, child.RATE)
    voiced = await asyncio.to_thread(activity.voiced_seconds, pcm)
    seconds = len(pcm) / (child.RATE * child.SAMPLE_BYTES)
    return Audio(ogg=note, pcm=pcm, seconds=seconds, voiced_seconds=voiced)


async def _decoded(content: bytes, decoder: Decoder) -> tuple[bytes, bool]:
    """Return the sound of *content*, and whether it is a plain voice note as it is."""
    kind = formats.recognise(content)
    if kind is not Format.OGG:
        pcm = await decoder.decode(content, kind)
        if not pcm:
            raise AudioRefusedError("audio.no_sound")
        return pcm, False
    note = await asyncio.to_thread(ogg.inspect, content)
    parts = [await decoder.decode(content[start:end]) for start, end in note.links]
    return b"".join(parts), note.plain
