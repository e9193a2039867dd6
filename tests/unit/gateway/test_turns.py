"""Each kind of update asks one thing of us, and reactions ask nothing."""

import pytest
from support.desk import Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import phrases, rights, turns
from gateway.errors import ConsentNeededError
from gateway.schema import handovers, replies
from gateway.whatsapp.payload import Choice, Reaction, System, Text, Unsupported


@pytest.mark.anyio
async def test_a_reaction_is_read_and_left_alone(desk: Desk) -> None:
    """An answer to a thumbs-up is noise."""
    await turns.act(await desk.note(Reaction(message_id="wamid.1", emoji="x")), desk.ports)

    assert desk.trail.seen == []
    assert await desk.rows(replies) == []


@pytest.mark.anyio
async def test_what_we_cannot_read_is_said(desk: Desk) -> None:
    """A picture that vanishes without a word looks received."""
    await turns.act(await desk.note(Unsupported(what="image")), desk.ports)

    assert desk.texts() == [phrases.say("unsupported", "en")]


@pytest.mark.anyio
async def test_words_are_answered(desk: Desk) -> None:
    """The ordinary case, typed."""
    await turns.act(await desk.typed("Hello"), desk.ports)

    assert desk.texts() == ["Hello! Please tell me what this is about."]
    assert [message.kind for message in desk.ada.inbox] == ["text"], "typing is not spoken to"


@pytest.mark.anyio
async def test_a_choice_that_is_not_ours_is_words(desk: Desk) -> None:
    """A button of some other flow says what its title says."""
    await turns.act(await desk.note(Choice(id="other", title="Good morning")), desk.ports)

    assert desk.understanding["nlu.one"].last[0] == "Good morning"
    assert desk.types("consent.granted") == []


@pytest.mark.anyio
async def test_a_system_message_about_nobody_new_is_nothing(desk: Desk) -> None:
    """Not every identity change has a new identity in it."""
    await turns.act(await desk.note(System(what="x", new=None, previous=None)), desk.ports)

    assert desk.trail.seen == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content",
    [Text(body="stop"), Choice(id=rights.GRANT, title="I agree"), Text(body="a human please")],
    ids=["withdraw", "grant", "human"],
)
async def test_every_act_may_run_again_after_a_crash(desk: Desk, content: Text) -> None:
    """A job that died before its end comes back: one consent row, one message, one handover."""
    note = await desk.note(content)

    await turns.act(note, desk.ports)
    desk.clock.move(30)
    await desk.ports.jobs.renew(note.job)
    await turns.act(note, desk.ports)

    assert len(desk.ada.inbox) == 1
    assert len(await desk.rows(replies)) == 1
    assert len(await desk.rows(handovers)) <= 1


@pytest.mark.anyio
async def test_a_question_that_failed_is_the_error_not_the_missing_consent(desk: Desk) -> None:
    """A note parked behind a question that nobody got would wait for ever."""
    note = await desk.spoken()
    desk.trail.refuses = lambda event: event.type is EventType.TOUCH_BEGAN

    with pytest.raises(AppendError):
        await turns.act(note, desk.ports)

    desk.trail.refuses = lambda _event: False
    with pytest.raises(ConsentNeededError):
        await turns.act(note, desk.ports)
    assert [message.kind for message in desk.ada.inbox] == ["buttons"]
