"""A question that was never seen, or never answered, does not leave somebody in silence."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from support.desk import Desk

from gateway import asking, phrases, rights, turns
from gateway.asking import AGAIN_AFTER, DAY, MOST, QUIET, Said, Step, next_step
from gateway.errors import ConsentNeededError
from gateway.jobs import State
from gateway.note import SPOKEN, Note
from gateway.schema import handovers, jobs, replies
from gateway.whatsapp.payload import Choice

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
AGREE = Choice(id=rights.GRANT, title="I agree")
DISAGREE = Choice(id=rights.REFUSE, title="I do not agree")


async def parked(desk: Desk) -> Note:
    """Return a voice note that waits for ada's consent."""
    note = await desk.spoken()
    with pytest.raises(ConsentNeededError) as needed:
        await turns.act(note, desk.ports)
    await desk.ports.jobs.park(note.job, needed.value.code)
    return note


async def pressed(desk: Desk, choice: Choice) -> None:
    """Have ada press *choice*."""
    note = await desk.note(choice)
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")


def kinds(desk: Desk) -> str:
    """Return what ada received: Q for a question, t for a text."""
    return "".join("Q" if each.kind == "buttons" else "t" for each in desk.ada.inbox)


@pytest.mark.anyio
async def test_a_question_that_did_not_arrive_is_asked_again_with_the_next_note(
    desk: Desk,
) -> None:
    """WhatsApp took it with a 200 and then said that it failed."""
    await parked(desk)
    [question] = await desk.rows(replies)
    await desk.status(question.id, "failed")

    await parked(desk)

    assert kinds(desk) == "QQ"


@pytest.mark.anyio
async def test_a_question_that_was_overlooked_is_asked_again_after_an_hour(desk: Desk) -> None:
    """Buttons scroll away; and any of the two may be pressed for all notes that wait."""
    first = await parked(desk)
    desk.clock.move(AGAIN_AFTER.total_seconds())
    second = await parked(desk)
    assert kinds(desk) == "QQ"

    await pressed(desk, AGREE)

    assert set(desk.woken[-2:]) == {first.job.id, second.job.id}
    newest = await desk.ports.consents.newest("fernruf", first.subject, SPOKEN)
    assert newest is not None


@pytest.mark.anyio
async def test_a_note_in_between_is_told_that_it_waits(desk: Desk) -> None:
    """Six notes in a row bring one question and one sentence, not six of either nor silence."""
    for _ in range(6):
        await parked(desk)

    assert kinds(desk) == "Qt"
    assert desk.texts() == [phrases.say("note_waits", "en", count="2")]


@pytest.mark.anyio
async def test_who_never_answers_is_asked_three_times_a_day_and_then_a_human_is_told(
    desk: Desk,
) -> None:
    """Asking for ever is pestering; silence is worse."""
    for _ in range(MOST + 1):
        await parked(desk)
        desk.clock.move(AGAIN_AFTER.total_seconds() + 1)

    assert kinds(desk) == "Q" * MOST + "t"
    assert desk.texts() == [phrases.say("note_waits_human", "en", count=str(MOST + 1))]
    assert [row.reason for row in await desk.rows(handovers)] == [asking.UNANSWERED]
    assert not any(row.taken for row in await desk.rows(handovers))


@pytest.mark.anyio
async def test_an_answer_ends_the_count(desk: Desk) -> None:
    """Who refused and speaks again an instant later asks for another question."""
    await parked(desk)
    desk.clock.move(1)
    await pressed(desk, DISAGREE)
    desk.clock.move(1)

    await parked(desk)

    assert kinds(desk) == "QtQ"


@pytest.mark.anyio
async def test_what_another_worker_said_meanwhile_is_not_said_again(desk: Desk) -> None:
    """Five workers have a note each, and see that nothing was said yet: one of them says it."""
    await parked(desk)
    waiting = [await desk.hear(desk.recording()) for _ in range(5)]
    async with desk.ports.engine.begin() as tx:  # as if none waited for an earlier one
        await tx.execute(update(jobs).values(urgent=True))
    notes = [await desk.claim(job, f"w{n}") for n, job in enumerate(waiting)]

    await asyncio.gather(*(asking.ask(note, desk.ports) for note in notes))

    assert kinds(desk) == "Qt"


def ago(**past: float) -> datetime:
    """Return a time so long before `NOW`."""
    return NOW - timedelta(**past)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ([], Step.ASK),
        ([Said(at=ago(seconds=1), asked=True)], Step.TELL),
        ([Said(at=ago(minutes=60), asked=True)], Step.ASK),
        ([Said(at=ago(seconds=1), asked=True, failed=True)], Step.ASK),
        ([Said(at=ago(minutes=9), asked=True), Said(at=ago(seconds=9), asked=False)], Step.NOTHING),
        ([Said(at=ago(minutes=9), asked=True), Said(at=ago(minutes=2), asked=False)], Step.TELL),
        ([Said(at=ago(hours=n), asked=True) for n in (1, 2, 3)], Step.HUMAN),
        ([Said(at=ago(hours=n), asked=True) for n in (25, 26, 27)], Step.ASK),
        ([Said(at=ago(minutes=n), asked=True, failed=True) for n in (1, 2, 3)], Step.HUMAN),
    ],
)
def test_what_a_further_note_is_met_with(said: list[Said], step: Step) -> None:
    """The rule, case by case."""
    assert next_step(said, NOW) is step


@given(st.lists(st.integers(1, 7_200), max_size=60), st.sets(st.integers(0, 60)))
def test_nobody_is_pestered_nor_left_alone(gaps: list[int], failing: set[int]) -> None:
    """However somebody speaks: bounded questions, none within an hour of another that arrived."""
    now, said, steps = NOW, [], []
    for number, gap in enumerate(gaps):
        now += timedelta(seconds=gap)
        step = next_step(said, now)
        steps.append((now, step))
        if step is not Step.NOTHING:
            asked = step is Step.ASK
            said.append(Said(at=now, asked=asked, failed=asked and number in failing))
    asked = [each.at for each in said if each.asked and not each.failed]
    assert all(b - a >= AGAIN_AFTER for a, b in pairwise(asked))
    for start in asked:
        assert sum(start <= at < start + DAY for at in asked) <= MOST
    for at, step in steps:
        heard = [each.at for each in said if at - AGAIN_AFTER < each.at <= at]
        assert heard, f"{step}: an hour of silence"
        within = [each for each in said if at - AGAIN_AFTER < each.at <= at and not each.asked]
        assert len(within) <= 2 * MOST
    assert QUIET < AGAIN_AFTER
