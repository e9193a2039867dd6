"""What WhatsApp accepted and then did not deliver: somebody hears of it, and nobody hears twice."""

import pytest
from support.bench import Bench
from support.desk import PHONE, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import handover, phrases, undelivered
from gateway.broker import Broker
from gateway.clocks import SAID_FOR
from gateway.outbox import MOST_TRIES
from gateway.schema import handovers, inbox, jobs, replies
from gateway.whatsapp import codes
from gateway.whatsapp.codes import Means
from gateway.whatsapp.payload import Text, Unsupported
from policy.model import ConsentState


@pytest.fixture
async def bench(desk: Desk, broker: Broker) -> Bench:
    """Return a bench at which somebody works by hand."""
    return Bench(desk, broker)


async def answered(bench: Bench) -> str:
    """Have a typed message answered; return its job."""
    job = await bench.desk.hear(Text(body="Hello"))
    await bench.work()
    assert await bench.desk.state(job) == ("done", "answered")
    return job


@pytest.mark.parametrize(
    ("code", "means"),
    [
        (131026, Means.REFUSED),
        (131047, Means.REFUSED),
        (131049, Means.REFUSED),
        (131053, Means.REFUSED),
        (130472, Means.REFUSED),
        (131000, Means.UNKNOWN),
        (131016, Means.BUSY),
        (130429, Means.BUSY),
        (131042, Means.ACCOUNT),
        (131031, Means.ACCOUNT),
        (0, Means.REFUSED),
        (999_999, Means.REFUSED),
    ],
)
def test_a_reason_of_a_failure_has_one_meaning(code: int, means: Means) -> None:
    """A status without a code has 0 here: that is no refused token."""
    assert codes.failed(code).means is means


@pytest.mark.anyio
async def test_text_that_may_go_again_goes_again_once(bench: Bench) -> None:
    """The person has no answer otherwise, and WhatsApp says for sure that it did not arrive."""
    desk = bench.desk
    first = await answered(bench)

    await bench.fails(131000)
    await bench.sweeper.settle()
    await bench.pass_time(30)

    assert len(desk.texts()) == 2, "the simulator handed over the first, too"
    assert desk.texts()[0] == desk.texts()[1]
    again = [row for row in await desk.rows(jobs) if row.id != first]
    assert [(row.state, row.reason) for row in again] == [("done", "answered")]
    assert await desk.rows(handovers) == []
    told = desk.ports.metrics.render().decode()
    assert 'replies_undelivered_total{act="again",kind="text",reason="unknown.graph"} 1.0' in told


@pytest.mark.anyio
async def test_text_that_fails_again_and_again_goes_to_a_human(bench: Bench) -> None:
    """A few times is patience, more is a loop."""
    desk = bench.desk
    await answered(bench)

    for _ in range(MOST_TRIES):
        await bench.fails(131016)
        await bench.pass_time(400, step_s=50)

    assert len(desk.texts()) == MOST_TRIES
    assert [row.reason for row in await desk.rows(handovers)] == ["131016"]


@pytest.mark.anyio
@pytest.mark.parametrize("code", [131026, 131047, 0, 999_999])
async def test_text_that_may_not_go_again_goes_to_a_human_with_the_reason(
    bench: Bench, code: int
) -> None:
    """Today's silence: the log says answered, and the person got nothing."""
    desk = bench.desk
    job = await answered(bench)

    await bench.fails(code)
    await bench.sweeper.settle()

    [row] = await desk.rows(handovers)
    assert (row.job, row.reason, row.taken) == (job, str(code), False)
    opened = [e for e in desk.trail.seen if e.type is EventType.HANDOVER_OPENED]
    assert [(e.job, e.outcome) for e in opened] == [(job, str(code))]
    [settled] = [e for e in desk.trail.seen if e.type is EventType.REPLY_SETTLED]
    assert (settled.outcome, settled.detail["error_code"]) == ("failed", code)
    assert len(await desk.rows(jobs)) == 1
    [reply] = [row for row in await desk.rows(replies) if row.kind == "text"]
    assert (reply.state, reply.sealed) == ("failed", None)


@pytest.mark.anyio
async def test_a_failure_is_acted_on_once_though_we_die_in_between(bench: Bench) -> None:
    """Before it is marked as settled the same status is looked at again after the restart."""
    desk = bench.desk
    await answered(bench)
    [reply] = [row for row in await desk.rows(replies) if row.kind == "text"]
    await desk.status(reply.id, "failed", 131000)

    for _ in range(2):  # as if the first had been killed right after it
        await undelivered.settled(reply.id, "failed", 131000, desk.line.phone_number_id, desk.ports)
    await bench.sweeper.settle()
    await bench.pass_time(60)

    assert len(desk.texts()) == 2
    assert len(await desk.rows(inbox)) == 2


@pytest.mark.anyio
async def test_a_failure_is_of_the_conversation_that_a_human_has(bench: Bench) -> None:
    """Whoever closes it is told that another of the same conversation is still open."""
    desk = bench.desk
    await desk.hear(Text(body="human"))
    await bench.work()
    await answered(bench)

    await bench.fails(131026)

    failed = next(row for row in await desk.rows(handovers) if row.reason == "131026")
    at = desk.ports.now()
    assert await handover.close(desk.ports.engine, failed.job, by="Grace", at=at) == 1


@pytest.mark.anyio
async def test_a_please_type_that_failed_is_said_again_and_then_goes_to_a_human(
    bench: Bench,
) -> None:
    """Who sent a picture hears nothing otherwise, and waits for an answer."""
    desk = bench.desk
    await desk.hear(Unsupported(what="image"))
    await bench.work()

    await bench.fails(131000, kind="unsupported")
    await bench.sweeper.settle()
    await bench.pass_time(30)

    assert desk.texts() == [phrases.say("unsupported", "en")] * 2
    await bench.fails(131026, kind="unsupported")
    await bench.sweeper.settle()
    assert [row.reason for row in await desk.rows(handovers)] == ["131026"]


@pytest.mark.anyio
async def test_a_handover_that_is_not_on_record_is_opened_later(bench: Bench) -> None:
    """The row without its leaf would never be told."""
    desk = bench.desk
    await answered(bench)
    desk.trail.refuses = lambda event: event.type is EventType.HANDOVER_OPENED
    with pytest.raises(AppendError):
        await bench.fails(131026)
    desk.trail.refuses = lambda _event: False

    await bench.sweeper.settle()

    assert [row.reason for row in await desk.rows(handovers)] == ["131026"]


@pytest.mark.anyio
@pytest.mark.parametrize("arrived", ["delivered", "read"])
@pytest.mark.parametrize("late", ["failed", "arrived"])
async def test_what_arrived_did_not_fail(bench: Bench, arrived: str, late: str) -> None:
    """Statuses come in any order; one that is read needs no second copy and no human."""
    desk = bench.desk
    await answered(bench)
    [reply] = [row for row in await desk.rows(replies) if row.kind == "text"]
    both = [(arrived, 0), ("failed", 131000)]
    for state, code in both if late == "failed" else both[::-1]:
        await desk.status(reply.id, state, code)

    await bench.sweeper.settle()
    await bench.pass_time(60)

    assert len(desk.texts()) == 1
    assert await desk.rows(handovers) == []


@pytest.mark.anyio
async def test_a_voice_message_that_fails_leaves_the_text(bench: Bench) -> None:
    """131053 comes after a 200; the text went first and stands."""
    desk = bench.desk
    await desk.consents()
    await desk.hear(desk.recording())
    await bench.work()
    assert [message.kind for message in desk.ada.inbox] == ["text", "voice"]

    await bench.fails(131053, kind="voice")
    await bench.pass_time(60)

    states = {row.kind: row.state for row in await desk.rows(replies)}
    assert (states["text"], states["voice"]) == ("sent", "failed")
    assert len(desk.ada.inbox) == 2
    assert await desk.rows(handovers) == []


@pytest.mark.anyio
async def test_a_question_that_may_go_again_is_asked_again_while_the_note_waits(
    bench: Bench,
) -> None:
    """Nobody answers what they never saw."""
    desk = bench.desk
    job = await desk.hear(desk.recording())
    await bench.work()
    assert await desk.state(job) == ("parked", "consent.missing")

    await bench.fails(131000, kind="consent")
    await bench.pass_time(30)

    assert [message.kind for message in desk.ada.inbox] == ["buttons", "buttons"]
    assert await desk.state(job) == ("parked", "consent.missing")
    [row] = [row for row in await desk.rows(replies) if row.kind == "consent"]
    assert (row.state, row.tries) == ("sent", 2)


@pytest.mark.anyio
async def test_a_question_that_may_not_go_again_counts_as_not_asked(bench: Bench) -> None:
    """The next note is met with it."""
    desk = bench.desk
    first = await desk.hear(desk.recording())
    await bench.work()

    await bench.fails(131026, kind="consent")

    [row] = [row for row in await desk.rows(replies) if row.kind == "consent"]
    assert row.state == "failed"
    assert await desk.state(first) == ("parked", "consent.missing")
    await desk.hear(desk.recording())
    await bench.work()
    assert [message.kind for message in desk.ada.inbox] == ["buttons", "buttons"]


@pytest.mark.anyio
async def test_an_unpaid_account_is_found_out_by_its_failures_and_waited_for(
    bench: Bench,
) -> None:
    """131042 comes after a 200: each message would be accepted, and none delivered."""
    desk = bench.desk
    await answered(bench)

    await bench.fails(131042)

    [fault] = desk.ports.accounts.faults()
    assert (fault.word, fault.by_status) == ("account.payment", True)
    before = len(desk.texts())
    await bench.pass_time(30)  # one tries, and is accepted: that proves nothing
    assert len(desk.texts()) == before + 1
    other = desk.world.person("4915112345699", line=desk.line)
    waiting = await desk.hear(Text(body="Hello"), other)
    await bench.work()
    assert (await desk.state(waiting))[0] == "accepted"
    newest = max((row for row in await desk.rows(replies) if row.sent_at), key=lambda r: r.sent_at)
    await desk.status(newest.id, "delivered")
    await bench.sweeper.settle()
    await bench.pass_time(30)

    assert desk.ports.accounts.faults() == ()
    assert await desk.state(waiting) == ("done", "answered")


@pytest.mark.anyio
async def test_nothing_is_sent_again_after_a_withdrawal(bench: Bench) -> None:
    """What was said rests on the consent that is gone."""
    desk = bench.desk
    await desk.consents()
    await desk.hear(desk.recording())
    await bench.work()
    [reply] = [row for row in await desk.rows(replies) if row.kind == "text"]
    await desk.hear(Text(body="stop"))
    await bench.work()
    before = len(desk.ada.inbox)

    await desk.status(reply.id, "failed", 131000)
    await bench.sweeper.settle()
    await bench.pass_time(60)

    assert len(desk.ada.inbox) == before
    assert (
        await desk.ports.consents.newest("fernruf", await desk.subject(), "transcribe_and_answer")
    ).state is ConsentState.WITHDRAWN


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["arrived", "time"])
async def test_what_was_said_is_kept_no_longer_than_it_may_be_needed(
    bench: Bench, how: str
) -> None:
    """It is there to be sent again, sealed under the person's key, and for nothing else."""
    desk = bench.desk
    await answered(bench)
    [reply] = [row for row in await desk.rows(replies) if row.kind == "text"]
    assert reply.sealed is not None
    assert PHONE.encode() not in reply.sealed
    await bench.sweeper.forget_said()
    assert [row.sealed for row in await desk.rows(replies) if row.kind == "text"] != [None]

    if how == "arrived":
        await desk.status(reply.id, "delivered")
        await bench.sweeper.settle()
    else:
        desk.clock.move(SAID_FOR.total_seconds() + 1)
        await bench.sweeper.forget_said()

    assert [row.sealed for row in await desk.rows(replies) if row.kind == "text"] == [None]


@pytest.mark.anyio
async def test_the_doctor_is_told_of_many_failures_and_not_of_few(bench: Bench) -> None:
    """One phone that is off is no news; one message in twenty is."""
    desk = bench.desk
    for number in range(undelivered.MANY):
        assert await undelivered.many(desk.ports.engine, desk.clock()) == ""
        await desk.status(f"r_{number}", "failed", 131026)

    told = await undelivered.many(desk.ports.engine, desk.clock())

    assert told.endswith("not delivered: 10 by 131026 (refused.not_delivered)")
    desk.clock.move(86_401)
    assert await undelivered.many(desk.ports.engine, desk.clock()) == ""
