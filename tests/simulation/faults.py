"""
Faults that the product once had, planted again: the simulation must find each of them.

Each is a subclass of a part of the product, put in its place (`simulation.cell.Plants`).
"""

import msgspec
from simulation.cell import Plants
from simulation.operations import NOES, PLAIN

from gateway import conclude, rights
from gateway.inbox import Inbox
from gateway.jobs import Job, State
from gateway.note import opened
from gateway.timekeeping import Timekeeper
from gateway.whatsapp.payload import Message, Parsed, Text, Update
from gateway.worker import Worker
from vault.agreed_time import AgreedTime, Readings, agree


class DropsTheLate(Worker):
    """Ends whatever comes later than an answer may be sent: a late no is dropped with it."""

    async def _work(self, job: Job) -> float | None:
        if self._ports.now() >= job.deadline_at:
            await opened(job, self._ports)
            await conclude.end(job, State.REFUSED, "window.closed", self._ports)
            return None
        return await super()._work(job)


class Deaf(Inbox):
    """Hears no order in words that stand in no list: people say no in their own."""

    async def accept(self, tenant: str, parsed: Parsed) -> list[str]:
        """Accept *parsed*, each odd no being a greeting."""
        return await super().accept(
            tenant, msgspec.structs.replace(parsed, updates=tuple(map(_deafened, parsed.updates)))
        )


def _deafened(update: Update) -> Update:
    match update:
        case Message(content=Text(body=body)) if body in NOES[PLAIN:]:
            return msgspec.structs.replace(update, content=Text(body="Hello"))
        case _:
            return update


class Silent(Worker):
    """Sets a further recording aside without a word, as long as the question is not answered."""

    async def _work(self, job: Job) -> float | None:
        note = await opened(job, self._ports)
        if note.spoken and await rights.asked(note, self._ports):
            await self._ports.jobs.park(job, "consent.missing")
            return None
        return await super()._work(job)


class Credulous(Timekeeper):
    """Believes the wall clock alone, whatever it shows."""

    async def agreed(self) -> AgreedTime | None:
        """Agree with the wall clock."""
        found = agree(Readings(wall=self._machine.wall()))
        return found if isinstance(found, AgreedTime) else None


LATE = Plants(worker=DropsTheLate)
WORDS = Plants(inbox=Deaf)
SILENCE = Plants(worker=Silent)
CLOCK = Plants(timekeeper=Credulous)
