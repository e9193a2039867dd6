"""The database is the truth: whatever the broker loses, it is told again."""

import asyncio

import pytest
from sqlalchemy import func, select
from support.agreeing import agreed
from support.desk import Desk, until, working

from gateway import crashpoint
from gateway.broker import Broker
from gateway.jobs import State
from gateway.relay import KEEP, LONG_QUIET_S, QUIET_S, Relay
from gateway.schema import relay as table
from gateway.whatsapp.payload import Text


@pytest.fixture
def relay(desk: Desk, broker: Broker) -> Relay:
    """Return a relay on the real broker; its steps are called by hand."""
    return Relay(desk.ports.engine, broker, desk.ports.jobs, now=desk.clock)


async def unpublished(desk: Desk) -> int:
    """Return how many rows wait."""
    query = select(func.count()).select_from(table).where(table.c.published_at.is_(None))
    async with desk.ports.engine.connect() as tx:
        return int((await tx.execute(query)).scalar_one())


async def purge(broker: Broker) -> None:
    """Have the broker forget every message."""
    await broker._js.purge_stream(broker.work)


@pytest.mark.anyio
async def test_an_accepted_job_is_published_once(desk: Desk, broker: Broker, relay: Relay) -> None:
    """A row is marked after the broker has it, and not told again."""
    await desk.hear(Text(body="Hi"))

    assert await relay.publish() == 1
    assert await relay.publish() == 0

    assert await broker.pending() == 1
    assert await unpublished(desk) == 0


@pytest.mark.anyio
async def test_what_was_published_but_not_marked_is_one_message(
    desk: Desk, broker: Broker, relay: Relay
) -> None:
    """The relay died in between: the broker knows the second one by its id."""
    await desk.hear(Text(body="Hi"))
    await relay.publish()
    async with desk.ports.engine.begin() as tx:
        await tx.execute(table.update().values(published_at=None))

    assert await relay.publish() == 1

    assert await broker.pending() == 1


@pytest.mark.anyio
async def test_a_broker_that_is_down_loses_nothing(desk: Desk, broker: Broker) -> None:
    """Accepted stays in the table, the relay stays alive, and goes on when the broker is back."""
    await broker._js.delete_stream(broker.work)
    relay = Relay(desk.ports.engine, broker, desk.ports.jobs, now=desk.clock)
    relay.start()
    job = await desk.hear(Text(body="Hi"))
    relay.wake([job])
    await asyncio.sleep(0.3)
    assert await unpublished(desk) == 1
    assert relay.alive

    await broker.prepare()

    async def published() -> bool:
        return not await unpublished(desk)

    await until(published)
    assert await broker.pending() == 1
    await relay.aclose()
    assert not relay.alive


@pytest.mark.anyio
async def test_a_job_that_the_broker_forgot_is_told_again(
    desk: Desk, broker: Broker, relay: Relay
) -> None:
    """Delete the broker's disk: no accepted note is lost."""
    await desk.hear(Text(body="Hi"))
    await relay.publish()
    await purge(broker)
    desk.clock.move(QUIET_S + 1)

    await relay.redrive()
    await relay.publish()

    assert await broker.pending() == 1
    message = await broker._js.get_msg(broker.work, 2)
    assert (message.headers or {})["Nats-Msg-Id"].endswith(":1"), (
        "a new attempt, or it is swallowed"
    )


@pytest.mark.anyio
async def test_while_the_broker_has_work_there_is_no_hurry(
    desk: Desk, broker: Broker, relay: Relay
) -> None:
    """A long queue is not a lost one: telling all of it again would double it."""
    await desk.hear(Text(body="Hi"))
    await relay.publish()
    desk.clock.move(QUIET_S + 1)
    await relay.redrive()
    assert await unpublished(desk) == 0
    desk.clock.move(LONG_QUIET_S)

    await relay.redrive()

    assert await unpublished(desk) == 1


@pytest.mark.anyio
async def test_an_ended_job_is_not_told_again(desk: Desk, broker: Broker, relay: Relay) -> None:
    """Only what is accepted is work."""
    note = await desk.typed()
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    await relay.publish()
    await purge(broker)
    desk.clock.move(2 * LONG_QUIET_S)

    await relay.redrive()

    assert await relay.publish() == 0


@pytest.mark.anyio
async def test_old_rows_go_and_waiting_ones_stay(desk: Desk, relay: Relay) -> None:
    """The table must not grow for ever, nor forget what nobody was told."""
    await desk.hear(Text(body="one"))
    await relay.publish()
    await desk.hear(Text(body="two"))
    desk.clock.move(KEEP.total_seconds() + 1)

    await relay.forget(agreed(desk.clock()))

    assert len(await desk.rows(table)) == await unpublished(desk) == 1


@pytest.mark.anyio
async def test_a_lost_stream_does_not_lose_the_note(desk: Desk, broker: Broker) -> None:
    """The whole way: accepted, told, forgotten by the broker, told again, answered once."""
    relay = Relay(desk.ports.engine, broker, desk.ports.jobs, now=desk.clock)
    job = await desk.hear(Text(body="Hello"))
    await relay.publish()
    await purge(broker)
    desk.clock.move(QUIET_S + 1)

    async with working(desk, broker):
        assert await desk.over(job) == ["done"]

    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_an_error_that_nobody_foresaw_does_not_end_the_relay(
    desk: Desk, relay: Relay, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would strand what is accepted until somebody starts the cell again."""
    monkeypatch.setattr(crashpoint, "_armed", {"relay.published": crashpoint.How.RAISE})
    await desk.hear(Text(body="Hi"))

    relay.start()
    await until(lambda: _none(desk))

    assert crashpoint._armed == {}, "it was raised"
    assert relay.alive
    assert await broker.pending() == 1
    await relay.aclose()


async def _none(desk: Desk) -> bool:
    return await unpublished(desk) == 0
