"""Further purposes, renewals, and what is kept of how a will was expressed."""

from dataclasses import dataclass
from typing import Any

import pytest
from support.desk import CONTROLLER, TENANT, Desk

from audit.model import EventType
from gateway import consents, orders, phrases, rights, turns
from gateway.errors import ChannelRefusedError, ConsentNeededError
from gateway.jobs import State
from gateway.note import SPOKEN, Note
from gateway.outbox import Kind
from gateway.schema import replies
from gateway.sections import PURPOSES, Consents
from gateway.sweeper import Sweeper
from gateway.whatsapp.payload import Choice, Content, Text
from policy import receipt
from policy.model import ConsentState, Expressed

DAY_S = 86_400


def asking(desk: Desk, *purposes: str, **changes: object) -> None:
    """Have the tenant ask for *purposes*."""
    settings = Consents.model_construct(ask=purposes, **changes)
    tenant = desk.ports.tenants[TENANT].model_copy(update={"consents": settings})
    desk.with_ports(tenants={TENANT: tenant})


async def act(desk: Desk, note: Note) -> None:
    """Act on *note* as the worker does, and end or park its job."""
    try:
        await turns.act(note, desk.ports)
    except ConsentNeededError as exc:
        await desk.ports.jobs.park(note.job, exc.code)
    else:
        await desk.ports.jobs.end(note.job, State.DONE, "answered")


async def said(desk: Desk, content: Content) -> None:
    """Have ada say *content* and act on it."""
    await act(desk, await desk.note(content))


def press(answer: str, purpose: str = SPOKEN) -> Choice:
    """Return the press of a button."""
    return Choice(id=rights.button(answer, purpose), title="x")


def asked(desk: Desk) -> list[str]:
    """Return the questions on ada's phone."""
    return [message.text for message in desk.ada.inbox if message.kind == "buttons"]


async def state(desk: Desk, purpose: str = SPOKEN) -> ConsentState | None:
    """Return how ada's consent to *purpose* stands."""
    row = await desk.ports.consents.newest(TENANT, await desk.subject(), purpose)
    return row.state if row else None


@dataclass
class NoButtons:
    """WhatsApp, but for buttons."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def buttons(self, *_: Any, **__: Any) -> str:
        """Refuse."""
        raise ChannelRefusedError("131026")


@pytest.mark.anyio
async def test_nothing_further_is_asked_unless_the_tenant_says_so(desk: Desk) -> None:
    """Off by default: a person who is not asked has agreed to nothing."""
    await desk.consents()

    await act(desk, await desk.spoken())

    assert asked(desk) == []


@pytest.mark.anyio
async def test_each_further_purpose_is_asked_once_by_itself_after_an_answer(desk: Desk) -> None:
    """Never bundled (GDPR Art. 7(2)), never in the way of the answer, never nagging."""
    asking(desk, "human_review", "training")
    await desk.consents()

    for _ in range(3):
        desk.clock.move(1)
        await act(desk, await desk.spoken())

    expected = [
        phrases.notice("en", CONTROLLER, purpose=each).text for each in ("human_review", "training")
    ]
    assert asked(desk) == expected
    kinds = [message.kind for message in desk.ada.inbox]
    assert kinds[:3] == ["text", "voice", "buttons"]
    told = [e.detail["purpose"] for e in desk.trail.seen if e.type is EventType.CONSENT_ASKED]
    assert told == ["human_review", "training"]


@pytest.mark.anyio
async def test_typed_words_do_not_bring_further_questions(desk: Desk) -> None:
    """They are about voice notes: who only types has none."""
    asking(desk, "training")

    await said(desk, Text(body="Hello"))

    assert asked(desk) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "stands", "told"),
    [
        (rights.GRANT, ConsentState.GRANTED, "purpose_granted"),
        (rights.REFUSE, ConsentState.REFUSED, "purpose_refused"),
    ],
)
async def test_an_answer_to_one_purpose_changes_nothing_else(
    desk: Desk, answer: str, stands: ConsentState, told: str
) -> None:
    """A no to training must not close the voice notes, and a yes must not open anything."""
    asking(desk, "training")
    await desk.consents()
    await act(desk, await desk.spoken())
    desk.clock.move(1)

    await said(desk, press(answer, "training"))

    assert await state(desk, "training") is stands
    assert await state(desk) is ConsentState.GRANTED
    assert [await state(desk, each) for each in ("analytics", "human_review")] == [None, None]
    word = phrases.word("training", "en")
    assert desk.texts()[-1] == phrases.say(told, "en", word=word)


@pytest.mark.anyio
async def test_the_row_of_a_further_purpose_names_its_own_words(desk: Desk) -> None:
    """Consent to some words proves nothing about others."""
    asking(desk, "analytics")
    await desk.consents()
    await act(desk, await desk.spoken())

    await said(desk, press(rights.GRANT, "analytics"))

    row = await desk.ports.consents.newest(TENANT, await desk.subject(), "analytics")
    assert row is not None
    shown = phrases.notice("en", CONTROLLER, purpose="analytics")
    assert row.notice_sha256 == shown.sha256
    assert row.expressed is Expressed.BUTTON


@pytest.mark.anyio
async def test_a_further_purpose_is_withdrawn_by_two_words_and_by_itself(desk: Desk) -> None:
    """As easy as giving it; "STOP" alone would be more than the person wants."""
    asking(desk, "training")
    await desk.consents()
    await act(desk, await desk.spoken())
    await said(desk, press(rights.GRANT, "training"))
    desk.clock.move(1)

    await said(desk, Text(body="stop training"))

    assert await state(desk, "training") is ConsentState.WITHDRAWN
    assert await state(desk) is ConsentState.GRANTED
    assert desk.texts()[-1] == phrases.say("purpose_withdrawn", "en")


@pytest.mark.anyio
async def test_stop_withdraws_every_consent(desk: Desk) -> None:
    """Who says stop means all of it."""
    asking(desk, "training", "analytics")
    await desk.consents()
    await act(desk, await desk.spoken())
    await said(desk, press(rights.GRANT, "training"))
    desk.clock.move(1)

    await said(desk, Text(body="STOP"))

    assert await state(desk, "training") is ConsentState.WITHDRAWN
    assert await state(desk) is ConsentState.WITHDRAWN
    assert await state(desk, "analytics") is None
    told = [e.detail["purpose"] for e in desk.trail.seen if e.type is EventType.CONSENT_WITHDRAWN]
    assert sorted(told) == ["training", SPOKEN]


@pytest.mark.anyio
async def test_a_further_question_that_whatsapp_refuses_leaves_the_answer_alone(desk: Desk) -> None:
    """The person was answered: that note is done."""
    asking(desk, "training")
    await desk.consents()
    note = await desk.spoken()
    sent = desk.ports.graphs[note.message.phone_number_id]
    desk.with_ports(graphs={note.message.phone_number_id: NoButtons(sent)})

    await turns.act(note, desk.ports)

    assert [message.kind for message in desk.ada.inbox] == ["text", "voice"]
    [row] = [row for row in await desk.rows(replies) if row.kind == Kind.PURPOSE]
    assert row.state == "failed"


@pytest.mark.anyio
async def test_a_consent_that_ends_soon_is_asked_for_again_and_then_renewed(desk: Desk) -> None:
    """Before it runs out, with the words in force; a second yes is a renewal, not a first one."""
    desk.ada.bsuid = "DE.1234567890abcdef"  # a number alone is asked anew after such a silence
    parked = await desk.hear(desk.recording())
    await act(desk, await desk.claim(parked))
    await said(desk, press(rights.GRANT))
    row = await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN)
    assert row is not None
    await act(desk, await desk.claim(parked))
    desk.clock.move((row.expires_at - row.at) * (consents.RENEW_PART - 1) // consents.RENEW_PART)
    desk.clock.move(-DAY_S)
    await act(desk, await desk.spoken())
    assert len(asked(desk)) == 1

    desk.clock.move(2 * DAY_S)
    for _ in range(2):
        desk.clock.move(1)
        await act(desk, await desk.spoken())
    assert len(asked(desk)) == 2
    await said(desk, press(rights.GRANT))

    assert await state(desk) is ConsentState.RENEWED
    assert desk.types("consent.granted", "consent.renewed") == [
        "consent.granted",
        "consent.renewed",
    ]
    desk.clock.move(1)
    await act(desk, await desk.spoken())
    assert len(asked(desk)) == 2


@pytest.mark.anyio
async def test_what_ran_out_is_recorded_once_and_asked_for_again(desk: Desk) -> None:
    """The clock writes a row and a leaf; the next note brings the question, its yes renews."""
    await desk.consents()
    sweeper = Sweeper(desk.ports, owner="s1")
    await sweeper.expire()
    assert await state(desk) is ConsentState.GRANTED
    desk.clock.move(DAY_S)

    for _ in range(2):
        await sweeper.expire()

    assert await state(desk) is ConsentState.EXPIRED
    assert desk.types("consent.expired") == ["consent.expired"]
    await said(desk, desk.recording())
    assert len(asked(desk)) == 1
    desk.clock.move(1)
    await said(desk, press(rights.GRANT))
    assert await state(desk) is ConsentState.RENEWED


@pytest.mark.anyio
async def test_an_end_that_cannot_be_recorded_stays_due(desk: Desk) -> None:
    """What the ledger knows is not due any more: the leaf must come first."""
    await desk.consents()
    desk.clock.move(DAY_S)
    sweeper = Sweeper(desk.ports, owner="s1")
    desk.trail.refuses = lambda event: event.type is EventType.CONSENT_EXPIRED

    with pytest.raises(Exception, match="told to refuse"):
        await sweeper.expire()
    desk.trail.refuses = lambda _event: False
    await sweeper.expire()

    assert desk.types("consent.expired") == ["consent.expired"]


@pytest.mark.anyio
async def test_the_tenant_says_how_long_a_yes_counts(desk: Desk) -> None:
    """A shorter life than the law's longest is a setting."""
    asking(desk, valid_months=1, withdrawal_erases=True)
    await said(desk, desk.recording())

    await said(desk, press(rights.GRANT))

    row = await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN)
    assert row is not None
    assert row.expires_at - row.at == 30 * DAY_S  # from 19 November to 19 December


@pytest.mark.parametrize("language", phrases.LANGUAGES)
@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose_has_words_in_every_language_and_a_way_out(
    purpose: str, language: str
) -> None:
    """It fits a message with buttons, names the controller, and what it says to write works."""
    shown = phrases.notice(language, "C" * 200, purpose=purpose)
    stop = phrases._BOOK[language].notice.stop
    word = phrases.word(purpose, language)

    assert len(shown.text) <= 1024
    assert "C" * 200 in shown.text
    assert f"{stop} {word}." in shown.text
    assert phrases.withdrawn(f"{stop} {word}!", [language]) == purpose
    assert phrases.withdrawn(f"don't {stop} {word}", [language]) is None
    assert orders.command(f"{stop} {word}", [language]) is None
    assert purpose in receipt.PURPOSES
