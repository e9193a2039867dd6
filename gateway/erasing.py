"""
What a withdrawal undoes, and a message that was taken back: destroyed at once, on record.

- GDPR Art. 17(1)(b): what was kept on a consent goes when that is withdrawn, unless another ground
  holds it. What is under a legal hold stays (Art. 17(3)(e)), and the person is told so.
- It is an erasure of its own scope: `gateway.erasures` finishes what a crash cut short, and
  certifies it. The person's key lives on, for what they write next.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from gateway import db, erasure, memory, record, subjects
from gateway.erasure import Facts, Scope
from gateway.jobs import REVOKED, TAKEN_BACK, WITHDRAWN, State, micros
from gateway.note import SPOKEN, Note, artifact
from gateway.ports import Ports
from gateway.schema import jobs
from policy import canonical
from vault.erasure import Copy
from vault.errors import CustodyError, ObjectsError
from vault.model import Artifact, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """How many artifacts were destroyed, and how many a legal hold keeps."""

    destroyed: int
    held: int


def required(note: Note, ports: Ports) -> bool:
    """Whether a withdrawal erases: by the controller's law, the person's, or the tenant's wish."""
    codes = {note.tenant.jurisdiction, *note.jurisdiction.code.split("+")}
    return ports.erasing(codes) or note.tenant.consents.withdrawal_erases


async def withdrawn(note: Note, ports: Ports, *, older: bool = False) -> Erased:
    """
    Destroy what was made of this person's voice notes; *older*: of those written before *note*.

    Raises `ObjectsError` where something may still be there: the same call goes on from there.
    """
    found = await resting(note, ports, older=older)
    await _begun(note, found, Scope.CONSENT, WITHDRAWN, ports)
    gone = [await _destroyed(each, ports) for each in found]
    await record.destructions(ports)
    return Erased(destroyed=sum(gone), held=len(gone) - sum(gone))


async def revoked(note: Note, recording: str, ports: Ports) -> None:
    """Destroy what was made of *recording*, whose author took it back with *note*."""
    idents = [artifact(recording, kind) for kind in Kind]
    found = await ports.custody.among(idents)
    await _begun(note, found, Scope.RECORDING, REVOKED, ports)
    for each in found:
        await _destroyed(each, ports, reason=REVOKED)
    await record.destructions(ports)


async def _begun(
    note: Note, found: Sequence[Artifact], scope: Scope, because: str, ports: Ports
) -> None:
    """Begin, once for *note*, the erasure of *found*; there is none of nothing."""
    if not found:
        return
    named = await ports.custody.objects_of([each.label.artifact for each in found])
    selector = {"because": because, "recordings": sorted(ident for ident, _ in named)}
    await erasure.begin(
        ports.engine,
        f"e_{canonical.digest({'job': note.job.id, 'scope': scope.value})[:32]}",
        note.subject,
        note.tenant.id,
        scope=scope,
        because=because,
        trigger="withdrawal" if scope is Scope.CONSENT else "revoke",
        by="the person",
        at=ports.now(),
        facts=Facts(
            subjects=tuple(sorted({each.label.subject for each in found})),
            recordings=tuple(
                each.label.artifact for each in found if each.label.kind is Kind.RAW_AUDIO
            ),
            objects=named,
            found=tuple(_copies(found, ports)),
            selector_sha256=canonical.digest(selector),
        ),
    )


def _copies(found: Sequence[Artifact], ports: Ports) -> Iterator[Copy]:
    for kind in Kind:
        if some := [each for each in found if each.label.kind is kind]:
            yield Copy(
                kind=kind.value,
                store=f"objects:{ports.custody.objects.name}",
                region=ports.region,
                idents=tuple(each.label.artifact for each in some),
                count=len(some),
                size=sum(each.size for each in some),
            )


async def resting(note: Note, ports: Ports, *, older: bool = False) -> list[Artifact]:
    """
    Return what is kept of this person and rests on the consent to open their voice notes.

    *older*: only what was written before *note*, or in its second.
    """
    rests = (jobs.c.subject == note.subject) & (jobs.c.purpose == SPOKEN)
    if older:
        rests &= jobs.c.sent_at <= micros(note.job.sent_at)
    query = select(jobs.c.artifact).where(rests)
    async with db.reading(ports.engine) as tx:
        recordings = (await tx.execute(query)).scalars().all()
    theirs = {artifact(recording, kind) for recording in recordings for kind in Kind}
    return [
        kept
        for subject in await subjects.formerly(ports.engine, note.subject)
        for kept in await ports.custody.of_subject(subject)
        if kept.label.artifact in theirs
    ]


async def forget(note: Note, ports: Ports) -> None:
    """Forget what is remembered of this person, on each of the tenant's numbers."""
    await memory.forget_subjects(await subjects.formerly(ports.engine, note.subject), ports)


async def leftovers(since: datetime | None, ports: Ports) -> int:
    """
    Destroy what is kept of jobs that were taken back (at *since* or later), and count it.

    Who stores something too late destroys it, unless they die between the two.
    """
    taken = (jobs.c.state == State.REFUSED) & jobs.c.reason.in_(TAKEN_BACK)
    if since is not None:
        taken &= jobs.c.ended_at >= micros(since)
    async with db.reading(ports.engine) as tx:
        rows = (await tx.execute(select(jobs.c.artifact, jobs.c.reason).where(taken))).all()
    reasons = {artifact(row.artifact, kind): row.reason for row in rows for kind in Kind}
    gone = 0
    for kept in await ports.custody.among(list(reasons)):
        with contextlib.suppress(ObjectsError):  # tried again at the next tick; the others go on
            gone += await _destroyed(kept, ports, reason=reasons[kept.label.artifact])
    if gone:
        await record.destructions(ports)
    return gone


async def _destroyed(kept: Artifact, ports: Ports, *, reason: str = WITHDRAWN) -> bool:
    try:
        await ports.custody.destroy(kept, reason=reason)
    except CustodyError:  # under a hold, unless another one destroyed it meanwhile
        # It goes when that is over.
        await ports.custody.hasten([kept.label.artifact], reason=reason)
        return await ports.custody.describe(kept.label.artifact) is None
    return True
