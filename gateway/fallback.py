"""
Walk the decision's allow-list, in its order, until a processor answers.

- Nothing outside the list is ever tried; an empty or exhausted list is `NoProcessorError`.
- Each try is a touch, whatever became of it, and has a deadline. Vendors share `VENDORS_S`, so
  that a person hears something in time whoever is silent.
- A processor that is full is waited for a moment if nobody else is free: a place of the list is
  better than none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from gateway.note import Note
from gateway.passage import leaving
from gateway.ports import Ports
from policy.model import Allowed
from residency import route
from residency.errors import NoProcessorError, ProcessorBusyError, ProcessorError
from residency.model import Observed, Passage

DEADLINE_S = {"speak": 10.0, "transcribe": 20.0, "understand": 5.0}  # inside the cell
VENDOR_S = 2.5  # of one try outside it: a silent vendor leaves time for the next
VENDORS_S = 4.5  # of all tries outside it: within 5 s a person hears something
LONG_S = 10.0  # of a recording: for each second more, a vendor has a fifth of one more
LEAST_S = 0.5  # with less than this left a vendor is not worth a touch
MOST_TRIES = 3  # outside the cell
WAIT_S = 2.0
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
    call: Callable[[Adapter, Passage], Awaitable[Answer]],
    ports: Ports,
    *,
    seconds: float = 0.0,
) -> Answer:
    """
    Return the first answer of *call* over the allowed *adapters*; *seconds* is a recording's.

    Raises `NoProcessorError` when none is left; a processor's own error never leaves here.
    """
    left = [processor for processor in allowed.processors if processor in adapters]
    now = asyncio.get_running_loop().time
    more_s = max(0.0, seconds - LONG_S) / 5
    vendors_until, vendors_tried = now() + VENDORS_S + more_s, 0
    while True:
        chosen = await _chosen(left, note.tenant.id, ports)
        left.remove(chosen)
        deadline_s = DEADLINE_S[action]
        try:
            if ports.processors[chosen].hosts:
                deadline_s = min(VENDOR_S + more_s, vendors_until - now())
                if deadline_s < LEAST_S or vendors_tried == MOST_TRIES:
                    continue
                vendors_tried += 1
            answer = await _touch(
                note, allowed, action, artifact, chosen, adapters, call, ports, deadline_s
            )
        except ProcessorBusyError:
            ports.health.failed(chosen)
        except ProcessorError:
            continue  # the note's fault, not the processor's: others may still be heard by it
        else:
            ports.health.succeeded(chosen)
            return answer
        finally:
            ports.limits.leave(chosen, note.tenant.id)


async def _chosen(left: Sequence[str], tenant: str, ports: Ports) -> str:
    """Return the first of *left* that is healthy and has a place, which is then taken."""

    def admit(processor: str) -> bool:
        if not ports.limits.enter(processor, tenant):
            full.append(processor)
            return False
        if ports.health.admit(processor):
            return True
        ports.limits.leave(processor, tenant)
        return False

    loop = asyncio.get_running_loop()
    until = loop.time() + WAIT_S
    while True:
        full: list[str] = []
        try:
            return route.choose(left, admit=admit, have=left)
        except NoProcessorError:
            if not full or not await ports.limits.freed(until - loop.time()):
                raise


async def _touch(
    note: Note,
    allowed: Allowed,
    action: str,
    artifact: str,
    chosen: str,
    adapters: Mapping[str, Adapter],
    call: Callable[[Adapter, Passage], Awaitable[Answer]],
    ports: Ports,
    deadline_s: float,
) -> Answer:
    processor = ports.processors[chosen]
    with ports.metrics.timed(
        STAGE[action], processor=chosen, tenant=note.tenant.id, region=processor.region
    ):
        async with leaving(
            note, processor, action, artifact, allowed, ports, deadline_s=deadline_s
        ) as (touch, passage):
            try:
                async with asyncio.timeout(deadline_s):
                    answer = await call(adapters[chosen], passage)
            except TimeoutError:
                raise ProcessorBusyError(f"{chosen}: late") from None
            touch.observe(answer.observed)
            return answer
