"""
A no is never lost: it acts however late it comes, whatever stands in the way of confirming it.

WhatsApp redelivers for seven days and lets us answer freely for one. The window, a refusal by
Graph, a conversation in human hands, a processor out of service and a full queue may each keep
the confirmation back; none of them may keep back the act (GDPR Art. 7(3), 17, 21).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from support.desk import TENANT, Desk, never, slots

from audit.model import EventType
from gateway import hearing, phrases, rights
from gateway.broker import Broker, Told
from gateway.demo.graph import refusal
from gateway.demo.graph.person import Person
from gateway.jobs import State
from gateway.note import SPOKEN, artifact
from gateway.persons import pseudonym
from gateway.schema import findings, handovers, replies
from gateway.whatsapp.payload import Choice, Content, Edited, Identity, Revoked, System, Text
from gateway.worker import Worker
from policy.model import NO, YES, Consent, ConsentState
from vault.model import Kind
from vault.tables import subject_keys

HOUR_S = 3_600
ON_TIME, A_DAY, SIX_DAYS = 0, 25 * HOUR_S, 6 * 24 * HOUR_S
AGREE = Choice(id=rights.GRANT, title="I agree")
DISAGREE = Choice(id=rights.REFUSE, title="I do not agree")
NUMBERS = count()  # of the blocks of German numbers that are kept for fiction


@dataclass
class Message:
    """A broker's message that takes whatever the worker says of it."""

    said: list[float | None] = field(default_factory=list)

    async def ack(self) -> None:
        """Note it."""

    async def nak(self, delay: float | None = None) -> None:
        """Note it."""
        self.said.append(delay)

    async def in_progress(self) -> None:
        """Note it."""


async def give(hand: Worker, job: str) -> None:
    """Have *hand* work on *job* once."""
    await hand._one(Told(job, Message()))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A person of a consent, with a note that was heard and kept."""

    desk: Desk
    hand: Worker
    person: Person
    subject: str
    message: str
    recording: str

    async def give(self, job: str) -> None:
        """Have the worker work on *job* once."""
        await give(self.hand, job)

    async def hear(self, content: Content, late_s: int = 0) -> str:
        """Accept *content*, and have the worker work on it once."""
        job = await self.desk.hear(content, self.person, late_s=late_s)
        await self.give(job)
        return job

    async def consent(self, purpose: str = SPOKEN) -> ConsentState | None:
        """Return how the consent to *purpose* stands."""
        row = await self.desk.ports.consents.newest(TENANT, self.subject, purpose)
        return row.state if row else None

    async def kept(self) -> list[str]:
        """Return what is kept of the note."""
        idents = [artifact(self.recording, kind) for kind in Kind]
        return [each.label.artifact for each in await self.desk.ports.custody.among(idents)]


Check = Callable[[Case], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Right:
    """What a person does, and what must be so afterwards."""

    content: Callable[[Case], Content]
    after: Check
    confirmed: bool = True
    heard_after: bool = False  # whether the consent to voice notes goes on


async def withdrawn(case: Case) -> None:
    """Assert that the consent is over, and what rested on it is gone."""
    assert await case.consent() is ConsentState.WITHDRAWN
    assert await case.kept() == []


async def refused(case: Case) -> None:
    """Assert that the newest answer is a no."""
    assert await case.consent() is ConsentState.REFUSED


async def training_withdrawn(case: Case) -> None:
    """Assert that one purpose is over: the other goes on."""
    assert await case.consent("training") is ConsentState.WITHDRAWN
    assert await case.consent() in YES


async def training_refused(case: Case) -> None:
    """Assert the same of the button."""
    assert await case.consent("training") is ConsentState.REFUSED
    assert await case.consent() in YES


async def destroyed(case: Case) -> None:
    """Assert that the note that was taken back is gone, whole."""
    assert await case.kept() == []


async def same_person(case: Case) -> None:
    """Assert that the new number or user id leads to the same person."""
    for identity in new_of(case):
        assert await pseudonym(identity, TENANT, case.desk.ports) == case.subject


def new_of(case: Case) -> list[Identity]:
    """Return the identities that a change of the person's number or user id may bring."""
    phone = case.person.phone or ""
    return [Identity(phone=f"496990009{phone[-3:]}"), Identity(bsuid=f"DE.{phone}")]


def moved(case: Case) -> System:
    """Return the change of the person's number."""
    new = Identity(phone=new_of(case)[0].phone, bsuid=new_of(case)[1].bsuid)
    return System(what="user_changed_number", new=new, previous=Identity(phone=case.person.phone))


RIGHTS = {
    "typed stop": Right(content=lambda _: Text(body="STOP"), after=withdrawn),
    "refuse button": Right(content=lambda _: Choice(id=rights.REFUSE, title="No"), after=refused),
    "one purpose typed": Right(
        content=lambda _: Text(body="stop training"), after=training_withdrawn, heard_after=True
    ),
    "one purpose button": Right(
        content=lambda _: Choice(id=rights.button(rights.REFUSE, "training"), title="No"),
        after=training_refused,
        heard_after=True,
    ),
    "deleted": Right(
        content=lambda case: Revoked(original_id=case.message),
        after=destroyed,
        confirmed=False,
        heard_after=True,
    ),
    "edited away": Right(
        content=lambda case: Edited(original_id=case.message, body=None),
        after=destroyed,
        confirmed=False,
        heard_after=True,
    ),
    "edited": Right(
        content=lambda case: Edited(original_id=case.message, body="Good morning"),
        after=destroyed,
        confirmed=False,
        heard_after=True,
    ),
    "number changed": Right(content=moved, after=same_person, confirmed=False, heard_after=True),
}


@asynccontextmanager
async def nothing(_case: Case) -> AsyncIterator[None]:
    """Nothing but lateness."""
    yield


@asynccontextmanager
async def unsendable(case: Case) -> AsyncIterator[None]:
    """Graph refuses everything: this person cannot be reached."""
    faults = case.desk.world.faults
    before, faults.choose = faults.choose, lambda _operation: refusal(131026, 400)
    yield
    faults.choose = before


@asynccontextmanager
async def in_human_hands(case: Case) -> AsyncIterator[None]:
    """Let a human have the conversation: the dialogue answers nothing."""
    job = await case.hear(Text(body="I want to talk to a human"))
    assert (await case.desk.state(job))[0] == "done"
    yield


@asynccontextmanager
async def suspended(case: Case) -> AsyncIterator[None]:
    """Suspend the messaging processor: nothing may be sent."""
    found = {
        "id": "fd_1",
        "open_key": "k",
        "processor": "msg.here",
        "region": "eu-central",
        "kind": "region",
        "severity": "critical",
        "declared": "",
        "observed": "",
        "basis": "observed",
        "suspends": True,
        "opened_at": 1,
    }
    ports = case.desk.ports
    async with ports.engine.begin() as tx:
        await tx.execute(insert(findings).values(found))
    await ports.findings.load()
    yield
    async with ports.engine.begin() as tx:
        await tx.execute(delete(findings))
    await ports.findings.load()


@asynccontextmanager
async def full_queue(case: Case) -> AsyncIterator[None]:
    """Leave an earlier turn of the conversation stuck."""
    await case.desk.hear(Text(body="Hello"), case.person)
    yield


OBSTACLES = (nothing, unsendable, in_human_hands, suspended, full_queue)


async def granted(desk: Desk, subject: str, purpose: str) -> None:
    """Have *subject* agree to *purpose*, for a year."""
    at = int(desk.clock().timestamp())
    row = Consent(
        id=f"c_{subject}{purpose}",
        tenant=TENANT,
        subject=subject,
        purpose=purpose,
        state=ConsentState.GRANTED,
        at=at,
        expires_at=at + 365 * 86_400,
        notice_version=phrases.VERSION,
        notice_sha256="0" * 64,
        language="en",
        channel="whatsapp",
        evidence="e" * 64,
    )
    await desk.ports.consents.record(row)


async def someone(desk: Desk, hand: Worker) -> Case:
    """Return somebody who agreed, and whose voice note is kept."""
    person = desk.world.person(f"493023125{next(NUMBERS):03d}", line=desk.line)
    subject = await desk.subject(person)
    for purpose in (SPOKEN, "training"):
        await granted(desk, subject, purpose)
    message = f"wamid.{person.phone}"
    note = await desk.claim(await desk.hear(desk.recording(), person, wamid_=message))
    for kind in (Kind.RAW_AUDIO, Kind.TRANSCRIPT):
        await hearing.keep(note, kind, b"kept", 3_600, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    desk.clock.move(60)
    return Case(
        desk=desk,
        hand=hand,
        person=person,
        subject=subject,
        message=message,
        recording=note.job.artifact,
    )


async def unconfirmed(case: Case, job: str) -> None:
    """Assert that the missing confirmation is on record: in the job, the log, and for a human."""
    _, reason = await case.desk.state(job)
    sent = [row for row in await case.desk.rows(replies) if row.job == job and row.state == "sent"]
    assert sent == []
    assert reason.startswith("unconfirmed."), reason
    ended = [e for e in case.desk.trail.seen if e.id == f"{job}.ended"]
    assert [event.detail["reason"] for event in ended] == [reason]
    assert reason in [row.reason for row in await case.desk.rows(handovers) if row.job == job]


@pytest.mark.anyio
@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda each: each.__name__)
async def test_what_takes_a_right_back_acts_at_any_age(
    desk: Desk, broker: Broker, obstacle: Callable[[Case], Any]
) -> None:
    """Each right, on time and late by 25 hours and 6 days, behind each obstacle."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    for name, right in RIGHTS.items():
        for late_s in (ON_TIME, A_DAY, SIX_DAYS):
            case = await someone(desk, hand)
            desk.clock.move(late_s)
            async with obstacle(case):
                job = await case.hear(right.content(case), late_s)
                where = (name, late_s, await desk.state(job))
                try:
                    await right.after(case)
                except AssertionError as lost:
                    raise AssertionError(where) from lost
                before = desk.fetched()
                if not right.heard_after:
                    await case.hear(desk.recording())
                assert desk.fetched() == before, where
            stopped = late_s or obstacle is unsendable
            if right.confirmed and stopped:
                await unconfirmed(case, job)


@pytest.mark.anyio
async def test_a_late_yes_counts_from_when_it_was_written(desk: Desk, broker: Broker) -> None:
    """It was given in time; that WhatsApp was slow is not the person's fault."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    note = await desk.hear(desk.recording())
    await give(hand, note)
    written = int(desk.clock().timestamp()) + 60
    desk.clock.move(60 + 2 * HOUR_S)

    await give(hand, await desk.hear(AGREE, late_s=2 * HOUR_S))

    row = await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN)
    assert row is not None
    assert (row.state, row.at) == (ConsentState.GRANTED, written)
    await give(hand, note)
    assert await desk.state(note) == ("done", "answered")


@pytest.mark.anyio
@pytest.mark.parametrize("no", [Text(body="STOP"), DISAGREE], ids=["stop", "refuse"])
async def test_a_yes_that_comes_in_behind_a_later_no_brings_nothing_back(
    desk: Desk, broker: Broker, no: Content
) -> None:
    """They pressed yes, thought again and said no: WhatsApp delivered it the other way round."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    await give(hand, await desk.hear(desk.recording()))
    desk.clock.move(120)
    await give(hand, await desk.hear(no))
    said = len(desk.ada.inbox)

    late = await desk.hear(AGREE, late_s=60)
    await give(hand, late)

    row = await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN)
    assert row is not None
    assert row.state in NO
    assert await desk.state(late) == ("done", "consent.overruled")
    assert len(desk.ada.inbox) == said, "nobody is told that they agreed, nor asked again"


@pytest.mark.anyio
async def test_a_stop_that_comes_in_behind_a_later_yes_ends_only_what_was_before(
    desk: Desk, broker: Broker
) -> None:
    """The person took it back and agreed again: what they said in between stays closed."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    case = await someone(desk, hand)
    desk.clock.move(60)
    again = replace(await row_of(case), id="c_again", at=int(desk.clock().timestamp()))
    await desk.ports.consents.record(again)

    job = await case.hear(Text(body="STOP"), late_s=30)

    assert await case.consent() is ConsentState.GRANTED
    assert await case.kept() == [], "what was kept before the stop is gone"
    assert await desk.state(job) == ("done", "consent.overruled")
    assert case.person.inbox == [], "it would not be true that no note is opened any more"


@pytest.mark.anyio
async def test_a_note_written_before_a_no_is_not_opened_on_a_later_yes(
    desk: Desk, broker: Broker
) -> None:
    """The no answered it, wherever WhatsApp had it meanwhile."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    desk.clock.move(HOUR_S)
    await give(hand, await desk.hear(Text(body="STOP")))
    desk.clock.move(60)
    await desk.consents()

    late = await desk.hear(desk.recording(), late_s=HOUR_S)
    await give(hand, late)

    assert await desk.state(late) == ("refused", "consent.withdrawn")
    assert desk.fetched() == []


@pytest.mark.anyio
async def test_what_was_written_after_a_late_stop_is_asked_about_and_not_dropped(
    desk: Desk, broker: Broker
) -> None:
    """They spoke again after they had withdrawn: that note gets its question, not silence."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    await desk.consents()
    desk.clock.move(60)
    spoken = (await desk.spoken()).job.id  # under way

    await give(hand, await desk.hear(Text(body="STOP"), late_s=30))
    await give(hand, spoken)

    assert await desk.state(spoken) == ("parked", "consent.withdrawn")
    assert desk.fetched() == []


@pytest.mark.anyio
@pytest.mark.parametrize("body", [None, "Good morning"], ids=["deleted", "edited"])
async def test_what_was_taken_back_before_it_came_in_is_never_opened(
    desk: Desk, broker: Broker, body: str | None
) -> None:
    """WhatsApp redelivers for seven days: the deletion may be here before the message."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    await desk.consents()
    original = "wamid.taken-back"
    back = Edited(original_id=original, body=body) if body else Revoked(original_id=original)
    await give(hand, await desk.hear(back))

    with pytest.raises(ValueError, match="not enough values"):
        await desk.hear(desk.recording(), wamid_=original)

    assert desk.fetched() == []


@pytest.mark.anyio
async def test_an_edit_destroys_at_once_and_is_answered_in_its_turn(
    desk: Desk, broker: Broker
) -> None:
    """Destroying waits for nobody; its new words are a turn like any other."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    case = await someone(desk, hand)
    earlier = await desk.hear(Text(body="Hello"), case.person)

    edit = await case.hear(Edited(original_id=case.message, body="Good morning"))

    assert await case.kept() == []
    assert (await desk.state(edit))[0] == "accepted"
    await case.give(earlier)
    await case.give(edit)
    assert await desk.state(edit) == ("done", "answered")


@pytest.mark.anyio
async def test_a_confirmation_that_waits_does_not_repeat_the_act(
    desk: Desk, broker: Broker
) -> None:
    """What a person says meanwhile would be undone by a stop that is done again and again."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    case = await someone(desk, hand)
    desk.trail.refuses = lambda event: event.action == "send-notice"
    stop = await case.hear(Text(body="STOP"))
    desk.trail.refuses = never
    assert (await desk.state(stop))[0] == "accepted"
    before = len(desk.types("consent.withdrawn"))
    desk.clock.move(60)

    await case.give(stop)

    assert await desk.state(stop) == ("done", "answered")
    assert len(desk.types("consent.withdrawn")) == before
    assert [message.text for message in case.person.inbox] == [
        phrases.say("withdrawn_erased", "en")
    ]


@pytest.mark.anyio
async def test_a_lost_key_keeps_no_stop_back(desk: Desk, broker: Broker) -> None:
    """The words that confirm it cannot be sealed; the consent is over all the same."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    case = await someone(desk, hand)
    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(subject_keys).values(ciphertext="local:v1:AAAA"))
    desk.ports.keys.forget(case.subject)

    job = await case.hear(Text(body="STOP"))

    assert await case.consent() is ConsentState.WITHDRAWN
    assert (await desk.state(job))[1].startswith("unconfirmed.")


async def row_of(case: Case) -> Consent:
    """Return the consent row that counts."""
    row = await case.desk.ports.consents.newest(TENANT, case.subject, SPOKEN)
    assert row is not None
    return row


@pytest.mark.anyio
async def test_a_no_that_cannot_be_carried_out_yet_waits_past_the_window(
    desk: Desk, broker: Broker
) -> None:
    """The log takes nothing as a late stop comes in: it is not handed over undone."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    case = await someone(desk, hand)
    desk.clock.move(A_DAY)
    desk.trail.refuses = lambda event: event.type is EventType.JOB_ACCEPTED
    stop = await case.hear(Text(body="STOP"), late_s=A_DAY)
    assert (await desk.state(stop))[0] == "accepted"
    desk.trail.refuses = never
    desk.clock.move(60)

    await case.give(stop)

    await withdrawn(case)
    assert await desk.state(stop) == ("done", "unconfirmed.window.closed")


@pytest.mark.anyio
async def test_a_lost_key_keeps_no_stop_back_of_who_never_agreed(
    desk: Desk, broker: Broker
) -> None:
    """Which language they spoke is sealed under the lost key: the tenant's first does as well."""
    hand = Worker(desk.ports, broker, owner="w1", slots=slots(4))
    await give(hand, await desk.hear(Text(body="Hello")))
    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(subject_keys).values(ciphertext="local:v1:AAAA"))
    subject = await desk.subject()
    desk.ports.keys.forget(subject)

    await give(hand, await desk.hear(Text(body="STOP")))

    row = await desk.ports.consents.newest(TENANT, subject, SPOKEN)
    assert row is not None
    assert row.state is ConsentState.WITHDRAWN
