"""The broker on a real nats-server: it tells which job to look at, and holds nothing else."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType
from support.desk import until

from gateway import broker as broker_module
from gateway.broker import Broker, Told
from gateway.errors import MissingPartError
from gateway.natsd import NatsServer
from gateway.slots import Share, Slots

LANE = "fernruf"
JOB = "j_0123456789abcdef0123456789abcdef"


class Listener:
    """What a worker hears on a lane; *slots* are its room."""

    def __init__(self, broker: Broker, room: int = 4) -> None:
        self.slots = Slots(room, {LANE: Share(concurrency=room)})
        self._told = broker.told(LANE, self.slots)

    async def next(self, within_s: float = 10) -> Told:
        """Return the next message."""
        async with asyncio.timeout(within_s):
            return await anext(self._told)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._told.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def listener(broker: Broker) -> AsyncIterator[Listener]:
    """Yield a listener on this test's streams."""
    listener = Listener(broker)
    yield listener
    await listener.aclose()


@pytest.mark.anyio
async def test_a_message_holds_four_fields_and_nothing_about_anybody(broker: Broker) -> None:
    """Acknowledged payloads stay readable in the broker's block files."""
    await broker.publish(JOB, 3, LANE)

    message = await broker._js.get_msg(broker.work, 1)
    assert json.loads(message.data or b"") == {
        "job": JOB,
        "region": broker._region,
        "stage": "answer",
        "attempt": 3,
    }
    assert message.subject == f"job.{broker._region}.answer.{LANE}"
    assert set(message.headers or {}) == {"Nats-Msg-Id", "Nats-Expected-Stream"}


@pytest.mark.anyio
async def test_the_same_attempt_published_twice_is_one_message(broker: Broker) -> None:
    """The relay publishes again when it died before it noted that it had."""
    for _ in range(3):
        await broker.publish(JOB, 0, LANE)
    await broker.publish(JOB, 1, LANE)

    assert await broker.pending() == 2


@pytest.mark.anyio
async def test_a_message_is_told_until_it_is_done(broker: Broker, listener: Listener) -> None:
    """Put back, it comes again; done, it is gone from the stream."""
    await broker.publish(JOB, 0, LANE)
    first = await listener.next()
    await first.again(0)

    second = await listener.next()
    await second.done()
    await broker._client.flush()

    assert first.job == second.job == JOB

    async def empty() -> bool:
        return (await broker._js.stream_info(broker.work)).state.messages == 0

    await until(empty)
    assert await broker.pending() == 0


@pytest.mark.anyio
async def test_no_more_is_taken_than_there_is_room_for(broker: Broker) -> None:
    """What one worker cannot begin, another one may."""
    listener = Listener(broker, room=1)
    for number in range(2):
        await broker.publish(f"{JOB[:-1]}{number}", 0, LANE)
    first = await listener.next()

    with pytest.raises(TimeoutError):
        await listener.next(within_s=0.2)

    assert (await broker._js.consumer_info(broker.work, _consumer(broker))).num_ack_pending == 1
    await first.done()


def _consumer(broker: Broker) -> str:
    return f"work-{LANE}"


@pytest.mark.anyio
@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"{}", b'{"job": 7}'])
async def test_what_is_no_message_of_ours_stops_nobody(
    broker: Broker, listener: Listener, junk: bytes
) -> None:
    """One stray message must not end the worker for all that follow."""
    await broker._js.publish(f"job.{broker._region}.answer", junk)
    await broker.publish(JOB, 0, LANE)

    assert (await listener.next()).job == JOB


@pytest.mark.anyio
async def test_the_streams_are_as_declared(broker: Broker) -> None:
    """Each is a promise: what is told again, what is refused, what is kept for how long."""
    work = (await broker._js.stream_info(broker.work)).config
    dead = (await broker._js.stream_info(broker.dead)).config
    consumer = (await broker._js.consumer_info(broker.work, _consumer(broker))).config

    assert work.retention == RetentionPolicy.WORK_QUEUE
    assert work.discard == DiscardPolicy.NEW
    assert work.storage == dead.storage == StorageType.FILE
    assert (work.max_age, work.max_msg_size, work.duplicate_window) == (6 * 3600, 512, 300)
    assert (dead.retention, dead.max_age) == (RetentionPolicy.LIMITS, 72 * 3600)
    assert (consumer.ack_wait, consumer.max_deliver, consumer.backoff) == (30, 1000, None)
    assert consumer.max_ack_pending == 256


@pytest.mark.anyio
async def test_a_changed_stream_is_brought_back_to_what_is_declared(broker: Broker) -> None:
    """A hand that "just raised the limit" must not outlive the next start."""
    config = (await broker._js.stream_info(broker.work)).config
    await broker._js.update_stream(config.evolve(max_msg_size=4096))

    await broker.prepare()

    assert (await broker._js.stream_info(broker.work)).config.max_msg_size == 512


@pytest.mark.anyio
async def test_what_is_too_large_is_refused_by_the_server(broker: Broker) -> None:
    """A body that slips into a message would be over the limit."""
    with pytest.raises(NatsError):
        await broker.publish("j" * 600, 0, LANE)


@pytest.mark.anyio
async def test_a_job_is_one_dead_letter(broker: Broker) -> None:
    """Buried twice, after a crash, it is still one case for a human."""
    for _ in range(2):
        await broker.bury(JOB, "KeyError" + "x" * 100)

    assert await broker.buried() == 1
    letter = json.loads((await broker._js.get_msg(broker.dead, 1)).data or b"")
    assert letter["job"] == JOB
    assert len(letter["reason"]) == 64


@pytest.mark.anyio
async def test_nobody_there_is_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that starts without its broker must say which part is missing."""
    monkeypatch.setattr(broker_module, "CONNECT_LIMIT_S", 0.3)

    with pytest.raises(MissingPartError, match="nats"):
        await Broker.connect("nats://127.0.0.1:9", "r", lanes=[LANE])


class Own:
    """A server of this test's own, to be stopped and to lose its disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = NatsServer(directory)

    async def start(self) -> None:
        """Start it; again at the same address."""
        await asyncio.to_thread(self.server.start)

    async def stop(self, *, losing_everything: bool = False) -> None:
        """Stop it, and delete its store if asked."""
        await asyncio.to_thread(self.server.stop)
        if losing_everything:
            shutil.rmtree(self.directory / "jetstream")

    async def broker(self) -> Broker:
        """Return a prepared broker on it."""
        broker = await Broker.connect(self.server.url, "r", lanes=[LANE], token=self.server.token)
        await broker.prepare()
        return broker


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Own]:
    """Yield a running server of this test's own."""
    own = Own(tmp_path / "nats")
    await own.start()
    yield own
    await own.stop()


@pytest.mark.anyio
@pytest.mark.parametrize("lost", [False, True], ids=["restarted", "disk deleted"])
async def test_listening_survives_a_server_that_goes_away(own: Own, lost: Any) -> None:
    """A worker that has to be restarted by hand after each maintenance is down half the time."""
    broker = await own.broker()
    listener = Listener(broker)
    await broker.publish(JOB, 0, LANE)
    await (await listener.next()).done()
    waiting = asyncio.create_task(listener.next(within_s=40))
    await asyncio.sleep(0.1)
    await own.stop(losing_everything=lost)
    assert not broker._client.is_connected or not own.server.alive()
    await own.start()

    while not waiting.done():
        try:
            await broker.publish(JOB, 1, LANE)
        except (TimeoutError, NatsError):
            await asyncio.sleep(0.2)
        await asyncio.wait([waiting], timeout=0.2)

    assert (await waiting).job == JOB
    await listener.aclose()
    await broker.aclose()


@pytest.mark.anyio
async def test_what_was_published_is_there_after_a_restart(own: Own) -> None:
    """Durable once it returns: that is the server's promise, and it is asked here."""
    broker = await own.broker()
    await broker.publish(JOB, 0, LANE)
    await own.stop()
    await own.start()
    await broker.aclose()

    broker = await own.broker()

    assert await broker.pending() == 1
    await broker.aclose()


@pytest.mark.anyio
async def test_publishing_to_a_server_that_is_away_fails_soon(own: Own) -> None:
    """The webhook's 200 does not wait for it: the row stays, and is published later."""
    broker = await own.broker()
    await own.stop()

    async with asyncio.timeout(3):
        with pytest.raises((TimeoutError, NatsError)):
            await broker.publish(JOB, 0, LANE)

    await own.start()
    await broker.aclose()
