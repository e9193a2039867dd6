"""An erasure asked for in the chat: one button, the DPO's path, and word of its end."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from support.desk import PHONE, WORDS, Desk, until, working
from support.erasing import Eraser, eraser_of

from audit.evidence import erasure as evidence
from audit.verify import parse_vkey
from gateway import buttons, erasure, holdings, own_erasure, pauses, phrases, turns
from gateway.broker import Broker
from gateway.erasure import STEPS, Erasure
from gateway.errors import ConsentNeededError, LeaseLostError
from gateway.jobs import State, Unclaimed
from gateway.note import Note
from gateway.schema import aliases, erasures, handovers, inbox, jobs, metadata, replies
from gateway.schema import pauses as paused
from gateway.whatsapp.payload import Choice, Content, Text
from vault.erasure import Result
from vault.tables import subject_keys

DELETE = Text(body="Please delete my data 😡")
MAYBE = Text(body="my lawyer says you must delete my personal data one day or another")
CONFIRM = Choice(id=buttons.confirming("en"), title="Delete everything")
KEEP = Choice(id=buttons.KEEP_DATA, title="Keep my data")


async def act(desk: Desk, note: Note) -> str:
    """Act on *note* as the worker does, and return what became of its job."""
    try:
        reason = await turns.act(note, desk.ports)
    except ConsentNeededError as exc:
        await desk.ports.jobs.park(note.job, exc.code)
        return exc.code
    except LeaseLostError:
        return (await desk.state(note.job.id))[1]
    await desk.ports.jobs.end(note.job, State.DONE, reason)
    return "done" if reason == "answered" else reason


async def said(desk: Desk, content: Content) -> str:
    """Have ada say *content*."""
    return await act(desk, await desk.note(content))


async def spoke(desk: Desk) -> Note:
    """Return a voice note of ada's that was answered."""
    await desk.consents()
    note = await desk.spoken()
    assert await act(desk, note) == "done"
    return note


async def pressed(desk: Desk) -> str:
    """Have ada press the confirming button, and return the job of that."""
    note = await desk.note(CONFIRM)
    assert await act(desk, note) == own_erasure.RUNNING
    return note.job.id


async def the_erasure(desk: Desk) -> Erasure:
    """Return the one erasure of a whole person."""
    [row] = [row for row in await desk.rows(erasures) if row.scope == "person"]
    one = await erasure.find(desk.ports.engine, row.id)
    assert one is not None
    return one


async def rolled(eraser: Eraser) -> None:
    """Let a day pass, in which the keeper rolls the bucket of the key."""
    eraser.desk.clock.move(timedelta(hours=24).total_seconds())
    await eraser.harden()


def done(one: Erasure) -> str:
    """Return what the person is told in the end."""
    return f"{phrases.say('erased', 'en')} {phrases.say('erased_stays', 'en', erasure=one.id)}"


@pytest.mark.anyio
async def test_who_asks_is_asked_once_and_has_withdrawn_with_it(desk: Desk) -> None:
    """Nobody who wants everything deleted wants the next note opened (GDPR Art. 7(3), 17)."""
    await desk.consents()

    assert await said(desk, DELETE) == "done"

    question, told = desk.ada.inbox
    assert told.text == phrases.say("withdrawn_erased", "en")
    assert question.text == phrases.say("ask_erase", "en")
    assert [title for _, title in question.buttons] == ["Delete everything", "Keep my data"]
    assert desk.types("consent.withdrawn") == ["consent.withdrawn"]
    assert [row for row in await desk.rows(erasures) if row.scope == "person"] == []
    assert await said(desk, desk.recording()) == "consent.withdrawn"
    assert desk.fetched() == []


@pytest.mark.anyio
@pytest.mark.parametrize("hours", [25, 144])
async def test_asked_too_late_for_an_answer_it_still_withdraws_and_a_human_hears_of_it(
    desk: Desk, hours: int
) -> None:
    """WhatsApp delivers for a week, and takes answers for a day: the no is not lost with those."""
    await desk.consents()
    desk.clock.move(hours * 3_600)

    late = await desk.claim(await desk.hear(DELETE, late_s=hours * 3_600 - 60))

    assert (await act(desk, late)).startswith("unconfirmed.")
    assert desk.types("consent.withdrawn") == ["consent.withdrawn"]
    assert [row.reason for row in await desk.rows(handovers)] == ["erasure.unasked"]
    assert desk.ada.inbox == []


@pytest.mark.anyio
@pytest.mark.parametrize("hours", [25, 144])
async def test_pressed_too_late_for_an_answer_it_still_erases(eraser: Eraser, hours: int) -> None:
    """Only the word of it is left out: the end of the job says so, and nothing else is kept."""
    desk = eraser.desk
    note = await spoke(desk)
    desk.clock.move(hours * 3_600)
    press = await desk.claim(await desk.hear(CONFIRM, late_s=hours * 3_600 - 60))
    desk.ada.inbox.clear()

    assert await act(desk, press) == own_erasure.RUNNING
    await eraser.erasures.tick()

    assert (await the_erasure(desk)).subject == note.subject
    assert (await act(desk, await desk.claim(press.job.id))).startswith("unconfirmed.")
    assert desk.ada.inbox == []
    assert await desk.rows(handovers) == []
    assert await desk.rows(aliases) == []


@pytest.mark.anyio
async def test_who_may_have_asked_is_asked_and_nothing_is_opened_meanwhile(desk: Desk) -> None:
    """A sentence about deletion is not yet an order, and must not be lost as one."""
    await desk.consents()

    assert await said(desk, MAYBE) == "done"
    assert await said(desk, Text(body="yes")) == "done"
    assert await said(desk, desk.recording()) == pauses.REASON
    assert desk.types("consent.withdrawn") == []
    assert {message.text for message in desk.ada.inbox} == {phrases.say("ask_erase", "en")}
    assert await said(desk, KEEP) == "done"

    assert await desk.rows(paused) == []
    assert desk.texts() == [phrases.say("data_kept", "en")]


@pytest.mark.anyio
async def test_the_press_erases_by_the_same_path_and_is_told_when_it_is_done(
    eraser: Eraser,
) -> None:
    """The same steps and certificate as a DPO's; then one message, to a number nobody knows now."""
    desk = eraser.desk
    note = await spoke(desk)
    before = await holdings.holdings(note.subject, "fernruf", desk.ports)
    desk.ada.inbox.clear()

    job = await pressed(desk)
    assert desk.texts() == [], "not before it is true"
    await eraser.erasures.tick()

    one = await the_erasure(desk)
    assert [step for step, _ in one.facts.steps] == list(STEPS)
    assert await act(desk, await desk.claim(job)) == "done"
    assert desk.texts() == [done(one)]
    await rolled(eraser)
    one = await the_erasure(desk)
    assert (one.trigger, one.asked_by, one.verdict) == (
        "person",
        "the person",
        "complete-with-residuals",
    )
    after = await holdings.holdings(
        note.subject, "fernruf", desk.ports, known=before.subjects, jobs_of=before.jobs
    )
    assert {copy.kind for copy in after.copies} <= holdings.KEPT_AS_PROOF.keys()


@pytest.mark.anyio
async def test_its_certificate_verifies_and_says_who_asked(eraser: Eraser) -> None:
    """The person gets what a regulator would be shown."""
    desk = eraser.desk
    await spoke(desk)
    job = await pressed(desk)
    await eraser.erasures.tick()
    assert await act(desk, await desk.claim(job)) == "done"
    await rolled(eraser)

    document = await erasure.certificate(desk.ports.engine, (await the_erasure(desk)).id)

    assert document is not None
    assert evidence.verify(document, parse_vkey(desk.trail.inner.vkey())).ok
    made = json.loads(document)["certificate"]
    assert made["trigger"]["kind"] == "person"
    assert "from the number" in made["subject"]["identity_check"]
    assert PHONE not in json.dumps(made)


@pytest.mark.anyio
async def test_nothing_leads_from_the_number_to_the_erased_or_is_made_for_them(
    eraser: Eraser,
) -> None:
    """The answer is sent without a new pseudonym, key, decision, or handover of theirs."""
    desk = eraser.desk
    note = await spoke(desk)
    job = await pressed(desk)
    await eraser.erasures.tick()
    waiting = len(desk.ports.decisions._waiting)

    assert await act(desk, await desk.claim(job)) == "done"
    await eraser.erasures.tick()

    assert len(desk.ports.decisions._waiting) == waiting
    assert await desk.rows(aliases) == []
    assert await desk.rows(handovers) == []
    [key] = await desk.rows(subject_keys)
    assert key.ciphertext is None
    [row] = [row for row in await desk.rows(jobs) if row.id == job]
    assert (row.subject, row.conversation) == (None, job)
    assert [row.teller for row in await desk.rows(erasures) if row.scope == "person"] == [None]
    assert [row.sealed for row in await desk.rows(inbox) if row.job == job] == [None]
    for table in metadata.sorted_tables:
        if table.name not in holdings.KEPT_AS_PROOF and "subject" in table.c:
            assert note.subject not in [row.subject for row in await desk.rows(table)], table.name


@pytest.mark.anyio
@pytest.mark.parametrize("step", STEPS[::2])  # each step by itself: test_erasures.py
async def test_a_crash_of_the_erasure_loses_neither_it_nor_the_answer(
    eraser: Eraser, step: str
) -> None:
    """Whichever process finishes it, the person hears of it, once."""
    desk = eraser.desk
    await spoke(desk)
    job = await pressed(desk)
    desk.ada.inbox.clear()
    eraser.erasures.reached = _dying(f"erasure.{step}")
    with pytest.raises(SystemExit):
        await eraser.erasures.tick()

    fresh = eraser_of(desk)
    await fresh.erasures.tick()
    await fresh.erasures.tick()

    assert await act(desk, await desk.claim(job)) == "done"
    await fresh.erasures.tick()
    assert desk.texts() == [done(await the_erasure(desk))]


@pytest.mark.anyio
async def test_a_press_that_died_before_it_was_set_aside_is_taken_up_again(
    eraser: Eraser,
) -> None:
    """Between the erasure's row and the pause of its job a process may end."""
    desk = eraser.desk
    note = await spoke(desk)
    press = await desk.note(CONFIRM)
    assert await own_erasure._begin(press, desk.ports)
    await desk.ports.jobs.later(press.job, 0)

    assert await act(desk, await desk.claim(press.job.id)) == own_erasure.RUNNING
    await eraser.erasures.tick()

    assert await act(desk, await desk.claim(press.job.id)) == "done"
    assert (await the_erasure(desk)).subject == note.subject


@pytest.mark.anyio
async def test_an_answer_that_died_on_its_way_is_sent_once(eraser: Eraser) -> None:
    """Sent and not noted is in doubt like any reply: a status settles it."""
    desk = eraser.desk
    await spoke(desk)
    job = await pressed(desk)
    await eraser.erasures.tick()
    desk.ada.inbox.clear()
    note = await desk.claim(job)
    await turns.act(note, desk.ports)  # and dies before its end
    desk.clock.move(61)

    again = await desk.claim(job, "w2")
    assert await act(desk, again) == "done"

    assert len(desk.texts()) == 1
    assert [row.state for row in await desk.rows(replies) if row.job == job] == ["sent"]


@pytest.mark.anyio
async def test_pressed_twice_is_one_erasure_and_one_answer(eraser: Eraser) -> None:
    """People press again while they wait."""
    desk = eraser.desk
    await spoke(desk)
    first = await pressed(desk)
    second = await desk.note(CONFIRM)
    assert await act(desk, second) == "done"
    await eraser.erasures.tick()
    desk.ada.inbox.clear()

    assert await act(desk, await desk.claim(first)) == "done"

    assert len(desk.texts()) == 1
    assert len([row for row in await desk.rows(erasures) if row.scope == "person"]) == 1


@pytest.mark.anyio
async def test_an_open_erasure_of_a_dpo_is_joined(eraser: Eraser) -> None:
    """Asked for by letter and in the chat: one erasure, and the person still hears of it."""
    desk = eraser.desk
    note = await spoke(desk)
    ident = await eraser.ask(note.subject)
    job = await pressed(desk)
    await eraser.erasures.tick()

    assert await act(desk, await desk.claim(job)) == "done"

    assert (await the_erasure(desk)).id == ident


@pytest.mark.anyio
async def test_who_writes_while_they_are_erased_is_served_as_somebody_new(
    eraser: Eraser,
) -> None:
    """The job that waits to answer holds nobody up, however long the erasure takes."""
    desk = eraser.desk
    note = await spoke(desk)
    job = await pressed(desk)
    assert await desk.ports.jobs.claim(job, "w1") is Unclaimed.PARKED

    await eraser.erasures.tick()
    desk.clock.move(2)
    later = await desk.typed("Hello")

    assert later.subject != note.subject
    assert await act(desk, later) == "done"
    assert await act(desk, await desk.claim(job)) == "done"


@pytest.mark.anyio
async def test_what_a_hold_keeps_is_told(eraser: Eraser) -> None:
    """That everything is gone would not be true (GDPR Art. 12(1), 17(3)(e))."""
    desk = eraser.desk
    await spoke(desk)
    job = await pressed(desk)
    await eraser.erasures.tick()
    one = await the_erasure(desk)
    fates = tuple(replace(fate, result=Result.HELD) for fate in one.facts.fates)
    await erasure.note(desk.ports.engine, one.id, facts=replace(one.facts, fates=fates))
    desk.ada.inbox.clear()

    assert await act(desk, await desk.claim(job)) == "done"

    [text] = desk.texts()
    assert phrases.say("withdrawn_held", "en") in text


@pytest.mark.anyio
async def test_spoken_it_is_told_how_with_the_button_that_does_it(desk: Desk) -> None:
    """A transcript may be wrong: nothing is erased on one, and nobody has to find the words."""
    await desk.consents()
    desk.script("stt.one", replace(WORDS, text="delete my data"))

    assert await said(desk, desk.recording()) == "done"

    message = desk.ada.inbox[0]
    assert message.text == phrases.say("erase_how", "en")
    assert [ident for ident, _ in message.buttons] == [buttons.confirming("en")]


@pytest.mark.anyio
async def test_by_real_workers_the_press_is_answered_when_the_erasure_is_done(
    eraser: Eraser, broker: Broker
) -> None:
    """The whole way: queue, worker, tick, queue again, one message."""
    desk = eraser.desk
    await spoke(desk)
    desk.ada.inbox.clear()

    async with working(desk, broker):
        job = await desk.hear(CONFIRM)
        await desk.over(job)  # set aside
        assert desk.ada.inbox == []
        await eraser.erasures.tick()

        async def told() -> bool:
            return bool(desk.texts()) and (await desk.state(job))[0] == State.DONE

        await until(told)

    assert desk.texts() == [done(await the_erasure(desk))]
    assert await desk.rows(aliases) == []


def _dying(name: str) -> Callable[[str], None]:
    def die(reached: str) -> None:
        if reached == name:
            raise SystemExit

    return die
