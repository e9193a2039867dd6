"""
Walk the decision's allow-list, in its order, until a processor answers.

- Nothing outside the list is ever tried; an empty or exhausted list is `NoProcessorError`.
- Each try is a touch, whatever became of it, and each has its own deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from gateway.note import Note
from gateway.ports import Ports
from gateway.touch import touching
from policy.model import Allowed
from residency import route
from residency.errors import ProcessorBusyError, ProcessorError
from residency.model import Observed

DEADLINE_S = {"speak": 10.0, "transcribe": 20.0, "understand": 5.0}
STAGE = {"speak": "tts", "transcribe": "stt", "understand": "nlu"}


class Answered(Protocol):
    """What every processor's answer has: what was seen of the connection."""

    @property
    def observed(self) -> Observed:
        """Return the observed facts."""
        ...


Adapter = TypeVar("Adapter")
Answer = TypeVar("Answer", bound=Answered)


async def through(
    note: Note,
    allowed: Allowed,
    action: str,
    artifact: str,
    adapters: Mapping[str, Adapter],
    call: Callable[[Adapter], Awaitable[Answer]],
    ports: Ports,
) -> Answer:
    """
    Return the first answer of *call* over the allowed *adapters*.

    Raises `NoProcessorError` when none is left; a processor's own error never leaves here.
    """
    left = list(allowed.processors)
    while True:
        chosen = route.choose(left, admit=ports.health.admit, have=adapters)
        left.remove(chosen)
        try:
            answer = await _touch(note, allowed, action, artifact, chosen, adapters, call, ports)
        except ProcessorBusyError:
            ports.health.failed(chosen)
        except ProcessorError:
            continue  # the note's fault, not the processor's: others may still be heard by it
        else:
            ports.health.succeeded(chosen)
            return answer


async def _touch(
    note: Note,
    allowed: Allowed,
    action: str,
    artifact: str,
    chosen: str,
    adapters: Mapping[str, Adapter],
    call: Callable[[Adapter], Awaitable[Answer]],
    ports: Ports,
) -> Answer:
    processor = ports.processors[chosen]
    matter = note.matter(artifact, allowed.provenance.id)
    with ports.metrics.timed(
        STAGE[action], processor=chosen, tenant=note.tenant.id, region=processor.region
    ):
        async with touching(ports.trail, matter, processor, action, now=ports.now) as touch:
            try:
                async with asyncio.timeout(DEADLINE_S[action]):
                    answer = await call(adapters[chosen])
            except TimeoutError:
                raise ProcessorBusyError(f"{chosen}: late") from None
            touch.observe(answer.observed)
            return answer
