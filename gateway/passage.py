"""
Leave to reach a processor: a ticket of the egress broker, for one touch.

- The touch is on record before the ticket is asked for, and ends after it: what the broker saw
  of the connections stands in the touch's end, beside what the vendor's answer said.
- A ticket admits the hosts that the decision obliges the processor to, and no others. A
  development cell's messaging may also reach the simulator that its settings name.
- A processor inside the cell gets no ticket. Without a broker nothing leaves.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace

from gateway import accounts, findings
from gateway.errors import ChannelBusyError
from gateway.note import Note
from gateway.ports import Ports
from gateway.touch import Touch, folded, touching
from policy.model import Allowed
from residency import pins
from residency.errors import EgressError, ProcessorBusyError
from residency.model import Grant, Observed, Passage, Processor, Service
from residency.ports import Egress
from vault.errors import HeldError

MARGIN_S = 1.0
ADMIT_S = 1.0
LOST = "egress.lost"


@asynccontextmanager
async def leaving(
    note: Note,
    processor: Processor,
    action: str,
    artifact: str,
    allowed: Allowed,
    ports: Ports,
    *,
    deadline_s: float,
) -> AsyncIterator[tuple[Touch, Passage]]:
    """
    Yield a touch of *artifact* by *processor*, on record, and leave for it; see `passing`.

    Raises `HeldError` if *artifact* is under a legal hold, also one placed since the decision, and
    `AccountFaultError`, before anything begins, if WhatsApp does not accept the account.
    """
    matter = note.matter(artifact, allowed.provenance.id)

    async def leave() -> None:
        await note.leave(ports)()
        if await ports.custody.closed([artifact]):
            raise HeldError(f"{artifact}: under a legal hold")

    async with (
        _open(note, processor, action, ports),
        touching(ports.trail, matter, processor, action, now=ports.now, leave=leave) as touch,
        passing(touch, processor, allowed, ports, deadline_s=deadline_s) as passage,
    ):
        yield touch, passage


def _open(
    note: Note, processor: Processor, action: str, ports: Ports
) -> AbstractAsyncContextManager[None]:
    if processor.service is not Service.MESSAGING:
        return nullcontext()
    number, tenant = note.message.phone_number_id, note.tenant.id
    return accounts.watched(ports.accounts, number, tenant, action, note.job.id)


@asynccontextmanager
async def passing(
    touch: Touch, processor: Processor, allowed: Allowed, ports: Ports, *, deadline_s: float
) -> AsyncIterator[Passage]:
    """
    Yield leave to reach *processor* for *deadline_s*; *touch* observes what became of it.

    Raises `ProcessorBusyError` (`ChannelBusyError` for messaging): nothing can leave now.
    """
    options = allowed.obligations.options.get(processor.id, {})
    hosts = _hosts(processor, allowed, ports)
    if not hosts and not processor.hosts:
        yield Passage(options=options)
        return
    grant = Grant(
        processor=processor.id,
        decision=allowed.provenance.id,
        touch=touch.id,
        hosts=hosts,
        seconds=deadline_s + MARGIN_S,
        blocks=() if set(hosts) - set(processor.hosts) else pins.blocks(processor),
    )
    if ground := allowed.obligations.transfers.get(processor.id):
        touch.detail["transfer"] = ground
    passage = await _admitted(grant, processor, options, ports.egress)
    try:
        yield passage
    finally:
        touch.observe(await asyncio.shield(_ended(passage, ports.egress)))
        if set(hosts) <= set(processor.hosts):  # a simulator is not what the row declares
            ports.findings.consider(processor, findings.seen(touch.detail))


def _hosts(processor: Processor, allowed: Allowed, ports: Ports) -> tuple[str, ...]:
    granted = allowed.obligations.egress.get(processor.id, ())
    hosts = tuple(host for host in processor.hosts if host in granted)
    return hosts + (ports.simulators if processor.service is Service.MESSAGING else ())


async def _admitted(
    grant: Grant, processor: Processor, options: Mapping[str, str], egress: Egress
) -> Passage:
    try:
        async with asyncio.timeout(ADMIT_S):
            return replace(await egress.admit(grant), options=options)
    except (EgressError, TimeoutError):
        if processor.service is Service.MESSAGING:
            raise ChannelBusyError("egress.closed") from None
        raise ProcessorBusyError(f"{processor.id}: egress.closed") from None


async def _ended(passage: Passage, egress: Egress) -> Observed:
    try:
        return folded(await egress.end(passage))
    except EgressError:  # the broker died: what went through it is not known any more
        return Observed(refused=(LOST,))
