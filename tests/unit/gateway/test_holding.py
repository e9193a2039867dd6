"""Legal holds by people: two of them, on record, and closed to every processor."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from support.desk import RAW_AUDIO_S, TENANT, WORDS, Desk, working

from audit.errors import AppendError
from audit.model import Event, EventType
from gateway import hearing, holding, ordered, outcome, turns
from gateway.broker import Broker
from gateway.clocks import readings
from gateway.conclude import Case, after
from gateway.errors import DeniedError, UndecidedError
from gateway.holding import Person
from gateway.jobs import State
from gateway.note import Note
from gateway.ordered import Wanted
from gateway.outcome import Outcome
from gateway.permit import permitted
from gateway.schema import handovers, hold_requests
from gateway.sections import Retention
from gateway.session import Memory
from gateway.sweeper import Sweeper
from gateway.whatsapp.payload import Text
from policy.model import Stage, Undecided
from vault import orders
from vault.errors import HeldError, HoldError, ObjectsError
from vault.model import Ended, Hold, HoldState, Kind, Taken
from vault.tables import artifacts, held, retention

DPO = Person(id="p_1", role="dpo", tenant=TENANT)
COUNSEL = Person(id="p_2", role="approver", tenant=TENANT)
GROUND = "GDPR Art. 17(3)(e)"


@pytest.fixture
def sweeper(desk: Desk) -> Sweeper:
    """Return the cell's sweeper; its ticks are called by hand."""
    return Sweeper(desk.ports, owner="eu-1/aa")


async def proposed(desk: Desk, who: Person = DPO, **about: Any) -> tuple[Hold, Taken]:
    """Propose a hold for 30 days."""
    until = (desk.clock() + timedelta(days=30)).replace(microsecond=0)
    return await holding.propose(
        who, case="case-7", ground=GROUND, until=until, ports=desk.ports, **about
    )


async def placed(desk: Desk, **about: Any) -> Hold:
    """Return a hold that two people placed."""
    hold, _ = await proposed(desk, **about)
    return await holding.approve(COUNSEL, hold.id, ports=desk.ports)


async def recorded(desk: Desk) -> Note:
    """Return a voice note whose recording and transcript are kept."""
    whole = {"retention": Retention(keep_raw_audio=True)}
    desk.with_ports(tenants={TENANT: desk.ports.tenants[TENANT].model_copy(update=whole)})
    await desk.consents()
    note = await desk.spoken()
    await hearing.words(note, Memory(), desk.ports)
    return note


def told(desk: Desk, *kinds: EventType) -> list[Event]:
    """Return the events of *kinds* on record."""
    return [event for event in desk.trail.seen if event.type in kinds]


HOLDS = (EventType.HOLD_PROPOSED, EventType.HOLD_PLACED, EventType.HOLD_RELEASED)


@pytest.mark.anyio
async def test_a_hold_from_proposal_to_release_is_on_record(desk: Desk, sweeper: Sweeper) -> None:
    """An order to keep somebody's voice is evidence itself: who, why, what, until when."""
    note = await recorded(desk)
    hold, taken = await proposed(desk, artifacts=[note.job.artifact])
    await sweeper.tend_holds()
    await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    await sweeper.tend_holds()
    await holding.release(DPO, hold.id, ports=desk.ports)
    await sweeper.tend_holds()
    assert await desk.ports.custody.held(note.job.artifact)
    over = await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    for _ in range(2):
        await sweeper.tend_holds()

    assert taken.kept == (note.job.artifact,)
    assert (over.state, over.ended) == (HoldState.ENDED, Ended.RELEASED)
    events = told(desk, *HOLDS)
    assert [(event.type, event.actor, event.outcome) for event in events] == [
        (EventType.HOLD_PROPOSED, "p_1", "proposed"),
        (EventType.HOLD_PLACED, "p_2", "placed"),
        (EventType.HOLD_RELEASED, "p_2", "released"),
    ]
    detail = events[-1].detail
    assert (detail["case"], detail["ground"], detail["kept"]) == ("case-7", GROUND, 1)
    assert detail["people"] == {
        "approved_by": "p_2",
        "proposed_by": "p_1",
        "release_proposed_by": "p_1",
    }
    approvals = told(desk, EventType.ACCESS_APPROVED)
    assert [(event.action, event.detail["approver"]) for event in approvals] == [
        ("place_hold", "p_2"),
        ("release_hold", "p_2"),
    ]
    assert all(event.detail["object"] == hold.id for event in approvals)


@pytest.mark.anyio
async def test_what_is_released_overdue_goes_within_one_tick(desk: Desk, sweeper: Sweeper) -> None:
    """D-05: release restarts the clock at once; what it kept was kept beyond its time already."""
    note = await recorded(desk)
    hold = await placed(desk, artifacts=[note.job.artifact])
    desk.clock.move(RAW_AUDIO_S + 3_600)
    await sweeper.delete_due()
    assert await desk.ports.custody.held(note.job.artifact)
    await holding.release(DPO, hold.id, ports=desk.ports)

    await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    await sweeper.delete_due()

    [gone] = told(desk, EventType.ARTIFACT_DESTROYED)
    assert (gone.artifact, gone.detail["late_seconds"]) == (note.job.artifact, 0)


@pytest.mark.anyio
async def test_an_erasure_during_a_hold_is_deferred_and_runs_after_it(
    desk: Desk, sweeper: Sweeper
) -> None:
    """D-05: due later by its clock, it goes with the release all the same, for it was asked for."""
    note = await recorded(desk)
    transcript = note.label(Kind.TRANSCRIPT).artifact
    hold = await placed(desk, artifacts=[transcript])
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    desk.clock.move(1)
    await turns.act(await desk.note(Text(body="STOP")), desk.ports)
    assert await desk.ports.custody.describe(transcript) is not None
    assert await desk.ports.custody.describe(note.job.artifact) is None
    await desk.ports.custody.keys.destroy_subject(note.subject)
    assert await holding.opened(DPO, hold.id, transcript, ports=desk.ports)
    await holding.release(DPO, hold.id, ports=desk.ports)

    await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    await sweeper.delete_due()

    assert await desk.ports.custody.describe(transcript) is None
    assert await desk.rows(held) == []


@pytest.mark.anyio
async def test_a_job_whose_recording_is_held_reaches_no_processor(desk: Desk) -> None:
    """It is stored, which is what the hold is for; from then on nobody touches it, nor asks to."""
    await desk.consents()
    await placed(desk, subject=await desk.subject())
    note = await desk.spoken()

    with pytest.raises(HeldError) as caught:
        await hearing.words(note, Memory(), desk.ports)
    with pytest.raises(DeniedError) as denied:
        await permitted(note, Stage.TRANSCRIBE, desk.ports)

    assert denied.value.reasons == ("hold.active",)
    assert (outcome.of(caught.value), outcome.of(denied.value)) == (Outcome.REFUSE,) * 2
    assert outcome.reason(caught.value) == "hold.active"
    assert desk.hearing["stt.one"].calls == desk.hearing["stt.two"].calls == 0
    assert desk.types("touch.began") == ["touch.began fetch"]
    assert await desk.ports.custody.held(note.job.artifact)
    assert await permitted(note, Stage.NOTICE, desk.ports)


@pytest.mark.anyio
async def test_a_job_that_comes_back_to_a_held_recording_ends_and_a_human_is_told(
    desk: Desk, broker: Broker
) -> None:
    """It would wait for years; nobody hears of the case, and somebody answers the person."""
    note = await recorded(desk)
    await placed(desk, artifacts=[note.label(Kind.TRANSCRIPT).artifact])

    with pytest.raises(HeldError) as caught:
        await hearing.words(note, Memory(), desk.ports)
    pause = await after(Case(caught.value, note.job, note, desk.ports, broker))

    assert pause is None
    assert await desk.state(note.job.id) == (State.REFUSED.value, "hold.active")
    assert [row.reason for row in await desk.rows(handovers)] == ["hold.active"]


@pytest.mark.anyio
async def test_a_hold_that_is_placed_after_the_decision_still_closes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people were faster than the call: no byte leaves on a decision of before."""
    await desk.consents()
    note = await desk.spoken()
    asked = hearing.permitted

    async def then_held(note: Note, stage: Stage, ports: Any) -> Any:
        allowed = await asked(note, stage, ports)
        if stage is Stage.TRANSCRIBE:
            await placed(desk, artifacts=[note.job.artifact])
        return allowed

    monkeypatch.setattr(hearing, "permitted", then_held)

    with pytest.raises(HeldError):
        await hearing.words(note, Memory(), desk.ports)

    assert desk.hearing["stt.one"].calls == desk.hearing["stt.two"].calls == 0


@pytest.mark.anyio
async def test_a_proposal_closes_nothing(desk: Desk) -> None:
    """One person's word must not silence a tenant's assistant."""
    await desk.consents()
    await proposed(desk, subject=await desk.subject())
    note = await desk.spoken()

    assert await hearing.words(note, Memory(), desk.ports) == WORDS
    assert await desk.ports.custody.held(note.job.artifact)


@pytest.mark.anyio
async def test_what_a_hold_keeps_opens_for_its_case_alone(desk: Desk) -> None:
    """Each look at the evidence is a touch: who, for which case, by which decision."""
    note = await recorded(desk)
    hold, _ = await proposed(desk, artifacts=[note.job.artifact])
    with pytest.raises(HoldError, match="not placed"):
        await holding.opened(DPO, hold.id, note.job.artifact, ports=desk.ports)
    await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    desk.trail.seen.clear()

    content = await holding.opened(DPO, hold.id, note.job.artifact, ports=desk.ports)

    assert content.startswith(b"OggS")
    began, ended = told(desk, EventType.TOUCH_BEGAN, EventType.TOUCH_ENDED)
    assert (began.actor, began.action, began.processor) == ("p_1", "open-held", "person")
    assert (began.artifact, began.detail["case"]) == (note.job.artifact, "case-7")
    assert began.decision
    assert (ended.touch, ended.outcome) == (began.touch, "done")
    for who in (COUNSEL, Person(id="p_3", role="operator", tenant=TENANT)):
        with pytest.raises(DeniedError):
            await holding.opened(who, hold.id, note.job.artifact, ports=desk.ports)
    with pytest.raises(HoldError, match="not kept"):
        await holding.opened(DPO, hold.id, "a_other", ports=desk.ports)


@pytest.mark.anyio
async def test_no_evidence_no_look(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be put on record is not opened; what fails half-way has an end on record."""
    note = await recorded(desk)
    hold = await placed(desk, artifacts=[note.job.artifact])

    async def fail(_name: str) -> AsyncIterator[bytes]:
        raise ObjectsError("told to fail")
        yield b""

    monkeypatch.setattr(desk.ports.custody.objects, "stream", fail)

    with pytest.raises(ObjectsError):
        await holding.opened(DPO, hold.id, note.job.artifact, ports=desk.ports)
    assert told(desk, EventType.TOUCH_ENDED)[-1].outcome == "raised"
    desk.trail.refuses = lambda event: event.type is EventType.TOUCH_BEGAN
    with pytest.raises(AppendError):
        await holding.opened(DPO, hold.id, note.job.artifact, ports=desk.ports)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (Person(id="p_1", role="operator", tenant=TENANT), "role.forbidden"),
        (Person(id="p_1", role="root", tenant=TENANT), "role.forbidden"),
        (Person(id="p_1", role="agent", tenant=TENANT), "role.forbidden"),
    ],
)
async def test_who_may_not_place_a_hold_stops_no_clock(
    desk: Desk, who: Person, reason: str
) -> None:
    """Stopping a deletion is a power over somebody's data."""
    note = await recorded(desk)

    with pytest.raises(DeniedError) as caught:
        await proposed(desk, who, artifacts=[note.job.artifact])

    assert reason in caught.value.reasons
    assert not await desk.ports.custody.held(note.job.artifact)


@pytest.mark.anyio
async def test_an_approval_that_does_not_count_changes_nothing(desk: Desk) -> None:
    """Not one's own, not in another role, not of another tenant; and each try is on record."""
    note = await recorded(desk)
    hold, _ = await proposed(desk, artifacts=[note.job.artifact])

    for who in (
        Person(id="p_1", role="approver", tenant=TENANT),
        Person(id="p_2", role="dpo", tenant=TENANT),
        Person(id="p_2", role="approver", tenant="other"),
        Person(id="p_2", role="root", tenant=TENANT),
    ):
        with pytest.raises(DeniedError):
            await holding.approve(who, hold.id, ports=desk.ports)

    found = await orders.find(desk.ports.engine, hold.id)
    assert found is not None
    assert found.state is HoldState.PROPOSED
    assert len(told(desk, EventType.ACCESS_DENIED)) == 3
    await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    with pytest.raises(HoldError, match="nothing is proposed"):
        await holding.approve(COUNSEL, hold.id, ports=desk.ports)
    foreign = Person(id="p_9", role="dpo", tenant="other")
    with pytest.raises(DeniedError):
        await holding.release(foreign, hold.id, ports=desk.ports)
    with pytest.raises(HoldError, match="no such hold"):
        await holding.release(DPO, "h_none", ports=desk.ports)


@pytest.mark.anyio
async def test_without_an_answer_of_the_rules_nothing_is_held(desk: Desk) -> None:
    """Undecided is no yes, for a hold as for a transfer."""
    note = await recorded(desk)
    proof = (await permitted(note, Stage.NOTICE, desk.ports)).provenance

    async def nobody(*_: object) -> Undecided:
        return Undecided(reasons=("engine.late",), provenance=proof)

    desk.with_ports(ask_access=nobody)

    with pytest.raises(UndecidedError):
        await proposed(desk, artifacts=[note.job.artifact])

    assert not await desk.ports.custody.held(note.job.artifact)


@pytest.mark.anyio
async def test_a_person_is_every_pseudonym_of_theirs(desk: Desk) -> None:
    """A hold on one of two identities would miss half of the evidence."""
    note = await recorded(desk)
    with pytest.raises(HoldError, match="no such subject"):
        await proposed(desk, subject="s_nobody")
    with pytest.raises(HoldError, match="no such subject"):
        await proposed(desk, Person(id="p_1", role="dpo", tenant="other"), subject=note.subject)

    hold, taken = await proposed(desk, subject=note.subject)

    assert hold.scope.subjects == (note.subject,)
    assert note.job.artifact in taken.kept


@pytest.mark.anyio
async def test_a_hold_that_runs_out_is_ended_on_record(desk: Desk, sweeper: Sweeper) -> None:
    """Nobody has to remember it: a forgotten hold keeps a voice for ever."""
    note = await recorded(desk)
    hold = await placed(desk, artifacts=[note.job.artifact])
    lapsed, _ = await proposed(desk, artifacts=[note.label(Kind.TRANSCRIPT).artifact])
    desk.clock.move(86_400)
    await sweeper.tend_holds()
    desk.clock.move(29 * 86_400)

    await sweeper.tend_holds()

    ends = {
        event.detail["hold"]: (event.outcome, event.actor)
        for event in told(desk, EventType.HOLD_RELEASED)
    }
    assert ends == {hold.id: ("expired", "gateway"), lapsed.id: ("lapsed", "gateway")}
    assert await desk.rows(held) == []


@pytest.mark.anyio
async def test_a_log_that_is_away_is_told_later_and_stops_no_clock(
    desk: Desk, sweeper: Sweeper
) -> None:
    """The row is first: an expiry must not wait for the log, and must not be forgotten."""
    note = await recorded(desk)
    hold = await placed(desk, artifacts=[note.job.artifact])
    desk.clock.move(30 * 86_400)
    desk.trail.refuses = lambda event: event.type in HOLDS
    with pytest.raises(AppendError):
        await sweeper.tend_holds()
    found = await orders.find(desk.ports.engine, hold.id)
    assert found is not None
    assert found.ended == Ended.EXPIRED
    desk.trail.refuses = lambda _: False

    await sweeper.tend_holds()

    assert [event.type for event in told(desk, *HOLDS)] == list(HOLDS)


@pytest.mark.anyio
async def test_the_clocks_list_holds_and_their_next_end(desk: Desk) -> None:
    """A DPO sees what is kept beyond its time, and until when."""
    note = await recorded(desk)
    hold = await placed(desk, artifacts=[note.job.artifact])
    await proposed(desk, artifacts=[note.label(Kind.TRANSCRIPT).artifact])
    desk.clock.move(RAW_AUDIO_S + 3_600)

    shown = await readings(desk.ports.engine, desk.clock(), decisions_for=timedelta(days=1))

    lines = {reading.clock.name: reading for reading in shown}
    assert (lines["legal_holds"].count, lines["legal_holds"].first) == (1, hold.expires_at)
    assert lines["proposed_holds"].count == 1
    assert lines["raw_audio"].count == 0
    assert not any(reading.alarming for reading in shown)


@pytest.mark.anyio
async def test_a_release_is_no_alarm(desk: Desk) -> None:
    """What was kept for years is late from its release on: nobody is woken for it."""
    note = await recorded(desk)
    hold = await placed(desk, artifacts=[note.job.artifact])
    desk.clock.move(20 * 86_400)
    await holding.release(DPO, hold.id, ports=desk.ports)
    await holding.approve(COUNSEL, hold.id, ports=desk.ports)

    shown = await readings(desk.ports.engine, desk.clock(), decisions_for=timedelta(days=1))
    [line] = [reading for reading in shown if reading.clock.name == "raw_audio"]
    assert (line.count, line.alarming) == (1, False)
    desk.clock.move(3_600)
    shown = await readings(desk.ports.engine, desk.clock(), decisions_for=timedelta(days=1))
    [line] = [reading for reading in shown if reading.clock.name == "raw_audio"]
    assert line.alarming


def wanted(desk: Desk, **said: Any) -> Wanted:
    """Return what a command says."""
    until = int((desk.clock() + timedelta(days=30)).timestamp())
    given = {"by": "p_1", "role": "dpo", "tenant": TENANT, "case": "case-7", "ground": GROUND}
    return Wanted(**given | {"until": until} | said)  # type: ignore[arg-type]


async def ordered_by(desk: Desk, sweeper: Sweeper, verb: str, want: Wanted) -> ordered.Answer:
    """Return what the cell answers to a command."""
    ident = await ordered.ask(desk.ports.engine, verb, want, desk.clock())
    assert await ordered.answer(desk.ports.engine, ident) is None
    await sweeper.tend_holds()
    found = await ordered.answer(desk.ports.engine, ident)
    assert found is not None
    await ordered.drop(desk.ports.engine, ident)
    return found


@pytest.mark.anyio
async def test_a_command_asks_and_the_cell_does_it(desk: Desk, sweeper: Sweeper) -> None:
    """Only the running cell asks the rules in force, wraps keys and writes to the log."""
    note = await recorded(desk)
    want = wanted(desk, artifacts=(note.job.artifact,))
    first = await ordered_by(desk, sweeper, "propose", want)
    assert (first.row["state"], first.row["kept"], first.fault) == ("proposed", 1, "")
    ident = first.row["hold"]
    alone = await ordered_by(desk, sweeper, "approve", wanted(desk, hold=ident, role="approver"))
    assert alone.fault == "the rules say no: approval.missing"
    other = wanted(desk, hold=ident, by="p_2", role="approver")
    assert (await ordered_by(desk, sweeper, "approve", other)).row["state"] == "placed"
    assert (await ordered_by(desk, sweeper, "release", wanted(desk, hold=ident))).row["release_by"]
    assert (await ordered_by(desk, sweeper, "approve", other)).row["state"] == "released"

    assert await desk.rows(hold_requests) == []
    [row] = await holding.listed(desk.ports.engine, TENANT)
    assert (row["hold"], row["state"], row["approved_by"]) == (ident, "released", "p_2")
    assert await holding.listed(desk.ports.engine, "other") == []


@pytest.mark.anyio
async def test_a_command_hears_why_nothing_was_done(desk: Desk, sweeper: Sweeper) -> None:
    """A fault in its words ends there: the next command is served."""
    note = await recorded(desk)
    span = {"since": 10, "before": 5}
    badly = [
        (wanted(desk, **span), "after its beginning"),
        (wanted(desk, artifacts=("a_none",)), "no such artifact"),
        (wanted(desk, subject="s_none"), "no such subject"),
        (wanted(desk, artifacts=(note.job.artifact,), role="agent"), "role.forbidden"),
    ]
    for want, why in badly:
        found = await ordered_by(desk, sweeper, "propose", want)
        assert why in found.fault
    home = desk.directory / "keys"
    home.rename(desk.directory / "away")
    desk.ports.keys.forget(note.subject)
    away = await ordered_by(desk, sweeper, "propose", wanted(desk, subject=note.subject))
    assert "try again" in away.fault


@pytest.mark.anyio
async def test_what_nobody_waits_for_is_not_done(desk: Desk, sweeper: Sweeper) -> None:
    """A killed command's order must not be carried out tomorrow."""
    note = await recorded(desk)
    want = wanted(desk, artifacts=(note.job.artifact,))
    await ordered.ask(desk.ports.engine, "propose", want, desk.clock())
    desk.clock.move(61)

    await sweeper.tend_holds()

    assert await desk.rows(hold_requests) == []
    assert not await desk.ports.custody.held(note.job.artifact)


@pytest.mark.anyio
async def test_a_person_is_told_that_a_human_answers(desk: Desk, broker: Broker) -> None:
    """The whole path: a running worker meets a hold, ends the job, and sends the notice."""
    await desk.consents()
    await placed(desk, subject=await desk.subject())

    async with working(desk, broker):
        job = await desk.hear(desk.recording())
        assert await desk.over(job) == [State.REFUSED.value]

    assert await desk.state(job) == (State.REFUSED.value, "hold.active")
    assert len(desk.texts()) == 1
    kept = select(artifacts.c.kind).join(retention).where(retention.c.hold.is_not(None))
    async with desk.ports.engine.connect() as tx:
        assert (await tx.execute(kept)).scalars().all() == [Kind.RAW_AUDIO.value]
