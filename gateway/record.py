"""What the gateway puts on record besides touches and decisions."""

import asyncio
import contextlib
from datetime import datetime

from audit.errors import EventError
from audit.model import Event, EventType
from audit.personal import withheld
from gateway import log
from gateway.jobs import Job
from gateway.note import Note
from gateway.ports import Ports
from gateway.touch import Trail
from vault import retention
from vault.model import Artifact, Tombstone


async def accepted(note: Note, ports: Ports) -> None:
    """Record that WhatsApp announced this update to us; one leaf however often it is tried."""
    await ports.trail.append(
        Event(
            id=f"{note.job.id}.accepted",
            type=EventType.JOB_ACCEPTED,
            at=note.job.accepted_at,
            tenant=note.tenant.id,
            artifact=note.job.artifact,
            subject=note.subject,
            job=note.job.id,
            detail={"what": type(note.message.content).__name__.lower()},
        )
    )


async def kept(note: Note, artifact: Artifact, ports: Ports) -> None:
    """Record that *artifact* is in custody; the same artifact is recorded once."""
    await ports.trail.append(
        Event(
            id=f"{artifact.label.artifact}.stored",
            type=EventType.ARTIFACT_STORED,
            at=artifact.stored_at,
            tenant=note.tenant.id,
            artifact=artifact.label.artifact,
            subject=note.subject,
            job=note.job.id,
            region=artifact.label.region,
            detail={
                "basis": "observed",
                "bytes": artifact.size,
                "commitment": artifact.commitment,
                "due": int(artifact.due.timestamp()),
                "kind": artifact.label.kind.value,
            },
        )
    )


async def destructions(ports: Ports) -> None:
    """Put on record every destruction that is not yet; what fails here is tried again."""
    while stones := await retention.unrecorded(ports.engine):
        # Together, so that the log commits them together.
        await asyncio.gather(*(destroyed(stone, ports.trail) for stone in stones))
        told = [stone.label.artifact for stone in stones]
        await retention.recorded(ports.engine, told, ports.now())
        for stone in stones:
            ports.metrics.destroyed(stone.label.kind.value, stone.late_seconds)
            log.get().info("artifact.destroyed", artifact=stone.label.artifact)


async def replaced(name: str, ports: Ports) -> None:
    """Record that the key *name* replaced one that was gone before its time; again is once."""
    lost = "-".join(name.split("-")[:2])
    with contextlib.suppress(EventError):  # a restart tells it again, at another time
        await ports.trail.append(
            Event(
                id=f"{name}.replaced",
                type=EventType.KEY_REPLACED,
                at=ports.now(),
                tenant=ports.cell,
                region=ports.region,
                outcome="replaced",
                detail={"basis": "observed", "kek": name, "lost": lost},
            )
        )


async def destroyed(stone: Tombstone, trail: Trail) -> None:
    """Record that an artifact was destroyed, how, how late, and whether a read then failed."""
    await trail.append(
        Event(
            id=f"{stone.label.artifact}.destroyed",
            type=EventType.ARTIFACT_DESTROYED,
            at=stone.destroyed_at,
            tenant=stone.label.tenant,
            artifact=stone.label.artifact,
            subject=stone.label.subject,
            region=stone.label.region,
            outcome="verified" if stone.verified else "unverified",
            detail={
                "basis": "observed",
                "due": int(stone.due.timestamp()),
                "kind": stone.label.kind.value,
                "late_seconds": stone.late_seconds,
                "methods": list(stone.methods),
                "reason": stone.reason,
                "verified": stone.verified,
            },
        )
    )


async def ended(job: Job, state: str, reason: str, trail: Trail, at: datetime) -> None:
    """Record how *job* ended; the first record of an end counts."""
    await discarded(job.id, job.artifact, job.tenant, reason, trail, at, state=state)


async def discarded(
    job: str,
    artifact: str,
    tenant: str,
    reason: str,
    trail: Trail,
    at: datetime,
    *,
    state: str = "refused",
) -> None:
    """Record that a job nobody held was ended, and why."""
    await trail.append(
        Event(
            id=f"{job}.ended",
            type=EventType.JOB_ENDED,
            at=at,
            tenant=tenant,
            artifact=artifact,
            job=job,
            outcome=state,
            detail={"reason": withheld(reason[:64])},
        )
    )
