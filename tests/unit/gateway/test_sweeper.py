"""The ticks: what is due stays due until it is done, and is then on record."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs
from support.desk import RAW_AUDIO_S, TENANT, Desk, until

from audit.errors import AppendError
from audit.model import EventType
from gateway import handover, hearing, outbox, requested, turns
from gateway.demo.graph import ACCEPT_THEN_DROP
from gateway.errors import ChannelUnknownError, WaitingError
from gateway.inbox import INTAKE_DAYS
from gateway.jobs import WITHDRAWN, Job, Unclaimed, micros
from gateway.note import Note
from gateway.outbox import Body, Kind
from gateway.permit import permitted
from gateway.schema import inbox, relay, replies, requests, sessions, statuses
from gateway.sections import Retention
from gateway.session import Memory
from gateway.sweeper import MEMORY_FOR, PARKED_FOR, REMEMBERED_FOR, Sweeper
from gateway.whatsapp.payload import Text
from policy.model import Stage
from vault.agreed_time import AgreedTime
from vault.errors import GoneError
from vault.model import Kind as Artifact


@pytest.fixture
def sweeper(desk: Desk) -> Sweeper:
    """Return the cell's sweeper; its ticks are called by hand."""
    return Sweeper(desk.ports, owner="eu-1/aa")


async def recorded(desk: Desk) -> Note:
    """Return a voice note whose recording and transcript are kept, each on its own clock."""
    whole = {"retention": Retention(keep_raw_audio=True)}
    desk.with_ports(tenants={TENANT: desk.ports.tenants[TENANT].model_copy(update=whole)})
    await desk.consents()
    note = await desk.spoken()
    await hearing.words(note, Memory(), desk.ports)
    return note


def destroyed(desk: Desk) -> list[tuple[str | None, object]]:
    """Return (artifact, late seconds) of what is on record as destroyed."""
    found = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    return [(event.artifact, event.detail["late_seconds"]) for event in found]


@pytest.mark.anyio
async def test_what_is_due_is_destroyed_and_on_record(desk: Desk, sweeper: Sweeper) -> None:
    """The clock that was promised when the recording was sealed."""
    note = await recorded(desk)
    desk.clock.move(RAW_AUDIO_S - 1)
    await sweeper.delete_due()
    assert destroyed(desk) == []
    desk.clock.move(8)

    await sweeper.delete_due()
    await sweeper.delete_due()

    assert destroyed(desk) == [(note.job.artifact, 7)]
    assert await desk.ports.custody.describe(note.job.artifact) is None
    [event] = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    assert (event.outcome, event.detail["reason"]) == ("verified", "retention.expired")


@pytest.mark.anyio
async def test_a_failed_database_makes_a_deletion_late_not_lost(
    desk: Desk, sweeper: Sweeper
) -> None:
    """The row stays due until a tick gets through."""
    note = await recorded(desk)
    desk.clock.move(RAW_AUDIO_S)
    async with desk.ports.engine.begin() as tx:
        await tx.execute(text("ALTER TABLE retention RENAME TO away"))
    with pytest.raises(SQLAlchemyError):
        await sweeper.delete_due()
    async with desk.ports.engine.begin() as tx:
        await tx.execute(text("ALTER TABLE away RENAME TO retention"))
    desk.clock.move(30)

    await sweeper.delete_due()

    assert destroyed(desk) == [(note.job.artifact, 30)]


@pytest.mark.anyio
async def test_a_destruction_that_could_not_be_recorded_is_recorded_later(
    desk: Desk, sweeper: Sweeper
) -> None:
    """The bytes are gone either way: the proof of it must not be."""
    note = await recorded(desk)
    desk.clock.move(RAW_AUDIO_S)
    desk.trail.refuses = lambda event: event.type is EventType.ARTIFACT_DESTROYED
    with pytest.raises(AppendError):
        await sweeper.delete_due()
    assert await desk.ports.custody.describe(note.job.artifact) is None
    desk.trail.refuses = lambda _event: False

    await sweeper.delete_due()

    assert destroyed(desk) == [(note.job.artifact, 0)]


@pytest.mark.anyio
async def test_overdue_deletions_are_seen(desk: Desk, sweeper: Sweeper) -> None:
    """The one number that an operator must be woken for."""
    await recorded(desk)
    desk.clock.move(RAW_AUDIO_S + 40)
    for path in [p for p in (desk.directory / "objects").rglob("*") if p.is_file()]:
        path.unlink()
        path.mkdir()  # a directory is no object, and cannot be unlinked as one

    await sweeper.delete_due()

    assert b"vocustody_deletion_overdue_seconds 40.0" in desk.ports.metrics.render()
    assert destroyed(desk) == []


async def in_doubt(desk: Desk) -> Note:
    """Return a note whose reply WhatsApp took without saying so, and which waits for a status."""
    note = await desk.typed()
    ports = desk.ports
    kept = await outbox.sealed(note, Kind.TEXT, Body(text="Hi", language="en"), ports)
    async with ports.engine.begin() as tx:
        await outbox.intend(tx, note, Kind.TEXT, kept, ports)
    desk.world.faults.add("messages", ACCEPT_THEN_DROP)
    graph = ports.graphs[note.message.phone_number_id]
    allowed = await permitted(note, Stage.REPLY, ports)
    for error in (ChannelUnknownError, WaitingError):
        with pytest.raises(error):
            await outbox.deliver(
                note,
                Kind.TEXT,
                allowed,
                lambda opaque, passage: graph.text(
                    note.message.sender, "Hi", opaque=opaque, passage=passage
                ),
                ports,
            )
    await ports.jobs.later(note.job, 100, tried=False)
    return note


@pytest.mark.anyio
async def test_a_status_is_on_record_and_resumes_the_job_that_waits(
    desk: Desk, sweeper: Sweeper
) -> None:
    """What WhatsApp attests is the vendor's word, and is recorded as that."""
    note = await in_doubt(desk)
    [reply] = await desk.rows(replies)
    assert await desk.ports.jobs.claim(note.job.id, "w2") is Unclaimed.EARLY
    await desk.status(reply.id, "delivered")

    await sweeper.settle()
    await sweeper.settle()

    settled = [e for e in desk.trail.seen if e.type is EventType.REPLY_SETTLED]
    assert [(e.artifact, e.outcome, e.job) for e in settled] == [
        (reply.id, "delivered", note.job.id)
    ]
    assert settled[0].detail == {"basis": "attested by vendor", "error_code": 0}
    assert desk.woken[-1] == note.job.id
    assert isinstance(await desk.ports.jobs.claim(note.job.id, "w2"), Job)


@pytest.mark.anyio
async def test_a_status_that_could_not_be_recorded_is_settled_later(
    desk: Desk, sweeper: Sweeper
) -> None:
    """Marked before it is on record, it would never be."""
    await in_doubt(desk)
    [reply] = await desk.rows(replies)
    await desk.status(reply.id)
    desk.trail.refuses = lambda event: event.type is EventType.REPLY_SETTLED
    with pytest.raises(AppendError):
        await sweeper.settle()
    desk.trail.refuses = lambda _event: False

    await sweeper.settle()

    assert desk.types("reply.settled") == ["reply.settled"]


@pytest.mark.anyio
async def test_a_status_of_nobodys_reply_is_left_alone(desk: Desk, sweeper: Sweeper) -> None:
    """The number may be shared with another application."""
    await desk.status("r_not_ours")

    await sweeper.settle()

    assert desk.trail.seen == []


@pytest.mark.anyio
async def test_a_note_whose_author_never_answered_ends(desk: Desk, sweeper: Sweeper) -> None:
    """WhatsApp drops the media after seven days: waiting longer serves nobody."""
    note = await desk.spoken()
    await desk.ports.jobs.park(note.job, "consent.missing")
    desk.clock.move(PARKED_FOR.total_seconds() - 1)
    await sweeper.end_stale()
    assert await desk.state(note.job.id) == ("parked", "consent.missing")
    desk.clock.move(2)

    await sweeper.end_stale()

    assert await desk.state(note.job.id) == ("refused", "consent.none")
    [ended] = [e for e in desk.trail.seen if e.type is EventType.JOB_ENDED]
    assert (ended.job, ended.detail["reason"]) == (note.job.id, "consent.none")


@pytest.mark.anyio
async def test_idempotency_keys_live_thirty_days_and_no_longer(
    desk: Desk, sweeper: Sweeper
) -> None:
    """Shorter, and a late copy is answered twice; longer, and we keep what we need not."""
    await desk.typed()
    await desk.status("r_1")
    desk.clock.move(REMEMBERED_FOR.total_seconds())
    await sweeper.forget()
    assert [len(await desk.rows(table)) for table in (inbox, statuses)] == [1, 1]
    desk.clock.move(1)

    await sweeper.forget()

    assert [len(await desk.rows(table)) for table in (inbox, statuses)] == [0, 0]


@pytest.mark.anyio
async def test_an_idle_conversation_is_forgotten_in_two_days(desk: Desk, sweeper: Sweeper) -> None:
    """Its words were sealed for the next turn, not for ever."""
    await turns.act(await desk.typed("Hello"), desk.ports)
    desk.clock.move(MEMORY_FOR.total_seconds())
    await sweeper.forget()
    assert len(await desk.rows(sessions)) == 1
    desk.clock.move(1)

    await sweeper.forget()

    assert await desk.rows(sessions) == []


@pytest.mark.anyio
async def test_the_key_of_a_day_whose_updates_all_ended_is_destroyed(
    desk: Desk, sweeper: Sweeper
) -> None:
    """Old backups of sealed updates die with it; the days that may still be waited for do not."""
    job = await desk.hear(Text(body="Hello"))
    [row] = [row for row in await desk.rows(inbox) if row.job == job]
    desk.clock.move((INTAKE_DAYS - 1) * 86_400)
    await sweeper.forget()
    await desk.ports.custody.open_named(row.body_key, job, row.sealed)
    desk.clock.move(86_400)

    await sweeper.forget()

    with pytest.raises(GoneError):
        await desk.ports.custody.open_named(row.body_key, job, row.sealed)


@pytest.mark.anyio
async def test_the_hourly_chores_are_done(desk: Desk) -> None:
    """The relay's own rows go through the same tick."""
    done = []

    async def chore(time: AgreedTime) -> None:
        done.append(time.at)

    await Sweeper(desk.ports, owner="eu-1/aa", chores=[chore]).forget()

    assert done == [desk.clock()]


@pytest.mark.anyio
async def test_a_tick_that_raises_does_not_stop_the_next(desk: Desk) -> None:
    """One bad moment of the trail must not end every later deletion, and is said by its class."""
    await recorded(desk)
    desk.clock.move(RAW_AUDIO_S)
    refused = []

    def first_three(event: object) -> bool:
        refused.append(event)
        return len(refused) <= 3

    async def done() -> bool:
        return bool(destroyed(desk))

    desk.trail.refuses = first_three
    sweeper = Sweeper(desk.ports, owner="eu-1/aa", retention_tick_s=0.03)
    with capture_logs() as said:
        sweeper.start()
        assert sweeper.alive
        await until(done)

    await sweeper.aclose()
    await asyncio.sleep(0)

    failed = [line for line in said if line["event"] == "sweeper.failed"]
    assert len(failed) == 3
    assert failed[0] | {"log_level": ""} == {
        "error": "AppendError",
        "event": "sweeper.failed",
        "log_level": "",
        "stage": "delete_due",
    }
    assert not sweeper.alive


@pytest.mark.anyio
async def test_times_of_other_rows_are_not_touched(desk: Desk, sweeper: Sweeper) -> None:
    """What was told today is still needed to see what the broker lost."""
    at = micros(desk.clock())
    row = {"job": "j_1", "attempt": 0, "created_at": at, "published_at": at}
    async with desk.ports.engine.begin() as tx:
        await tx.execute(insert(relay).values(row))

    await sweeper.forget()

    assert len(await desk.rows(relay)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("tick", ["consent.expired", "job.ended", "inbox"])
async def test_what_came_due_while_the_cell_was_down_is_looked_at_first(
    desk: Desk, sweeper: Sweeper, tick: str
) -> None:
    """A cell that restarts more often than a tick comes would otherwise never get to it."""
    note = await desk.spoken()
    await desk.ports.jobs.park(note.job, "consent.missing")
    await desk.consents()
    desk.clock.move(REMEMBERED_FOR.total_seconds() + 1)

    async def done() -> bool:
        return not await desk.rows(inbox) if tick == "inbox" else bool(desk.types(tick))

    sweeper.start()
    await until(done)
    await sweeper.aclose()


@pytest.mark.anyio
async def test_what_is_closed_asked_for_or_left_over_is_seen_to_by_the_clock(desk: Desk) -> None:
    """Each has a tick: a function that nobody calls gives nothing back."""
    await desk.consents()
    note = await desk.spoken()
    await desk.ports.jobs.discard(note.job.artifact, WITHDRAWN)
    due = desk.ports.now() + timedelta(seconds=RAW_AUDIO_S)
    await desk.ports.custody.put(b"late", note.label(Artifact.RAW_AUDIO), due)
    handed = await desk.typed()
    await handover.hand_over(handed, "person.asked", desk.ports)
    at = desk.ports.now()
    await handover.close(desk.ports.engine, handed.job.id, by="Grace", at=at)
    await requested.ask(desk.ports.engine, note.subject, TENANT, "training", at)
    sweeper = Sweeper(desk.ports, owner="eu-1/aa", retention_tick_s=0.05)

    async def done() -> bool:
        told = set(desk.types("handover.closed", "artifact.destroyed"))
        [request] = await desk.rows(requests)
        return len(told) == 2 and str(request.fault) == requested.NOTHING

    sweeper.start()
    await until(done)
    await sweeper.aclose()
