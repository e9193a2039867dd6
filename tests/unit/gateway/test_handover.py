"""Hand a conversation to a human: once per job, remembered, and only by who holds the job."""

import pytest
from support.desk import Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import handover, inspect, memory, phrases, turns
from gateway.errors import LeaseLostError
from gateway.jobs import LEASE_S, State
from gateway.note import Note
from gateway.schema import handovers, sessions
from gateway.sweeper import Sweeper


@pytest.mark.anyio
async def test_a_handover_is_one_row_one_leaf_and_remembered(desk: Desk) -> None:
    """A job that comes back after a crash must not call for a second human."""
    note = await desk.typed()

    for _ in range(2):
        await handover.hand_over(note, "person.asked", desk.ports)

    [row] = await desk.rows(handovers)
    assert (row.job, row.conversation, row.reason) == (
        note.job.id,
        note.conversation,
        "person.asked",
    )
    assert len({event.id for event in desk.trail.seen}) == 1
    assert (await memory.recall(note, desk.ports)).handed_over


@pytest.mark.anyio
async def test_a_reason_is_cut_to_its_column(desk: Desk) -> None:
    """PostgreSQL refuses what is too long, at the worst of moments."""
    note = await desk.typed()

    await handover.hand_over(note, "x" * 200, desk.ports)

    [row] = await desk.rows(handovers)
    assert row.reason == desk.trail.seen[0].outcome == "x" * 64


@pytest.mark.anyio
async def test_who_lost_the_lease_hands_nothing_over(desk: Desk) -> None:
    """Its successor may be answering right now."""
    note = await desk.typed()
    desk.clock.move(LEASE_S + 1)
    await desk.claim(note.job.id, "w2")

    with pytest.raises(LeaseLostError):
        await handover.hand_over(note, "late", desk.ports)

    assert await desk.rows(handovers) == []
    assert await desk.rows(sessions) == []
    assert desk.trail.seen == []


async def taken(desk: Desk) -> Note:
    """Return a note whose conversation a human has; its job has ended."""
    note = await desk.typed("human")
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return note


async def answered(desk: Desk) -> str:
    """Have ada write once more, and return what she is told."""
    note = await desk.typed()
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return desk.texts()[-1]


@pytest.mark.anyio
async def test_a_closed_handover_gives_the_conversation_back(desk: Desk) -> None:
    """The human is done: the next turn is the dialogue's, once the closing is on the trail."""
    note = await taken(desk)
    sweeper = Sweeper(desk.ports, owner="eu-1/aa")
    assert await answered(desk) == phrases.say("with_human", "en")

    others = await handover.close(desk.ports.engine, note.job.id, by="Grace", at=desk.ports.now())

    assert others == 0
    assert await answered(desk) == phrases.say("with_human", "en"), "not on the trail yet"
    for _ in range(2):
        await sweeper.tell_closed()
    assert await answered(desk) != phrases.say("with_human", "en")
    [leaf] = [e for e in desk.trail.seen if e.type is EventType.HANDOVER_CLOSED]
    assert (leaf.job, leaf.subject, leaf.outcome) == (note.job.id, note.subject, "person.asked")
    assert (leaf.actor, leaf.detail["by"]) == ("operator", "Grace")
    assert await inspect.open_handovers(desk.ports.engine) == []


@pytest.mark.anyio
async def test_a_closing_that_cannot_be_recorded_gives_nothing_back(desk: Desk) -> None:
    """No evidence, no change of hands; the next tick tries again."""
    note = await taken(desk)
    sweeper = Sweeper(desk.ports, owner="eu-1/aa")
    await handover.close(desk.ports.engine, note.job.id, by="Grace", at=desk.ports.now())
    desk.trail.refuses = lambda event: event.type is EventType.HANDOVER_CLOSED

    with pytest.raises(AppendError):
        await sweeper.tell_closed()

    assert await answered(desk) == phrases.say("with_human", "en")


@pytest.mark.anyio
async def test_a_conversation_stays_with_a_human_until_its_last_handover_is_closed(
    desk: Desk,
) -> None:
    """Two people may have been called; one of them is still on it."""
    first, second = await taken(desk), await desk.typed("human")
    await handover.hand_over(second, "outbox.doubt", desk.ports)
    await desk.ports.jobs.end(second.job, State.HANDED_OVER, "outbox.doubt")
    sweeper = Sweeper(desk.ports, owner="eu-1/aa")

    assert await handover.close(desk.ports.engine, first.job.id, by="G", at=desk.ports.now()) == 1
    await sweeper.tell_closed()

    assert await answered(desk) == phrases.say("with_human", "en")
    assert await handover.close(desk.ports.engine, second.job.id, by="G", at=desk.ports.now()) == 0
    await sweeper.tell_closed()
    assert await answered(desk) != phrases.say("with_human", "en")


@pytest.mark.anyio
async def test_a_note_that_somebody_was_told_of_can_still_be_handed_over(desk: Desk) -> None:
    """Told once that a question is not answered, they must hear that the note itself failed."""
    note = await desk.typed()
    await handover.open_row(note, "consent.unanswered", desk.ports)
    await handover.close(desk.ports.engine, note.job.id, by="Grace", at=desk.ports.now())
    sweeper = Sweeper(desk.ports, owner="eu-1/aa")
    await sweeper.tell_closed()

    for _ in range(2):
        await handover.hand_over(note, "outbox.doubt", desk.ports)

    [row] = await desk.rows(handovers)
    assert (row.reason, row.taken, row.closed_at) == ("outbox.doubt", True, None)
    opened = [e.outcome for e in desk.trail.seen if e.type is EventType.HANDOVER_OPENED]
    assert sorted(set(opened)) == ["consent.unanswered", "outbox.doubt"]
    await handover.close(desk.ports.engine, note.job.id, by="Grace", at=desk.ports.now())
    await sweeper.tell_closed()
    assert len([e for e in desk.trail.seen if e.type is EventType.HANDOVER_CLOSED]) == 2


@pytest.mark.anyio
async def test_a_refusal_that_nobody_closed_does_not_hold_the_conversation(desk: Desk) -> None:
    """It told somebody; the dialogue never left."""
    refused = await desk.typed()
    await handover.open_row(refused, "media.gone", desk.ports)
    await desk.ports.jobs.end(refused.job, State.REFUSED, "media.gone")
    note = await taken(desk)

    others = await handover.close(desk.ports.engine, note.job.id, by="G", at=desk.ports.now())
    await Sweeper(desk.ports, owner="eu-1/aa").tell_closed()

    assert others == 0
    assert await answered(desk) != phrases.say("with_human", "en")


@pytest.mark.anyio
@pytest.mark.parametrize(("job", "by"), [("j_nobody", "G"), ("", " ")])
async def test_what_cannot_be_closed_is_refused(desk: Desk, job: str, by: str) -> None:
    """A mistyped job must not look like a success, and somebody closes it."""
    note = await taken(desk)

    with pytest.raises(handover.HandoverError):
        await handover.close(desk.ports.engine, job or note.job.id, by=by, at=desk.ports.now())

    assert len(await inspect.open_handovers(desk.ports.engine)) == 1
