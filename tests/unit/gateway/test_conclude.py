"""How a job ends: what follows from each outcome, and that a lost lease writes nothing."""

import json

import pytest
from sqlalchemy import update
from support.desk import GRACE_S, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import conclude, memory, phrases
from gateway.broker import Broker
from gateway.conclude import Case
from gateway.demo.graph import DROP
from gateway.errors import (
    ChannelBusyError,
    ChannelUnknownError,
    ConsentNeededError,
    DeniedError,
    DoubtError,
    LeaseLostError,
    WaitingError,
)
from gateway.jobs import LEASE_S, Job, State, Unclaimed
from gateway.note import Note
from gateway.outcome import MAX_ATTEMPTS
from gateway.schema import handovers
from vault.errors import KeyLostError, KeyringError, TamperedError
from vault.tables import subject_keys


@pytest.fixture
async def note(desk: Desk) -> Note:
    """Return a typed note under way."""
    return await desk.typed()


async def after(exc: Exception, note: Note, desk: Desk, broker: Broker) -> float | None:
    """Conclude *note* after *exc*."""
    return await conclude.after(Case(exc, note.job, note, desk.ports, broker))


async def dead_letters(broker: Broker) -> list[dict[str, str]]:
    """Return what lies in the dead-letter stream."""
    found = []
    for number in range(1, await broker.buried() + 1):
        message = await broker._js.get_msg(broker.dead, number)
        found.append(json.loads(message.data or b""))
    return found


@pytest.mark.anyio
async def test_what_may_work_later_is_tried_again_after_a_pause(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """The lease is given back, so that any worker may go on."""
    assert await after(ChannelBusyError("130429"), note, desk, broker) == 2

    assert await desk.ports.jobs.claim(note.job.id, "w2") is Unclaimed.EARLY
    desk.clock.move(2)
    again = await desk.ports.jobs.claim(note.job.id, "w2")
    assert isinstance(again, Job)
    assert again.attempts == 1


@pytest.mark.anyio
async def test_whatsapps_own_pause_is_kept(desk: Desk, broker: Broker, note: Note) -> None:
    """Asking sooner than it said is answered with a longer pause."""
    busy = ChannelBusyError("131056", retry_after=77)

    assert await after(busy, note, desk, broker) == 77


@pytest.mark.anyio
async def test_a_wait_costs_no_attempt(desk: Desk, broker: Broker, note: Note) -> None:
    """Waiting for a status is not failing."""
    assert await after(WaitingError(20), note, desk, broker) == 20

    desk.clock.move(20)
    again = await desk.ports.jobs.claim(note.job.id, "w2")
    assert isinstance(again, Job)
    assert again.attempts == 0


@pytest.mark.anyio
async def test_an_unknown_fate_waits_for_the_grace_time(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """Sooner, the status may still be under way."""
    assert await after(ChannelUnknownError("no_answer"), note, desk, broker) == GRACE_S


@pytest.mark.anyio
async def test_a_missing_consent_parks_the_job(desk: Desk, broker: Broker, note: Note) -> None:
    """It waits for the person, not for a clock."""
    missing = ConsentNeededError(("consent.missing",))

    assert await after(missing, note, desk, broker) is None

    assert await desk.state(note.job.id) == ("parked", "consent.missing")


@pytest.mark.anyio
async def test_a_final_no_ends_the_job_on_record(desk: Desk, broker: Broker, note: Note) -> None:
    """It is never retried elsewhere, and whoever asks later finds the reason."""
    assert await after(DeniedError(("region.unknown",)), note, desk, broker) is None

    assert await desk.state(note.job.id) == ("refused", "region.unknown")
    [ended] = [e for e in desk.trail.seen if e.type is EventType.JOB_ENDED]
    assert (ended.outcome, ended.detail) == ("refused", {"reason": "region.unknown"})
    assert await broker.buried() == 0


@pytest.mark.anyio
async def test_a_final_no_is_told_to_somebody_and_leaves_the_dialogue_at_work(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """The person was told that someone will look: then someone must be able to see it."""
    await after(DeniedError(("region.unknown",)), note, desk, broker)

    [row] = await desk.rows(handovers)
    assert (row.job, row.reason, row.taken) == (note.job.id, "region.unknown", False)
    assert desk.texts() == [phrases.say("handover", "en")]
    opened = [e for e in desk.trail.seen if e.type is EventType.HANDOVER_OPENED]
    assert [event.outcome for event in opened] == ["region.unknown"]
    assert not (await memory.recall(await desk.typed(), desk.ports)).handed_over


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("exc", "state", "reason"),
    [
        (TamperedError("x"), "buried", "TamperedError"),
        (KeyError("4915112345678"), "buried", "KeyError"),
        (DoubtError("r_1"), "handed_over", "DoubtError"),
        (KeyLostError("subject_keys s_1"), "handed_over", "key.lost"),
    ],
    ids=["hostile", "ours", "doubt", "lost"],
)
async def test_what_needs_a_human_reaches_one_and_the_person_is_told(
    desk: Desk, broker: Broker, note: Note, exc: Exception, state: str, reason: str
) -> None:
    """A dead letter for the operators, a handover for the team, a line for the person."""
    assert await after(exc, note, desk, broker) is None

    assert await desk.state(note.job.id) == (state, reason)
    [letter] = await dead_letters(broker)
    assert letter == {"job": note.job.id, "region": broker._region, "reason": reason}
    [row] = await desk.rows(handovers)
    assert (row.job, row.reason) == (note.job.id, reason)
    assert desk.texts() == [phrases.say("handover", "en")]


@pytest.mark.anyio
async def test_what_was_retried_in_vain_goes_to_a_human(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """Five tries in a minute and a half: the sixth would find the same."""
    for _ in range(MAX_ATTEMPTS - 1):
        pause = await after(ChannelBusyError("130429"), note, desk, broker)
        assert pause is not None
        desk.clock.move(pause)
        note = await desk.claim(note.job.id)

    assert await after(ChannelBusyError("130429"), note, desk, broker) is None

    assert await desk.state(note.job.id) == ("handed_over", "130429")
    assert len(await dead_letters(broker)) == 1


@pytest.mark.anyio
async def test_a_note_that_nobody_could_open_is_not_given_up(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """A keyring that is away must cost no message, and no minutes once it is back."""
    tired = Job(**{**_fields(note.job), "attempts": MAX_ATTEMPTS})
    case = Case(KeyringError("sealed"), tired, None, desk.ports, broker)

    assert await conclude.after(case) == conclude.MOST_WAIT_S

    assert await desk.state(note.job.id) == ("accepted", "")
    desk.clock.move(conclude.MOST_WAIT_S)
    assert (await desk.claim(note.job.id)).typed == "Hello"


def _fields(job: Job) -> dict[str, object]:
    return {name: getattr(job, name) for name in Job.__slots__}


@pytest.mark.anyio
async def test_a_person_who_cannot_be_told_is_handed_over_all_the_same(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """The line to the person is a courtesy; the human is told either way."""
    desk.world.faults.add("messages", DROP)

    assert await after(TamperedError("x"), note, desk, broker) is None

    assert (await desk.state(note.job.id))[0] == "buried"
    assert len(await desk.rows(handovers)) == 1


@pytest.mark.anyio
async def test_a_conclusion_that_fails_leaves_the_job_to_come_back(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """Not on record means not ended."""
    desk.trail.refuses = lambda event: event.type is EventType.JOB_ENDED

    assert await after(DeniedError(("region.unknown",)), note, desk, broker) == 2

    assert await desk.state(note.job.id) == ("accepted", "")
    desk.clock.move(LEASE_S + 1)
    assert isinstance(await desk.ports.jobs.claim(note.job.id, "w2"), Job)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "exc",
    [
        LeaseLostError("j"),
        TamperedError("x"),
        DeniedError(("region.unknown",)),
        ConsentNeededError(("consent.missing",)),
        ChannelBusyError("130429"),
    ],
    ids=lambda exc: type(exc).__name__,
)
async def test_a_job_whose_lease_moved_on_writes_nothing_more(
    desk: Desk, broker: Broker, note: Note, exc: Exception
) -> None:
    """Its successor decides: no end on record, no dead letter, no handover, no message."""
    desk.clock.move(LEASE_S + 1)
    await desk.claim(note.job.id, "w2")

    assert await after(exc, note, desk, broker) is None

    assert await desk.state(note.job.id) == ("accepted", "")
    assert desk.trail.seen == []
    assert await broker.buried() == 0
    assert await desk.rows(handovers) == []
    assert desk.ada.inbox == []


@pytest.mark.anyio
async def test_an_end_that_is_not_ours_is_not_recorded(desk: Desk, note: Note) -> None:
    """The first record of an end counts: it must be its holder's."""
    desk.clock.move(LEASE_S + 1)
    await desk.claim(note.job.id, "w2")

    with pytest.raises(LeaseLostError):
        await conclude.end(note.job, State.DONE, "answered", desk.ports)

    assert desk.trail.seen == []


@pytest.mark.anyio
async def test_an_end_is_on_record_before_the_body_is_forgotten(desk: Desk, note: Note) -> None:
    """After the database says "ended" nobody comes back to write the leaf."""
    desk.trail.refuses = lambda event: event.type is EventType.JOB_ENDED

    with pytest.raises(AppendError):
        await conclude.end(note.job, State.DONE, "answered", desk.ports)

    assert await desk.state(note.job.id) == ("accepted", "")


@pytest.mark.anyio
async def test_a_lost_key_hands_over_without_the_memory_that_it_opened(
    desk: Desk, broker: Broker, note: Note
) -> None:
    """Nobody erased this person: a human goes on, and the log says fault, not erasure."""
    await desk.ports.custody.seal_small(note.subject, "memory", b"")
    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(subject_keys).values(ciphertext="local:v1:AAAA"))
    desk.ports.keys.forget(note.subject)
    with pytest.raises(KeyLostError):
        await desk.ports.custody.seal_small(note.subject, "memory", b"")

    assert await after(KeyLostError("x"), note, desk, broker) is None

    assert await desk.state(note.job.id) == ("handed_over", "key.lost")
    [row] = await desk.rows(handovers)
    assert (row.reason, row.taken) == ("key.lost", True)
