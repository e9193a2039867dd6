"""The worker: leased, in order, one job's fault its own, and nothing lost when it stops."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import update
from support.desk import MEANT, Desk, slots, until, working

from audit.model import EventType
from gateway import phrases, turns, worker
from gateway.broker import Broker, Told
from gateway.jobs import LEASE_S, Job, Unclaimed
from gateway.schema import handovers, inbox
from gateway.whatsapp.payload import Reaction, Text
from gateway.worker import Worker
from policy.model import Decision, Question


@dataclass
class Message:
    """A broker's message that notes what the worker says of it."""

    said: list[tuple[str, float | None]] = field(default_factory=list)

    async def ack(self) -> None:
        """Note it."""
        self.said.append(("done", None))

    async def nak(self, delay: float | None = None) -> None:
        """Note it."""
        self.said.append(("again", delay))

    async def in_progress(self) -> None:
        """Note it."""
        self.said.append(("working", None))


async def under_way(desk: Desk) -> bool:
    """Whether a processor is at work on a text."""
    return "touch.began understand" in desk.types()


@pytest.fixture
def hand(desk: Desk, broker: Broker) -> Worker:
    """Return a worker that is given messages by hand."""
    return Worker(desk.ports, broker, owner="w1", slots=slots(4))


async def give(hand: Worker, job: str) -> list[tuple[str, float | None]]:
    """Give *hand* a message about *job*; return what it said to the broker."""
    message = Message()
    await hand._one(Told(job, message))  # type: ignore[arg-type]
    return message.said


@pytest.mark.anyio
async def test_a_job_is_answered_ended_and_only_then_acknowledged(desk: Desk, hand: Worker) -> None:
    """The broker may forget a job only when the database knows its end."""
    job = await desk.hear(Text(body="Hello"))

    assert await give(hand, job) == [("done", None)]

    assert await desk.state(job) == ("done", "answered")
    assert len(desk.texts()) == 1
    assert desk.types()[0] == "job.accepted"
    assert desk.types()[-1] == "job.ended"


@pytest.mark.anyio
async def test_a_second_message_about_the_same_job_answers_nothing(
    desk: Desk, hand: Worker
) -> None:
    """The broker tells at least once."""
    job = await desk.hear(Text(body="Hello"))
    await give(hand, job)

    assert await give(hand, job) == [("done", None)]
    assert await give(hand, "j_unknown") == [("done", None)]

    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_what_another_worker_holds_is_asked_for_later(desk: Desk, hand: Worker) -> None:
    """If that worker dies, somebody must still come back."""
    job = await desk.hear(Text(body="Hello"))
    await desk.claim(job, "w2")

    assert await give(hand, job) == [("again", 5.0)]

    assert desk.texts() == []


@pytest.mark.anyio
async def test_what_may_work_later_is_given_back_with_its_pause(desk: Desk, hand: Worker) -> None:
    """Database and broker are told the same pause."""
    job = await desk.hear(Text(body="Hello"))
    desk.trail.refuses = lambda event: event.type is EventType.TOUCH_BEGAN

    assert await give(hand, job) == [("again", 2.0)]

    assert await desk.ports.jobs.claim(job, "w2") is Unclaimed.EARLY
    desk.clock.move(2)
    desk.trail.refuses = lambda _event: False
    assert await give(hand, job) == [("done", None)]
    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_after_the_window_it_is_a_humans(desk: Desk, hand: Worker) -> None:
    """WhatsApp refuses free text 24 hours after the person wrote: nothing is worked on any more."""
    job = await desk.hear(Text(body="Hello"))
    desk.clock.move(24 * 3600)

    assert await give(hand, job) == [("done", None)]

    assert await desk.state(job) == ("refused", "window.closed")
    assert desk.understanding["nlu.one"].calls == 0
    assert [row.reason for row in await desk.rows(handovers)] == ["window.closed"]


@pytest.mark.anyio
async def test_within_the_window_it_is_answered(desk: Desk, hand: Worker) -> None:
    """A late answer is better than none, for as long as it can be sent."""
    job = await desk.hear(Text(body="Hello"))
    desk.clock.move(24 * 3600 - 1)

    await give(hand, job)

    assert await desk.state(job) == ("done", "answered")


@pytest.mark.anyio
async def test_a_poisoned_job_is_buried_and_does_not_stop_the_next(
    desk: Desk, broker: Broker
) -> None:
    """A body that does not open is somebody's attack or our fault: the others go on."""
    bad = await desk.hear(Text(body="Hello"))
    good = await desk.hear(Text(body="Hello"))
    async with desk.ports.engine.begin() as tx:
        broken = update(inbox).where(inbox.c.job == bad).values(sealed=b"x" * 100)
        await tx.execute(broken)

    async with working(desk, broker) as running:
        assert await desk.over(bad, good) == ["buried", "done"]
        assert running.alive

    assert await broker.buried() == 1
    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_a_fault_of_ours_reaches_a_human_and_the_person(desk: Desk, broker: Broker) -> None:
    """By way of the real broker: dead letter, handover, a line to the person."""
    desk.script("nlu.one", {"not": "an understanding"})
    job = await desk.hear(Text(body="Hello"))

    async with working(desk, broker):
        assert await desk.over(job) == ["buried"]

    assert await broker.buried() == 1
    assert [row.job for row in await desk.rows(handovers)] == [job]
    assert desk.texts() == [phrases.say("handover", "en")]


@pytest.mark.anyio
async def test_one_persons_notes_are_answered_in_order(desk: Desk, broker: Broker) -> None:
    """Twenty notes at once, four workers: the third may be the answer to what the second asked."""
    desk.script("nlu.one", MEANT, delay_s=0.005)
    jobs = [await desk.hear(Text(body=f"Hello {number}")) for number in range(20)]

    async with working(desk, broker, concurrency=4):
        assert set(await desk.over(*jobs, within_s=60)) == {"done"}

    ended = [event.job for event in desk.trail.seen if event.type is EventType.JOB_ENDED]
    assert ended == jobs
    assert len(desk.texts()) == 20


@pytest.mark.anyio
async def test_different_people_are_answered_in_parallel(desk: Desk, broker: Broker) -> None:
    """One slow conversation must not hold up the others: all four are under way at one time."""
    together = asyncio.Barrier(4)
    decide = desk.ports.decide

    async def meet(question: Question, *kept: Any) -> Decision:
        if question.stage == "understand":
            async with asyncio.timeout(20):
                await together.wait()
        return await decide(question, *kept)

    desk.with_ports(decide=meet)
    people = [desk.world.person(f"1202555010{n}", line=desk.line) for n in range(4)]
    jobs = [await desk.hear(Text(body="Hello"), person) for person in people]

    async with working(desk, broker, concurrency=4):
        assert set(await desk.over(*jobs)) == {"done"}

    assert [len(person.inbox) for person in people] == [1] * 4


@pytest.mark.anyio
async def test_stopping_gives_the_lease_back_at_once(desk: Desk, broker: Broker) -> None:
    """A deployment must not keep a person waiting for a lease to run out, nor cost an attempt."""
    desk.script("nlu.one", MEANT, delay_s=60)
    job = await desk.hear(Text(body="Hello"))
    async with working(desk, broker) as running:
        await until(lambda: under_way(desk))
        await running.aclose(grace_s=0)

        again = await desk.ports.jobs.claim(job, "w2")

    assert isinstance(again, Job)
    assert again.attempts == 0
    outcomes = [e.outcome for e in desk.trail.seen if e.action == "understand"]
    assert outcomes[-1] == "cancelled", "and the touch has its end"


@pytest.mark.anyio
async def test_stopping_finishes_what_is_begun(desk: Desk, broker: Broker) -> None:
    """Half a turn thrown away is a turn paid twice."""
    desk.script("nlu.one", MEANT, delay_s=0.2)
    job = await desk.hear(Text(body="Hello"))
    async with working(desk, broker) as running:
        await until(lambda: under_way(desk))
        await running.aclose(grace_s=10)

    assert await desk.state(job) == ("done", "answered")


@pytest.mark.anyio
async def test_a_worker_that_lost_its_lease_writes_nothing_more(desk: Desk, hand: Worker) -> None:
    """It was paused, and somebody else has the job: one answer, one end."""
    decide = desk.ports.decide

    async def lose(question: Question, *kept: Any) -> Decision:
        if question.stage == "reply" and desk.clock().minute == 0:
            desk.clock.move(LEASE_S + 1)
            await desk.claim(job, "w2")
        return await decide(question, *kept)

    desk.with_ports(decide=lose)
    job = await desk.hear(Text(body="Hello"))
    late = Worker(desk.ports, hand._broker, owner="w1", slots=slots(1))

    assert await give(late, job) == [("done", None)]

    assert desk.ada.inbox == []
    assert await desk.state(job) == ("accepted", "")
    assert "job.ended" not in desk.types()


@pytest.mark.anyio
async def test_a_killed_holders_touches_are_ended_by_the_next(desk: Desk, hand: Worker) -> None:
    """A dead process cannot write its end."""
    job = await desk.hear(Text(body="Hello"))
    note = await desk.claim(job, "dead")
    desk.trail.refuses = lambda event: event.type is EventType.TOUCH_ENDED
    desk.script("nlu.one", MEANT)
    with pytest.raises(Exception, match="told to refuse"):
        await turns.act(note, desk.ports)
    desk.trail.refuses = lambda _event: False
    desk.clock.move(LEASE_S + 1)

    await give(hand, job)

    ended = [e.outcome for e in desk.trail.seen if e.type is EventType.TOUCH_ENDED]
    assert ended[0] == "killed"
    assert await desk.ports.trail.unended() == []


@pytest.mark.anyio
async def test_the_lease_is_kept_alive_while_a_job_takes_long(
    desk: Desk, hand: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long transcription is no dead worker; a broker that is away for a moment costs nothing."""
    monkeypatch.setattr(worker, "BEAT_S", 0.02)
    desk.script("nlu.one", MEANT, delay_s=0.3)
    job = await desk.hear(Text(body="Hello"))
    message = Message()
    running = asyncio.create_task(hand._one(Told(job, message)))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while len(message.said) < 2:
            await asyncio.sleep(0.01)
            desk.clock.move(LEASE_S / 2)

    await running

    assert message.said[-1] == ("done", None)
    assert await desk.state(job) == ("done", "answered")


@pytest.mark.anyio
async def test_a_job_without_an_answer_ends_too(desk: Desk, hand: Worker) -> None:
    """A reaction asks nothing, and must not block the conversation."""
    job = await desk.hear(Reaction(message_id="wamid.1", emoji="x"))

    await give(hand, job)

    assert await desk.state(job) == ("done", "answered")


@pytest.mark.anyio
async def test_who_lost_the_lease_has_ended_before_the_next_begins(
    desk: Desk, hand: Worker
) -> None:
    """A touch under way is ended by who made it, with what was seen, and not closed as killed."""
    desk.script("nlu.one", MEANT, MEANT, delay_s=0.5)
    job = await desk.hear(Text(body="Hello"))
    first = asyncio.create_task(give(hand, job))

    async def understanding() -> bool:
        return "touch.began understand" in desk.types("touch.began")

    await until(understanding)
    await desk.ports.jobs.release("w1")
    await give(hand, job)
    await asyncio.gather(first, return_exceptions=True)

    ends = [e.outcome for e in desk.trail.seen if e.type is EventType.TOUCH_ENDED]
    assert "cancelled" in ends
    assert "killed" not in ends
    assert len(desk.texts()) == 1
