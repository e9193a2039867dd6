"""
Killed at every named step: no accepted note is lost, nobody is answered twice.

Each run arms one crash point, lets a person write, agree and wait, sees the process die there
by SIGKILL, starts it again and compares what reached the person and what the trail holds.
The steps of an erasure are in `test_plaintext.py`.
"""

import asyncio
import shutil
import signal

import pytest
from support.cell import GRACE_S, NOTE, Town
from support.points import ANSWERING

PATIENCE_S = 40.0


async def _converse(town: Town) -> None:
    """Do what a person does: speak, agree, wait for text and voice."""
    await town.ada.say(NOTE.read_bytes())
    await town.ada.expect(lambda found: found.kind == "buttons", within_s=PATIENCE_S)
    await town.ada.press("consent.grant")
    await town.ada.expect(lambda found: found.kind == "text", within_s=PATIENCE_S)
    await town.ada.expect(lambda found: found.kind == "voice", within_s=PATIENCE_S)


async def _revived(town: Town) -> None:
    """Start the cell again as soon as it has died, and bring what was not taken meanwhile."""
    assert await town.cell.wait() == -signal.SIGKILL
    await town.cell.start()
    for _ in range(4):
        await town.settle(GRACE_S / 4)


@pytest.mark.anyio
@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", ANSWERING)
async def test_killed_at(town: Town, point: str) -> None:
    """A process may die between any two lines; the promise holds at each of them."""
    await town.cell.start(VOCUSTODY_CRASH_AT=point)

    await asyncio.gather(_converse(town), _revived(town))
    await town.settle(GRACE_S + 0.5)

    assert len(town.of_kind("buttons")) == 1, "asked for consent once"
    assert len(town.of_kind("text")) == 1, "answered once"
    assert len(town.of_kind("voice")) == 1, "spoken to once"
    assert await town.cell.stop() == -signal.SIGTERM
    leaves = await town.leaves()
    began = {leaf["touch"] for leaf in leaves if leaf["type"] == "touch.began"}
    ended = {leaf["touch"] for leaf in leaves if leaf["type"] == "touch.ended"}
    assert began, "the run touched something"
    assert began == ended, "every touch that began has an end"
    assert [leaf["outcome"] for leaf in leaves if leaf["type"] == "job.ended"] == ["done", "done"]


@pytest.mark.anyio
@pytest.mark.timeout(180)
async def test_the_brokers_disk_is_deleted(town: Town) -> None:
    """The broker only tells: the database knows what was accepted."""
    await town.cell.start(VOCUSTODY_CRASH_AT="accept.committed")
    say = asyncio.create_task(town.ada.say(NOTE.read_bytes()))
    assert await town.cell.wait() == -signal.SIGKILL
    await say
    store = town.cell.config.parent / "data" / "nats"
    assert any(store.rglob("*.blk")), "the broker had written something"
    shutil.rmtree(store)

    await town.cell.start()
    await town.ada.expect(lambda found: found.kind == "buttons", within_s=PATIENCE_S)
    await town.settle()

    assert len(town.of_kind("buttons")) == 1
