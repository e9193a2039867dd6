"""
No evidence, no touch: the trail knows of every touch before the bytes leave.

- ``touch.began`` is durable before the body of `touching` runs; if it cannot be made durable,
  the body does not run (`AppendError`).
- ``touch.ended`` follows in every outcome: done, raised, cancelled. A killed process leaves a
  began without an end; whoever takes over the job ends it as killed (`close_killed`).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from audit.model import Event, EventType, Leaf, Receipt
from gateway import crashpoint
from residency.model import Observed, Processor


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


@dataclass(slots=True)
class Touch:
    """A touch under way; `observe` adds what was seen of the connection."""

    id: str
    detail: dict[str, Any] = field(default_factory=dict)

    def observe(self, observed: Observed) -> None:
        """Record the facts of *observed* that are not empty, as observed ones."""
        seen = {
            "host": observed.host,
            "peer": observed.peer,
            "tls": observed.tls,
            "request_id": observed.request_id,
            "connections": observed.connections,
            "bytes": observed.bytes_sent,
        }
        if facts := {name: value for name, value in seen.items() if value}:
            self.detail |= facts | {"basis": "observed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """Whom and what a touch is about."""

    tenant: str
    job: str
    subject: str
    artifact: str
    decision: str


@asynccontextmanager
async def touching(
    trail: Trail,
    matter: Matter,
    processor: Processor,
    action: str,
    *,
    now: Callable[[], datetime],
) -> AsyncIterator[Touch]:
    """Record that *processor* handles *matter* for as long as the body runs."""
    touch = Touch(f"t_{secrets.token_hex(16)}")
    began = _event(EventType.TOUCH_BEGAN, touch, matter, processor, action, now())
    await trail.append(began)
    crashpoint.reach("touch.began")
    outcome = "done"
    try:
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
