"""
No evidence, no touch: the trail knows of every touch before the bytes leave.

- ``touch.began`` is durable before the body of `touching` runs; if it cannot be made durable,
  the body does not run (`AppendError`).
- The caller's leave is asked for before and after that: a withdrawal that came in between is
  heard before a byte leaves, and what was begun ends without one.
- ``touch.ended`` follows in every outcome: done, raised, cancelled. A killed process leaves a
  began without an end; whoever takes over the job ends it as killed (`close_killed`).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from audit.model import Event, EventType, Leaf, Receipt
from audit.personal import withheld
from gateway import crashpoint
from residency.model import Contact, Observed, Processor


class Trail(Protocol):
    """The part of the audit trail that writers need; see `audit.trail.Trail`."""

    async def append(self, event: Event) -> Receipt:
        """Make *event* durable; raise `AppendError` if that is not possible now."""
        ...

    async def checkpoint(self) -> str:
        """Return the newest signed checkpoint."""
        ...

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Return the touches that began and have no end."""
        ...

    async def leaves(
        self, *, artifact: str | None = None, job: str | None = None, touch: str | None = None
    ) -> list[Leaf]:
        """Return what is on record of one artifact, job or touch (name exactly one)."""
        ...

    async def prove(self, receipt: Receipt) -> str:
        """Return the ``.tlog-proof`` text of the leaf that *receipt* is about."""
        ...


@dataclass(slots=True)
class Touch:
    """A touch under way; `observe` adds what was seen of the connection."""

    id: str
    detail: dict[str, Any] = field(default_factory=dict)

    def observe(self, observed: Observed) -> None:
        """
        Record the facts of *observed* that are not empty; later ones replace earlier ones.

        What the vendor said of itself goes under ``attested``: it is no observation of ours, and
        is withheld where it looks like a number of somebody.
        """
        seen = {
            "host": observed.host,
            "peer": observed.peer,
            "tls": observed.tls,
            "connections": observed.connections,
            "bytes": observed.bytes_sent,
            "received": observed.bytes_received,
            "peers": list(observed.peers),
            "refused": list(observed.refused),
        }
        said = {"region": observed.region, "request_id": observed.request_id}
        if facts := {name: value for name, value in seen.items() if value}:
            self.detail |= facts | {"basis": "observed"}
        if facts := {name: withheld(value) for name, value in said.items() if value}:
            basis = {"basis": "attested by vendor"}
            self.detail["attested"] = self.detail.get("attested", {}) | facts | basis


def folded(contacts: Sequence[Contact]) -> Observed:
    """Return what *contacts* say in one value; bytes are those of the tunnels, TLS included."""
    made = [contact for contact in contacts if contact.peer]
    refused = [f"{contact.host} {contact.refused}" for contact in contacts if contact.refused]
    return Observed(
        host=made[0].host if made else "",
        connections=len(made),
        bytes_sent=sum(contact.sent for contact in made),
        bytes_received=sum(contact.received for contact in made),
        peers=tuple(dict.fromkeys(contact.peer for contact in made)),
        refused=tuple(dict.fromkeys(refused)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """Whom and what a touch is about."""

    tenant: str
    job: str
    subject: str
    artifact: str
    decision: str


Leave = Callable[[], Awaitable[None]]
"""Raises if the work must not go on: the job is another's by now, or its person took it back."""


@asynccontextmanager
async def touching(
    trail: Trail,
    matter: Matter,
    processor: Processor,
    action: str,
    *,
    now: Callable[[], datetime],
    leave: Leave,
) -> AsyncIterator[Touch]:
    """Record that *processor* handles *matter* while the body runs, if *leave* is given."""
    await leave()
    touch = Touch(f"t_{secrets.token_hex(16)}")
    declared = Touch(touch.id, _declared(processor))
    began = _event(EventType.TOUCH_BEGAN, declared, matter, processor, action, now())
    await trail.append(began)
    crashpoint.reach("touch.began")
    outcome = "done"
    try:
        await leave()
        yield touch
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    except BaseException as exc:
        outcome = "raised"
        touch.detail["error"] = type(exc).__name__
        raise
    finally:
        ended = _event(EventType.TOUCH_ENDED, touch, matter, processor, action, now(), outcome)
        await asyncio.shield(trail.append(ended))
        crashpoint.reach("touch.ended")


async def close_killed(trail: Trail, job: str, *, now: Callable[[], datetime]) -> int:
    """End the touches that an earlier holder of *job* left open; return how many."""
    left = await trail.unended(job)
    for leaf in left:
        began = leaf.event
        await trail.append(
            Event(
                id=f"{began.touch}.ended",
                type=EventType.TOUCH_ENDED,
                at=now(),
                tenant=began.tenant,
                artifact=began.artifact,
                subject=began.subject,
                job=began.job,
                touch=began.touch,
                action=began.action,
                processor=began.processor,
                region=began.region,
                decision=began.decision,
                outcome="killed",
                detail={"basis": "unknown"},
            )
        )
    return len(left)


def _declared(processor: Processor) -> dict[str, Any]:
    """Return what the row says of its place, to stand beside what is then observed."""
    if not processor.hosts:
        return {}
    said = {"country": processor.jurisdiction, "hosts": list(processor.hosts)}
    return {
        "declared": said | {"region": processor.settings.get("vendor_region", processor.region)}
    }


def _event(
    kind: EventType,
    touch: Touch,
    matter: Matter,
    processor: Processor,
    action: str,
    at: datetime,
    outcome: str | None = None,
) -> Event:
    return Event(
        id=f"{touch.id}.{kind.value.rpartition('.')[2]}",
        type=kind,
        at=at,
        tenant=matter.tenant,
        artifact=matter.artifact,
        subject=matter.subject,
        job=matter.job,
        touch=touch.id,
        action=action,
        processor=processor.id,
        region=processor.region,
        decision=matter.decision,
        outcome=outcome,
        detail=dict(touch.detail),
    )
