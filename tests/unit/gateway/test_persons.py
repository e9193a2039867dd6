"""On a cell's real parts: a number that changes hands brings nothing of its former holder along."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncEngine
from support.desk import PHONE, TENANT, Desk
from support.erasing import Eraser

from gateway import memory, persons, restored, rights, tombstones, turns
from gateway.errors import ChannelRefusedError, ConsentNeededError, LeaseLostError
from gateway.identity import DAY_S
from gateway.jobs import State
from gateway.note import SPOKEN, Note, artifact
from gateway.schema import aliases, handovers, identity_changes, sessions
from gateway.session import Memory
from gateway.whatsapp.payload import Choice, Content, Identity, Message, Parsed, System, Text
from policy.consents.sql import SqlConsents
from policy.model import ConsentState
from vault.model import Kind

OLD, NEW = "DE.0000000000000001", "DE.0000000000000002"
OTHER_PHONE = "4915112345679"
AGREE = Choice(id=rights.GRANT, title="I agree")

Handover = Callable[[Desk], Awaitable[None]]


async def act(desk: Desk, note: Note) -> str:
    """Act on *note* as the worker does, and end or park its job; return the state."""
    try:
        await turns.act(note, desk.ports)
    except ConsentNeededError as exc:
        await desk.ports.jobs.park(note.job, exc.code)
        return "parked"
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return "done"


async def said(desk: Desk, content: Content) -> Note:
    """Have who holds ada's number say *content*, and act on it; return the note."""
    desk.clock.move(1)
    note = await desk.note(content)
    await act(desk, note)
    return note


async def written(desk: Desk, content: Content, *, at: int, **who: Any) -> str:
    """Accept *content* as written *at* that second, and return its job."""
    message = Message(
        phone_number_id=desk.line.phone_number_id,
        id=f"wamid.{at}.{next(desk._numbers)}",
        sender=Identity(**who),
        sent_at=at,
        content=content,
    )
    [job] = await desk.inbox.accept(TENANT, Parsed(updates=(message,), dropped={}))
    return job


async def state_of(desk: Desk, subject: str) -> ConsentState | None:
    """Return how the consent of *subject* stands."""
    row = await desk.ports.consents.newest(TENANT, subject, SPOKEN)
    return row.state if row else None


async def other_user_id(desk: Desk) -> None:
    """Have the number come with another user id from now on."""
    desk.ada.bsuid = NEW


async def long_silence(desk: Desk) -> None:
    """Have the number be silent, and come without a user id after that."""
    desk.ada.bsuid = None
    desk.clock.move(91 * DAY_S)


async def other_key(desk: Desk) -> None:
    """Have WhatsApp say that the identity key of the number changed."""
    renewed = System(what="customer_identity_changed", new=None, previous=None)
    await said(desk, renewed)
    desk.ada.bsuid = None


HANDS = pytest.mark.parametrize("change", [other_user_id, long_silence, other_key])


@pytest.fixture
async def recording(desk: Desk) -> str:
    """Have ada agree and say something, which is kept; return the recording."""
    desk.ada.bsuid = OLD
    note = await desk.spoken()
    assert await act(desk, note) == "parked"
    await said(desk, AGREE)
    assert await act(desk, await desk.claim(note.job.id)) == "done"
    desk.ada.inbox.clear()
    return note.job.artifact


@HANDS
@pytest.mark.anyio
async def test_the_next_holders_voice_is_not_opened_on_the_former_ones_consent(
    desk: Desk, recording: str, change: Handover
) -> None:
    """Somebody else's yes is not theirs: they are asked, and their note waits."""
    old = await desk.subject()
    fetched = len(desk.fetched())
    await change(desk)

    note = await desk.spoken()

    assert note.subject != old
    assert await act(desk, note) == "parked"
    assert [message.kind for message in desk.ada.inbox] == ["buttons"]
    assert len(desk.fetched()) == fetched
    assert await desk.ports.custody.describe(recording) is not None or change is long_silence


@HANDS
@pytest.mark.anyio
async def test_the_next_holders_no_touches_nothing_of_the_former_one(
    desk: Desk, recording: str, change: Handover
) -> None:
    """Their STOP must not delete recordings of somebody who never said so."""
    old = await desk.subject()
    await change(desk)

    note = await said(desk, Text(body="STOP"))

    assert await state_of(desk, note.subject) is ConsentState.WITHDRAWN
    assert await state_of(desk, old) is ConsentState.GRANTED
    kept = {each.label.artifact for each in await desk.ports.custody.of_subject(old)}
    assert {recording, artifact(recording, Kind.TRANSCRIPT)} <= kept


@HANDS
@pytest.mark.anyio
async def test_the_next_holder_meets_nothing_that_the_former_one_said(
    desk: Desk, recording: str, change: Handover
) -> None:
    """What is remembered, and that a human has the conversation, is the former holder's."""
    await said(desk, Text(body="I want to talk to a human"))
    [before] = await desk.rows(sessions)
    assert recording
    await change(desk)

    note = await said(desk, Text(body="Hello"))

    assert (await memory.recall(note, desk.ports)).handed_over is False
    assert before in await desk.rows(sessions), "and theirs is as it was"
    assert [row.subject for row in await desk.rows(handovers)] == [before.subject]


@pytest.mark.anyio
async def test_the_former_holder_is_who_they_were_with_their_user_id(
    desk: Desk, recording: str
) -> None:
    """With a new number and without one; their STOP deletes their own recordings."""
    old = await desk.subject()
    await other_user_id(desk)
    new = (await said(desk, Text(body="Hello"))).subject
    desk.ada.phone, desk.ada.bsuid = OTHER_PHONE, OLD

    note = await said(desk, Text(body="STOP"))

    assert note.subject == old != new
    assert await state_of(desk, old) is ConsentState.WITHDRAWN
    assert await state_of(desk, new) is None
    assert await desk.ports.custody.describe(recording) is None


@pytest.mark.parametrize(("seconds", "whose"), [(-1, "old"), (1, "new")])
@pytest.mark.anyio
async def test_a_late_no_is_of_whoever_held_the_number_when_it_was_written(
    desk: Desk, recording: str, seconds: int, whose: str
) -> None:
    """WhatsApp delivers it again for days; a number alone says no more than the time does."""
    people = {"old": await desk.subject()}
    assert recording
    await other_user_id(desk)
    people["new"] = (await said(desk, Text(body="Hello"))).subject
    at = int(desk.clock().timestamp()) + seconds
    desk.clock.move(3600)

    note = await desk.claim(await written(desk, Text(body="STOP"), at=at, phone=PHONE))
    await act(desk, note)

    assert note.subject == people[whose]
    assert await state_of(desk, people[whose]) is ConsentState.WITHDRAWN


@pytest.mark.anyio
async def test_a_system_message_that_names_both_makes_them_one_and_the_newest_word_counts(
    desk: Desk, recording: str
) -> None:
    """It came late: what the person said meanwhile under the new user id was theirs."""
    old = await desk.subject()
    assert recording
    await other_user_id(desk)
    new = (await said(desk, Text(body="STOP"))).subject
    changed = System(
        what="user_changed_user_id",
        new=Identity(phone=PHONE, bsuid=NEW),
        previous=Identity(phone=PHONE, bsuid=OLD),
    )

    await said(desk, changed)

    assert await desk.subject() == old
    assert await state_of(desk, old) is ConsentState.WITHDRAWN
    told = [
        (event.type.value, event.subject, event.detail["former"], event.detail["evidence"])
        for event in desk.trail.seen
        if event.type.value in {"subject.split", "subject.merged"}
    ]
    assert told == [
        ("subject.split", new, old, "user_id.other"),
        ("subject.merged", old, new, "user_id.changed"),
    ]


@pytest.mark.anyio
async def test_a_split_is_on_record_with_its_job_and_nothing_personal(desk: Desk) -> None:
    """An auditor asks why a consent did not count: the leaf names the evidence by its kind."""
    desk.ada.bsuid = OLD
    old = await desk.subject()
    desk.ada.bsuid = NEW

    note = await desk.typed()

    [event] = [each for each in desk.trail.seen if each.type == "subject.split"]
    assert (event.subject, event.job) == (note.subject, note.job.id)
    assert event.detail == {"basis": "observed", "evidence": "user_id.other", "former": old}
    assert await desk.rows(identity_changes) == []


@pytest.mark.anyio
async def test_a_change_that_the_log_does_not_take_is_told_later(desk: Desk) -> None:
    """Who is who is decided in the database; the row remembers that the log must learn of it."""
    desk.ada.bsuid = OLD
    await desk.subject()
    desk.ada.bsuid = NEW
    desk.trail.refuses = lambda event: event.type == "subject.split"
    job = await desk.hear(Text(body="Hello"))
    with pytest.raises(Exception, match="told to refuse"):
        await desk.claim(job)
    desk.trail.refuses = lambda _event: False

    await persons.tell(desk.ports)

    assert desk.types("subject.split") == ["subject.split"]
    assert await desk.rows(identity_changes) == []


@pytest.mark.anyio
async def test_a_conversation_goes_on_when_a_user_id_joins_the_number(desk: Desk) -> None:
    """A human has it: that the next message names its author better does not take it back."""
    await said(desk, Text(body="I want to talk to a human"))
    desk.ada.bsuid = OLD

    note = await said(desk, Text(body="Hello"))

    assert (await memory.recall(note, desk.ports)).handed_over


@pytest.mark.anyio
async def test_a_conversation_goes_on_when_two_names_become_one(desk: Desk) -> None:
    """What was remembered under the name that went is the one person's."""
    await desk.subject(desk.world.person(None, bsuid=OLD, line=desk.line))
    await said(desk, Text(body="I want to talk to a human"))
    desk.ada.bsuid = OLD

    note = await said(desk, Text(body="Hello"))

    assert await memory.recall(note, desk.ports) != Memory()
    assert (await memory.recall(note, desk.ports)).handed_over


@pytest.mark.anyio
async def test_nothing_finer_than_a_day_is_kept_of_when_a_number_wrote(desk: Desk) -> None:
    """The silence of a number is counted in days; a day's second message writes nothing."""
    desk.ada.bsuid = OLD
    await said(desk, Text(body="Hello"))
    before = await desk.rows(aliases)

    await said(desk, Text(body="Hello again"))

    assert await desk.rows(aliases) == before
    assert {row.seen for row in before} == {int(desk.clock().timestamp()) // DAY_S}


@pytest.mark.anyio
async def test_an_erasure_of_the_former_holder_leaves_the_next_one_alone(eraser: Eraser) -> None:
    """The number is in the tombstone of the one, with the times at which it was theirs."""
    desk = eraser.desk
    desk.ada.bsuid = OLD
    old = await desk.subject()
    desk.clock.move(10)
    desk.ada.bsuid = NEW
    new = await desk.subject()
    desk.clock.move(10)
    waiting = await desk.hear(Text(body="Hello"))
    at = int(desk.clock().timestamp())
    desk.clock.move(10)

    await eraser.erased(old)

    assert (await desk.claim(waiting)).subject == new
    by_number = await written(desk, Text(body="Hi"), at=at, phone=PHONE)
    note = await desk.claim(by_number)
    assert note.subject == new
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    for late in ({"phone": PHONE}, {"phone": PHONE, "bsuid": OLD}, {"bsuid": OLD}):
        with pytest.raises(LeaseLostError):
            await desk.claim(await written(desk, Text(body="Hi"), at=at - 15, **late))


@pytest.mark.anyio
async def test_who_takes_a_number_up_while_its_holder_is_erased_is_not_barred(
    eraser: Eraser,
) -> None:
    """Their first message was written before the erasure, and is read after it."""
    desk = eraser.desk
    desk.ada.bsuid = OLD
    old = await desk.subject()
    desk.ada.bsuid = NEW
    waiting = await desk.hear(Text(body="Hello"))
    desk.clock.move(10)

    await eraser.erased(old)

    assert (await desk.claim(waiting)).subject not in {old, ""}
    assert await tombstones.barred(desk.ports.engine, (await eraser.erased(old)).id) == 0


@pytest.mark.anyio
async def test_an_answer_that_waited_is_not_sent_to_the_numbers_next_holder(desk: Desk) -> None:
    """It was said to the former holder: nobody else may read it."""
    desk.ada.bsuid = OLD
    waiting = await desk.typed("When do you open?")
    desk.ada.bsuid = NEW
    desk.clock.move(1)
    await said(desk, Text(body="Hello"))
    heard = len(desk.ada.inbox)

    with pytest.raises(ChannelRefusedError, match=r"number\.given_on"):
        await turns.act(waiting, desk.ports)

    assert len(desk.ada.inbox) == heard


@pytest.mark.anyio
async def test_an_answer_reaches_who_became_one_with_another_name_meanwhile(desk: Desk) -> None:
    """The number leads to the name that stayed: that is who wrote."""
    await desk.subject(desk.world.person(None, bsuid=OLD, line=desk.line))
    waiting = await desk.typed("When do you open?")
    desk.ada.bsuid = OLD
    await desk.subject()

    await turns.act(waiting, desk.ports)

    assert len(desk.texts()) == 1


@pytest.mark.anyio
async def test_workers_that_meet_one_number_at_once_agree_who_it_is(
    desk: Desk, each_db: AsyncEngine
) -> None:
    """On each database: somebody new, the next holder, and two names that meet are one each."""
    desk.with_ports(engine=each_db, consents=SqlConsents(each_db))

    async def at_once(**who: Any) -> set[str]:
        seen = [persons.pseudonym(Identity(**who), TENANT, desk.ports) for _ in range(8)]
        return set(await asyncio.gather(*seen))

    [first] = await at_once(phone=PHONE)
    assert await at_once(phone=PHONE, bsuid=OLD) == {first}
    desk.clock.move(1)
    [other] = await at_once(phone=PHONE, bsuid=NEW)
    assert await at_once(bsuid=OLD) == {first}
    assert await at_once(phone=PHONE) == {other}
    [named] = await at_once(bsuid="DE.0000000000000003")
    [number] = await at_once(phone=OTHER_PHONE)
    assert await at_once(phone=OTHER_PHONE, bsuid="DE.0000000000000003") == {named}
    assert len({first, other, named, number}) == 4
    assert desk.types("subject.split", "subject.merged") == ["subject.split", "subject.merged"]


@pytest.mark.parametrize("restore", [False, True], ids=["started again", "restored"])
@pytest.mark.anyio
async def test_that_an_account_became_another_ones_survives_a_restore(
    desk: Desk, *, restore: bool
) -> None:
    """WhatsApp says it once: the backup knows the former holder, and the log what came after."""
    desk.ada.bsuid = OLD
    await said(desk, Text(body="Hello"))
    old, backup = await desk.subject(), await desk.rows(aliases)
    await restored.note(desk.ports, desk.trail.inner)
    await said(desk, System(what="customer_identity_changed", new=None, previous=None))
    new = await desk.subject()
    if restore:
        async with desk.ports.engine.begin() as tx:
            await tx.execute(delete(aliases))
            await tx.execute(insert(aliases).values([dict(row._mapping) for row in backup]))
        assert await desk.subject() == old

    await restored.recall(desk.ports, desk.trail.inner)

    desk.clock.move(1)
    found = await desk.subject()
    assert found != old
    assert restore or found == new


@pytest.mark.anyio
async def test_what_a_number_is_silent_for_is_the_tenants_to_say(desk: Desk) -> None:
    """Carriers of one country wait for 45 days, those of another for a year."""
    tenant = desk.ports.tenants[TENANT].model_copy(update={"number_silent_days": 10})
    desk.with_ports(tenants={TENANT: tenant})
    old = await desk.subject()
    desk.clock.move(timedelta(days=11).total_seconds())

    assert await desk.subject() != old
