"""A no that a restored database forgot comes back from the log, before anybody is served."""

from datetime import timedelta

import pytest
from sqlalchemy import delete
from support.desk import TENANT, Desk
from support.erasing import Eraser

from audit.model import Event, EventType
from gateway import restored, turns
from gateway.erasure import Scope
from gateway.jobs import State
from gateway.note import SPOKEN
from gateway.schema import erasures, positions
from gateway.whatsapp.payload import Text
from policy.consents.tables import consents
from policy.model import ConsentState
from vault.model import Kind
from vault.tables import artifacts, retention


async def withdrew(desk: Desk) -> str:
    """Have ada agree, then withdraw; return her pseudonym."""
    await desk.consents()
    await restored.note(desk.ports, desk.trail.inner)
    desk.clock.move(1)
    note = await desk.note(Text(body="STOP"))
    await turns.act(note, desk.ports)
    return note.subject


async def state(desk: Desk, subject: str) -> ConsentState | None:
    """Return what counts now."""
    row = await desk.ports.consents.newest(TENANT, subject, SPOKEN)
    return row.state if row else None


async def yesterday(desk: Desk) -> None:
    """Take the ledger of consents back to before the withdrawal."""
    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(consents).where(consents.c.state == "withdrawn"))


@pytest.mark.anyio
async def test_a_withdrawal_survives_a_restore(desk: Desk) -> None:
    """Processing on a consent that was taken back is what a restore must never bring."""
    subject = await withdrew(desk)
    await yesterday(desk)
    assert await state(desk, subject) is ConsentState.GRANTED

    assert await restored.recall(desk.ports, desk.trail.inner) == 1

    assert await state(desk, subject) is ConsentState.WITHDRAWN
    assert await restored.recall(desk.ports, desk.trail.inner) == 0


@pytest.mark.anyio
async def test_a_log_of_the_future_hides_no_withdrawal(desk: Desk) -> None:
    """Under a wrong clock a log of 2027 was begun: "the newest" was none of today's ever after."""
    ahead = desk.clock() + timedelta(days=400)
    desk.clock.work = lambda: ahead
    event = Event(id="e1", type=EventType.RETENTION_CHECKED, at=ahead, tenant="eu-1")
    await desk.trail.append(event)
    desk.clock.work = desk.time.now

    subject = await withdrew(desk)
    await yesterday(desk)

    assert len(desk.trail.inner.quarters()) == 2
    assert await restored.recall(desk.ports, desk.trail.inner) == 1
    assert await state(desk, subject) is ConsentState.WITHDRAWN


@pytest.mark.anyio
async def test_what_the_tables_know_is_not_read_again(desk: Desk) -> None:
    """A start reads the log from where the tables are, not from the beginning of the quarter."""
    subject = await withdrew(desk)
    await restored.note(desk.ports, desk.trail.inner)
    await yesterday(desk)

    assert await restored.recall(desk.ports, desk.trail.inner) == 0
    assert await state(desk, subject) is ConsentState.GRANTED

    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(positions))
    assert await restored.recall(desk.ports, desk.trail.inner) == 1


@pytest.mark.anyio
async def test_what_a_withdrawal_erased_is_erased_again(eraser: Eraser) -> None:
    """Rows and objects come back from a backup together: the journal names what has to go."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.spoken()
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    kept = await desk.ports.custody.of_subject(note.subject)
    [first] = [each for each in kept if each.label.kind is Kind.TRANSCRIPT]
    name = dict(await desk.ports.custody.objects_of([first.label.artifact]))[first.label.artifact]
    sealed = await desk.ports.custody.objects.get(name)
    async with desk.ports.engine.connect() as tx:
        rows = (await tx.execute(artifacts.select())).mappings().all()
        clocks = (await tx.execute(retention.select())).mappings().all()
    await turns.act(await desk.note(Text(body="STOP")), desk.ports)
    await eraser.erasures.tick()
    assert await desk.ports.custody.describe(first.label.artifact) is None

    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(erasures))
        await tx.execute(delete(retention))
        await tx.execute(delete(artifacts))
        await tx.execute(artifacts.insert(), [dict(row) for row in rows])
        await tx.execute(retention.insert(), [dict(row) for row in clocks])
    await desk.ports.custody.objects.put(name, sealed)
    assert await desk.ports.custody.open(first), "the backup opens: the person's key lives"

    assert await eraser.erasures.replay() == 1

    assert await desk.ports.custody.of_subject(note.subject) == []
    assert name not in await desk.ports.custody.objects.names()
    assert await eraser.erasures.replay() == 0
    assert Scope.CONSENT in {row.scope for row in await desk.rows(erasures)}
