"""A conversation's memory: sealed, one row, and gone when it no longer counts."""

import pytest
from sqlalchemy import update
from support.desk import Desk

from gateway import memory, pipeline
from gateway.note import Note
from gateway.schema import sessions
from gateway.session import IDLE_S, Memory, exchanged

WORDS = "the canary sings at noon"


async def remember(desk: Desk, note: Note, known: Memory) -> None:
    """Commit *known* as the pipeline does."""
    kept = await memory.sealed(note, known, desk.ports)
    async with desk.ports.engine.begin() as tx:
        await memory.remember(tx, note, kept, desk.ports)


@pytest.mark.anyio
async def test_nothing_is_a_memory_too(desk: Desk) -> None:
    """The first note of a person meets no error."""
    assert await memory.recall(await desk.typed(), desk.ports) == Memory()


@pytest.mark.anyio
async def test_the_last_memory_counts_and_is_the_only_one(desk: Desk) -> None:
    """One row per conversation: what is replaced is gone."""
    note = await desk.typed()
    at = int(desk.clock().timestamp())
    await remember(desk, note, Memory(language="de", last_at=at))

    await remember(desk, note, Memory(language="en", last_at=at, failures=1))

    assert await memory.recall(note, desk.ports) == Memory(language="en", last_at=at, failures=1)
    assert len(await desk.rows(sessions)) == 1


@pytest.mark.anyio
async def test_it_is_sealed_for_this_person_and_this_conversation(desk: Desk) -> None:
    """Who copies a row over another's must not put words into their conversation."""
    note = await desk.typed()
    at = int(desk.clock().timestamp())
    await remember(desk, note, exchanged(Memory(), at, WORDS, "Hello"))
    [row] = await desk.rows(sessions)
    assert WORDS.encode() not in row.sealed
    bob = await desk.claim(
        await desk.hear(note.message.content, desk.world.person("12025550143", line=desk.line))
    )
    await remember(desk, bob, Memory())

    async with desk.ports.engine.begin() as tx:
        mine = sessions.c.conversation == bob.conversation
        await tx.execute(update(sessions).where(mine).values(sealed=row.sealed))

    assert await memory.recall(bob, desk.ports) == Memory()
    assert (await memory.recall(note, desk.ports)).turns[0].heard == WORDS


@pytest.mark.anyio
async def test_what_is_too_old_no_longer_counts(desk: Desk) -> None:
    """An hour later, "yes" is not the answer to what was asked."""
    note = await desk.typed()
    at = int(desk.clock().timestamp())
    await remember(desk, note, Memory(language="en", pending="greeting", last_at=at))
    desk.clock.move(IDLE_S)

    assert await memory.recall(note, desk.ports) == Memory(language="en")


@pytest.mark.anyio
async def test_a_turn_is_remembered_redacted(desk: Desk) -> None:
    """Memory goes back into the dialogue, and what it holds was analysed first."""
    note = await desk.typed("my card is 4111 1111 1111 1111")

    await pipeline.answer(note, desk.ports)

    [turn] = (await memory.recall(note, desk.ports)).turns
    assert turn.heard == "my card is <CARD_1>"
