"""From the bytes of a voice note to what a processor may hear."""

import asyncio

from gateway.audio import activity, child, ogg
from gateway.audio.decode import Decoder
from residency.model import Audio


async def prepare(content: bytes, decoder: Decoder) -> Audio:
    """
    Return the voice note *content* inspected, decoded and measured.

    Nothing is decoded that the container's walk has not bounded first. The two computing steps
    run in a thread: a long note must not hold up the event loop.

    Raises:
        AudioRefusedError: it is not a voice note we decode.
        AudioBusyError: it could not be decoded now.
    """
    await asyncio.to_thread(ogg.inspect, content)
    pcm = await decoder.decode(content)
    voiced = await asyncio.to_thread(activity.voiced_seconds, pcm)
    seconds = len(pcm) / (child.RATE * child.SAMPLE_BYTES)
    return Audio(ogg=content, pcm=pcm, seconds=seconds, voiced_seconds=voiced)
