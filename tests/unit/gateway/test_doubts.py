"""Where it is unclear whether somebody withdraws: asked with two buttons, and nothing is opened."""

import pytest
from support.desk import CONTROLLER, Desk

from gateway import buttons, doubts, pauses, phrases, turns
from gateway.errors import ConsentNeededError, LeaseLostError
from gateway.jobs import State
from gateway.note import Note
from gateway.phrases import LANGUAGES
from gateway.schema import pauses as table
from gateway.sweeper import Sweeper
from gateway.whatsapp.payload import Choice, Content, Text

UNCLEAR = Text(body="my wife says I should revoke my consent to the voice thing")
WITHDRAW = Choice(id=buttons.WITHDRAW, title="Withdraw consent")
KEEP = Choice(id=buttons.KEEP, title="Keep consent")


async def act(desk: Desk, note: Note) -> str:
    """Act on *note* as the worker does, and end or park its job; return the state."""
    try:
        await turns.act(note, desk.ports)
    except ConsentNeededError as exc:
        await desk.ports.jobs.park(note.job, exc.code)
        return exc.code
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return "done"


async def said(desk: Desk, content: Content) -> str:
    """Have ada say *content*."""
    return await act(desk, await desk.note(content))


async def asked(desk: Desk) -> None:
    """Have ada, who agreed, say something unclear."""
    await desk.consents()
    assert await said(desk, UNCLEAR) == "done"


def _sweeper(desk: Desk) -> Sweeper:
    return Sweeper(desk.ports, owner="w1")


@pytest.mark.anyio
async def test_who_may_have_withdrawn_is_asked_with_two_buttons(desk: Desk) -> None:
    """To go on would open what they may have forbidden; to withdraw would put words in a mouth."""
    await asked(desk)

    [message] = desk.ada.inbox
    assert message.text == phrases.say("ask_withdraw", "en")
    assert [ident for ident, _ in message.buttons] == [buttons.WITHDRAW, buttons.KEEP]
    assert desk.types("consent.withdrawn", "processing.paused") == ["processing.paused"]


@pytest.mark.anyio
async def test_nothing_is_opened_until_they_answer(desk: Desk) -> None:
    """The consent on record is in doubt: what cannot be unheard waits (GDPR Art. 4(11), 7(1))."""
    await asked(desk)

    assert await said(desk, desk.recording()) == pauses.REASON
    assert await said(desk, desk.recording()) == pauses.REASON

    assert desk.fetched() == []
    assert len(desk.ada.inbox) == 1, "asked a moment ago"


@pytest.mark.anyio
async def test_what_is_being_opened_stops_before_its_next_touch(desk: Desk) -> None:
    """A note under way rests on the same consent."""
    await desk.consents()
    under_way = await desk.spoken()

    await act(desk, await desk.note(UNCLEAR))

    with pytest.raises(LeaseLostError):
        await turns.act(under_way, desk.ports)
    assert under_way.job.id in desk.woken
    assert await act(desk, await desk.claim(under_way.job.id)) == pauses.REASON
    assert desk.fetched() == []


@pytest.mark.anyio
async def test_keep_lets_what_waited_go_on(desk: Desk) -> None:
    """Nobody has to say again what they already said."""
    await asked(desk)
    note = await desk.spoken()
    assert await act(desk, note) == pauses.REASON

    assert await said(desk, KEEP) == "done"

    assert desk.texts() == [phrases.say("kept", "en")]
    assert await act(desk, await desk.claim(note.job.id)) == "done"
    assert await desk.rows(table) == []
    assert desk.types("processing.resumed") == ["processing.resumed"]


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [WITHDRAW, Text(body="STOP"), Text(body="yes")])
async def test_withdrawing_ends_what_waited_unheard(desk: Desk, answer: Content) -> None:
    """A typed yes to "do you want to withdraw?" protects: it may be as plain as the button."""
    await asked(desk)
    note = await desk.spoken()
    assert await act(desk, note) == pauses.REASON

    assert await said(desk, answer) == "done"

    assert desk.types("consent.withdrawn", "consent.granted") == ["consent.withdrawn"]
    assert await desk.state(note.job.id) == ("refused", "consent.withdrawn")
    assert desk.fetched() == []
    assert await desk.rows(table) == []


@pytest.mark.anyio
async def test_a_typed_no_brings_the_question_back(desk: Desk) -> None:
    """A no may mean "open nothing" as well as "do not withdraw": it opens nothing."""
    await asked(desk)

    assert await said(desk, Text(body="no")) == "done"

    assert [message.kind for message in desk.ada.inbox] == ["buttons", "buttons"]
    assert await said(desk, desk.recording()) == pauses.REASON
    assert await said(desk, Text(body="keep consent")) == "done"
    assert await desk.rows(table) == []


@pytest.mark.anyio
async def test_it_survives_a_restart_and_a_question_that_cannot_be_sent(desk: Desk) -> None:
    """The pause is a row, and stands before anything is sent."""
    await desk.consents()
    note = await desk.note(UNCLEAR)
    desk.trail.refuses = lambda event: event.type == "touch.began"
    with pytest.raises(Exception, match="told to refuse"):
        await turns.act(note, desk.ports)

    desk.trail.refuses = lambda _event: False
    await desk.ports.jobs.end(note.job, State.REFUSED, "window.closed")
    later = await desk.claim(await desk.hear(desk.recording()), "w2")
    assert await act(desk, later) == pauses.REASON
    assert desk.fetched() == []
    assert [message.text for message in desk.ada.inbox] == [phrases.say("ask_withdraw", "en")]


@pytest.mark.anyio
async def test_an_hour_later_the_question_comes_again_with_the_next_note(desk: Desk) -> None:
    """Who overlooked it must not meet silence."""
    await asked(desk)
    desk.clock.move(doubts.ASKED_AGAIN_AFTER.total_seconds() + 1)

    assert await said(desk, desk.recording()) == pauses.REASON
    assert await said(desk, desk.recording()) == pauses.REASON

    assert [message.kind for message in desk.ada.inbox] == ["buttons", "buttons"]


@pytest.mark.anyio
async def test_a_question_nobody_answers_ends_with_what_waited_unheard(desk: Desk) -> None:
    """A pause for ever would be a withdrawal that nobody made; a late opening, a surprise."""
    await asked(desk)
    note = await desk.spoken()
    assert await act(desk, note) == pauses.REASON
    await _sweeper(desk).end_pauses()
    assert await desk.state(note.job.id) == ("parked", pauses.REASON)

    desk.clock.move(pauses.LASTS.total_seconds() + 1)
    await _sweeper(desk).end_pauses()

    assert await desk.state(note.job.id) == ("refused", pauses.UNANSWERED)
    assert await desk.rows(table) == []
    assert desk.fetched() == []


@pytest.mark.anyio
async def test_a_note_that_waits_for_its_consent_is_left_alone_by_keep(desk: Desk) -> None:
    """Two questions may be open: the answer to one says nothing about the other."""
    first = await desk.spoken()
    assert await act(desk, first) == "consent.missing"
    assert await said(desk, UNCLEAR) == "done"

    assert await said(desk, KEEP) == "done"

    assert await desk.state(first.job.id) == ("parked", "consent.missing")
    assert desk.ada.inbox[0].text == phrases.notice("en", CONTROLLER).text


@pytest.mark.anyio
async def test_a_confirmed_button_counts_without_an_open_question(desk: Desk) -> None:
    """A no has no date: an old button is as good as a word."""
    await desk.consents()

    assert await said(desk, WITHDRAW) == "done"

    assert desk.types("consent.withdrawn") == ["consent.withdrawn"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "ident", [buttons.WITHDRAW, buttons.KEEP, buttons.ERASE, buttons.KEEP_DATA]
)
def test_a_title_fits_on_a_button(ident: str, language: str) -> None:
    """WhatsApp refuses a longer one, and nobody would be asked."""
    assert 0 < len(buttons.button(ident, language)[1]) <= 20
