"""Whoever wrote while the operator's account was refused: waits, and is answered or handed over."""

import pytest
from sqlalchemy import update
from support.bench import Bench, Message
from support.desk import MEANT, TENANT, Desk

from audit.model import EventType
from gateway import conclude, phrases
from gateway.accounts import Accounts
from gateway.broker import Broker, Told
from gateway.demo.graph import OUTAGES
from gateway.demo.graph.person import Person
from gateway.findings import Findings, close
from gateway.jobs import ACCOUNT, SUSPENDED, Unclaimed
from gateway.metrics import Metrics
from gateway.schema import findings, handovers, jobs, replies
from gateway.whatsapp.payload import Text
from gateway.worker import MOST_PAUSE_S
from policy.model import ConsentState
from residency.drift import Finding, Kind, Severity

HOUR_S = 3_600


@pytest.fixture
async def bench(desk: Desk, broker: Broker) -> Bench:
    """Return a bench whose assistant understands everybody."""
    desk.script("nlu.one", MEANT)
    await desk.ports.findings.load()
    return Bench(desk, broker)


def people(desk: Desk, count: int) -> list[Person]:
    """Return *count* people beside ada."""
    return [desk.world.person(f"49151123456{n:02d}", line=desk.line) for n in range(count)]


@pytest.mark.anyio
async def test_a_token_that_is_refused_for_an_hour_costs_nobody_an_answer(bench: Bench) -> None:
    """Each would have been refused within seconds; now they wait, and few requests are made."""
    desk = bench.desk
    desk.line.outage = OUTAGES["expired"]
    await desk.consents()
    crowd = people(desk, 5)
    found = [await desk.hear(desk.recording())]
    found += [await desk.hear(Text(body="Hello"), who) for who in crowd]

    await bench.work()
    await bench.pass_time(HOUR_S)

    assert await bench.states(found) == {("accepted", ACCOUNT)}
    assert bench.calls() < 90, "one of them tries, now and then"
    desk.line.outage = None
    await bench.pass_time(150)
    assert await bench.states(found) == {("done", "answered")}
    assert [len([m for m in who.inbox if m.kind == "text"]) for who in (desk.ada, *crowd)] == [
        1
    ] * 6
    assert desk.ports.accounts.faults() == ()


@pytest.mark.anyio
async def test_an_account_that_nobody_mends_hands_over_before_the_window_closes(
    bench: Bench,
) -> None:
    """A human may still answer then, by other means or with a new token: not after it."""
    desk = bench.desk
    desk.line.outage = OUTAGES["payment"]
    job = await desk.hear(Text(body="Hello"))

    await bench.work()
    await bench.pass_time(24 * HOUR_S - conclude.HUMAN_S - 1_200, step_s=1_200)
    assert await desk.state(job) == ("accepted", ACCOUNT)
    await bench.pass_time(1_200, step_s=1_200)

    assert await desk.state(job) == ("handed_over", "131042")
    [row] = await desk.rows(handovers)
    assert (row.job, row.reason, row.taken) == (job, "131042", True)
    assert row.at < (await _deadline(desk, job)) - 0.9 * conclude.HUMAN_S * 1e6
    assert desk.ada.inbox == []


async def _deadline(desk: Desk, job: str) -> int:
    return next(row.deadline_at for row in await desk.rows(jobs) if row.id == job)


@pytest.mark.anyio
async def test_no_fault_of_the_account_ends_a_persons_note(bench: Bench) -> None:
    """Whatever Graph calls it: the person is not refused, and is told nothing of the kind."""
    desk = bench.desk
    met = {}
    for name, who in zip(sorted(OUTAGES), people(desk, len(OUTAGES)), strict=True):
        desk.line.outage = OUTAGES[name]
        job = await desk.hear(Text(body="Hello"), who)
        await bench.work()
        waited = await desk.state(job)
        desk.line.outage = None
        await bench.pass_time(20)
        met[name] = (waited, await desk.state(job), len(who.inbox))

    assert met == dict.fromkeys(OUTAGES, (("accepted", ACCOUNT), ("done", "answered"), 1))


@pytest.mark.anyio
async def test_it_is_a_finding_as_long_as_it_lasts(bench: Bench) -> None:
    """The operator finds it where everything that needs a person is found; it closes by itself."""
    desk = bench.desk
    desk.line.outage = OUTAGES["expired"]
    await desk.hear(Text(body="Hello"))
    await bench.work()
    await bench.waiting.tick()
    await desk.ports.findings.settle()

    [row] = await desk.rows(findings)
    assert (row.kind, row.processor, row.severity, row.suspends) == (
        "account",
        "msg.here",
        "warn",
        False,
    )
    assert row.observed.startswith("account.token (190): messages of fernruf's ...")
    assert desk.line.phone_number_id not in row.observed
    told = desk.ports.metrics.render().decode()
    labels = f'part="messages",reason="account.token",tenant="{TENANT}"'
    assert f"vocustody_accounts_closed{{{labels}}} 1.0" in told
    waits = f'reason="{ACCOUNT}",tenant="{TENANT}"'
    assert f"vocustody_jobs_waiting{{{waits}}} 1.0" in told

    desk.line.outage = None
    await bench.pass_time(30)

    [row] = await desk.rows(findings)
    assert (row.open_key, row.closed_by) == (None, "vocustody")
    told = desk.ports.metrics.render().decode()
    assert f"vocustody_accounts_closed{{{labels}}} 0.0" in told
    assert f"vocustody_jobs_waiting{{{waits}}} 0.0" in told


@pytest.mark.anyio
async def test_closing_the_finding_by_hand_tries_at_once(bench: Bench) -> None:
    """Who has put a new token in place does not want to wait for the next try."""
    desk = bench.desk
    desk.line.outage = OUTAGES["expired"]
    job = await desk.hear(Text(body="Hello"))
    await bench.work()
    await bench.pass_time(600)  # by now tries are two minutes apart
    await desk.ports.findings.settle()
    [row] = await desk.rows(findings)
    before = bench.calls()
    desk.line.outage = None

    await close(desk.ports.engine, row.id, by="dpo", why="new token", at=desk.clock())
    await desk.ports.findings.settle()
    await bench.waiting.tick()
    await bench.waiting.tick()
    await bench.work()

    assert await desk.state(job) == ("done", "answered")
    assert bench.calls() == before + 1


@pytest.mark.anyio
async def test_a_restart_changes_nothing(bench: Bench, broker: Broker) -> None:
    """The account is still closed, the jobs still wait, and one of them still tries."""
    desk = bench.desk
    desk.line.outage = OUTAGES["expired"]
    found = [await desk.hear(Text(body="Hello"), who) for who in people(desk, 3)]
    await bench.work()
    await bench.waiting.tick()
    await desk.ports.findings.settle()

    metrics = Metrics(tenants=[TENANT], processors=["msg.here"], regions=["eu-central"])
    again = Accounts(desk.ports.engine, metrics, now=desk.clock)
    await again.load()
    known = Findings(desk.ports.engine, desk.trail, metrics, cell="cell-1", now=desk.clock)
    await known.load()
    desk.with_ports(accounts=again, findings=known, metrics=metrics)
    restarted = Bench(desk, broker)
    before = bench.calls()
    await restarted.pass_time(60)
    assert bench.calls() - before <= 4
    assert await bench.states(found) == {("accepted", ACCOUNT)}
    desk.line.outage = None
    await restarted.pass_time(150)

    assert await bench.states(found) == {("done", "answered")}
    assert [row.open_key for row in await desk.rows(findings)] == [None]


@pytest.mark.anyio
async def test_media_that_is_refused_keeps_no_typed_question_waiting(bench: Bench) -> None:
    """A media host that no setting lists is the operator's to add; text needs no media."""
    desk = bench.desk
    await desk.consents()
    elsewhere = "https://media.elsewhere.example/x"
    voice = desk.recording()
    desk.world.media.items[voice.media_id].stated_url = elsewhere
    spoken = await desk.hear(voice)
    typed = await desk.hear(Text(body="Hello"), people(desk, 1)[0])

    await bench.work()

    assert await desk.state(spoken) == ("accepted", ACCOUNT)
    assert await desk.state(typed) == ("done", "answered")
    assert desk.texts() == [], "the person is not told that their note was at fault"
    desk.world.media.items[voice.media_id].stated_url = ""
    await bench.pass_time(20)
    assert await desk.state(spoken) == ("done", "answered")


@pytest.mark.anyio
async def test_who_waits_for_long_leaves_the_brokers_places_to_others(bench: Bench) -> None:
    """256 messages that sleep until tomorrow would stop everybody else's."""
    desk = bench.desk
    desk.line.outage = OUTAGES["expired"]
    job = await desk.hear(Text(body="Hello"))
    message = Message()

    await bench.worker._one(Told(job, message))  # type: ignore[arg-type]
    assert message.said == [("done", None)]
    assert await desk.ports.jobs.claim(job, "w2") is Unclaimed.LATER

    desk.clock.move(MOST_PAUSE_S)
    assert await desk.ports.jobs.claim(job, "w2") is Unclaimed.LATER


def suspend(desk: Desk, processor: str) -> None:
    """Have a finding suspend *processor*."""
    row = desk.ports.processors[processor]
    desk.ports.findings.report(
        Finding(
            processor=processor,
            kind=Kind.CERTIFICATE,
            declared="graph.example",
            observed="expired on 2026-11-18",
            basis="observed",
            at=desk.clock(),
            severity=Severity.CRITICAL,
        ),
        row,
    )


async def lift(desk: Desk) -> None:
    """Close what is open, as a person does."""
    await desk.ports.findings.settle()
    [row] = [row for row in await desk.rows(findings) if row.open_key]
    await close(desk.ports.engine, row.id, by="dpo", why="renewed", at=desk.clock())
    await desk.ports.findings.settle()


@pytest.mark.anyio
@pytest.mark.parametrize("processor", ["msg.here", "nlu.one"])
async def test_a_suspension_is_waited_for(bench: Bench, processor: str) -> None:
    """One late certificate at WhatsApp ended every note as the person's missing consent."""
    desk = bench.desk
    suspend(desk, processor)
    job = await desk.hear(Text(body="Hello"))

    await bench.work()
    await bench.pass_time(HOUR_S, step_s=600)

    assert await desk.state(job) == ("accepted", SUSPENDED)
    assert bench.calls() == 0
    await lift(desk)
    await bench.pass_time(10)
    assert await desk.state(job) == ("done", "answered")
    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_a_suspension_that_lasts_goes_to_a_human(bench: Bench) -> None:
    """Before the window closes, as with any other fault of ours."""
    desk = bench.desk
    suspend(desk, "msg.here")
    await desk.consents(ConsentState.GRANTED)
    job = await desk.hear(desk.recording())

    await bench.work()
    await bench.pass_time(24 * HOUR_S, step_s=1_200)

    assert await desk.state(job) == ("handed_over", "processor.suspended")
    assert bench.calls() == 0, "nothing went to a processor that is suspended"


@pytest.mark.anyio
async def test_a_missing_consent_is_asked_for_once_the_suspension_is_over(bench: Bench) -> None:
    """It was never the person's no: nobody had asked."""
    desk = bench.desk
    suspend(desk, "msg.here")
    job = await desk.hear(desk.recording())

    await bench.work()
    assert await desk.state(job) == ("accepted", SUSPENDED)
    await lift(desk)
    await bench.pass_time(10)

    assert await desk.state(job) == ("parked", "consent.missing")
    assert [message.kind for message in desk.ada.inbox] == ["buttons"]


@pytest.mark.anyio
async def test_a_suspended_transcriber_does_not_hide_the_missing_consent(bench: Bench) -> None:
    """The question can be asked meanwhile; the note then waits for who could hear it."""
    desk = bench.desk
    suspend(desk, "stt.one")
    suspend(desk, "stt.two")
    job = await desk.hear(desk.recording())

    await bench.work()

    assert await desk.state(job) == ("parked", "consent.missing")
    assert "touch.began fetch" not in desk.types()


@pytest.mark.anyio
async def test_who_cannot_be_heard_now_is_told_so_and_may_type(bench: Bench) -> None:
    """The note waits; what the person types meanwhile does not wait behind it."""
    desk = bench.desk
    await desk.consents()
    for name in ("stt.one", "stt.two"):
        suspend(desk, name)
    spoken = await desk.hear(desk.recording())
    await bench.work()

    assert await desk.state(spoken) == ("accepted", SUSPENDED)
    assert desk.texts() == [phrases.say("processor_down", "en")]
    typed = [await desk.hear(Text(body="Hello")) for _ in range(2)]
    await bench.work()
    assert await bench.states(typed) == {("done", "answered")}
    assert await desk.state(spoken) == ("accepted", SUSPENDED)
    await desk.ports.findings.settle()
    for row in await desk.rows(findings):
        await close(desk.ports.engine, row.id, by="dpo", why="renewed", at=desk.clock())
    await desk.ports.findings.settle()
    await bench.pass_time(20)

    assert await desk.state(spoken) == ("done", "answered")
    assert desk.texts().count(phrases.say("processor_down", "en")) == 1


@pytest.mark.anyio
async def test_a_withdrawal_acts_while_the_account_is_refused(bench: Bench) -> None:
    """A right needs no token; only its confirmation waits for one."""
    desk = bench.desk
    await desk.consents()
    desk.line.outage = OUTAGES["expired"]
    note = await desk.hear(desk.recording())
    await bench.work()

    stop = await desk.hear(Text(body="stop"))
    async with desk.ports.engine.begin() as tx:  # as the cell's own inbox notes it
        await tx.execute(update(jobs).where(jobs.c.id == stop).values(urgent=True))
    await bench.work()

    assert (await desk.state(note))[0] == "refused"
    assert EventType.CONSENT_WITHDRAWN in {event.type for event in desk.trail.seen}
    assert await desk.state(stop) == ("accepted", ACCOUNT)
    desk.line.outage = None
    await bench.pass_time(20)
    assert await desk.state(stop) == ("done", "answered")
    assert len([row for row in await desk.rows(replies) if row.state == "sent"]) == 1
