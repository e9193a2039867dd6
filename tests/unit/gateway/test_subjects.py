"""What was declared of a person counts, is on record, and outlives their becoming one."""

from typing import Any

import pytest
from support.desk import PHONE, TENANT, Desk

from gateway import subjects
from gateway.demo.graph.person import Person
from gateway.note import SPOKEN
from gateway.permit import _question
from gateway.persons import link, pseudonym
from gateway.schema import handovers, jobs, merges
from gateway.sweeper import Sweeper
from gateway.whatsapp.payload import Identity, Text
from policy.model import ConsentState, Stage

BSUID = "DE.1234567890abcdef"


def other(desk: Desk) -> Person:
    """Return ada, as whom WhatsApp knows by user id only."""
    return desk.world.person(None, bsuid=BSUID, line=desk.line)


async def one_person(desk: Desk) -> str:
    """Let both names be one person; return who that is."""
    await link(Identity(bsuid=BSUID), Identity(phone=PHONE), TENANT, desk.ports)
    return await desk.subject()


async def declare(desk: Desk, subject: str, **told: Any) -> None:
    """Declare something of *subject*."""
    await subjects.declare(desk.ports.engine, subject, TENANT, at=desk.clock(), **told)


async def newest(desk: Desk, subject: str) -> ConsentState | None:
    """Return how the consent of *subject* stands."""
    row = await desk.ports.consents.newest(TENANT, subject, SPOKEN)
    return row.state if row else None


@pytest.mark.anyio
async def test_a_declared_residence_is_whose_law_holds(desk: Desk) -> None:
    """A number is evidence, a declaration is better."""
    await declare(desk, await desk.subject(), residence="FR")

    note = await desk.spoken()

    assert (note.jurisdiction.code, note.jurisdiction.evidence) == ("FR", "declared")
    assert not note.minor


@pytest.mark.anyio
async def test_a_declared_minor_is_one_to_the_rules(desk: Desk) -> None:
    """A child's consent is not enough in most laws: the rules must know."""
    await declare(desk, await desk.subject(), minor=True)

    question = await _question(await desk.spoken(), Stage.CAPTURE, desk.ports)

    assert question.minor


@pytest.mark.anyio
async def test_one_declaration_leaves_the_other_as_it_is_and_can_be_changed(desk: Desk) -> None:
    """Moving does not make anybody an adult."""
    subject = await desk.subject()
    await declare(desk, subject, minor=True)
    await declare(desk, subject, residence="FR")

    before = await subjects.declared(desk.ports.engine, subject)
    await declare(desk, subject, minor=False)
    after = await subjects.declared(desk.ports.engine, subject)

    assert (before.residence, before.minor) == ("FR", True)
    assert (after.residence, after.minor) == ("FR", False)


@pytest.mark.anyio
async def test_a_declaration_reaches_the_trail_once(desk: Desk) -> None:
    """The command cannot write to a log that the cell has open; the sweeper does, for each."""
    subject = await desk.subject()
    sweeper = Sweeper(desk.ports, owner="s1")
    await declare(desk, subject, residence="FR", minor=True)
    for _ in range(2):
        await sweeper.tell_declared()
    desk.clock.move(1)
    await declare(desk, subject, residence="DE")
    await sweeper.tell_declared()

    found = [e for e in desk.trail.seen if e.type == "subject.declared"]

    assert [event.detail["residence"] for event in found] == ["FR", "DE"]
    assert {event.subject for event in found} == {subject}
    assert {event.detail["minor"] for event in found} == {True}


@pytest.mark.anyio
async def test_a_declaration_that_was_changed_while_it_was_told_is_told_again(desk: Desk) -> None:
    """The note "recorded" is about what was recorded."""
    subject = await desk.subject()
    await declare(desk, subject, residence="FR")
    [event] = await subjects.unrecorded(desk.ports.engine, 10)
    desk.clock.move(1)
    await declare(desk, subject, residence="DE")

    await subjects.recorded(desk.ports.engine, event, desk.clock())

    [left] = await subjects.unrecorded(desk.ports.engine, 10)
    assert left.detail["residence"] == "DE"


@pytest.mark.anyio
async def test_who_is_known_has_a_tenant(desk: Desk) -> None:
    """A declaration about nobody is a typing error, and must be told as one."""
    subject = await desk.subject()

    assert await subjects.known(desk.ports.engine, subject) == TENANT
    assert await subjects.known(desk.ports.engine, "s_nobody") is None


@pytest.mark.anyio
async def test_a_yes_of_either_name_counts_for_the_one_person(desk: Desk) -> None:
    """Nobody is asked twice because WhatsApp named them twice."""
    await desk.consents()
    await desk.subject(other(desk))

    subject = await one_person(desk)

    assert await newest(desk, subject) is ConsentState.GRANTED


@pytest.mark.anyio
async def test_a_withdrawal_under_either_name_counts_for_the_one_person(desk: Desk) -> None:
    """The newest word counts, under whichever name it was said."""
    first = await desk.subject(other(desk))
    await desk.consents()
    desk.clock.move(1)
    await desk.consents(ConsentState.WITHDRAWN)

    subject = await one_person(desk)

    assert subject == first
    assert await newest(desk, subject) is ConsentState.WITHDRAWN
    assert len(await desk.ports.consents.history(TENANT, subject)) == 2


@pytest.mark.anyio
async def test_the_rows_are_there_before_the_two_are_one(desk: Desk) -> None:
    """A decision in between must not find a yes whose withdrawal is on its way."""
    await desk.subject(other(desk))
    old = await desk.subject()
    await desk.consents(ConsentState.WITHDRAWN)
    seen: list[str] = []

    class Watched:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def record(self, row: Any) -> None:
            seen.append(await subjects.became(desk.ports.engine, old))
            await self.inner.record(row)

    desk.with_ports(consents=Watched(desk.ports.consents))

    await one_person(desk)

    assert seen[0] == old


@pytest.mark.anyio
async def test_a_word_said_while_the_two_become_one_counts(desk: Desk) -> None:
    """What came after the rows were carried over, and before the names led to one, is carried."""
    await desk.subject(other(desk))
    await desk.consents()
    desk.clock.move(1)
    inner = desk.ports.consents

    class Busy:
        said = False

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        async def record(self, row: Any) -> None:
            await inner.record(row)
            if not self.said:
                self.said = True
                await desk.consents(ConsentState.WITHDRAWN)

    desk.with_ports(consents=Busy())

    subject = await one_person(desk)

    assert await newest(desk, subject) is ConsentState.WITHDRAWN


@pytest.mark.anyio
async def test_a_word_said_under_the_old_name_meanwhile_counts(desk: Desk) -> None:
    """A job that was opened before the two became one still works for the old subject."""
    await desk.consents()
    await desk.subject(other(desk))
    stop = await desk.note(Text(body="STOP"))
    subject = await one_person(desk)
    assert stop.subject != subject
    desk.clock.move(1)

    from gateway import rights  # noqa: PLC0415 - only here

    await rights.withdraw(stop, desk.ports)

    assert await newest(desk, subject) is ConsentState.WITHDRAWN


@pytest.mark.anyio
async def test_rows_found_by_subject_move_and_the_old_name_is_remembered(desk: Desk) -> None:
    """What is labelled for the old subject must still be found for an erasure."""
    await desk.subject(other(desk))
    note = await desk.typed("I want to talk to a human")
    from gateway import rights  # noqa: PLC0415 - only here

    await rights.human(note, desk.ports)

    subject = await one_person(desk)

    for table in (jobs, handovers):
        assert {row.subject for row in await desk.rows(table)} == {subject}
    assert await subjects.formerly(desk.ports.engine, subject) == [subject, note.subject]
    assert await subjects.became(desk.ports.engine, note.subject) == subject
    assert len(await desk.rows(merges)) == 1


@pytest.mark.anyio
async def test_what_protects_more_survives_a_merge(desk: Desk) -> None:
    """A child does not grow up by getting a user id; the newest residence counts."""
    new, old = await desk.subject(other(desk)), await desk.subject()
    await declare(desk, old, residence="FR", minor=True)
    desk.clock.move(1)
    await declare(desk, new, residence="DE", minor=False)

    subject = await one_person(desk)

    found = await subjects.declared(desk.ports.engine, subject)
    assert (found.residence, found.minor) == ("DE", True)


@pytest.mark.anyio
async def test_what_a_merge_declares_is_a_declaration_of_its_own(desk: Desk) -> None:
    """The log keeps the first event of an id: what is told under an old one reaches nobody."""
    new, old = await desk.subject(other(desk)), await desk.subject()
    await declare(desk, old, minor=True)
    await declare(desk, new, residence="DE", minor=False)
    sweeper = Sweeper(desk.ports, owner="s1")
    await sweeper.tell_declared()

    await one_person(desk)
    await sweeper.tell_declared()

    told = [e for e in desk.trail.seen if e.type == "subject.declared"]
    assert len({event.id for event in told}) == len(told) == 3
    assert (told[-1].subject, told[-1].detail["minor"]) == (new, True)


@pytest.mark.anyio
async def test_a_merge_is_declared_when_it_happens(desk: Desk) -> None:
    """Nobody knew of it when the first of the two was declared."""
    await desk.subject(other(desk))
    await declare(desk, await desk.subject(), minor=True)
    desk.clock.move(60)

    subject = await one_person(desk)

    told = await subjects.unrecorded(desk.ports.engine, 10)
    assert [event.at for event in told if event.subject == subject] == [desk.clock()]


@pytest.mark.anyio
async def test_the_tenant_of_who_became_another_is_known(desk: Desk) -> None:
    """A key made late for the former pseudonym belongs into the same tenant's bucket."""
    by_id = await pseudonym(Identity(bsuid=BSUID), TENANT, desk.ports)
    by_phone = await desk.subject()
    await one_person(desk)

    engine = desk.ports.engine
    assert by_id != by_phone
    assert {await subjects.owner_of(engine, one) for one in (by_id, by_phone)} == {TENANT}
    assert await subjects.owner_of(engine, "s_nobody") is None
