"""Each kind of update asks one thing of us, and reactions ask nothing."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import update
from support.desk import PHONE, TENANT, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import phrases, rights, turns, unread
from gateway.demo.graph import refusal
from gateway.errors import ChannelRefusedError, ConsentNeededError
from gateway.jobs import State
from gateway.schema import handovers, jobs, replies
from gateway.whatsapp.payload import (
    Choice,
    Content,
    Edited,
    Identity,
    Message,
    Reaction,
    System,
    Text,
    Unreadable,
    Unsupported,
    VoiceNote,
)


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
@pytest.mark.parametrize("what", ["audio", "text", "button", "other", "too_large"])
async def test_a_message_that_could_not_be_read_is_said_to_be(desk: Desk, what: str) -> None:
    """One odd field left its sender in silence, behind a 200."""
    await turns.act(await desk.note(Unreadable(what=what, words="Hello", choice="x")), desk.ports)

    assert desk.texts() == [phrases.say("unreadable", "en")]
    assert desk.understanding["nlu.one"].calls == 0, "nobody works on a guess"


@pytest.mark.anyio
async def test_several_unreadable_messages_at_once_are_answered_once(desk: Desk) -> None:
    """Six odd updates of one breath would be six times the same sentence."""
    for _ in range(3):
        note = await desk.note(Unreadable(what="audio"))
        await turns.act(note, desk.ports)
        await desk.ports.jobs.end(note.job, State.DONE, "")

    assert desk.texts() == [phrases.say("unreadable", "en")]


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["reaction", "system"])
async def test_what_nobody_wrote_is_not_answered(desk: Desk, what: str) -> None:
    """To be told to type because of a thumb is noise."""
    await turns.act(await desk.note(Unreadable(what=what)), desk.ports)

    assert desk.texts() == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("unread", "state"),
    [
        (Unreadable(what="text", words="Stop!"), "withdrawn"),
        (Unreadable(what="button", words="STOP"), "withdrawn"),
        (Unreadable(what="interactive", choice=rights.REFUSE), "refused"),
    ],
    ids=["text", "title", "button"],
)
async def test_a_no_that_is_certain_acts_though_the_rest_is_unreadable(
    desk: Desk, unread: Unreadable, state: str
) -> None:
    """A no is never lost to a field that has nothing to do with it."""
    await desk.consents()

    await turns.act(await desk.note(unread), desk.ports)

    history = await desk.ports.consents.history(TENANT, await desk.subject())
    assert max(history, key=lambda row: row.at).state == state or history[-1].state == state
    assert desk.types(f"consent.{state}") == [f"consent.{state}"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "unread",
    [
        Unreadable(what="text", words="yes"),
        Unreadable(what="interactive", words="I agree", choice=rights.GRANT),
        Unreadable(what="text", words="a human please"),
    ],
    ids=["yes", "button", "human"],
)
async def test_an_unreadable_yes_is_none(desk: Desk, unread: Unreadable) -> None:
    """A consent must be unambiguous (GDPR Art. 4(11)); only a no may be read out of ruins."""
    waiting = await desk.spoken()
    with pytest.raises(ConsentNeededError):
        await turns.act(waiting, desk.ports)
    await desk.ports.jobs.park(waiting.job, "consent.missing")

    await turns.act(await desk.note(unread), desk.ports)

    assert desk.types("consent.granted") == []
    assert desk.texts()[-1] == phrases.say("unreadable", "en")


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["revoke", "edit"])
async def test_a_deletion_that_names_no_message_goes_to_a_human(desk: Desk, what: str) -> None:
    """What the person took back cannot be found by us, and must not be forgotten for that."""
    await turns.act(await desk.note(Unreadable(what=what)), desk.ports)

    [row] = await desk.rows(handovers)
    assert row.reason == f"{what}.unreadable"


@pytest.mark.parametrize(
    ("unread", "urgent"),
    [
        (Unreadable(what="text", words="stop"), True),
        (Unreadable(what="interactive", choice=rights.REFUSE), True),
        (Unreadable(what="interactive", choice=rights.GRANT), False),
        (Unreadable(what="text", words="hello"), False),
    ],
)
def test_an_unreadable_no_waits_for_no_earlier_turn(unread: Unreadable, *, urgent: bool) -> None:
    """It takes a right back from us like any other."""
    message = Message(
        phone_number_id="1", id="x", sender=Identity(phone=PHONE), sent_at=1, content=unread
    )

    assert turns.urgent(message, ["en"]) is urgent


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


STOPS = {
    "button": Choice(id="some.flow", title="STOP"),
    "list row": Choice(id="row-7", title="Stop 🛑"),
    "quick reply": Choice(id="", title="STOP"),
    "edit": Edited(original_id="wamid.1", body="STOP"),
    "edited caption": Edited(original_id="wamid.1", body=None, caption="STOP"),
    "picture": Unsupported(what="image", caption="STOP"),
    "document": Unsupported(what="document", caption="please stop!"),
    "audio": VoiceNote(media_id="1", mime_type="a", sha256=b"", voice=False, caption="stop 😡"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("form", STOPS)
async def test_a_stop_in_any_form_withdraws(desk: Desk, form: str) -> None:
    """Who says it by a button or under a picture must not be told to type it (GDPR Art. 7(3))."""
    await desk.consents()

    await turns.act(await desk.note(STOPS[form]), desk.ports)

    assert desk.types("consent.withdrawn") == ["consent.withdrawn"]
    assert desk.texts() == [phrases.say("withdrawn_erased", "en")]
    assert desk.fetched() == []


@pytest.mark.parametrize("form", STOPS)
def test_a_stop_in_any_form_waits_for_no_earlier_turn(form: str) -> None:
    """Behind a long recording it would come too late to stop it."""
    assert turns.urgent(_message(STOPS[form]), ["en"])


@pytest.mark.parametrize(
    "content",
    [
        Text(body="where is the bus stop"),
        Choice(id=rights.GRANT, title="STOP"),
        Unsupported(what="image"),
        Reaction(message_id="wamid.1", emoji="🛑"),
    ],
)
def test_what_takes_nothing_back_waits_its_turn(content: Content) -> None:
    """Answers come in the order of the questions."""
    assert not turns.urgent(_message(content), ["en"])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content",
    [
        Edited(original_id="wamid.1", body="yes"),
        Edited(original_id="wamid.1", body=None, caption="yes"),
        Unsupported(what="image", caption="yes"),
    ],
    ids=["edit", "edited-caption", "caption"],
)
async def test_a_yes_in_passing_is_no_consent(desk: Desk, content: Content) -> None:
    """A no is understood in any form, a yes in two: typed, or pressed (GDPR Art. 4(11))."""
    note = await desk.spoken()
    with pytest.raises(ConsentNeededError):
        await turns.act(note, desk.ports)
    await desk.ports.jobs.park(note.job, "consent.missing")

    await turns.act(await desk.note(content), desk.ports)

    assert desk.types("consent.granted") == []
    assert await desk.state(note.job.id) == ("parked", "consent.missing")


def _message(content: Content) -> Message:
    return Message(
        phone_number_id="1", id="wamid.9", sender=Identity(phone=PHONE), sent_at=0, content=content
    )


@pytest.mark.anyio
async def test_an_album_is_answered_once(desk: Desk) -> None:
    """Six pictures are six updates of one second, and one sentence is enough."""
    for _ in range(6):
        note = await desk.note(Unsupported(what="image"))
        await turns.act(note, desk.ports)
        await desk.ports.jobs.end(note.job, State.DONE, "answered")
    assert desk.texts() == [phrases.say("unsupported", "en")]

    desk.clock.move(unread.AT_ONCE.total_seconds() + 1)
    await turns.act(await desk.note(Unsupported(what="video")), desk.ports)

    assert len(desk.texts()) == 2, "what comes later is something else"


@pytest.mark.anyio
async def test_a_note_that_cannot_be_read_beside_a_picture_is_told_of_by_itself(desk: Desk) -> None:
    """Told only that pictures are not read, its author would wait for an answer to the note."""
    for content in (Unsupported(what="image"), *[Unreadable(what="audio")] * 2):
        note = await desk.note(content)
        await turns.act(note, desk.ports)
        await desk.ports.jobs.end(note.job, State.DONE, "answered")

    assert desk.texts() == [phrases.say("unsupported", "en"), phrases.say("unreadable", "en")]


@pytest.mark.anyio
async def test_an_album_whose_answer_failed_is_answered_by_the_next_picture(desk: Desk) -> None:
    """One refused sentence must not silence the others."""
    first = await desk.note(Unsupported(what="image"))
    desk.world.faults.add("messages", refusal(131026, 400))
    with pytest.raises(ChannelRefusedError):
        await turns.act(first, desk.ports)
    await desk.ports.jobs.end(first.job, State.REFUSED, "131026")

    await turns.act(await desk.note(Unsupported(what="image")), desk.ports)

    assert desk.texts() == [phrases.say("unsupported", "en")]


@pytest.mark.anyio
async def test_an_album_in_the_hands_of_six_workers_is_answered_once(desk: Desk) -> None:
    """Whoever decides to say it decides alone: the others of the conversation wait."""
    pictures = [await desk.hear(Unsupported(what="image")) for _ in range(6)]
    async with desk.ports.engine.begin() as tx:  # as if none waited for an earlier one
        await tx.execute(update(jobs).values(urgent=True))

    notes = [await desk.claim(job, f"w{n}") for n, job in enumerate(pictures)]
    await asyncio.gather(*(turns.act(note, desk.ports) for note in notes))

    assert desk.texts() == [phrases.say("unsupported", "en")]


@pytest.mark.anyio
async def test_a_wish_that_a_human_acts_on_is_among_the_handovers(desk: Desk) -> None:
    """The reply says that somebody was told; the dialogue goes on meanwhile."""
    told = replace(desk.ports.assistants[TENANT], handed=frozenset({"greeting"}))
    desk.with_ports(assistants={TENANT: told})

    await turns.act(await desk.typed("Hello"), desk.ports)

    [row] = await desk.rows(handovers)
    assert (row.reason, row.taken) == ("dialogue.passed_on", False)
    assert desk.types("handover.opened") == ["handover.opened"]
