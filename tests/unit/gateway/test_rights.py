"""What a person may want beside an answer: to agree, refuse, withdraw, delete, reach a human."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import update
from support.desk import CONTROLLER, PHONE, TENANT, Desk, never

from audit.errors import AppendError
from audit.model import EventType
from gateway import phrases, rights, turns
from gateway.demo.graph import ACCEPT_THEN_DROP, refusal
from gateway.errors import ChannelRefusedError, ChannelUnknownError, ConsentNeededError
from gateway.inbox import keyed
from gateway.jobs import State
from gateway.note import SPOKEN, Note, opened
from gateway.outbox import Kind as Sent
from gateway.persons import link, pseudonym
from gateway.schema import handovers, jobs, replies
from gateway.whatsapp.payload import Choice, Content, Edited, Identity, Revoked, System, Text
from policy.consent import expiry
from policy.model import Consent, ConsentState, Expressed
from vault.model import Kind

NEW_PHONE = "4915112345679"
BSUID = "DE.1234567890abcdef"
AGREE = Choice(id=rights.GRANT, title="I agree")
DISAGREE = Choice(id=rights.REFUSE, title="I do not agree")


async def act(desk: Desk, note: Note) -> str:
    """Act on *note* as the worker does, and end or park its job; return the state."""
    try:
        await turns.act(note, desk.ports)
    except ConsentNeededError as exc:
        await desk.ports.jobs.park(note.job, exc.code)
        return "parked"
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return "done"


async def said(desk: Desk, content: Content) -> str:
    """Have ada say *content* and act on it; return the state of its job."""
    return await act(desk, await desk.note(content))


async def parked(desk: Desk) -> Note:
    """Return a voice note that waits for ada's consent."""
    note = await desk.spoken()
    assert await act(desk, note) == "parked"
    return note


async def newest(desk: Desk) -> Consent:
    """Return the consent that counts."""
    found = await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN)
    assert found is not None
    return found


def kinds(desk: Desk) -> list[str]:
    """Return the kinds of what ada received."""
    return [message.kind for message in desk.ada.inbox]


def say(key: str) -> str:
    """Return our phrase *key*."""
    return phrases.say(key, "en")


@pytest.mark.anyio
async def test_consent_is_asked_for_once_per_conversation(desk: Desk) -> None:
    """Three notes in a row must not bring three notices."""
    for _ in range(3):
        await parked(desk)

    assert kinds(desk) == ["buttons", "text"], "the text says that the second one waits"
    assert desk.types("consent.asked") == ["consent.asked"]
    shown = phrases.notice("en", CONTROLLER)
    message = desk.ada.inbox[0]
    assert message.text == shown.text
    assert [button for button, _ in message.buttons] == [rights.GRANT, rights.REFUSE]
    assert desk.fetched() == []


@pytest.mark.anyio
async def test_an_interrupted_question_is_not_asked_twice(desk: Desk) -> None:
    """WhatsApp took the notice and did not say so: that is in doubt like any reply."""
    note = await desk.spoken()
    desk.world.faults.add("messages", ACCEPT_THEN_DROP)
    with pytest.raises(ChannelUnknownError):
        await turns.act(note, desk.ports)
    [row] = await desk.rows(replies)
    await desk.status(row.id)

    with pytest.raises(ConsentNeededError):
        await turns.act(note, desk.ports)

    assert kinds(desk) == ["buttons"]


@pytest.mark.anyio
async def test_agreeing_lets_the_parked_note_go_on_and_be_answered(desk: Desk) -> None:
    """The person already said it once: it is not theirs to repeat."""
    note = await parked(desk)

    await said(desk, AGREE)

    assert desk.woken[-1] == note.job.id
    assert await act(desk, await desk.claim(note.job.id)) == "done"
    assert kinds(desk) == ["buttons", "text", "voice"]


@pytest.mark.anyio
async def test_agreeing_again_is_confirmed(desk: Desk) -> None:
    """Silence would leave the person guessing."""
    await desk.consents()

    await said(desk, AGREE)

    assert desk.texts() == [say("granted")]


@pytest.mark.anyio
async def test_an_old_button_agrees_to_nothing_but_brings_the_question_back(desk: Desk) -> None:
    """Nobody knows any more which words it agreed to."""
    await said(desk, AGREE)

    assert kinds(desk) == ["buttons"]
    assert await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN) is None


@pytest.mark.anyio
async def test_an_old_button_that_is_tried_twice_does_not_agree_to_its_own_question(
    desk: Desk,
) -> None:
    """A job that died after it asked comes back: the person has agreed to nothing meanwhile."""
    press = await desk.note(AGREE)

    for _ in range(2):
        await turns.act(press, desk.ports)

    assert kinds(desk) == ["buttons"]
    assert await desk.ports.consents.newest(TENANT, press.subject, SPOKEN) is None


@pytest.mark.anyio
async def test_a_notice_that_never_arrived_is_not_what_was_agreed_to(desk: Desk) -> None:
    """WhatsApp refused it: nobody was shown these words."""
    note = await desk.spoken()
    desk.world.faults.add("messages", refusal(131026, 400))
    with pytest.raises(ChannelRefusedError):
        await turns.act(note, desk.ports)
    await desk.ports.jobs.park(note.job, "consent.missing")

    await said(desk, AGREE)

    assert await desk.ports.consents.newest(TENANT, note.subject, SPOKEN) is None
    assert kinds(desk) == ["buttons"]


@pytest.mark.anyio
async def test_the_consent_row_proves_what_was_shown_and_how_it_was_answered(desk: Desk) -> None:
    """GDPR Art. 7(1): the controller must be able to demonstrate it, without the message id."""
    await parked(desk)
    press = await desk.note(AGREE)
    await act(desk, press)

    consent = await newest(desk)
    [shown] = [message for message in desk.ada.inbox if message.kind == "buttons"]
    key = await desk.ports.keys.named(f"idempotency-{TENANT}")
    assert consent.state is ConsentState.GRANTED
    assert consent.notice_version == phrases.VERSION
    assert consent.notice_sha256 == sha256(shown.text.encode()).hexdigest()
    assert (consent.language, consent.channel) == ("en", "whatsapp")
    assert consent.at == int(desk.clock().timestamp())
    assert consent.expires_at == expiry(consent.at)
    assert consent.evidence == keyed(key, "evidence", press.message.id)
    [notice] = [row for row in await desk.rows(replies) if row.kind == Sent.CONSENT]
    assert consent.shown == keyed(key, "evidence", notice.id)
    assert consent.expressed is Expressed.BUTTON
    assert press.message.id not in str(consent)
    assert PHONE not in str(consent)
    [event] = [e for e in desk.trail.seen if e.type is EventType.CONSENT_GRANTED]
    assert event.detail["notice_sha256"] == consent.notice_sha256


@pytest.mark.anyio
async def test_refusing_ends_the_parked_notes_unheard_and_says_so(desk: Desk) -> None:
    """Unopened stays unopened; the person is told that typing works."""
    first, second = await parked(desk), await parked(desk)

    await said(desk, DISAGREE)

    for note in (first, second):
        assert await desk.state(note.job.id) == ("refused", "consent.refused")
    assert (await newest(desk)).state is ConsentState.REFUSED
    assert desk.texts()[1:] == [say("refused")]
    assert desk.fetched() == []
    ended = [e for e in desk.trail.seen if e.type is EventType.JOB_ENDED]
    assert {event.job for event in ended} == {first.job.id, second.job.id}


@pytest.mark.anyio
async def test_withdrawing_keeps_the_next_note_closed(desk: Desk) -> None:
    """As easy as giving it (Art. 7(3)): one typed word, and no media is fetched any more."""
    await desk.consents()
    assert await act(desk, await desk.spoken()) == "done"
    before = desk.fetched()
    desk.clock.move(1)

    await said(desk, Text(body="STOP"))
    await parked(desk)

    assert (await newest(desk)).state is ConsentState.WITHDRAWN
    assert desk.fetched() == before
    assert desk.texts()[-1] == say("withdrawn_erased")
    assert desk.types("consent.withdrawn") == ["consent.withdrawn"]


@pytest.mark.anyio
async def test_withdrawing_drops_what_waits(desk: Desk) -> None:
    """A note that was never opened is not opened after a no."""
    note = await parked(desk)

    await said(desk, Text(body="stop"))

    assert await desk.state(note.job.id) == ("refused", "consent.withdrawn")


@pytest.mark.anyio
async def test_a_typed_yes_counts_only_while_asked(desk: Desk) -> None:
    """A "yes" to some other question is no consent to open recordings."""
    await said(desk, Text(body="yes"))
    assert await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN) is None
    await parked(desk)

    await said(desk, Text(body="yes"))

    assert (await newest(desk)).state is ConsentState.GRANTED


@pytest.mark.anyio
async def test_a_typed_no_counts_only_while_asked(desk: Desk) -> None:
    """Nor is a "no" to some other question a refusal."""
    await said(desk, Text(body="no"))
    assert await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN) is None
    note = await parked(desk)

    await said(desk, Text(body="no"))

    assert await desk.state(note.job.id) == ("refused", "consent.refused")


@pytest.mark.anyio
async def test_a_deleted_message_takes_its_artifacts_with_it(desk: Desk) -> None:
    """The author took it back: recording, transcripts and spoken answer go, on record."""
    await desk.consents()
    note = await desk.spoken()
    await act(desk, note)
    kept = [note.label(kind).artifact for kind in Kind]
    assert all([await desk.ports.custody.describe(each) for each in kept])

    await said(desk, Revoked(original_id=note.message.id))

    assert [await desk.ports.custody.describe(each) for each in kept] == [None] * 4
    gone = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    assert {event.artifact for event in gone} == set(kept)
    assert {event.detail["reason"] for event in gone} == {"person.revoked"}
    assert {event.outcome for event in gone} == {"verified"}


@pytest.mark.anyio
async def test_a_deleted_message_that_still_waits_is_never_opened(desk: Desk) -> None:
    """Its job ends, on record, and a later consent does not bring it back."""
    note = await parked(desk)

    await said(desk, Revoked(original_id=note.message.id))
    await said(desk, AGREE)

    assert await desk.state(note.job.id) == ("refused", "person.revoked")
    ended = [e for e in desk.trail.seen if e.type is EventType.JOB_ENDED]
    assert [(e.job, e.detail["reason"]) for e in ended] == [(note.job.id, "person.revoked")]
    assert desk.fetched() == []


@pytest.mark.anyio
async def test_deleting_what_we_never_saw_is_nothing(desk: Desk) -> None:
    """The message may be older than us; nobody is disturbed."""
    assert await said(desk, Revoked(original_id="wamid.unknown")) == "done"

    assert desk.ada.inbox == []


@pytest.mark.anyio
async def test_an_edit_drops_the_old_words_and_answers_the_new(desk: Desk) -> None:
    """What was changed was taken back first."""
    await desk.consents()
    note = await desk.spoken()
    await act(desk, note)

    await said(desk, Edited(original_id=note.message.id, body="Good morning"))

    assert await desk.ports.custody.describe(note.job.artifact) is None
    assert desk.understanding["nlu.one"].last[0] == "Good morning"
    assert len(desk.texts()) == 2


@pytest.mark.anyio
async def test_an_edit_without_words_is_a_deletion(desk: Desk) -> None:
    """A caption or a thing that we do not read: there is nothing to answer."""
    await desk.consents()
    note = await desk.spoken()
    await act(desk, note)

    await said(desk, Edited(original_id=note.message.id, body=None))

    assert await desk.ports.custody.describe(note.job.artifact) is None
    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_a_new_number_keeps_the_person(desk: Desk) -> None:
    """A withdrawal under the old number holds under the new one."""
    old = await desk.subject()
    changed = System(
        what="user_changed_number",
        new=Identity(phone=NEW_PHONE),
        previous=Identity(phone=PHONE),
    )

    await said(desk, changed)

    assert await pseudonym(Identity(phone=NEW_PHONE), TENANT, desk.ports) == old
    assert desk.ada.inbox == []


@pytest.mark.anyio
async def test_a_human_takes_over_and_the_bot_then_only_confirms(desk: Desk) -> None:
    """Two voices in one conversation contradict each other."""
    await said(desk, Text(body="I want to talk to a human"))
    await said(desk, Text(body="Hello"))

    assert desk.texts() == [say("handover"), say("with_human")]
    [row] = await desk.rows(handovers)
    assert (row.reason, row.closed_at, row.subject) == ("person.asked", None, await desk.subject())
    assert desk.types("handover.opened") == ["handover.opened"]


@pytest.mark.anyio
async def test_asking_needs_no_consent_but_is_decided_and_on_record(desk: Desk) -> None:
    """A notice is a message under the rules like any other; it goes out as one touch."""
    await parked(desk)

    assert desk.types("policy.decided", "touch.began") == [
        "policy.decided capture",
        "policy.decided notice",
        "touch.began send-consent",
    ]
    assert {row.kind for row in await desk.rows(replies)} == {Sent.CONSENT}


@dataclass
class Ledger:
    """A ledger of consents beside which something happens once, before it takes a row."""

    inner: Any
    before: Callable[[], Awaitable[None]] | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def record(self, row: Consent) -> None:
        """Do it, then record."""
        if before := self.before:
            self.before = None
            await before()
        await self.inner.record(row)


async def stopping(desk: Desk) -> Note:
    """Return a withdrawal that passes earlier turns, as the cell's inbox lets it."""
    job = await desk.hear(Text(body="STOP"))
    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(jobs).where(jobs.c.id == job).values(urgent=True))
    return await desk.claim(job, "w2")


@pytest.mark.anyio
async def test_a_job_with_a_decision_in_hand_is_stopped_before_the_row(desk: Desk) -> None:
    """Between the row and the stop it could begin one more touch, after the no was recorded."""
    await desk.consents()
    note = await desk.spoken()
    stop = await stopping(desk)
    found: list[tuple[str, str]] = []

    async def look() -> None:
        found.append(await desk.state(note.job.id))

    desk.with_ports(consents=Ledger(desk.ports.consents, look))

    await rights.withdraw(stop, desk.ports)

    assert found == [("refused", "consent.withdrawn")]


@pytest.mark.anyio
async def test_a_job_that_begins_before_the_row_is_stopped_after_it(desk: Desk) -> None:
    """It was nobody's when the others were stopped, and asked while the yes still stood."""
    await desk.consents()
    late = await desk.hear(desk.recording())
    stop = await stopping(desk)

    async def begin() -> None:
        await desk.claim(late)

    desk.with_ports(consents=Ledger(desk.ports.consents, begin))

    await rights.withdraw(stop, desk.ports)

    assert await desk.state(late) == ("refused", "consent.withdrawn")
    assert [e.job for e in desk.trail.seen if e.type is EventType.JOB_ENDED] == [late]


@pytest.mark.anyio
@pytest.mark.parametrize("merged", [False, True], ids=["same-name", "other-name"])
async def test_a_withdrawal_that_was_cut_short_is_on_record_for_every_purpose(
    desk: Desk,
    merged: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """The rows are there and the leaves are not: who takes it up must still tell of each."""
    other = desk.world.person(None, bsuid=BSUID, line=desk.line)
    await desk.subject(other)
    await desk.consents()
    yes = await newest(desk)
    await desk.ports.consents.record(replace(yes, id="c_training", purpose="training"))
    desk.clock.move(1)
    stop = await desk.note(Text(body="STOP"))
    desk.trail.refuses = lambda event: event.type is EventType.CONSENT_WITHDRAWN
    with pytest.raises(AppendError):
        await rights.withdraw(stop, desk.ports)
    desk.trail.refuses = never
    if merged:
        await link(Identity(bsuid=BSUID), Identity(phone=PHONE), TENANT, desk.ports)

    await rights.withdraw(await opened(stop.job, desk.ports), desk.ports)

    told = [e.detail["purpose"] for e in desk.trail.seen if e.type is EventType.CONSENT_WITHDRAWN]
    assert sorted(told) == ["training", SPOKEN]


@pytest.mark.anyio
async def test_a_no_to_a_further_purpose_that_is_older_is_not_told_again(desk: Desk) -> None:
    """A second "stop" takes back what stands now; the first has its own leaf."""
    await desk.consents()
    yes = await newest(desk)
    await desk.ports.consents.record(
        replace(yes, id="c_training", purpose="training", state=ConsentState.WITHDRAWN)
    )

    await said(desk, Text(body="STOP"))

    told = [e.detail["purpose"] for e in desk.trail.seen if e.type is EventType.CONSENT_WITHDRAWN]
    assert told == [SPOKEN]
