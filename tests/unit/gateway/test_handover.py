"""Hand a conversation to a human: once per job, remembered, and only by who holds the job."""

import pytest
from support.desk import Desk

from gateway import handover, memory
from gateway.errors import LeaseLostError
from gateway.jobs import LEASE_S
from gateway.schema import handovers, sessions


@pytest.mark.anyio
async def test_a_handover_is_one_row_one_leaf_and_remembered(desk: Desk) -> None:
    """A job that comes back after a crash must not call for a second human."""
    note = await desk.typed()

    for _ in range(2):
        await handover.hand_over(note, "person.asked", desk.ports)

    [row] = await desk.rows(handovers)
    assert (row.job, row.conversation, row.reason) == (
        note.job.id,
        note.job.conversation,
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
