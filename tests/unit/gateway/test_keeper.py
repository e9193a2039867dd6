"""The watchdog: nothing overdue is a signed sentence, and silence is an alarm."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import insert
from support.desk import RAW_AUDIO_S, Desk

from audit.errors import AppendError
from audit.model import Event, EventType
from gateway import clocks, hearing, keeper
from gateway.keeper import SWEEPING, WATCHING, Watchdog
from gateway.schema import sessions
from gateway.session import Memory
from gateway.sweeper import Sweeper
from vault import duties

HOUR = timedelta(hours=1)


def watchdog(desk: Desk, said: list[Event]) -> Watchdog:
    """Return the watchdog of the desk's cell, whose leaves go to *said*."""

    async def append(event: Event) -> None:
        said.append(event)

    return Watchdog(
        desk.ports.engine,
        append,
        cell="eu-1",
        region="eu-central-1",
        owner="keeper/1",
        now=desk.ports.now,
        clocks_apart=desk.time.report,
        decisions_for=timedelta(days=90),
        every=HOUR,
    )


async def swept(desk: Desk) -> None:
    """Let the cell's sweeper give its sign of life."""
    await Sweeper(desk.ports, owner="eu-1/aa").delete_due()


@pytest.mark.anyio
async def test_nothing_overdue_is_a_leaf(desk: Desk) -> None:
    """This line, once an hour, is what answers an auditor."""
    said: list[Event] = []
    await desk.consents()
    await hearing.words(await desk.spoken(), Memory(), desk.ports)
    await swept(desk)

    report = await watchdog(desk, said).look()

    assert report.alarms == ()
    [leaf] = said
    assert (leaf.type, leaf.outcome) == (EventType.RETENTION_CHECKED, "nothing overdue")
    assert set(leaf.detail["count"]) == {clock.name for clock in clocks.CLOCKS}
    assert leaf.detail["count"]["transcript"] == 1
    assert await duties.until(desk.ports.engine, WATCHING) is not None


@pytest.mark.anyio
async def test_a_deletion_that_did_not_happen_is_an_alarm(desk: Desk) -> None:
    """A deletion is promised for a time; a quarter of an hour later somebody has to know."""
    said: list[Event] = []
    await desk.consents()
    await hearing.words(await desk.spoken(), Memory(), desk.ports)
    desk.clock.move(RAW_AUDIO_S + 16 * 60)
    await duties.take(
        desk.ports.engine, SWEEPING, "eu-1/aa", now=desk.ports.now, lasts=HOUR
    )  # it lives, and does not get on

    report = await watchdog(desk, said).look()

    assert [alarm.partition(":")[0] for alarm in report.alarms] == ["raw_audio"]
    assert (said[0].type, said[0].outcome) == (EventType.RETENTION_OVERDUE, "alarm")


@pytest.mark.anyio
async def test_a_memory_that_nobody_forgot_is_an_alarm(desk: Desk) -> None:
    """Rows without a due time of their own have a clock all the same."""
    await swept(desk)
    old = int((desk.ports.now() - clocks.MEMORY_FOR - 3 * HOUR).timestamp() * 1e6)
    row = {"conversation": "c", "tenant": "t", "subject": "s", "sealed": b"", "updated_at": old}
    async with desk.ports.engine.begin() as tx:
        await tx.execute(insert(sessions).values(row))

    report = await watchdog(desk, []).look()

    assert [alarm.partition(":")[0] for alarm in report.alarms] == ["session_memory"]


@pytest.mark.anyio
async def test_a_silent_sweeper_is_an_alarm_before_anything_is_overdue(desk: Desk) -> None:
    """Who waits until something is overdue learns of it a day late."""
    never = await watchdog(desk, []).look()
    await swept(desk)
    alive = await watchdog(desk, []).look()
    desk.clock.move(8 * 60)
    silent = await watchdog(desk, []).look()

    assert never.alarms == silent.alarms == ("sweeper: no sign of life",)
    assert alive.alarms == ()


@pytest.mark.anyio
async def test_a_look_that_is_not_on_record_is_no_sign_of_life(desk: Desk) -> None:
    """The gateway warns when nobody watches: a watchdog whose log is away does not count."""

    async def deaf(_event: Event) -> None:
        raise AppendError("told to refuse")

    dog = watchdog(desk, [])
    dog._append = deaf

    with pytest.raises(AppendError):
        await dog.look()

    assert await duties.until(desk.ports.engine, WATCHING) is None


@pytest.mark.anyio
async def test_a_failing_chore_ends_nothing(desk: Desk) -> None:
    """The keeper must outlive a key service that is away."""
    said: list[Event] = []
    stopped = asyncio.Event()
    done: list[str] = []

    async def failing() -> None:
        raise OSError

    async def last() -> None:
        done.append("done")
        if len(done) == 2:
            stopped.set()

    await keeper.run(
        watchdog(desk, said),
        [failing, last],
        every=HOUR,
        tick=timedelta(milliseconds=1),
        stopped=stopped,
    )

    assert done == ["done", "done"]
    assert len(said) == 1
